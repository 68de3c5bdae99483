"""Meshes as other programs read them: trimesh, Pillow and the Khronos validator, none of which knows our writer."""

import errno
import io
import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import trimesh
from PIL import Image

from nerf_app.errors import DataError, ResourceError, UsageError
from nerf_app.export import mesh_files
from nerf_app.export.mesh import Mesh
from nerf_app.export.mesh_files import facts_file, mesh_writer, upright, write_mesh
from nerf_app.report.glb import read_surface
from tests.requires import requires

SUFFIXES = (".glb", ".obj", ".ply")
UP = np.array([0.0, 0.0, 1.0])
NEAR, UTM = np.zeros(3), np.array([500_123.4, 5_412_345.6, 321.0])
CORNERS = {(0, 0): (0, 0, 255), (1, 0): (250, 250, 0), (0, 1): (255, 0, 0), (1, 1): (0, 255, 0)}  # by (u, v), v upwards
VALIDATE = """require("gltf-validator").validateBytes(new Uint8Array(require("fs").readFileSync(process.argv[1])))
  .then((report) => console.log(JSON.stringify(report)))"""


def ball(offset: np.ndarray = NEAR) -> Mesh:
    """An egg of size 1, untextured, that has everything else."""
    shape = trimesh.creation.icosphere(subdivisions=2)
    count = len(shape.vertices)
    random = np.random.default_rng(1)
    normals = shape.vertices / [0.5, 0.4, 0.3]
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    return Mesh(shape.vertices * [0.5, 0.4, 0.3] + offset, shape.faces.astype(np.int32), normals.astype(np.float32),
                views=random.integers(0, 99, count).astype(np.int32), depth_spread=random.random(count).astype(np.float32),
                colours=random.integers(0, 256, (count, 3)).astype(np.uint8))


def painted(offset: np.ndarray = NEAR) -> Mesh:
    """The same with a texture of noise, its faces each on a chart of their own."""
    whole = ball(offset)
    corners = whole.faces.ravel()
    random = np.random.default_rng(2)
    return Mesh(whole.vertices[corners], np.arange(len(corners), dtype=np.int32).reshape(-1, 3), whole.normals[corners],
                whole.views[corners], whole.depth_spread[corners], whole.colours[corners],
                random.random((len(corners), 2)).astype(np.float32), random.integers(0, 256, (16, 16, 3)).astype(np.uint8))


def square() -> Mesh:
    """A unit square in the plane y = 0, x along u and z along v, whose texture has a colour at each corner."""
    uvs = np.array(list(CORNERS), np.float32)
    texture = np.array([[CORNERS[0, 1], CORNERS[1, 1]], [CORNERS[0, 0], CORNERS[1, 0]]], np.uint8)
    return Mesh(np.stack([uvs[:, 0], 0 * uvs[:, 0], uvs[:, 1]], 1).astype(np.float64), np.array([(0, 1, 3), (0, 3, 2)], np.int32),
                np.tile(np.float32([0, -1, 0]), (4, 1)), uvs=uvs, texture=texture)


def loaded(file: Path) -> tuple[trimesh.Trimesh, np.ndarray]:
    """The mesh as another library finds it, and the [4, 4] matrix that it is placed by."""
    scene = trimesh.load_scene(file, process=False)
    node, = scene.graph.nodes_geometry
    matrix, name = scene.graph[node]
    return scene.geometry[name], matrix


def parts_of(file: Path) -> tuple[dict, bytes]:
    """A GLB's JSON and its numbers."""
    content = file.read_bytes()
    length = int.from_bytes(content[12:16], "little")
    return json.loads(content[20:20 + length]), content[28 + length:]


@pytest.mark.parametrize("offset", [NEAR, UTM], ids=["near", "utm"])
@pytest.mark.parametrize("make", [ball, painted])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_positions_and_normals_come_back_to_a_millionth_of_the_size(tmp_path, suffix, make, offset):
    mesh = make(offset)
    write_mesh(mesh, tmp_path / f"mesh{suffix}", UP)
    found, _ = loaded(tmp_path / f"mesh{suffix}")
    origin = json.loads(facts_file(tmp_path / f"mesh{suffix}").read_text()).get("origin", 0.0)
    np.testing.assert_allclose(found.vertices[found.faces] + origin, mesh.vertices[mesh.faces], rtol=0, atol=1e-6)
    np.testing.assert_allclose(found.vertex_normals[found.faces], mesh.normals[mesh.faces], rtol=0, atol=1e-6)


@pytest.mark.parametrize("suffix", [".glb", ".obj"])
def test_each_corner_of_the_texture_stays_at_its_corner_of_the_surface(tmp_path, suffix):
    write_mesh(square(), tmp_path / f"mesh{suffix}", np.array([0.0, 1.0, 0.0]))
    found, _ = loaded(tmp_path / f"mesh{suffix}")
    material = found.visual.material
    picture = np.asarray((material.baseColorTexture if suffix == ".glb" else material.image).convert("RGB"))
    for (x, _, z), (u, v) in zip(found.vertices, found.visual.uv, strict=True):  # trimesh counts v upwards for any format
        assert tuple(picture[1 - round(v), round(u)]) == CORNERS[round(x), round(z)]


def test_a_glb_counts_v_down_from_the_upper_edge_of_its_picture(tmp_path):
    write_mesh(square(), tmp_path / "mesh.glb", UP)
    document, binary = parts_of(tmp_path / "mesh.glb")

    def bytes_of(view: int) -> bytes:
        place = document["bufferViews"][view]
        return binary[place["byteOffset"]:place["byteOffset"] + place["byteLength"]]

    accessor = document["accessors"][document["meshes"][0]["primitives"][0]["attributes"]["TEXCOORD_0"]]
    uvs = np.frombuffer(bytes_of(accessor["bufferView"]), "<f4").reshape(-1, 2)
    picture = np.asarray(Image.open(io.BytesIO(bytes_of(document["images"][0]["bufferView"]))))
    colours = [tuple(picture[round(float(v)), round(float(u))]) for u, v in uvs]
    assert colours == [CORNERS[tuple(corner)] for corner in square().uvs.astype(int)]


@pytest.mark.parametrize("suffix", [".obj", ".ply"])
def test_a_surface_has_no_cuts_along_the_seams_of_its_texture(tmp_path, suffix):
    assert not trimesh.Trimesh(painted().vertices, painted().faces, process=False).is_watertight
    write_mesh(painted(UTM), tmp_path / f"mesh{suffix}", UP)
    if suffix == ".ply":
        found, _ = loaded(tmp_path / "mesh.ply")
        vertices, faces = found.vertices, found.faces
    else:  # readers split what we keep together, so its own numbers are asked
        text = (tmp_path / "mesh.obj").read_text()
        vertices = np.array([line.split()[1:] for line in re.findall(r"^v .*$", text, re.M)], np.float64)
        faces = np.array(re.findall(r" (\d+)/", re.sub(r"/\d+/\d+", "/", text)), np.int64).reshape(-1, 3) - 1
    whole = trimesh.Trimesh(vertices, faces, process=False)
    assert whole.is_watertight and len(vertices) == len(ball().vertices) and whole.volume > 0


def test_a_ply_keeps_what_each_vertex_has(tmp_path):
    mesh = ball()
    mesh.depth_spread[3] = np.nan
    write_mesh(mesh, tmp_path / "mesh.ply", UP)
    found, _ = loaded(tmp_path / "mesh.ply")
    rows = found.metadata["_ply_raw"]["vertex"]["data"]
    assert (rows["views"] == mesh.views).all() and (found.visual.vertex_colors[:, :3] == mesh.colours).all()
    np.testing.assert_array_equal(rows["depth_spread"], mesh.depth_spread)


def test_a_glb_keeps_what_each_vertex_has(tmp_path):
    mesh = ball()
    mesh.depth_spread[3] = np.nan
    write_mesh(mesh, tmp_path / "mesh.glb", UP)
    found, _ = loaded(tmp_path / "mesh.glb")
    assert (found.vertex_attributes["_VIEWS"].ravel() == mesh.views).all()
    np.testing.assert_array_equal(found.vertex_attributes["_DEPTH_SPREAD"].ravel(), np.nan_to_num(mesh.depth_spread, nan=-1.0))


def test_colours_of_vertices_are_linear_light_in_a_glb_and_as_stored_in_an_obj(tmp_path):
    mesh = ball()
    write_mesh(mesh, tmp_path / "mesh.glb", UP)
    write_mesh(mesh, tmp_path / "mesh.obj", UP)
    stored = loaded(tmp_path / "mesh.obj")[0].visual.vertex_colors[:, :3].astype(int)
    assert np.abs(stored - mesh.colours).max() <= 1  # trimesh cuts off what we rounded
    values = mesh.colours / 255.0
    curve = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    np.testing.assert_allclose(loaded(tmp_path / "mesh.glb")[0].visual.vertex_attributes["color"], curve, atol=1e-6)


def test_a_textured_glb_and_obj_have_no_colours_that_would_darken_the_texture(tmp_path):
    write_mesh(painted(), tmp_path / "mesh.glb", UP)
    write_mesh(painted(), tmp_path / "mesh.obj", UP)
    assert "COLOR_0" not in parts_of(tmp_path / "mesh.glb")[0]["meshes"][0]["primitives"][0]["attributes"]
    assert re.search(r"^v \S+ \S+ \S+$", (tmp_path / "mesh.obj").read_text(), re.M)


@pytest.mark.parametrize("up", [(0, 0, 1), (0, 0, -1), (0, 1, 0), (0, -1, 0), (1, 0, 0), (-1, 0, 0), (0.1, -3.0, 0.2)])
def test_the_top_of_the_mesh_is_the_top_of_the_glb(tmp_path, up):
    up = np.array(up) / np.linalg.norm(up)
    mesh = ball(np.array([1.0, 2.0, 3.0]))
    write_mesh(mesh, tmp_path / "mesh.glb", 7.0 * up)
    found, matrix = loaded(tmp_path / "mesh.glb")
    assert np.allclose(matrix[:3, :3] @ matrix[:3, :3].T, np.eye(3), atol=1e-12) and np.linalg.det(matrix[:3, :3]) > 0
    placed = found.vertices @ matrix[:3, :3].T
    np.testing.assert_allclose(placed[:, 1], mesh.vertices @ up, atol=1e-5)


def test_a_world_whose_z_is_up_is_turned_as_the_conventions_say():
    np.testing.assert_array_equal(upright(UP) @ [1.0, 2.0, 3.0], [1.0, 3.0, -2.0])


@pytest.mark.parametrize("offset", [NEAR, UTM], ids=["near", "utm"])
def test_a_known_unit_makes_a_glb_metric_and_the_file_beside_it_repeats_the_matrix(tmp_path, offset):
    mesh = ball(offset)
    write_mesh(mesh, tmp_path / "mesh.glb", UP, metres_per_unit=0.25)
    found, matrix = loaded(tmp_path / "mesh.glb")
    assert np.allclose(np.ptp(found.vertices @ matrix[:3, :3].T, axis=0), [0.25, 0.15, 0.2], atol=1e-3)
    facts = json.loads(facts_file(tmp_path / "mesh.glb").read_text())
    np.testing.assert_array_equal(facts["matrix"], matrix)
    assert (facts["metres_per_unit"], facts["up"]) == (0.25, [0, 0, 1])
    assert (facts["vertices"], facts["faces"]) == (len(mesh.vertices), len(mesh.faces))
    assert (matrix[:3, 3] == 0.0).all() and np.abs(found.vertices).max() < 1.0  # fit for viewers that compute in float32
    assert parts_of(tmp_path / "mesh.glb")[0]["nodes"][0]["extras"]["origin"] == facts["origin"]


@pytest.mark.parametrize("suffix", [".obj", ".ply"])
def test_obj_and_ply_say_which_way_is_up_and_what_a_unit_is(tmp_path, suffix):
    write_mesh(ball(), tmp_path / f"a{suffix}", -UP, 0.5)
    write_mesh(ball(), tmp_path / f"b{suffix}", np.array([0.6, 0.8, 0.0]))
    first, second = ((tmp_path / f"{name}{suffix}").read_bytes().decode(errors="replace") for name in "ab")
    assert "up is -Z\n" in first and "one unit is 0.5 m\n" in first
    assert "up is (0.600000, 0.800000, 0.000000)\n" in second and "one unit is not known\n" in second
    assert json.loads(facts_file(tmp_path / f"a{suffix}").read_text())["metres_per_unit"] == 0.5


def test_a_texture_too_large_for_a_png_goes_into_a_glb_as_a_fine_jpeg(tmp_path, monkeypatch):
    ramp = np.linspace(0, 255, 64).astype(np.uint8)
    mesh = replace(square(), texture=np.stack(np.broadcast_arrays(ramp, ramp[:, None], np.uint8(90)), 2))
    monkeypatch.setattr(mesh_files, "LARGEST_PNG", 100)
    write_mesh(mesh, tmp_path / "mesh.glb", UP)
    assert parts_of(tmp_path / "mesh.glb")[0]["images"][0]["mimeType"] == "image/jpeg"
    found = np.asarray(loaded(tmp_path / "mesh.glb")[0].visual.material.baseColorTexture.convert("RGB")).astype(int)
    assert np.abs(found - mesh.texture).max() <= 6


def test_the_report_reads_what_is_written(tmp_path):
    mesh = painted()
    write_mesh(mesh, tmp_path / "mesh.glb", UP)
    found = read_surface(tmp_path / "mesh.glb")
    np.testing.assert_allclose(found.vertices, mesh.vertices, rtol=0, atol=1e-6)
    assert (found.faces == mesh.faces).all() and (found.views == mesh.views).all()
    np.testing.assert_allclose(found.normals, mesh.normals, atol=1e-6)


@requires("gltf-validator")
@pytest.mark.parametrize("kind", ["plain", "coloured", "painted", "far", "upright", "jpeg"])
def test_the_validator_of_khronos_has_nothing_to_say(tmp_path, kind, monkeypatch):
    monkeypatch.setattr(mesh_files, "LARGEST_PNG", 100 if kind == "jpeg" else 1 << 20)
    mesh = {"plain": replace(ball(), colours=None, views=None, depth_spread=None), "coloured": ball(), "painted": painted(),
            "far": painted(UTM), "upright": square(), "jpeg": square()}[kind]
    up = np.array([0.0, 1.0, 0.0]) if kind == "upright" else np.array([0.1, -0.9, 0.3])
    write_mesh(mesh, tmp_path / "mesh.glb", up, 0.3 if kind == "far" else None)
    told = subprocess.run(["node", "-e", VALIDATE, str(tmp_path / "mesh.glb")], cwd=sys.prefix, capture_output=True, check=True)
    report = json.loads(told.stdout)
    assert report["info"]["totalVertexCount"] == len(mesh.vertices)
    assert [message for message in report["issues"]["messages"] if message["severity"] < 2] == []


@pytest.mark.parametrize("name", ["mesh.stl", "mesh", ".glb", "mesh.glb.zip", "a\n[/x].fbx"])
def test_another_ending_is_refused_before_anything_is_written(tmp_path, name):
    with pytest.raises(UsageError, match=r"a mesh is written as \.glb, \.obj, \.ply, got .*: give --out such an ending\.$"):
        write_mesh(ball(), tmp_path / name.replace("/", ":"), UP)
    assert not list(tmp_path.iterdir())
    assert mesh_writer(Path("MESH.GLB")) is mesh_writer(Path("mesh.glb"))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_mesh_of_nothing_is_refused(tmp_path, suffix):
    with pytest.raises(DataError, match="the mesh has no faces, so .* is not written: widen --crop"):
        write_mesh(replace(ball(), faces=np.zeros((0, 3), np.int32)), tmp_path / f"mesh{suffix}", UP)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_full_disk_leaves_no_half_of_a_file(tmp_path, suffix, monkeypatch):
    def stops_half_way(self: Path, content: bytes) -> int:
        with open(self, "wb") as file:
            file.write(content[:len(content) // 2])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    monkeypatch.setattr(Path, "write_bytes", stops_half_way)
    with pytest.raises(ResourceError, match="cannot write .*: No space left on device; make room or give another --out"):
        write_mesh(painted(), tmp_path / f"mesh{suffix}", UP)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_place_that_cannot_be_written_is_said(tmp_path, suffix):
    (tmp_path / f"mesh{suffix}").mkdir()
    for out in (tmp_path / f"mesh{suffix}", tmp_path / f"missing/mesh{suffix}"):
        with pytest.raises(ResourceError, match=f"cannot write .*mesh{suffix}: "):
            write_mesh(ball(), out, UP)
    assert [path.name for path in tmp_path.iterdir()] == [f"mesh{suffix}"]


@pytest.mark.parametrize("stem", ["my mesh", "a\nv 9 9 9", "-o", "[x]#%s", "Größe", os.fsdecode(b"\xff\r")])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_file_of_a_hostile_name_is_whole(tmp_path, suffix, stem):
    write_mesh(square(), tmp_path / f"{stem}{suffix}", UP)
    with open(tmp_path / f"{stem}{suffix}", "rb") as file:
        resolver = trimesh.resolvers.FilePathResolver(tmp_path / "x")
        found = trimesh.load_scene(file, file_type=suffix[1:], resolver=resolver, process=False)
    mesh, = found.geometry.values()
    assert len(mesh.vertices) == 4 and (suffix == ".ply" or mesh.visual.kind == "texture")
    if suffix == ".obj":
        assert np.asarray(mesh.visual.material.image).shape == (2, 2, 3)
    assert len(list(tmp_path.iterdir())) == (4 if suffix == ".obj" else 2)


def test_a_glb_carries_roughness_and_metal(tmp_path):
    material = np.zeros((2, 2, 3), np.uint8)
    material[..., 1], material[..., 2] = 51, 204
    write_mesh(replace(square(), material=material), tmp_path / "mesh.glb", UP)
    found = trimesh.load(tmp_path / "mesh.glb", force="mesh", process=False).visual.material
    assert np.asarray(found.metallicRoughnessTexture.convert("RGB"))[0, 0].tolist() == [0, 51, 204]
    assert found.metallicFactor == 1.0 and found.roughnessFactor == 1.0
    write_mesh(square(), tmp_path / "plain.glb", UP)
    plain = trimesh.load(tmp_path / "plain.glb", force="mesh", process=False).visual.material
    assert plain.metallicFactor == 0.0 and plain.metallicRoughnessTexture is None
