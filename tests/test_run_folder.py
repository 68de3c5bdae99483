"""A run folder is held by one process, belongs to one set of photos, and holds no place of this machine."""

import errno
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nerf_app import run as runs
from nerf_app.checkpoint import CURRENT, PARTIAL
from nerf_app.errors import DataError, ResourceError, UsageError
from nerf_app.scene.load import load_scene
from nerf_app.training.events import Stepped
from tests.sphere import small_config, sphere_scene, write_blender
from tests.test_run import finish, look, notes_of, train_until

ROOT = Path(__file__).resolve().parent.parent


def test_a_folder_in_use_is_refused_and_its_holder_named(tmp_path, scene):
    folder = tmp_path / "run"
    events = runs.train_events(scene, small_config(5), folder)
    next(events)
    script = ("import sys; from nerf_app import run\nfrom nerf_app.errors import ResourceError\n"
              "try: next(run.resume(sys.argv[1]))\nexcept ResourceError as error: print(error)")
    done = subprocess.run([sys.executable, "-c", script, str(folder)], capture_output=True, text=True, cwd=ROOT, timeout=60)
    said = re.fullmatch(r"(.*) is in use by process (\d+) since \d{4}-.* UTC: wait for it, or give another --out.\n", done.stdout)
    assert said and said[1] == str(folder) and int(said[2]) == os.getpid()
    events.close()
    with pytest.raises(DataError, match="has no scene.safetensors"):  # free again
        finish(runs.resume(folder))


def test_a_folder_that_holds_a_run_is_not_begun_again(tmp_path, scene):
    finish(runs.train_events(scene, small_config(1), tmp_path))
    before = (tmp_path / CURRENT).read_bytes()
    with pytest.raises(ResourceError, match="already holds a run: `nerf-app resume"):
        finish(runs.train_events(scene, small_config(1), tmp_path))
    assert (tmp_path / CURRENT).read_bytes() == before


def test_what_a_run_left_that_never_saved_is_cleared_when_another_begins(tmp_path, scene):
    events = runs.train_events(scene, small_config(5), tmp_path)
    while not isinstance(next(events), Stepped):
        pass
    events.close()
    (tmp_path / f"{PARTIAL}1").write_bytes(b"half")
    finish(runs.train_events(scene, small_config(2), tmp_path))
    assert not list(tmp_path.glob(PARTIAL + "*"))
    assert [json.loads(line)["step"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()] == [1, 2, 2]


def test_a_folder_that_cannot_be_written_is_refused_at_once(tmp_path, scene, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(runs, "RadianceModel", lambda *_: pytest.fail("time was lost"))
    for place in (tmp_path / "file/run", tmp_path / "file"):
        with pytest.raises(ResourceError, match="cannot be written .* give another folder with --out") as caught:
            next(runs.train_events(scene, small_config(1), place))
        assert caught.value.exit_code == 4


def test_a_file_system_without_locks_is_used_with_a_warning(tmp_path, scene, monkeypatch):
    def no_locks(*_):
        raise OSError(errno.ENOLCK, "No locks available")
    monkeypatch.setattr("fcntl.flock", no_locks)
    with pytest.warns(UserWarning, match="cannot be locked .No locks available.: see to it"):
        assert finish(runs.train_events(scene, small_config(1), tmp_path))[-1].step == 1


@pytest.fixture
def own_photos(tmp_path, photos, scene) -> Path:
    """A copy of the photos that a test may change, with a run of two steps beside it."""
    shutil.copytree(photos, tmp_path / "photos")
    train_until(2, load_scene(tmp_path / "photos"), small_config(3), tmp_path / "run")
    return tmp_path / "photos"


def test_changed_photos_and_cameras_are_told_once(tmp_path, own_photos):
    shutil.copy(own_photos / "photos/001.png", own_photos / "photos/002.png")
    run, go_on = look(tmp_path / "run"), "changed since this run was trained: going on with what is there now"
    assert runs.changes_since(run.header, runs.load_scene_of(run)) == "the photos changed since this run was trained"
    assert f"the photos {go_on}" in notes_of(runs.resume(tmp_path / "run"))
    assert not any("changed" in note for note in notes_of(runs.resume(tmp_path / "run")))
    path = own_photos / "transforms_train.json"
    plain = json.loads(path.read_text())
    plain["frames"][0]["transform_matrix"][0][3] += 0.001
    path.write_text(json.dumps(plain))
    assert f"the cameras {go_on}" in notes_of(runs.resume(tmp_path / "run"))


def test_other_photos_are_refused(tmp_path, own_photos):
    shutil.rmtree(own_photos)
    write_blender(sphere_scene(n_views=17, size=12), own_photos)
    with pytest.raises(DataError, match="17 photos now, 16 then, and photos/016.png is new. Give .* --scene DIR"):
        finish(runs.resume(tmp_path / "run"))


def test_photos_that_were_moved_are_asked_for_and_found_with_scene(tmp_path, own_photos):
    own_photos.rename(tmp_path / "away")
    run = look(tmp_path / "run")  # needs none
    for needs_photos in (lambda: finish(runs.resume(tmp_path / "run")), lambda: runs.load_scene_of(run)):
        with pytest.raises(DataError, match=r"the photos that .*run was trained on are not in .*/photos: .* --scene DIR"):
            needs_photos()
    assert finish(runs.resume(tmp_path / "run", tmp_path / "away"))[-1].step == 3
    assert look(tmp_path / "run").header.scene_path == "../away"
    assert runs.load_scene_of(run, tmp_path / "away").indices("test")


@pytest.mark.parametrize("is_absolute", [False, True])
def test_the_splits_are_those_of_the_run_wherever_it_is_called_from_and_no_path_in_it_is_absolute(tmp_path, scene, monkeypatch,
                                                                                                  is_absolute):
    home = tmp_path / "home"
    write_blender(scene, home / "scene")
    (home / "scene/photos").rename(home / "photos")
    for path in (home / "scene").glob("*.json"):
        path.write_text(path.read_text().replace('"photos/', '"../photos/'))
    (home / "kept.txt").write_text("001.png\n010.png\n")
    monkeypatch.chdir(home)
    test, root = (str(home / "kept.txt"), str(home)) if is_absolute else ("kept.txt", ".")
    config = small_config(2, {"scene.test": test, "scene.outside_root": root})
    train_until(1, load_scene("scene", config.scene), config, Path("runs/one"))
    for name in ("config.yaml", CURRENT):
        assert os.fsencode(tmp_path) not in (home / "runs/one" / name).read_bytes()
    assert "test: \"../../kept.txt\"" in Path("runs/one/config.yaml").read_text()
    home.rename(tmp_path / "moved")
    (tmp_path / "moved/kept.txt").unlink()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    folder = Path("../moved/runs/one")
    run = look(folder)
    assert [view.name for view in run.views if view.split == "test"] == ["../photos/001.png", "../photos/010.png"]
    assert [photo["path"] for photo in runs.evaluate(run, runs.load_scene_of(run))["photos"]] == ["../photos/001.png",
                                                                                                   "../photos/010.png"]
    assert finish(runs.resume(folder))[-1].step == 2
    assert look(folder).header.notes == run.header.notes


def test_another_spelling_of_the_same_list_of_test_photos_is_the_same_setting(tmp_path, photos, monkeypatch):
    shutil.copytree(photos, tmp_path / "set")
    monkeypatch.chdir(tmp_path)
    scene = load_scene("set")
    for name in ("set/kept.txt", "other.txt"):
        Path(name).write_text(scene.views[1].name)
    finish(runs.train_events(scene, small_config(2, {"scene.test": str(tmp_path / "set/kept.txt")}), "run"))
    for steps, spelling in enumerate(("set/kept.txt", "./set/../set/kept.txt", "kept.txt"), 3):
        assert finish(runs.resume("run", overrides={"scene.test": spelling, "training.steps": steps}))[-1].step == steps
    with pytest.raises(UsageError, match="scene.test cannot be changed"):
        finish(runs.resume("run", overrides={"scene.test": "other.txt"}))



def test_names_that_are_no_utf_8_train_and_come_back(tmp_path):
    place, folder = (tmp_path / os.fsdecode(name) for name in (b"\xff [x]\n", b"\xfd"))
    write_llff(sphere_scene(size=12), place, lambda index: os.fsdecode(b"\xfe%02d.png" % index))
    scene = load_scene(place)
    finish(runs.train_events(scene, small_config(2), folder))
    run = look(folder)
    assert [view.name for view in run.views] == [view.name for view in scene.views] and "\udcfe" in run.views[0].name
    assert len(runs.evaluate(run, runs.load_scene_of(run))["photos"]) == 2
    assert finish(runs.resume(folder, overrides={"training.steps": 3}))[-1].step == 3


def write_llff(scene, folder, name_of):
    """The scene as poses_bounds.npy, the one format that takes the photos' names from the folder."""
    (folder / "images").mkdir(parents=True)
    rows = []
    for index, view in enumerate(scene.views):
        Image.fromarray(scene.photos.picture(index)[0].numpy()).save(folder / "images" / name_of(index))
        right, up, back, eye = view.world_from_camera[:3].T
        lens = [view.camera.height, view.camera.width, view.camera.focal_x_px]
        rows.append([*np.stack([-up, right, back, eye, lens], 1).ravel(), 4.0, 8.0])
    np.save(folder / "poses_bounds.npy", rows)


@pytest.mark.parametrize("scene, name", [("/data/lego", "lego"), ("/data/[odd] näme\n", "odd-n-me"), ("/", "scene"),
                                         ("/x/" + "a" * 90, "a" * 60)])
def test_a_new_folder_is_named_after_the_scene_without_odd_characters(scene, name):
    folder = runs.new_folder(Path(scene))
    assert folder.parent == Path("runs") and folder.name[:len(name) + 1] == name + "-"
    assert len(folder.name) == len(name) + len("-20260101-000000-abcd")
