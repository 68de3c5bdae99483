"""From a run to a mesh file and what lies beside it."""

import json

import numpy as np
import pytest

import nerf_app
from nerf_app.errors import UsageError
from nerf_app.export import full_mesh
from nerf_app.export.extract import MeshPlan
from nerf_app.export.full_mesh import check_words, export_mesh
from nerf_app.export.mesh import Mesh
from tests import sphere
from tests.export.sheets import run_of
from tests.export.test_mesh_check import coloured_ball

FACTS = {"faces": 1200, "vertices": 700, "open_edges": 0, "texture": 256, "psnr": None, "silhouette_iou": None, "photos": None}


def cut_everywhere(run, scene, mesh, on_progress) -> Mesh:
    """Each face alone on one white texture."""
    corners = mesh.faces.ravel()
    faces = np.arange(len(corners), dtype=np.int32).reshape(-1, 3)
    return Mesh(mesh.vertices[corners], faces, mesh.normals[corners], uvs=np.full((len(corners), 2), 0.5, np.float32),
                texture=np.full((8, 8, 3), 255, np.uint8))


@pytest.fixture(scope="module")
def scene():
    return sphere.sphere_scene(17, 32)


@pytest.mark.parametrize("suffix, count", [("glb", 3), ("obj", 5), ("ply", 3)])
def test_every_file_that_is_written_is_named_the_mesh_first(scene, tmp_path, monkeypatch, suffix, count):
    monkeypatch.setattr(full_mesh, "extract_mesh", lambda *_: coloured_ball())
    monkeypatch.setattr(full_mesh, "texture_mesh", cut_everywhere)
    told = []
    out = tmp_path / f"new/my mesh.{suffix}"
    files, facts = export_mesh(run_of(scene), scene, MeshPlan(), out, lambda *state: told.append(state))
    assert files[0] == out and sorted(files) == sorted(out.parent.iterdir()) and len(files) == count
    assert json.loads((tmp_path / f"new/my mesh.{suffix}.check.json").read_text()) == facts
    assert facts["open_edges"] == 0 and facts["faces"] == len(coloured_ball().faces), "the seams of a texture open nothing"
    assert told[-1] == (100, 100)


def test_a_run_gives_its_mesh_to_whoever_asks_in_python_and_writes_it_where_that_is_said(scene, tmp_path, monkeypatch):
    plans = []
    monkeypatch.setattr(full_mesh, "extract_mesh", lambda run, plan, on_progress: plans.append(plan) or coloured_ball())
    monkeypatch.setattr(full_mesh, "texture_mesh", cut_everywhere)
    run = run_of(scene)
    assert run.mesh(scene=scene).texture is not None and plans == [MeshPlan()]
    assert len(run.mesh(nerf_app.MeshPlan(faces=70), tmp_path / "new/ball.glb", scene).faces) and plans[-1].faces == 70
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["ball.glb", "ball.glb.json"]
    with pytest.raises(UsageError, match="a mesh is written as .glb, .obj, .ply"):
        run.mesh(out=tmp_path / "ball.stl")
    assert len(plans) == 2, "which is said before the work"


@pytest.mark.parametrize("count, words", [(0, "watertight"), (1, "1 open edge"), (1234, "1,234 open edges")])
def test_a_mesh_says_whether_it_is_closed(count, words):
    assert check_words(FACTS | {"open_edges": count}) == f"1,200 faces, {words}, texture 256×256; " \
                                                          "not checked, for no photo was held out"


@pytest.mark.parametrize("psnr, overlap, words", [
    (31.234, 0.98765, "PSNR 31.23 dB, silhouettes overlap by 98.8 %"), (31.234, None, "PSNR 31.23 dB"),
    (None, 0.98765, "silhouettes overlap by 98.8 %"), (None, None, "nothing to compare"),
])
def test_a_mesh_says_how_it_compares_with_photos(psnr, overlap, words):
    said = check_words(FACTS | {"psnr": psnr, "silhouette_iou": overlap, "photos": [{}, {}]})
    assert said.endswith(f"; seen from 2 held-out photos: {words}")


def test_photos_say_nothing_of_a_texture_without_reflections(scene, tmp_path, monkeypatch):
    monkeypatch.setattr(full_mesh, "extract_mesh", lambda *_: coloured_ball())
    monkeypatch.setattr(full_mesh, "require_parts", lambda *_: None)
    monkeypatch.setattr(full_mesh, "material_mesh", lambda run, mesh, on_progress: cut_everywhere(run, scene, mesh, on_progress))
    out = tmp_path / "ball.glb"
    _, facts = export_mesh(run_of(scene), scene, MeshPlan(texture="diffuse"), out, lambda *_: None)
    assert facts["psnr"] is None and facts["photos"] and all(photo["psnr"] is None for photo in facts["photos"])
    assert facts["silhouette_iou"] is not None and "PSNR" not in check_words(facts)
    assert json.loads((tmp_path / "ball.glb.check.json").read_text()) == facts
