"""The whole job: every stage once, in its order; interrupted, failed, asked for again, it does what is left and no more."""

import dataclasses
import json
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import nerf_app
from nerf_app import checkpoint, cli, stages
from nerf_app import run as runs
from nerf_app.errors import DataError, ResourceError
from nerf_app.stages import STAGES, TRAINING, Made, Stage, expected_seconds, film_plan
from nerf_app.training.events import Stepped
from tests.sphere import SMALL, sphere_scene, write_blender

NAMES = list(STAGES)
FLAGS = [part for name, value in SMALL.items() for part in ("--set", f"{name}={'null' if value is None else value}")]


@pytest.fixture
def photos(tmp_path, monkeypatch) -> Path:
    """A Blender set of the ball, beside which we stand."""
    write_blender(sphere_scene(n_views=10, size=12), tmp_path / "ball")
    monkeypatch.chdir(tmp_path)
    return Path("ball")


@pytest.fixture
def made(monkeypatch) -> list[str]:
    """The stages that were made, each by a stand-in that writes a file with its name."""
    made = []

    def stand_in(name: str):
        def work(given, on_progress):
            on_progress(1, 1)
            file = given.run.folder / f"{name}.out"
            file.write_text(str(given.run.header.step))
            made.append(name)
            return Made([file], {"psnr": 20.0, "seen": sorted(given.facts)}, "done")
        return work
    for name in NAMES:
        monkeypatch.setitem(STAGES, name, Stage("thing", stand_in(name)))
    return made


def reconstruct(*arguments, steps: int = 3) -> int:
    return cli.main(["reconstruct", *map(str, arguments), "--steps", str(steps), *FLAGS])


def folder_bytes(folder: str) -> dict[str, bytes]:
    """What a folder holds, but for the name of whoever used it last."""
    return {str(path): path.read_bytes() for path in Path(folder).rglob("*") if path.is_file() and path.name != "LOCK"}


def replace(monkeypatch, name: str, before) -> None:
    """Lets something happen before a stage is made."""
    work = STAGES[name].work

    def both(given, on_progress):
        before()
        return work(given, on_progress)
    monkeypatch.setitem(STAGES, name, Stage("thing", both))


def killed(monkeypatch, *arguments, steps: int) -> None:
    """A job that is gone when training has hardly begun."""
    train = runs.train_events

    def gone(*arguments):
        yield next(train(*arguments))
        raise KeyboardInterrupt
    with monkeypatch.context() as once:
        once.setattr(runs, "train_events", gone)
        with pytest.raises(KeyboardInterrupt):
            reconstruct(*arguments, steps=steps)


def interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(5)


def test_every_stage_is_made_once_and_the_last_line_is_the_report(photos, made, capsys):
    assert reconstruct(photos, "--out", "r") == 0
    out, err = capsys.readouterr()
    assert out == "r\nr/report.out\n" and made == NAMES == ["score", "film", "depth", "mesh", "points", "cameras", "report"]
    for words in ("plan      training, then about", "score     done (0:00)", "report    done (0:00)"):
        assert words in err
    record = json.loads(Path("r/jobs.json").read_text())
    assert list(record["done"]) == [TRAINING, *NAMES] and record["scene"] == "../ball"
    assert record["done"]["report"]["facts"]["seen"] == sorted([TRAINING, *NAMES[:-1]])


def test_a_job_that_is_done_is_left_alone(photos, made, capsys):
    assert reconstruct(photos, "--out", "r") == 0
    before = {path: path.stat().st_mtime_ns for path in Path("r").rglob("*")}
    for again in ((photos, "--out", "r"), ("r",)):
        assert reconstruct(*again) == 0
        assert capsys.readouterr().out.endswith("r\nr/report.out\n")
    assert cli.main(["reconstruct", "r"]) == 0
    assert made == NAMES and before == {path: path.stat().st_mtime_ns for path in Path("r").rglob("*")}


@pytest.mark.parametrize("flags, said", [
    (("--test", "every:4"), "scene.test cannot be changed once a run has begun: it was auto, got every:4"),
    (("--set", "encoding.levels=2"), "encoding.levels cannot be changed")])
def test_a_refused_wish_leaves_a_finished_job_as_it_was(flags, said, photos, made, capsys):
    assert reconstruct(photos, "--out", "r") == 0
    before = folder_bytes("r")
    made.clear()
    for scene in (["ball", "--out", "r"], ["r"]):
        assert cli.main(["reconstruct", *scene, *flags]) == 2
        assert said in capsys.readouterr().err
    assert folder_bytes("r") == before
    assert cli.main(["reconstruct", "r"]) == 0 and made == []


def test_a_job_that_is_at_work_loses_nothing_to_a_second_one(photos, made, capsys):
    assert reconstruct(photos, "--out", "r") == 0
    before = folder_bytes("r")
    at_work = runs.resume("r")
    next(at_work)
    assert reconstruct("r", steps=5) == 4 and "r is in use by process" in capsys.readouterr().err
    assert folder_bytes("r") == before
    at_work.close()


def test_a_job_past_its_training_is_held_against_a_second_one_too(photos, made, capsys, monkeypatch):
    def second():
        assert cli.main(["reconstruct", "r"]) == 4 and "r is in use by process" in capsys.readouterr().err
    replace(monkeypatch, "film", second)
    assert reconstruct(photos, "--out", "r") == 0 and made == NAMES


def test_settings_that_leave_it_to_the_program_leave_a_finished_job_as_it_was(photos, made):
    assert reconstruct(photos, "--out", "r", "--set", "encoding.log2_entries=null") == 0
    Path("mine.yaml").write_text("encoding: {log2_entries: null}\n")
    parameters = checkpoint.load(Path("r"))[0]["model.parameters"]
    assert cli.main(["reconstruct", "r", "--preset", "mine.yaml"]) == 0
    assert torch.equal(checkpoint.load(Path("r"))[0]["model.parameters"], parameters)


@pytest.mark.parametrize("name", NAMES)
def test_what_was_interrupted_goes_on_and_nothing_is_made_twice(name, photos, made, monkeypatch, capsys):
    with monkeypatch.context() as once:
        replace(once, name, interrupt)
        assert reconstruct(photos, "--out", "r") == 130
    out, err = capsys.readouterr()
    kept = ", ".join([TRAINING, *NAMES[:NAMES.index(name)]])
    assert out == "r\n" and err.endswith(f"nerf-app: interrupted in {name}; kept: {kept}. `nerf-app reconstruct r` goes on\n")
    state = Path("r/scene.safetensors").stat().st_mtime_ns
    assert reconstruct(photos, "--out", "r") == 0
    assert made == NAMES and Path("r/scene.safetensors").stat().st_mtime_ns == state
    assert capsys.readouterr().err.count("is there already") == NAMES.index(name)


def test_an_interrupted_training_goes_on_exactly(photos, made, monkeypatch, capsys):
    assert reconstruct(photos, "--out", "truth", steps=9) == 0
    train = runs.train_events

    def stopped(*arguments):
        for event in train(*arguments):
            if isinstance(event, Stepped) and event.step == 4:
                os.kill(os.getpid(), signal.SIGINT)
            yield event
    monkeypatch.setattr(runs, "train_events", stopped)
    made.clear()
    capsys.readouterr()
    assert reconstruct(photos, "--out", "r", steps=9) == 130
    assert made == [] and checkpoint.load(Path("r"))[1].step == 4
    assert "interrupted in training; kept: the training so far. `nerf-app reconstruct r` goes on" in capsys.readouterr().err
    assert cli.main(["reconstruct", "r", "--threads", "1", "--backend", "reference"]) == 0  # the folder knows what was asked
    ours, truth = checkpoint.load(Path("r"))[0], checkpoint.load(Path("truth"))[0]
    assert made == NAMES and all(torch.equal(ours[name], truth[name]) for name in truth)


def test_a_job_that_was_killed_before_its_first_state_begins_anew_from_its_folder(photos, made, monkeypatch):
    killed(monkeypatch, photos, "--out", "r", steps=2)
    assert cli.main(["reconstruct", "r"]) == 0
    assert made == NAMES and nerf_app.open_run("r").header.step == 2


@pytest.mark.parametrize("is_absolute", [False, True])
def test_such_a_job_goes_on_from_another_place_with_the_paths_that_were_meant(is_absolute, photos, made, monkeypatch, tmp_path):
    (photos / "kept.txt").write_text("001.png\n004.png\n")
    test, root = (str(photos.absolute() / "kept.txt"), str(tmp_path)) if is_absolute else ("kept.txt", ".")
    Path("mine.yaml").write_text(f"scene: {{test: {test}}}\n")
    killed(monkeypatch, photos, "--out", "jobs/r", "--preset", "mine.yaml", "--allow-outside-root", root, steps=2)
    asked = json.loads(Path("jobs/r/jobs.json").read_text())["asked"]
    assert (asked["scene.test"], asked["scene.outside_root"]) == ("../../ball/kept.txt", "../..")
    Path("elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    assert cli.main(["reconstruct", "../jobs/r"]) == 0
    kept = [view.name for view in nerf_app.open_run("../jobs/r").views if view.split == "test"]
    assert made == NAMES and kept == ["photos/001.png", "photos/004.png"]
    made.clear()
    for spelling in ("../ball/kept.txt", str(tmp_path / "ball/kept.txt"), "kept.txt"):
        assert reconstruct("../ball", "--out", "../jobs/r", "--test", spelling, steps=2) == 0
    assert made == [], "one file, however it is spelt"


def test_an_interruption_while_photos_are_read_keeps_nothing_and_says_so(photos, monkeypatch, capsys):
    monkeypatch.setattr("nerf_app.job.load_scene", lambda *_: interrupt())
    assert reconstruct(photos, "--out", "r") == 130
    assert capsys.readouterr().err == "nerf-app: interrupted; nothing was made yet\n" and not Path("r").exists()


@pytest.mark.parametrize("error, code, words", [
    (DataError("the crop is empty: widen it."), 3, "the crop is empty: widen it."), (ResourceError("no room."), 4, "no room."),
    (MemoryError("2 GB"), 4, "memory ran out (2 GB)"), (ZeroDivisionError("by 0"), 1, "unexpected ZeroDivisionError: by 0.")])
def test_a_stage_that_fails_costs_no_other_and_gives_the_exit_code(error, code, words, photos, made, monkeypatch, capsys):
    def fail():
        raise error
    with monkeypatch.context() as once:
        replace(once, "mesh", fail)
        assert reconstruct(photos, "--out", "r", "--json") == code
    out, err = capsys.readouterr()
    result = json.loads(out)
    assert made == [name for name in NAMES if name != "mesh"] and f"mesh      not made: {words}" in err
    assert ("Traceback" in err) == (code == 1), "the way to a fault of ours is shown"
    assert result["failed"]["mesh"]["error"].startswith(words) and result["failed"]["mesh"]["exit_code"] == code
    assert result["exit_code"] == code
    assert result["report"] == "r/report.out" and "mesh" not in result["stages"]
    made.clear()
    assert reconstruct(photos, "--out", "r") == 0
    assert made == ["mesh", "report"], "what failed is tried again, and the report is about all"


def test_a_report_hears_of_what_failed(photos, made, monkeypatch):
    heard = []

    def report(given, on_progress):
        heard.append(given.seconds)
        return Made([given.run.folder], {}, "done")
    monkeypatch.setitem(STAGES, "report", Stage("thing", report))

    def fail():
        raise DataError("the crop is empty: widen it.")
    replace(monkeypatch, "mesh", fail)
    assert reconstruct(photos, "--out", "r") == 3
    assert list(heard[0]) == [TRAINING, "score", "film", "depth", "points", "cameras",
                              "mesh, not made (the crop is empty: widen it.)"]


def test_json_is_one_object_with_paths_and_numbers(photos, made, capsys):
    assert reconstruct(photos, "--out", "r", "--json") == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["run"], result["report"], result["failed"], result["exit_code"]) == ("r", "r/report.out", {}, 0)
    assert list(result["stages"]) == [TRAINING, *NAMES]
    assert result["stages"][TRAINING]["step"] == 3 and result["stages"][TRAINING]["reason"] == "budget"
    assert result["stages"]["mesh"]["files"] == ["r/mesh.out"] and result["stages"]["mesh"]["psnr"] == 20.0


def test_a_file_that_went_away_is_made_again_and_the_report_with_it(photos, made):
    assert reconstruct(photos, "--out", "r") == 0
    Path("r/points.out").unlink()
    made.clear()
    assert reconstruct(photos, "--out", "r") == 0
    assert made == ["points", "report"]


def test_more_steps_train_on_and_everything_is_made_of_the_new_state(photos, made):
    assert reconstruct(photos, "--out", "r", steps=3) == 0
    made.clear()
    assert reconstruct("r", steps=5) == 0
    assert made == NAMES and Path("r/film.out").read_text() == "5"


def test_changed_photos_are_said_and_everything_is_made_of_them(photos, made, capsys):
    assert reconstruct(photos, "--out", "r") == 0
    made.clear()
    picture = np.array(Image.open(photos / "photos/000.png"))
    Image.fromarray(255 - picture[..., :3]).convert("RGBA").save(photos / "photos/000.png")
    assert reconstruct("r") == 0
    assert made == NAMES and "the photos changed since this run was trained" in capsys.readouterr().err


def test_a_run_of_train_gets_all_the_rest_and_keeps_its_training(photos, made, capsys):
    assert cli.main(["train", str(photos), "--out", "r", "--steps", "2", *FLAGS]) == 0
    assert cli.main(["reconstruct", "r"]) == 0
    assert made == NAMES and nerf_app.open_run("r").header.step == 2


def test_a_plan_counts_what_is_left_of_the_training_alone(photos, made, capsys):
    assert cli.main(["train", str(photos), "--out", "r", *FLAGS, "--minutes", "0.002", "--set", "training.plateau=1"]) == 0
    capsys.readouterr()
    assert cli.main(["reconstruct", "r"]) == 0
    assert "plan      about " in capsys.readouterr().err


def test_a_list_of_test_photos_does_not_stop_the_second_call(photos, made):
    (photos / "kept.txt").write_text("photos/001.png\n")
    assert reconstruct(photos, "--out", "r", "--test", "kept.txt") == 0
    (Path("r") / checkpoint.CURRENT).stat()
    made.clear()
    assert reconstruct(photos, "--out", "r", "--test", "kept.txt", steps=4) == 0
    assert made == NAMES


def test_moved_photos_and_a_moved_run_find_each_other(photos, made, tmp_path):
    assert reconstruct(photos, "--out", "r", steps=3) == 0
    os.rename("r", "moved")
    os.rename("ball", "elsewhere")
    Path("moved/depth.out").unlink()
    made.clear()
    assert reconstruct("elsewhere", "--out", "moved", steps=3) == 0
    assert made == ["depth", "report"]


def test_a_run_with_another_out_is_refused(photos, made, capsys):
    assert reconstruct(photos, "--out", "r") == 0
    assert reconstruct("r", "--out", "s") == 2
    assert "r is a run, and all that is made of it goes into its own folder" in capsys.readouterr().err


def test_what_cannot_be_written_or_meant_is_refused_before_the_photos_are_read(photos, monkeypatch, capsys):
    monkeypatch.setattr("nerf_app.job.load_scene", lambda *_: pytest.fail("the photos were read"))
    Path("file").write_text("")
    assert reconstruct(photos, "--out", "file/r") == 4
    assert reconstruct(photos, "--out", "r", "--set", "field.colour=3") == 2
    assert reconstruct(photos, "--out", "r", "--test", "every:1") == 2
    assert not Path("r").exists()


@pytest.mark.parametrize("name", ["jobs.json", "config.yaml"])
def test_a_record_that_is_not_whole_costs_the_stages_and_nothing_else(name, photos, made):
    assert reconstruct(photos, "--out", "r") == 0
    made.clear()
    (Path("r") / name).write_text('{"scene": 3')
    assert reconstruct(photos, "--out", "r") == 0
    assert made == (NAMES if name == "jobs.json" else []) and nerf_app.open_run("r").header.step == 3


def test_the_minutes_are_those_of_the_whole_job(photos, made, monkeypatch, capsys):
    rest = {"score": 30.0, "mesh": 60.0}
    monkeypatch.setattr("nerf_app.job.expected_seconds", lambda *_: rest)
    given = []

    def train(scene, config, folder, stop):
        given.append(config.training.minutes)
        raise DataError("this far")
        yield
    monkeypatch.setattr(runs, "train_events", train)
    for minutes in ("5", "2"):
        assert cli.main(["reconstruct", str(photos), "--minutes", minutes, "--out", f"r{minutes}", "--threads", "1"]) == 3
    assert given == [3.5, 1.0], "what the rest leaves, and half of all at least"
    assert "plan      3:30 of training, then about 1:30 for score, mesh\n" in capsys.readouterr().err


def test_the_library_does_the_job_and_raises_what_failed(photos, made, monkeypatch):
    monkeypatch.setattr("nerf_app.job.Config", lambda: runs.with_overrides(nerf_app.Config(), SMALL | {"training.minutes": 1.0}))
    run = nerf_app.reconstruct(photos, minutes=0.005, out="r")
    assert run.folder == Path("r") and made == NAMES and run.config.training.minutes == 0.0025

    def fail():
        raise DataError("the crop is empty: widen it.")
    Path("r/mesh.out").unlink()
    replace(monkeypatch, "mesh", fail)
    with pytest.raises(DataError, match="the crop is empty"):
        nerf_app.reconstruct(photos, minutes=0.005, out="r")


@pytest.mark.parametrize("size, most, film", [
    ((400, 400), np.inf, ((400, 400), 24.0)), ((1280, 720), 120 * 1280 * 720 / 4, ((640, 360), 24.0)),
    ((800, 600), 60 * 240 * 180, ((240, 180), 12.0)), ((800, 600), 0.0, ((214, 160), 12.0)), ((100, 80), 0.0, ((100, 80), 12.0))])
def test_a_film_is_as_fine_as_there_is_time_for(size, most, film):
    assert film_plan(size, most) == film


def test_estimates_grow_with_the_work_and_shrink_with_threads():
    views = sphere_scene(n_views=24, size=40).views
    few, many = (expected_seconds(views[:n], True, None, 2, False) for n in (10, 24))
    assert list(few) == NAMES and all(few[name] <= many[name] for name in NAMES) and sum(few.values()) < sum(many.values())
    slow = expected_seconds(views, True, None, 1, False)
    assert slow["mesh"] == 2 * many["mesh"] and expected_seconds(views, False, None, 2, False)["score"] > many["score"]
    short = expected_seconds(views, False, 0.01, 2, True)
    assert short["points"] <= 0.6 * stages.POINTS_PART and short["depth"] <= 0.6 * stages.DEPTH_PART
    large = [dataclasses.replace(view, camera=view.camera.resized(4000, 3000)) for view in views]
    some = expected_seconds(large, False, 3.0, 2, False)
    assert max(some[name] for name in ("score", "film", "depth", "points", "report")) < 30.0, "photos of twelve megapixels"


def test_depth_maps_are_smaller_where_time_is_short(photos, monkeypatch):
    assert cli.main(["train", str(photos), "--steps", "3", "--out", "r", *FLAGS]) == 0
    given = stages.Given(nerf_app.open_run("r"), None, 1.0, {}, {})
    n_photos = sum(view.split == "test" for view in given.run.views)
    monkeypatch.setattr(stages, "LEAST_SIDE", 4)
    for affordable, side in ((np.inf, 12), (n_photos * 12**2, 12), (n_photos * 6**2, 6), (0.0, 4)):
        monkeypatch.setattr(stages.Given, "affordable_pixels", lambda *_, pixels=affordable: pixels)
        made = stages.depth(given, lambda *_: None)
        assert {np.load(path).shape for path in Path("r/depth").rglob("*.z.npy")} == {(side, side)}
        assert made.facts["photos"] == n_photos and ("% of their size" in made.words) == (side < 12)


def test_what_can_be_afforded_follows_from_what_was_scored(photos):
    assert cli.main(["train", str(photos), "--steps", "3", "--out", "r", *FLAGS]) == 0
    run = nerf_app.open_run("r")
    paths = [{"path": view.name} for view in run.views if view.split == "test"]

    def affordable(score):
        return stages.Given(run, None, 2.0, {"score": score}, {"score": 4.0}).affordable_pixels(0.1)
    whole = 12.0 / 4.0 * len(paths) * 12**2
    assert affordable({"part": 1, "photos": paths}) == whole == affordable({"photos": paths}), "a job from before parts were told"
    assert affordable({"part": 0.25, "photos": paths}) == whole / 4
    assert affordable({"part": None, "photos": []}) == np.inf, "nothing was scored, so nobody knows"
