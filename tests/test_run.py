"""A run: the same however it came about, gone on with exactly, and looked at in input coordinates."""

import dataclasses
import errno
import json
import os
import shutil
import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import nerf_app
from nerf_app import checkpoint
from nerf_app import run as runs
from nerf_app.checkpoint import CURRENT, DAMAGED, PARTIAL, PREVIOUS
from nerf_app.config import Config, from_yaml, read_preset, to_yaml
from nerf_app.errors import DataError, ResourceError, UsageError
from nerf_app.scene.load import load_scene
from nerf_app.settings import MachineSettings
from nerf_app.training import loop, schedule
from nerf_app.training.events import Finished, Note, Saved, Stepped, Validated
from nerf_app.training.schedule import HASTY_THRESHOLD
from tests.requires import requires
from tests.sphere import CENTRE, RADIUS, SHARP, TINY_NERF, photograph, small_config, sphere_scene

STEPS = 12
GRID = {"sampling.steps": 24, "sampling.grid_resolution": 8}
FITTED = {"photos.exposure": "affine", "photos.refine_poses": True, "losses.distortion": 0.01}
KINDS = {"hashgrid": GRID, "frequency": TINY_NERF, "fitted": GRID | FITTED,
         "reflective": GRID | {"field.appearance": "reflective"}}


@pytest.fixture(scope="module")
def learned(tmp_path_factory):
    """A scene, and a run that has learned it."""
    scene = sphere_scene(n_views=24, size=32)
    folder = tmp_path_factory.mktemp("learned") / "run"
    finish(runs.train_events(scene, small_config(200, SHARP), folder))
    return scene, look(folder)


def finish(events):
    return list(events)


def look(folder):
    """The run, computed as it was trained."""
    return nerf_app.open_run(folder, MachineSettings(backend="reference", threads=1))


def notes_of(events):
    return [event.text for event in events if isinstance(event, Note)]


def train_until(step, scene, config, folder):
    """Trains and asks to stop after a step."""
    stop = threading.Event()
    for event in runs.train_events(scene, config, folder, stop):
        if isinstance(event, Stepped) and event.step == step:
            stop.set()


def everything(folder):
    """All that a run folder says, bit for bit, but for the seconds: tensors, header and metrics."""
    tensors, header, note = checkpoint.load(folder)
    assert note is None
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    for record in records:
        record.pop("seconds", None), record.pop("seconds_left", None)
    return {name: tensor.numpy().tobytes() for name, tensor in tensors.items()}, dataclasses.replace(header, seconds=0.0), records


# The same, however it came about.

@pytest.fixture(scope="module", params=[
    *(pytest.param((kind, "reference", 1), id=kind) for kind in KINDS),
    pytest.param(("hashgrid", "reference", 2), id="2 threads"),
    pytest.param(("hashgrid", "cpp", 2), id="cpp", marks=requires("compiler")),
])
def uninterrupted(request, tmp_path_factory, scene):
    """Settings, and all that an undisturbed run with them leaves."""
    kind, backend, threads = request.param
    machine = {"machine.threads": threads, "machine.backend": backend}
    config = small_config(STEPS, KINDS[kind] | machine | {"training.plateau": 1.0})
    folder = tmp_path_factory.mktemp("whole") / "run"
    finish(runs.train_events(scene, config, folder))
    yield config, everything(folder)
    torch.set_num_threads(1)


def test_the_same_seed_gives_the_same_bits(tmp_path, scene, uninterrupted):
    config, truth = uninterrupted
    finish(runs.train_events(scene, config, tmp_path / "run"))
    assert everything(tmp_path / "run") == truth
    other = dataclasses.replace(config, machine=dataclasses.replace(config.machine, seed=1))
    finish(runs.train_events(scene, other, tmp_path / "other"))
    assert everything(tmp_path / "other")[0]["model.parameters"] != truth[0]["model.parameters"]


@pytest.mark.parametrize("step", [1, 8, STEPS - 1])
def test_interrupted_and_resumed_is_the_same_as_uninterrupted(tmp_path, scene, uninterrupted, step):
    config, truth = uninterrupted
    train_until(step, scene, config, tmp_path / "run")
    assert checkpoint.load(tmp_path / "run")[1].step == step
    finish(runs.resume(tmp_path / "run"))
    assert everything(tmp_path / "run") == truth


@pytest.mark.parametrize("saved_at, lost_at", [(1, 2), (8, 8), (9, STEPS)])
def test_a_run_that_died_goes_on_from_its_last_save_as_if_nothing_had_been(tmp_path, scene, uninterrupted, saved_at, lost_at):
    config, truth = uninterrupted
    die(scene, config, tmp_path / "run", saved_at, lost_at)
    assert checkpoint.load(tmp_path / "run")[1].step == saved_at
    finish(runs.resume(tmp_path / "run"))
    assert everything(tmp_path / "run") == truth


def die(scene, config, folder, saved_at, lost_at):
    """Trains, saves after a step, and is gone after a later one, in the midst of a line of metrics and of another save."""
    clock = Clock()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runs.time, "monotonic", clock)
        for event in runs.train_events(scene, config, folder):
            if isinstance(event, Stepped) and event.step == saved_at:
                clock.now += 3600.0
            if isinstance(event, Saved if lost_at == saved_at else Stepped) and event.step == lost_at:
                break
    with open(folder / "metrics.jsonl", "a") as file:
        file.write('{"event": "stepped", "st')
    (folder / f"{PARTIAL}99999").write_bytes(b"half")


class Clock:
    """Time that passes when a test says so."""

    now = 1000.0

    def __call__(self):
        return self.now


def test_resuming_again_and_again_is_the_same_as_never_having_stopped(tmp_path, scene, uninterrupted):
    config, truth = uninterrupted
    train_until(3, scene, config, tmp_path / "run")
    for step in (4, 8, 11):
        stop = threading.Event()
        for event in runs.resume(tmp_path / "run", stop=stop):
            if isinstance(event, Stepped) and event.step == step:
                stop.set()
    finish(runs.resume(tmp_path / "run"))
    assert everything(tmp_path / "run") == truth


def test_a_run_is_seen_and_goes_on_with_what_counted_as_empty_when_it_was_saved(tmp_path, scene, monkeypatch):
    monkeypatch.setattr(schedule, "ENOUGH_LOOKS", 0.05)
    monkeypatch.setattr(loop, "MISSED", -1.0)  # whatever is left out is missed
    config = small_config(20, {"sampling.grid_threshold": 1e-6, "training.plateau": 1.0})
    train_until(8, scene, config, tmp_path / "run")
    model = runs.open_run(tmp_path / "run", MachineSettings(backend="reference", threads=1)).model
    assert model.grid.threshold == HASTY_THRESHOLD
    assert torch.equal(model.grid.occupied, model.ops.occupancy.mark(model.grid.values, HASTY_THRESHOLD))
    finish(runs.resume(tmp_path / "run"))
    assert runs.open_run(tmp_path / "run", MachineSettings(backend="reference", threads=1)).model.grid.threshold == 1e-6


def test_a_run_stopped_before_its_first_step_is_resumed_too(tmp_path, scene):
    stop = threading.Event()
    stop.set()
    finish(runs.train_events(scene, small_config(3), tmp_path / "run", stop))
    finish(runs.train_events(scene, small_config(3), tmp_path / "truth"))
    finish(runs.resume(tmp_path / "run"))
    assert everything(tmp_path / "run")[0] == everything(tmp_path / "truth")[0]


# Going on.

def test_a_finished_run_has_nothing_left_to_do_until_it_is_given_more(tmp_path, scene):
    folder = tmp_path / "run"
    finish(runs.train_events(scene, small_config(10), folder))
    metrics, before = (folder / "metrics.jsonl").read_text(), everything(folder)
    events = finish(runs.resume(folder))
    assert events[-2:] == [Saved(10), Finished(10, events[-1].seconds, "budget")]
    assert everything(folder)[0] == before[0]
    assert (folder / "metrics.jsonl").read_text().count("\n") == metrics.count("\n")
    events = finish(runs.resume(folder, overrides={"training.steps": 30}))
    assert [event.step for event in events if isinstance(event, Stepped)] == list(range(11, 31))
    assert [event.step for event in events if isinstance(event, Validated)], "it is looked at again"
    assert events[-1].step == 30 and look(folder).config.training.steps == 30
    assert look(folder).header.seconds >= events[-1].seconds


@requires("compiler")
def test_a_finished_run_that_goes_on_knows_whole_cells_again(tmp_path, scene):
    folder, changes = tmp_path / "run", {"machine.backend": "cpp"}
    finish(runs.train_events(scene, small_config(10, changes), folder))
    assert len(look(folder).model.grid.sharpened) == 2 * len(look(folder).model.grid.values)
    finish(runs.resume(folder, overrides={"training.steps": 12}))  # ends before the cells are asked again
    grid = look(folder).model.grid
    assert len(grid.occupied) == 2 * len(grid.values)
    finish(runs.resume(folder, overrides={"sampling.grid_threshold": 1e-9}))
    grid = look(folder).model.grid
    assert grid.sharpened is None and torch.equal(grid.occupied, grid.ops.occupancy.mark(grid.values, 1e-9))


def test_a_run_that_stood_still_goes_on_when_it_is_given_more(tmp_path, scene, monkeypatch):
    monkeypatch.setattr("nerf_app.training.validation.Validation.score", lambda self, model: (1.0, 0.5))
    monkeypatch.setattr("nerf_app.training.validation.Validation.n_rays", 0)
    first = finish(runs.train_events(scene, small_config(40, {"training.plateau": 0.2}), tmp_path))[-1]
    assert first.reason == "plateau"
    assert finish(runs.resume(tmp_path))[-1] == Finished(first.step, pytest.approx(first.seconds, abs=0.5), "plateau")
    second = finish(runs.resume(tmp_path, overrides={"training.steps": 120}))[-1]
    assert second.reason == "plateau" and second.step > first.step + 0.2 * 120


def test_minutes_that_were_used_count_when_a_run_goes_on(tmp_path, scene, monkeypatch):
    clock = Clock()
    monkeypatch.setattr("nerf_app.training.schedule.time.monotonic", clock)
    config = small_config(1000, {"training.minutes": 1.0})
    for _ in range(2):
        stop, steps = threading.Event(), 0
        for event in runs.resume(tmp_path, stop=stop) if _ else runs.train_events(scene, config, tmp_path, stop):
            if isinstance(event, Stepped):
                clock.now, steps = clock.now + 10.0, steps + 1
                if not _ and steps == 2:
                    stop.set()
    assert (event.reason, event.step, event.seconds) == ("budget", 6, 60.0)


def test_a_damaged_state_is_set_aside_and_never_saved_over_the_whole_one(tmp_path, scene, monkeypatch):
    folder = tmp_path / "run"
    train_until(3, scene, small_config(8), folder)
    shutil.copy(folder / CURRENT, folder / PREVIOUS)
    (folder / CURRENT).write_bytes(b"damaged")
    real, calls = os.replace, []

    def second_fails(source, target):
        calls.append(target)
        if Path(target).name == CURRENT:
            raise OSError(errno.EIO, "Input/output error")
        real(source, target)
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", second_fails)
        with pytest.raises(ResourceError):
            finish(runs.resume(folder))
    tensors, header, note = checkpoint.load(folder)
    assert header.step == 3 and (folder / DAMAGED).read_bytes() == b"damaged"
    events = finish(runs.resume(folder))
    assert events[-1].step == 8


def test_falling_back_to_the_state_before_is_said(tmp_path, scene):
    folder = tmp_path / "run"
    train_until(3, scene, small_config(8), folder)
    shutil.copy(folder / CURRENT, folder / PREVIOUS)
    (folder / CURRENT).write_bytes(b"damaged")
    run = look(folder)
    assert "is damaged" in run.note and run.note.endswith("Going on with scene.previous.safetensors, step 3.")
    notes = notes_of(runs.resume(folder))
    assert notes[:2] == [run.note, "resuming at step 3"]


@pytest.mark.parametrize("name", ["model.occupancy", "optimiser.second"])
def test_what_is_needed_to_go_on_must_be_there(tmp_path, scene, name):
    folder = tmp_path / "run"
    train_until(2, scene, small_config(8), folder)
    tensors, header, _ = checkpoint.load(folder)
    checkpoint.save(folder, {key: tensor for key, tensor in tensors.items() if key != name}, header)
    with pytest.raises(DataError, match=f"lacks {name}"):
        finish(runs.resume(folder))


def test_a_field_cannot_change_under_way(tmp_path, scene):
    train_until(2, scene, small_config(8), tmp_path / "run")
    for name, value, was in (("encoding.levels", 3, 4), ("field.kind", "frequency", "hashgrid"), ("scene.test", "none", "auto")):
        with pytest.raises(UsageError, match=f"{name} cannot be changed once a run has begun: it was {was}, got {value}; leave"):
            finish(runs.resume(tmp_path / "run", overrides={name: value}))
    assert finish(runs.resume(tmp_path / "run", overrides={"encoding.levels": "4", "training.steps": 9}))[-1].step == 9
    with pytest.raises(UsageError, match="encoding.levels"):
        finish(runs.resume(tmp_path / "run", overrides={"encoding.levels": 99}))


def test_null_leaves_a_field_as_the_program_chose_it(tmp_path, scene):
    finish(runs.train_events(scene, small_config(2, {"encoding.log2_entries": None, "training.minutes": None}), tmp_path))
    Path(tmp_path / "all.yaml").write_text(to_yaml(small_config(3, {"encoding.log2_entries": None})))
    for overrides in ({"encoding.log2_entries": None, "training.minutes": 5.0}, {"encoding.log2_entries": "null"},
                      read_preset(str(tmp_path / "all.yaml"))):
        finish(runs.resume(tmp_path, overrides=overrides))
        assert look(tmp_path).config.encoding.log2_entries == 17
    assert look(tmp_path).header.step == 3
    with pytest.raises(UsageError, match="log2_entries cannot be changed once a run has begun: it was 17, got 18"):
        finish(runs.resume(tmp_path, overrides={"encoding.log2_entries": 18}))
    with pytest.raises(UsageError, match="encoding.levels must be a whole number from 1 to 32, got null"):
        finish(runs.resume(tmp_path, overrides={"encoding.levels": None}))


def test_a_larger_budget_stands_in_the_settings_file_too(tmp_path, scene):
    finish(runs.train_events(scene, small_config(2), tmp_path))
    finish(runs.resume(tmp_path, overrides={"training.steps": 3}))
    assert from_yaml((tmp_path / "config.yaml").read_text()) == small_config(3)


# What a kill costs.

@pytest.mark.parametrize("save_seconds, saved_at", [(60.0, [6, 17, 38, 79, 140, 201]), (15.0, [6, 17, 33, 49]), (2.0, [3, 6, 9])])
def test_the_first_save_comes_early_and_the_next_ones_ever_less_often(tmp_path, scene, monkeypatch, save_seconds, saved_at):
    clock, saved = Clock(), []
    monkeypatch.setattr(runs.time, "monotonic", clock)
    monkeypatch.setattr(checkpoint, "save", lambda folder, tensors, header: saved.append(clock.now - 1000.0))
    for event in runs.train_events(scene, small_config(saved_at[-1], {"training.save_seconds": save_seconds,
                                                                      "training.samples_per_step": 256,
                                                                      "training.plateau": 1.0}), tmp_path):
        clock.now += isinstance(event, Stepped)
    assert saved[:-1] == saved_at  # seconds, a step each; the last one is that of the end


# A full disk.

def test_a_disk_that_is_full_for_a_while_does_not_end_the_training(tmp_path, scene, monkeypatch):
    real = checkpoint.save

    def save(folder, tensors, header):
        if 3 <= header.step < 6:
            raise ResourceError("no room.")
        real(folder, tensors, header)
    monkeypatch.setattr(checkpoint, "save", save)
    events = finish(runs.train_events(scene, small_config(8, {"training.save_seconds": 0.0}), tmp_path))
    assert notes_of(events)[2:] == ["no room. Training goes on and will try again."] * 3
    assert [event.step for event in events if isinstance(event, Saved)] == [1, 2, 6, 7, 8, 8]


def test_a_disk_that_is_full_at_the_end_is_an_error(tmp_path, scene, monkeypatch):
    def no_room(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    monkeypatch.setattr(os, "fsync", no_room)
    with pytest.raises(ResourceError, match="step 3 could not be saved .No space left on device") as caught:
        finish(runs.train_events(scene, small_config(3), tmp_path))
    assert caught.value.exit_code == 4


def test_a_disk_without_room_for_the_states_stops_the_training_before_its_first_step(tmp_path, scene, monkeypatch):
    finish(runs.train_events(scene, small_config(3), tmp_path / "old"))
    size = (tmp_path / "old/scene.safetensors").stat().st_size
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=4 * size))
    with pytest.raises(ResourceError, match="saving needs .* MB left: free some space"):
        finish(runs.train_events(scene, small_config(3), tmp_path / "new"))
    assert not (tmp_path / "new/metrics.jsonl").exists()
    finish(runs.resume(tmp_path / "old", overrides={"training.steps": 5}))  # one of three is there already


def test_metrics_that_cannot_be_written_cost_lines_and_not_the_training(tmp_path, scene):
    (tmp_path / "metrics.jsonl").symlink_to("/dev/full")
    assert finish(runs.train_events(scene, small_config(3), tmp_path))[-1].step == 3


# Looking at it.

def test_a_moved_run_gives_the_same_picture(tmp_path, photos):
    home = tmp_path / "home"
    shutil.copytree(photos, home / "photos")
    here = load_scene(home / "photos")
    finish(runs.train_events(here, small_config(5), home / "run"))
    run = look(home / "run")
    view = here.views[here.indices("test")[0]]
    truth = run.render(view.camera, view.world_from_camera, with_normals=True)
    scores = runs.evaluate(run, runs.load_scene_of(run))
    home.rename(tmp_path / "elsewhere")
    moved = look(tmp_path / "elsewhere/run")
    picture = moved.render(view.camera, view.world_from_camera, with_normals=True)
    for name, value in vars(truth).items():
        other = getattr(picture, name)
        assert value is other is None or np.array_equal(value, other, equal_nan=True), name
    assert runs.evaluate(moved, runs.load_scene_of(moved)) == scores
    assert finish(runs.resume(tmp_path / "elsewhere/run", overrides={"training.steps": 6}))[-1].step == 6


def test_the_run_knows_the_scene_in_input_coordinates(tmp_path, scene):
    finish(runs.train_events(scene, small_config(1), tmp_path))
    run = look(tmp_path)
    assert [(view.name, view.split, view.camera) for view in run.views] == [(v.name, v.split, v.camera) for v in scene.views]
    assert all(np.array_equal(a.world_from_camera, b.world_from_camera) for a, b in zip(run.views, scene.views))
    assert np.array_equal(run.normalisation.centre, scene.normalisation.centre) and run.is_bounded == scene.is_bounded
    assert run.normalisation.scale == scene.normalisation.scale and np.array_equal(run.up, scene.up)
    assert run.backend.name == "reference" and run.folder == tmp_path and run.note is None
    assert from_yaml((tmp_path / "config.yaml").read_text()) == small_config(1)


def test_depth_is_that_of_the_ball_in_input_units_and_at_its_place(learned):
    scene, run = learned
    for index in scene.indices("test"):
        view = scene.views[index]
        picture = run.render(view.camera, view.world_from_camera)
        truth = photograph(view.camera, view.world_from_camera)[1]
        is_ball = np.isfinite(truth) & np.isfinite(picture.z_depth)
        assert is_ball.sum() > 0.95 * np.isfinite(truth).sum()
        assert np.median(np.abs(picture.z_depth - truth)[is_ball] / truth[is_ball]) < 0.02
        rows, columns = np.nonzero(is_ball)
        x = (columns + 0.5 - view.camera.centre_x_px) / view.camera.focal_x_px
        y = (rows + 0.5 - view.camera.centre_y_px) / view.camera.focal_y_px
        along = np.stack([x, -y, -np.ones_like(x), 1.0 / picture.z_depth[is_ball]], 1) * picture.z_depth[is_ball][:, None]
        points = (along @ view.world_from_camera.T)[:, :3]  # input coordinates
        assert np.median(np.abs(np.linalg.norm(points - CENTRE, axis=1) - RADIUS)) < 0.1 * RADIUS
        assert np.allclose(picture.range[is_ball], picture.z_depth[is_ball] * np.sqrt(1 + x**2 + y**2), rtol=1e-5)


def test_a_background_is_seen_where_nothing_is(learned):
    scene, run = learned
    view = scene.views[0]
    white, black, green = (run.render(view.camera, view.world_from_camera, colour)
                           for colour in ("white", "black", (0.0, 1.0, 0.0)))
    assert np.allclose(white.rgb[0, 0], 1.0, atol=0.05) and np.allclose(black.rgb[0, 0], 0.0, atol=0.05)
    assert np.allclose(green.rgb - black.rgb, (1.0 - green.alpha[..., None]) * [0.0, 1.0, 0.0], atol=1e-5)


def test_the_evaluation_scores_each_photo_and_their_mean(tmp_path, learned):
    scene, run = learned
    heard = []
    scores = runs.evaluate(run, scene, on_photo=lambda *numbers: heard.append(numbers))
    assert set(scores) == {"psnr", "ssim", "split", "part", "photos"} and scores["split"] == "test" and scores["part"] == 1
    assert [photo["path"] for photo in scores["photos"]] == sorted(scene.views[i].name for i in scene.indices("test"))
    for key, least in (("psnr", 25.0), ("ssim", 0.92)):
        assert scores[key] == pytest.approx(np.mean([photo[key] for photo in scores["photos"]])) and scores[key] > least
    assert heard == [(i + 1, 3) for i in range(3)]
    runs.write_evaluation(tmp_path, scores)
    assert json.loads((tmp_path / "eval.json").read_text()) == scores
    assert runs.evaluate(run, dataclasses.replace(scene, views=()))["psnr"] is None


def test_an_evaluation_without_time_still_scores_three_photos_from_all_over(learned):
    scene, run = learned
    views = tuple(dataclasses.replace(view, split="test") for view in scene.views)
    scores = runs.evaluate(run, dataclasses.replace(scene, views=views), limit_seconds=0.0)
    assert [photo["path"] for photo in scores["photos"]] == [f"photos/{i:03}.png" for i in (0, 8, 16)]


def test_the_library_trains_and_gives_back_the_run(tmp_path, scene, photos, monkeypatch):
    heard = []
    run = nerf_app.train(scene, small_config(3), tmp_path / "mine", heard.append)
    assert run.folder == tmp_path / "mine" and run.header.step == 3 and isinstance(heard[-1], Finished)
    finish(runs.train_events(scene, small_config(3), tmp_path / "truth"))
    truth = look(tmp_path / "truth")
    view = scene.views[0]
    assert np.array_equal(run.render(view).rgb, truth.render(view.camera, view.world_from_camera).rgb)
    with pytest.raises(ResourceError, match="already holds a run"):
        nerf_app.train(scene, small_config(3), tmp_path / "mine")
    with pytest.raises(UsageError, match=r"a camera needs its pose .* run.views\[0\]"):
        run.render(view.camera)
    with pytest.raises(UsageError, match="white, black, transparent or .* got puce"):
        run.render(view, background="puce")
    monkeypatch.chdir(tmp_path)
    assert nerf_app.train(scene, small_config(1)).folder.parent == Path("runs")
    monkeypatch.setattr(runs, "train_events", lambda scene, config, folder: iter([config]))
    monkeypatch.setattr(runs, "open_run", lambda folder, machine: machine)
    assert nerf_app.train(scene, on_event=heard.append) == Config().machine and heard[-1] == Config()
