import numpy as np
import pytest
import trimesh

from nerf_app.errors import DataError
from nerf_app.report.glb import read_surface
from tests.report.glb import make_glb
from tests.report.stand_in import a_mesh_file, ball


def test_what_was_written_is_read(tmp_path):
    vertices, faces, normals = ball(4)
    views = np.arange(len(vertices)) % 7
    (tmp_path / "mesh.glb").write_bytes(make_glb(vertices, faces, normals, views=views))
    found = read_surface(tmp_path / "mesh.glb")
    assert np.allclose(found.vertices, vertices, atol=1e-5) and np.allclose(found.normals, normals)
    assert (found.faces == faces).all() and (found.views == views).all()


def test_a_mesh_of_another_writer_is_read_too(tmp_path):
    mesh = trimesh.creation.icosphere(subdivisions=2)
    mesh.export(tmp_path / "mesh.glb", include_normals=True)
    found = read_surface(tmp_path / "mesh.glb")
    assert found.views is None and found.faces.shape == mesh.faces.shape
    assert np.allclose(found.vertices[found.faces], mesh.vertices[mesh.faces], atol=1e-6)
    assert np.allclose(found.normals, found.vertices, atol=0.05)  # of a unit ball


def test_our_test_file_is_a_glb_to_another_reader(tmp_path):
    loaded = trimesh.load(a_mesh_file(tmp_path), force="mesh")
    assert loaded.faces.shape == (2 * 24 * 48, 3) and loaded.visual.kind == "texture"


@pytest.mark.parametrize("spoil", [lambda glb: b"", lambda glb: b"PLY" + glb, lambda glb: glb[:200], lambda glb: glb[:-2000],
                                   lambda glb: glb.replace(b'"NORMAL"', b'"NORMALE'), lambda glb: glb.replace(b"VEC3", b"MAT3"),
                                   lambda glb: glb.replace(b'"count": ', b'"count": 9'),
                                   lambda glb: glb.replace(b"5125", b"5130")])
def test_a_broken_file_is_one_line_of_words(tmp_path, spoil):
    file = tmp_path / "mesh.glb"
    file.write_bytes(spoil(make_glb(*ball(4))))
    with pytest.raises(DataError, match="mesh.glb is no mesh that nerf_app wrote .*: export it again"):
        read_surface(file)


def test_a_file_that_is_not_there_is_said(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        read_surface(tmp_path / "mesh.glb")
