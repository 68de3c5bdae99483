"""From photos to a scene: what is found, what is said of what failed, and how it goes on."""

import json
import math
import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image

from nerf_app import cli, job
from nerf_app.errors import DataError, UsageError
from nerf_app.export.video import write_video
from nerf_app.process import child, pairs, solve
from nerf_app.process.failures import reasons
from nerf_app.process.photos import Photo, gather, photo_files
from nerf_app.process.solve import Asked, is_unposed, process, upright
from nerf_app.progress import PlainDisplay
from nerf_app.scene import colmap
from nerf_app.scene.load import load_scene, read_listing
from nerf_app.scene.settings import SceneSettings
from nerf_app.scene.writing import locked
from tests.process.corner import FOCAL_PX, photograph, poses, write_photos
from tests.requires import requires
from tests.sphere import SMALL

PHONE = 0.85  # as nerf_app/process/colmap.py has it, which only a process of its own may load
ROOT = Path(__file__).resolve().parents[2]
ROOM = ROOT / "data/room"
pytestmark = requires("pycolmap")


def corner_photos(folder: Path, count: int) -> Path:
    """Photos of the corner, some under odd names."""
    odd = ["a b.jpg", "-rf.jpg", os.fsdecode(b"\xff.jpg"), "new\nline.jpg"]
    write_photos(folder, count, [odd[number] if number < len(odd) else f"{number:02}.jpg" for number in range(count)])
    return folder


def save_noise(file: Path, seed: int) -> None:
    noise = np.random.default_rng(seed).integers(0, 256, (60, 80, 3)).repeat(4, 0).repeat(4, 1).astype(np.uint8)
    Image.fromarray(noise).save(file)


def asked(source: Path, out: Path, **changes) -> Asked:
    return Asked(**({"source": source, "out": out, "minutes": 1.0, "frames": 12, "threads": 1, "seed": 0} | changes))


def display() -> PlainDisplay:
    return PlainDisplay(sys.stderr)


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> tuple[Path, solve.Found]:
    """A scene of nine photos that belong together, one of another world, one plain one and one that is cut off."""
    folder = tmp_path_factory.mktemp("process")
    photos = corner_photos(folder / "photos", 9)
    save_noise(photos / "other.jpg", seed=0)
    Image.fromarray(np.full((240, 320, 3), 120, np.uint8)).save(photos / "plain.png")
    (photos / "cut.jpg").write_bytes((ROOM / "images/frame_00020.jpg").read_bytes()[:9000])
    return folder / "scene", process(asked(photos, folder / "scene"), display())


def test_the_photos_of_one_place_are_placed_and_the_others_are_listed_with_the_reason(made):
    _, found = made
    said = {drop.name: drop.reason for drop in found.failed}
    assert (found.photos, found.placed) == (12, 9) and said.keys() == {"other.jpg", "plain.png", "cut.jpg"}
    assert "no overlap" in said["other.jpg"] and "hardly anything" in said["plain.png"] and "is broken" in said["cut.jpg"]
    assert found.points > 200 and 0.0 < found.error_px < 1.0


def test_the_scene_is_read_as_transforms_and_as_colmap_with_the_same_cameras(made):
    scene, _ = made
    assert sorted(os.listdir(scene)) == ["images", "points.ply", "process.json", "sparse", "transforms.json"]
    ours, notes = read_listing(scene, SceneSettings())
    theirs = colmap.read(scene, SceneSettings())
    assert len(ours.frames) == len(theirs.frames) == 9
    by_name = {frame.name: frame for frame in theirs.frames}
    for frame in ours.frames:
        np.testing.assert_allclose(frame.world_from_camera, by_name[frame.name].world_from_camera, atol=1e-9)
        assert frame.path.is_file() and frame.camera.lens == by_name[frame.name].camera.lens
    np.testing.assert_allclose(ours.points, theirs.points)


def test_the_scene_is_upright_and_of_about_the_size_of_1(made):
    scene = load_scene(made[0])
    centres = np.stack([view.world_from_camera[:3, 3] for view in scene.views])
    assert np.median(np.linalg.norm(centres - centres.mean(0), axis=1)) == pytest.approx(1.0)
    assert max(abs(view.world_from_camera[2, 0]) for view in scene.views) < 0.02  # horizons are level
    assert min(view.world_from_camera[2, 1] for view in scene.views) > 0.8
    assert scene.points is not None and {drop.name for drop in scene.dropped} == {"images/other.jpg", "images/plain.png"}


def test_the_same_call_finds_it_done_and_does_nothing(made, monkeypatch):
    scene, found = made
    monkeypatch.setattr(child, "run", None)
    assert process(asked(scene.parent / "photos", scene), display()) == found


def test_a_folder_with_other_things_or_another_scene_is_left_alone(made, tmp_path):
    scene, _ = made
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/a.txt").write_text("mine")
    for out, says in ((tmp_path / "mine", "is not empty"), (scene, "holds the scene of"), (ROOM / "images", "is not empty")):
        with pytest.raises(UsageError, match=says):
            process(asked(ROOM, out), display())
    assert os.listdir(tmp_path / "mine") == ["a.txt"] and (scene / "process.json").exists()


def test_a_second_process_is_told_who_is_at_work_in_the_folder(tmp_path, capsys):
    photos, scene = corner_photos(tmp_path / "photos", 4), tmp_path / "scene"
    with locked(scene / "work"):
        solve.write_as(solve.Progress(asked(photos, scene).source_from_out, ""), scene / "work/progress.json")
        assert cli.main(["process", str(photos), "--out", str(scene)]) == 4
    assert f"is in use by process {os.getpid()} since" in capsys.readouterr().err
    assert process(asked(photos, scene), display()).placed == 4 and not (scene / "work").exists()


def test_a_video_that_was_being_cut_up_is_cut_up_again(tmp_path, monkeypatch):
    write_video((photograph(pose) for pose in poses(6)), tmp_path / "walk.mp4", 6.0)
    with monkeypatch.context() as once, pytest.raises(KeyboardInterrupt):
        once.setattr(solve, "write_frames", interrupted)
        process(asked(tmp_path / "walk.mp4", tmp_path / "scene"), display())
    assert process(asked(tmp_path / "walk.mp4", tmp_path / "scene"), display()).placed == 6


def interrupted(*_, **__) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("step", ["features", "match", "reconstruct", "finish"])
def test_what_was_interrupted_goes_on_where_it_was(step, tmp_path, monkeypatch):
    photos, run, tasks = corner_photos(tmp_path / "photos", 4), child.run, []

    def stopped(task, on_progress, **arguments):
        tasks.append(task)
        if task == step:
            raise KeyboardInterrupt
        return run(task, on_progress, **arguments)
    with monkeypatch.context() as once:
        once.setattr(child, "run", stopped)
        with pytest.raises(KeyboardInterrupt):
            process(asked(photos, tmp_path / "scene"), display())
    before = list(tasks)
    assert not (tmp_path / "scene/process.json").exists() and before[-1] == step

    def noted(task, on_progress, **arguments):
        tasks.append(task)
        return run(task, on_progress, **arguments)
    monkeypatch.setattr(child, "run", noted)
    monkeypatch.setattr(solve, "gather", None)  # the photos lie there already
    assert process(asked(photos, tmp_path / "scene"), display()).placed == 4
    done = {"features": [], "match": [], "reconstruct": ["features", "match"], "finish": ["features", "match", "reconstruct"]}
    assert not set(tasks[len(before):]) & set(done[step])


def test_ctrl_c_ends_it_within_two_seconds_and_leaves_no_process(tmp_path):
    photos = corner_photos(tmp_path / "photos", 12)
    program = subprocess.Popen([sys.executable, "-m", "nerf_app", "process", str(photos), "--out", str(tmp_path / "scene")],
                               env={**os.environ, "PYTHONPATH": str(ROOT)}, stderr=subprocess.PIPE, text=True)
    while not (children := [int(name) for name in os.listdir("/proc") if name.isdigit() and parent_of(name) == program.pid]):
        time.sleep(0.02)
        assert program.poll() is None
    time.sleep(0.3)
    began = time.monotonic()
    program.send_signal(signal.SIGINT)
    assert program.wait(timeout=10) == 130 and time.monotonic() - began < 2.0
    assert "what is found so far is kept" in program.communicate()[1]
    assert not any(Path(f"/proc/{one}").exists() for one in children)


def parent_of(process_id: str) -> int | None:
    try:
        return int(Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return None


@pytest.mark.parametrize("given, says", [(0, "holds no photos"), (2, "2 photos that can be used, and a scene needs 3"),
                                         (None, "does not exist")])
def test_too_few_photos_are_one_line(given, says, tmp_path, capsys):
    photos = tmp_path / "photos" if given is None else corner_photos(tmp_path / "photos", given)
    assert cli.main(["process", str(photos), "--out", str(tmp_path / "scene")]) == 3
    assert says in capsys.readouterr().err


def test_photos_of_different_worlds_are_one_line_with_a_reason(tmp_path):
    (tmp_path / "photos").mkdir()
    for number in range(4):
        save_noise(tmp_path / f"photos/{number}.jpg", number)
    with pytest.raises(DataError, match=r"no 3 of 4 photos could be placed together; first, 0.jpg: no overlap"):
        process(asked(tmp_path / "photos", tmp_path / "scene"), display())


def test_few_placed_photos_lead_to_a_second_try_and_the_better_one_counts(tmp_path, monkeypatch, capsys):
    photos, run, tries = corner_photos(tmp_path / "photos", 5), child.run, []

    def half(task, on_progress, **arguments):
        answer = run(task, on_progress, **arguments)
        if task == "reconstruct":
            tries.append(arguments["is_relaxed"])
            return answer if arguments["is_relaxed"] else 3
        return answer
    monkeypatch.setattr(child, "run", half)
    assert process(asked(photos, tmp_path / "scene"), display()).placed == 5 and tries == [False, True]
    assert "3 of 5 photos found a place; a second try asks for less" in capsys.readouterr().err


def test_the_command_prints_the_scene_last_and_json_holds_all(tmp_path, capsys):
    photos = corner_photos(tmp_path / "photos", 4)
    for flags in ([], ["--json"]):
        assert cli.main(["process", str(photos), "--out", str(tmp_path / "scene"), "--threads", "1", *flags]) == 0
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert lines[0] == str(tmp_path / "scene") and json.loads(lines[1])["placed"] == 4
    assert "4 of 4 photos have a place" in err


def test_a_job_on_photos_without_poses_finds_them_first(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(job, "STAGES", {})
    corner_photos(tmp_path / "photos", 4)
    flags = [part for name, value in SMALL.items() for part in ("--set", f"{name}={'null' if value is None else value}")]

    def stop(*_):
        raise KeyboardInterrupt
    with monkeypatch.context() as once:
        once.setattr(job, "process", stop)
        with pytest.raises(KeyboardInterrupt):
            cli.main(["reconstruct", "photos", "--out", "r", "--steps", "2", *flags])
    plain = ["--backend", "reference", "--threads", "1"]
    assert cli.main(["reconstruct", "r", *plain]) == 0
    record = json.loads(Path("r/jobs.json").read_text())
    assert list(record["done"]) == ["poses", "training"] and record["done"]["poses"]["facts"]["placed"] == 4
    assert "%   poses: begins" in (err := capsys.readouterr().err) and "4 of 4 photos have a place" in err
    monkeypatch.setattr(job, "process", None)
    for scene in (["photos", "--out", "r"], ["r"]):
        assert cli.main(["reconstruct", *scene, *plain]) == 0


def test_training_on_photos_without_poses_names_the_cure(tmp_path, capsys):
    corner_photos(tmp_path / "photos", 4)
    assert is_unposed(tmp_path / "photos") and not is_unposed(ROOM)
    assert not is_unposed(tmp_path / "none") and not is_unposed(ROOM / "transforms.json")
    assert cli.main(["train", str(tmp_path / "photos"), "--out", str(tmp_path / "r")]) == 3
    assert "`nerf-app process` finds them" in capsys.readouterr().err


def test_the_cameras_are_where_they_were(tmp_path):
    truth = write_photos(tmp_path / "photos", 6)
    process(asked(tmp_path / "photos", tmp_path / "scene"), display())
    frames = read_listing(tmp_path / "scene", SceneSettings())[0].frames
    ours = np.stack([frame.world_from_camera for frame in frames])
    # Distances between cameras and angles between them do not depend on the coordinates.
    apart, truly = (np.linalg.norm(poses[:, None, :3, 3] - poses[None, :, :3, 3], axis=-1) for poses in (ours, truth))
    np.testing.assert_allclose(apart / apart.mean(), truly / truly.mean(), atol=0.02)
    turns, true_turns = (np.einsum("aji,bjk->abik", poses[:, :3, :3], poses[:, :3, :3]) for poses in (ours, truth))
    np.testing.assert_allclose(turns, true_turns, atol=0.02)


@pytest.mark.slow
@pytest.mark.parametrize("breathing", [0.0, 0.05])
def test_photos_get_focal_lengths_of_their_own_where_they_have_them(breathing, tmp_path, capsys):
    """Autofocus: each photo is taken with another focal length; the same photos with one lens are left with it."""
    (tmp_path / "photos").mkdir()
    truth = FOCAL_PX * (1.0 + breathing * np.sin(2.4 * np.arange(14)))
    for number, (pose, focal_px) in enumerate(zip(poses(14), truth, strict=True)):
        Image.fromarray(photograph(pose, focal_px=focal_px)).save(tmp_path / f"photos/{number:02}.jpg", quality=95)
    assert process(asked(tmp_path / "photos", tmp_path / "scene"), display()).placed == 14
    frames = sorted(read_listing(tmp_path / "scene", SceneSettings())[0].frames, key=lambda frame: frame.name)
    focals = np.array([frame.camera.focal_x_px for frame in frames])
    assert ("lens      a focal length for each photo" in capsys.readouterr().err) == bool(breathing)
    np.testing.assert_allclose(focals / focals.mean(), truth / truth.mean(), atol=0.01)
    assert len(set(focals)) == (14 if breathing else 1)


def test_photos_of_all_kinds_and_cameras_make_one_scene(tmp_path):
    """HEIC, PNG, a JPEG that lies on its side, and one of another size."""
    pillow_heif = pytest.importorskip("pillow_heif")
    truth, folder = poses(6), tmp_path / "photos"
    folder.mkdir()
    pictures = [Image.fromarray(photograph(pose)) for pose in truth]
    pillow_heif.from_pillow(pictures[0]).save(folder / "0.heic", quality=95)
    pictures[1].save(folder / "1.png")
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6  # to be turned clockwise
    pictures[2].transpose(Image.Transpose.ROTATE_90).save(folder / "2.jpg", quality=95, exif=exif)
    pictures[3].resize((240, 180), Image.Resampling.LANCZOS).save(folder / "3.jpg", quality=95)
    for number in (4, 5):
        pictures[number].save(folder / f"{number}.jpg", quality=95)
    assert process(asked(folder, tmp_path / "scene"), display()).placed == 6
    frames = sorted(read_listing(tmp_path / "scene", SceneSettings())[0].frames, key=lambda frame: frame.name)
    assert [(frame.camera.width, frame.camera.height) for frame in frames] == [(320, 240)] * 3 + [(240, 180)] + [(320, 240)] * 2
    ours = np.stack([frame.world_from_camera for frame in frames])
    turns, true_turns = (np.einsum("aji,bjk->abik", some[:, :3, :3], some[:, :3, :3]) for some in (ours, truth))
    np.testing.assert_allclose(turns, true_turns, atol=0.03)


def test_the_search_for_a_focal_length_begins_with_what_exif_says(tmp_path):
    """Two photos say 30 mm of a 35 mm film, two say nothing."""
    folder, work = tmp_path / "photos", tmp_path / "work"
    write_photos(folder, 4)
    for name in ("00.jpg", "01.jpg"):
        exif = Image.Exif()
        exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.FocalLengthIn35mmFilm] = 30
        Image.open(folder / name).save(folder / name, quality=95, exif=exif)
    work.mkdir()
    photos = gather(photo_files(folder), folder, tmp_path / "out", work, solve.silent).photos
    database = tmp_path / "database.db"
    child.run("features", solve.silent, database=str(database), photos=str(work), groups=solve.groups(photos), size=320, most=500,
              threads=1, seed=0)
    with closing(sqlite3.connect(database)) as base:
        focals = sorted(float(np.frombuffer(params)[0]) for (params,) in base.execute("SELECT params FROM cameras"))
    assert focals == pytest.approx([320 * PHONE, 400 * 30 / math.hypot(36, 24)])
    keys = [photo.key for photo in photos]
    near = child.run("nearest", solve.silent, database=str(database), names=keys, count=2, seed=0)
    assert np.shape(near) == (4, 2) and near[0][0] == 1 and near[3][0] == 2


def test_too_many_photos_to_compare_all_are_compared_with_those_that_look_alike(tmp_path, monkeypatch):
    for name, value in {"EXHAUSTIVE": 7, "NEAREST": 3}.items():
        monkeypatch.setattr(pairs, name, value)
    run, compared = child.run, []

    def watched(task, on_progress, **arguments):
        compared.extend(arguments["pairs"] if task == "match" else [])
        return run(task, on_progress, **arguments)
    monkeypatch.setattr(child, "run", watched)
    photos = corner_photos(tmp_path / "photos", 8)
    assert process(asked(photos, tmp_path / "scene", minutes=1e-6), display()).placed == 8
    assert 12 <= len(compared) < 28


def test_a_video_becomes_a_scene(tmp_path):
    write_video((photograph(pose) for pose in poses(20)), tmp_path / "a.mp4", 5.0)
    found = process(asked(tmp_path / "a.mp4", tmp_path / "scene", frames=6), display())
    assert (found.photos, found.placed) == (6, 6)
    assert [view.name for view in load_scene(tmp_path / "scene").views] == [f"images/{number:05}.jpg" for number in range(1, 7)]


def test_a_similarity_puts_cameras_upright():
    rng = np.random.default_rng(2)
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    turn *= np.linalg.det(turn)
    poses = np.tile(np.eye(4), (5, 1, 1))
    poses[:, :3, :3], poses[:, :3, 3] = turn, 7.0 * rng.normal(size=(5, 3)) + 100.0
    moved = upright(poses)
    linear, centres = moved[:, :3], poses[:, :3, 3] @ moved[:, :3].T + moved[:, 3]
    scale = np.cbrt(np.linalg.det(linear))
    np.testing.assert_allclose(linear @ linear.T, scale**2 * np.eye(3), atol=1e-12)
    np.testing.assert_allclose(linear @ turn[:, 1] / scale, [0.0, 0.0, 1.0], atol=1e-9)
    np.testing.assert_allclose(centres.mean(0), 0.0, atol=1e-9)
    assert np.median(np.linalg.norm(centres, axis=1)) == pytest.approx(1.0)


def test_every_failure_has_its_own_words():
    photos = [Photo("", name, name, "", 9, 9, None, 1.0 if name == "d" else 9.0) for name in "abcdefgh"]
    links = {"features": {name: 20 if name == "c" else 900 for name in "abcdefgh"},
             "pairs": [["a", "b", 200], ["a", "e", 21], ["f", "g", 90], ["b", "h", 800]]}
    said = {drop.name: drop.reason for drop in reasons(photos, {"a", "b"}, links)}
    assert "hardly anything" in said["c"] and said["d"].startswith("blurred") and "21 points in common" in said["e"]
    assert "photos without a place (1)" in said["f"] and said["h"].startswith("800 points in common with one")
    assert said.keys() == set("cdefgh")
