"""`nerf-app export`: each kind gets its own flags and no others, and is refused early where it cannot be written."""

import importlib
import json
import os
import signal
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from nerf_app import cli, exporting
from nerf_app.export import extract, mesh_files
from nerf_app.export.extract import MeshPlan
from tests.sphere import SMALL, sphere_scene, write_blender


@pytest.fixture
def exporters(tmp_path, monkeypatch) -> list:
    """What the exporters were called with; each stands in for the real one."""
    calls = []

    def stand_in(name, result):
        module, function = name.rsplit(".", 1)
        assert callable(getattr(importlib.import_module(module), function))
        monkeypatch.setattr(name, lambda *given, **more: calls.append((function, given, more)) or result)
    facts = {"faces": 12, "vertices": 9, "open_edges": 3, "texture": 256, "psnr": 21.0,
             "silhouette_iou": 0.5, "split": "test", "photos": [{}]}
    files = [Path("r/mesh/mesh.obj"), Path("r/mesh/mesh.mtl")]
    stand_in("nerf_app.export.full_mesh.export_mesh", (files, facts))
    stand_in("nerf_app.export.depth.write_depth", [Path("r/depth/depth.json"), Path("r/depth/a.png")])
    stand_in("nerf_app.export.depth.shots_of_split", {"a": 1, "b": 2})
    stand_in("nerf_app.export.depth.shots_of_path", {"00000": 1})
    stand_in("nerf_app.export.paths.camera_path", "a path")
    stand_in("nerf_app.export.pointcloud.write_point_cloud", SimpleNamespace(points=[0, 0, 0]))
    stand_in("nerf_app.export.crop.parse_crop", "a box")
    stand_in("nerf_app.export.cameras.write_cameras", ([Path("r/cameras/transforms.json")], ["a note"]))
    monkeypatch.setattr("nerf_app.export.depth.known_words", lambda index: f"{index} says how many are known")
    monkeypatch.setattr("nerf_app.run.open_run", lambda *_: SimpleNamespace(note=None, views=[0, 0], folder=Path("r")))
    monkeypatch.setattr("nerf_app.run.load_scene_of", lambda *_: "a scene")
    monkeypatch.chdir(tmp_path)
    return calls


def test_a_mesh_is_what_the_flags_say(exporters, capsys):
    assert cli.main(["export", "r", "mesh", "--crop", "-1 -1 0 1 1 1", "--faces", "9000", "--min-views", "0", "--watertight",
                     "--method", "density", "--resolution", "99", "--scale-from", "0 0 0 0 0 2 0.5"]) == 0
    out, err = capsys.readouterr()
    (_, (_, _, plan, file, _, metres_per_unit), _), = exporters
    assert plan == MeshPlan("density", "-1 -1 0 1 1 1", 9000, 0, 99, True) and metres_per_unit == 0.25
    assert file == Path("r/mesh/mesh.glb") and out == "r/mesh/mesh.obj\nr/mesh/mesh.mtl\n", "what the exporter wrote"
    assert "scale     two points" in err
    assert "12 faces, 3 open edges, texture 256×256; seen from 1 held-out photos: PSNR 21.00 dB" in err
    assert "silhouettes overlap by 50.0 %\n" in err


def test_what_is_not_said_of_a_mesh_is_left_to_its_plan(exporters, capsys):
    assert cli.main(["export", "r", "mesh", "--format", "obj", "--json"]) == 0
    assert exporters[0][1][2] == MeshPlan() and exporters[0][1][3] == Path("r/mesh/mesh.obj")
    result = json.loads(capsys.readouterr().out)
    assert result["files"] == ["r/mesh/mesh.obj", "r/mesh/mesh.mtl"] and result["psnr"] == 21.0


def test_depth_is_that_of_all_photos_or_of_some_or_of_a_path(exporters, capsys):
    for flags in ([], ["--split", "val"], ["--path", "orbit", "--undistort", "--out", "maps.v2"]):
        assert cli.main(["export", "r", "depth", *flags]) == 0
        assert capsys.readouterr().out == "r/depth/depth.json\nr/depth/a.png\n"
    called = [(name, given[1:]) for name, given, _ in exporters if name == "shots_of_split"]
    assert called == [("shots_of_split", ("all",)), ("shots_of_split", ("val",))]
    assert exporters[-1][1][1:3] == ({"00000": 1}, Path("maps.v2")) and exporters[-1][2]["undistort"] is True
    assert exporters[-1][2] == {"metres_per_unit": None, "undistort": True, "box": None, "form": "npy"}
    assert exporters[-3][1][0] == "orbit"


def test_one_crop_serves_every_export_and_each_kind_has_its_own_formats(exporters, capsys):
    for kind, module in (("depth", "write_depth"), ("pointcloud", "write_point_cloud")):
        assert cli.main(["export", "r", kind, "--crop", "auto"]) == 0
        assert exporters[-1][0] == module and exporters[-1][2]["box"] == "a box" and exporters[-2][1][0] == "auto"
        assert "crop      a box\n" in capsys.readouterr().err
    assert cli.main(["export", "r", "depth", "--format", "exr"]) == 0 and exporters[-1][2]["form"] == "exr"
    assert cli.main(["export", "r", "mesh", "--format", "exr"]) == 2
    assert "--format of mesh must be glb or obj or ply, got exr" in capsys.readouterr().err


def test_points_and_cameras_go_where_they_belong(exporters, capsys):
    assert cli.main(["export", "r", "pointcloud", "--points", "7", "--crop", "auto"]) == 0
    assert exporters[0][1][0] == "auto" and exporters[1][2] == {"count": 7, "box": "a box"}
    assert exporters[1][1][1] == Path("r/cloud/points.ply")
    assert cli.main(["export", "r", "pointcloud"]) == 0
    assert exporters[-1][2] == {"box": None}, "the default is the exporter's own"
    assert cli.main(["export", "r", "cameras", "--frame", "original"]) == 0
    assert exporters[-1][1][1:] == (Path("r/cameras"), "original") and "a note" in capsys.readouterr().err


def test_the_help_of_a_metric_scale_says_what_becomes_metric(capsys):
    assert cli.main(["export", "--help"]) == 0
    words = " ".join(capsys.readouterr().out.split())
    assert "the factor in a GLB's root node, that of depth's 16-bit PNGs, and the JSON beside each file" in words
    assert "vertices of OBJ and PLY and float depths stay in input units" in words


def test_an_export_knows_the_methods_and_formats_that_exist():
    assert exporting.METHODS == tuple(extract.METHODS) and {f".{name}" for name in exporting.FORMATS} == set(mesh_files.WRITERS)
    assert {flag for kind in exporting.KINDS.values() for flag in kind.flags} == set(exporting.FLAGS)


@pytest.mark.parametrize("kind, out", [("mesh", "file/mesh.glb"), ("mesh", "folder.glb"), ("depth", "file/depth"),
                                       ("depth", "file"), ("pointcloud", "folder.ply"), ("cameras", "/proc/cameras")])
def test_an_export_that_cannot_be_written_is_refused_before_the_run_is_read(kind, out, exporters, tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_text("")
    for name in ("folder.glb", "folder.ply"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr("nerf_app.run.open_run", lambda *_: pytest.fail("the run was read"))
    assert cli.main(["export", "r", kind, "--out", str(tmp_path / out)]) == 4
    err = capsys.readouterr().err
    assert "cannot write" in err and err.count("\n") == 1 and exporters == []


def test_an_interrupted_export_says_that_nothing_is_half_written(exporters, monkeypatch, capsys):
    monkeypatch.setattr("nerf_app.export.full_mesh.export_mesh", lambda *_: os.kill(os.getpid(), signal.SIGINT) or time.sleep(5))
    assert cli.main(["export", "r", "mesh"]) == 130
    assert capsys.readouterr().err == "nerf-app: interrupted; no file was left half-written\n"


def test_a_mesh_without_its_photos_names_the_way_to_them(monkeypatch, tmp_path, capsys):
    write_blender(sphere_scene(n_views=10, size=12), tmp_path / "ball")
    flags = [part for name, value in SMALL.items() for part in ("--set", f"{name}={'null' if value is None else value}")]
    assert cli.main(["train", str(tmp_path / "ball"), "--out", str(tmp_path / "r"), "--steps", "1", *flags]) == 0
    os.rename(tmp_path / "ball", tmp_path / "elsewhere")
    assert cli.main(["export", str(tmp_path / "r"), "mesh"]) == 3
    assert "give their folder with --scene DIR" in capsys.readouterr().err
