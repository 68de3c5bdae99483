"""The loop on a ball that can be computed: what it learns, when it ends, and what it does with numbers that are none."""

import dataclasses
import itertools
import json
import math
import threading
from types import SimpleNamespace

import pytest
import torch

from nerf_app import checkpoint
from nerf_app import run as runs
from nerf_app.errors import Diverged
from nerf_app.model import RadianceModel
from nerf_app.ops.backend import choose_backend
from nerf_app.sampling.occupancy import UNSEEN
from nerf_app.training import loop, schedule
from nerf_app.training.batches import PixelBatches
from nerf_app.training.events import Finished, Note, Saved, Stepped, Validated
from nerf_app.training.loop import (
    BAD_STEPS,
    EMPTY,
    FEWEST_VALIDATIONS,
    GOOD,
    MOST_RETURNS,
    STEPS_PER_REFRESH,
    VALIDATION_COST,
    VALIDATIONS,
    Trainer,
)
from nerf_app.training.schedule import GROWTH, HASTY_THRESHOLD, Budget, rays_of_pixel, threshold_wanted
from nerf_app.training.tiles import UNKNOWN, Tiles
from nerf_app.training.validation import Validation
from tests.requires import requires
from tests.sphere import SHARP, TINY_NERF, small_config, sphere_scene

SCENE = sphere_scene(size=24)
NERF = TINY_NERF | {"training.learning_rate": 5e-3}


def make_trainer(steps=30, changes=None, scene=SCENE, backend="reference"):
    config = small_config(steps, changes)
    model = RadianceModel(config, True, choose_backend(backend, "cpu", 1))
    return Trainer(model, PixelBatches(scene, model.ops), Validation(scene), config)


def events_of(trainer, stop=None, used=0.0):
    return loop.train(trainer, Budget(trainer.settings, 1, used), stop)


def of_kind(kind, events):
    return [event for event in events if isinstance(event, kind)]


class Clock:
    """Time that passes when a test says so."""

    now = 1000.0

    def __call__(self):
        return self.now


# What is learned.

GRID_LOSSES = [0.02267052, 0.01896950, 0.01851347, 0.02044816, 0.02068699, 0.01910570, 0.01890734, 0.01912881, 0.01933538,
               0.01899964]
NERF_LOSSES = [0.04245575, 0.03108878, 0.03111712, 0.03271687, 0.02834966, 0.02862061, 0.02901185, 0.02833621, 0.02506462,
               0.02719523]


@pytest.mark.parametrize("changes, losses", [({}, GRID_LOSSES), (NERF, NERF_LOSSES)], ids=["hashgrid", "frequency"])
def test_the_first_ten_losses_are_these(changes, losses):
    found = [event.loss for event in of_kind(Stepped, events_of(make_trainer(10, changes)))]
    assert found == pytest.approx(losses, rel=1e-4)


@pytest.mark.parametrize("trimmed", [0.0, 0.2])
def test_it_learns_where_it_is_wrong_unless_large_errors_are_not_believed(trimmed):
    trainer = make_trainer(40, {"losses.trimmed": trimmed})
    list(events_of(trainer))
    errors = trainer.tiles.errors
    assert bool((errors == UNKNOWN).all() if trimmed else (errors != UNKNOWN).all())


def test_late_in_training_pixels_are_seen_along_two_rays_and_thin_haze_is_sampled(monkeypatch):
    monkeypatch.setattr(schedule, "ENOUGH_LOOKS", 0.05)
    trainer, seen, drawn = make_trainer(10), [], []

    def passes(rays, draws, **options):
        if draws is not None:
            grid = trainer.model.grid
            seen.append((rays.count, grid.threshold, trainer.looks))
            assert torch.equal(grid.occupied, trainer.model.ops.occupancy.mark(grid.values, grid.threshold))
        return RadianceModel.passes(trainer.model, rays, draws, **options)

    def draw(draws, count):
        drawn.append(count)
        return Tiles.draw(trainer.tiles, draws, count)
    monkeypatch.setattr(trainer.model, "passes", passes)
    monkeypatch.setattr(trainer.tiles, "draw", draw)
    list(events_of(trainer))
    rays, thresholds, looks = zip(*seen, strict=True)
    assert looks == pytest.approx([sum(drawn[:step]) / trainer.batches.n_pixels for step in range(10)])
    assert rays == tuple(rays_of_pixel(step / 10, looks[step]) * count for step, count in enumerate(drawn))
    thin, refreshed = trainer.model.sampling.grid_threshold, [step - step % STEPS_PER_REFRESH for step in range(10)]
    assert thresholds == tuple(threshold_wanted(thin, step / 10, looks[step]) for step in refreshed)
    assert thresholds[0] > thresholds[-1] == thin and rays[-1] == 2 * drawn[-1]


@requires("compiler")
@pytest.mark.parametrize("scores, are_left_out", [
    ((30.0, 29.95, 29.92), (True, True)), ((30.0, 29.8, 29.95), (False, True)), ((30.0, 29.95, 29.8), (True, False)),
    ((math.nan, math.nan, math.nan), (False, False)),
])
def test_pictures_leave_out_haze_and_parts_of_cells_that_the_validation_photos_do_not_miss(scores, are_left_out, monkeypatch):
    monkeypatch.setattr(schedule, "ENOUGH_LOOKS", 0.05)
    trainer = make_trainer(10, {"sampling.grid_threshold": 1e-6}, backend="cpp")
    list(events_of(trainer))
    grid, trained, answers = trainer.model.grid, trainer.model.sampling.grid_threshold, iter(scores)
    grid.load(grid.values, trained)
    trainer.validation = SimpleNamespace(score=lambda model: (next(answers), 1.0))
    trainer.settle()
    assert grid.threshold == trainer.progress()[EMPTY] == (HASTY_THRESHOLD if are_left_out[0] else trained)
    whole = trainer.model.ops.occupancy.mark(grid.values, grid.threshold)
    assert (grid.sharpened is not None) == are_left_out[1] == ("model.sharpened" in trainer.tensors(is_over=True))
    if are_left_out[1]:
        assert len(grid.occupied) == 2 * len(whole)
        assert not (grid.occupied & ~whole.repeat_interleave(2, 0).repeat_interleave(2, 1).repeat_interleave(2, 2)).any()
    else:
        assert torch.equal(grid.occupied, whole)


def test_the_hash_grid_learns_the_ball_in_some_hundred_steps():
    trainer = make_trainer(150, SHARP, sphere_scene(n_views=24, size=32))
    list(events_of(trainer))
    psnr, ssim = trainer.validation.score(trainer.model)
    assert psnr > 22.0 and ssim > 0.84  # 25.7 and 0.91 when this was written


def test_the_frequency_field_learns_by_both_passes():
    trainer = make_trainer(150, NERF | {"training.learning_rate": 2e-2})
    losses = [event.loss for event in of_kind(Stepped, events_of(trainer))]
    assert sum(losses[-20:]) < 0.3 * sum(losses[:20])
    assert trainer.validation.score(trainer.model)[0] > 18.0  # 19.5 when this was written
    trainer.model.fields[-1] = trainer.model.fields[0]
    assert trainer.validation.score(trainer.model)[0] > 15.0, "the coarse pass is a picture too"


# When it ends.

def test_steps_end_the_training():
    events = list(events_of(make_trainer(7)))
    steps = of_kind(Stepped, events)
    assert [step.step for step in steps] == list(range(1, 8))
    assert [step.fraction for step in steps] == pytest.approx([step / 7 for step in range(1, 8)])
    assert events[-1] == Finished(7, events[-1].seconds, "budget")


@pytest.mark.parametrize("steps, minutes, end", [(None, 1.0, 10), (1000, 1.0, 10), (4, 1.0, 4)])
def test_of_two_limits_the_nearer_one_ends_the_training(monkeypatch, steps, minutes, end):
    clock = Clock()
    monkeypatch.setattr(schedule.time, "monotonic", clock)
    trainer = make_trainer(steps, {"training.minutes": minutes})
    real = trainer.step

    def six_seconds(fraction):
        clock.now += 6.0
        return real(fraction)
    trainer.step = six_seconds
    events = list(events_of(trainer))
    assert len(of_kind(Stepped, events)) == end
    assert events[-1] == Finished(end, 6.0 * end, "budget")


def test_time_used_before_counts(monkeypatch):
    monkeypatch.setattr(schedule.time, "monotonic", Clock())
    events = list(events_of(make_trainer(None, {"training.minutes": 1.0}), used=60.0))
    assert events == [Finished(0, 60.0, "budget")]


def test_a_score_that_stands_still_ends_the_training():
    trainer = make_trainer(60, {"training.plateau": 0.25})
    scores = itertools.chain([20.0, 21.0, 21.01], itertools.repeat(21.019))
    trainer.validation.score = lambda model: (next(scores), 0.5)
    trainer.validation.ignored = []  # looking costs nothing here
    events = list(events_of(trainer))
    validated = of_kind(Validated, events)
    best, last = validated[1], validated[-1]
    assert last.fraction - best.fraction > 0.25 >= validated[-2].fraction - best.fraction
    assert events[-1].reason == "plateau" and events[-1].step == last.step < 60


def test_scores_that_are_no_numbers_are_neither_progress_nor_standstill():
    trainer = make_trainer(60, {"training.plateau": 0.25})
    scores = itertools.chain([20.0, 21.0, 21.0], [math.nan] * 4, itertools.repeat(21.0))
    trainer.validation.score = lambda model: (next(scores), math.nan)
    trainer.validation.ignored = []
    events = list(events_of(trainer))
    assert [event.psnr for event in of_kind(Validated, events)] == [20.0, 21.0, 21.0, 21.0, 21.0]
    assert trainer.validations == 5 and events[-1].reason == "plateau"
    for score in (math.nan, 21.0):
        trainer = make_trainer(60, {"training.plateau": 0.25})
        trainer.validation.score = lambda model, score=score: (score, 0.5)
        trainer.validation.ignored = []
        assert list(events_of(trainer))[-1].reason == ("budget" if math.isnan(score) else "plateau")


def test_a_rising_score_and_a_plateau_of_one_never_end_the_training():
    for changes, scores in (({"training.plateau": 0.02}, itertools.count()), ({"training.plateau": 1.0}, itertools.repeat(1.0))):
        trainer = make_trainer(40, changes)
        trainer.validation.score = lambda model, scores=scores: (float(next(scores)), 0.5)
        trainer.validation.ignored = []
        events = list(events_of(trainer))
        assert events[-1].reason == "budget" and len(of_kind(Validated, events)) >= FEWEST_VALIDATIONS


def test_a_changed_budget_starts_the_watch_for_a_plateau_anew():
    trainer = make_trainer(40, {"training.plateau": 0.1})
    trainer.validation.score = lambda model: (1.0, 0.5)
    trainer.validation.ignored = []
    assert list(events_of(trainer))[-1].reason == "plateau"
    end = trainer.steps_done
    trainer.settings = dataclasses.replace(trainer.settings, steps=80)
    trainer.reopen(end / 80)
    events = list(events_of(trainer))
    assert events[-1].reason == "plateau" and (events[-1].step - end) / 80 > 0.1
    assert len(of_kind(Validated, events)) >= FEWEST_VALIDATIONS


@pytest.mark.parametrize("stop_at", [0, 1, 5])
def test_who_asks_to_stop_gets_the_step_that_was_begun_and_a_saved_state(tmp_path, stop_at):
    stop, events = threading.Event(), []
    if not stop_at:
        stop.set()
    for event in runs.train_events(SCENE, small_config(30), tmp_path, stop):
        events.append(event)
        if isinstance(event, Stepped) and event.step == stop_at:
            stop.set()
    assert events[-2:] == [Saved(stop_at), Finished(stop_at, events[-1].seconds, "interrupted")]
    assert len(of_kind(Stepped, events)) == stop_at == checkpoint.load(tmp_path)[1].step


# What is told.

def test_events_are_frozen_and_come_in_order():
    events = list(events_of(make_trainer(40)))
    for event in events:
        with pytest.raises(dataclasses.FrozenInstanceError):
            event.step = 0
    steps = of_kind(Stepped, events)
    assert [step.step for step in steps] == list(range(1, 41))
    assert all(a.fraction < b.fraction and a.seconds <= b.seconds for a, b in zip(steps, steps[1:], strict=False))
    for validated in of_kind(Validated, events):  # what is said of a step is said before its end
        told_next = next(event for event in events[events.index(validated):] if isinstance(event, Stepped))
        assert (told_next.step, told_next.fraction) == (validated.step, validated.fraction)
    assert len(of_kind(Finished, events)) == 1 and events[-1].seconds >= steps[-1].seconds
    for step in steps:
        assert step.rays > 0 and step.samples > 0 and math.isfinite(step.loss) and math.isfinite(step.psnr)


def test_rays_follow_the_samples_that_were_asked_for():
    trainer = make_trainer(40, {"training.samples_per_step": 2048})
    steps = of_kind(Stepped, events_of(trainer))
    assert sum(step.samples for step in steps[-10:]) / 10 == pytest.approx(GROWTH * 2048, rel=0.15)


def test_validation_stays_cheap(monkeypatch):
    trainer = make_trainer(100)
    looked = []
    real = RadianceModel.render

    def counted(model, rays, **options):
        rendering = real(model, rays, **options)
        looked.append(rendering.weights.shape[0])
        return rendering
    monkeypatch.setattr(RadianceModel, "render", counted)
    trained = at_validation = 0
    for event in events_of(trainer):
        if isinstance(event, Stepped):
            trained += event.samples
            if at_validation:
                assert sum(looked) <= 1.5 * VALIDATION_COST * trained  # what it will cost is estimated from the step before
        at_validation = isinstance(event, Validated)
    assert 1 <= trainer.validations <= VALIDATIONS


def test_without_validation_photos_training_runs_to_its_end():
    trainer = make_trainer(12)
    trainer.validation = None
    assert list(events_of(trainer))[-1].reason == "budget" and trainer.validations == 0


# Numbers that are none.

def with_nan(monkeypatch, is_bad, where="loss"):
    """Poisons the loss, or only the gradient, of the calls that `is_bad(number)` names; the first is 1."""
    real, calls = loop.photo_loss, itertools.count(1)

    def photo_loss(*given):
        loss = real(*given)
        if not is_bad(next(calls)):
            return loss
        return loss * math.nan if where == "loss" else loss + PoisonGradient.apply(given[0])
    monkeypatch.setattr(loop, "photo_loss", photo_loss)


class PoisonGradient(torch.autograd.Function):
    """Zero, with a gradient that is no number."""

    @staticmethod
    def forward(ctx, rgb):
        ctx.shape = rgb.shape
        return rgb.new_zeros(())

    @staticmethod
    def backward(ctx, gradient):
        return torch.full(ctx.shape, math.inf)


@pytest.mark.parametrize("where", ["loss", "gradient"])
def test_a_step_that_is_no_number_is_skipped_and_changes_nothing(monkeypatch, where):
    trainer = make_trainer(8)
    with_nan(monkeypatch, lambda step: step == 4, where)
    before = None
    events = []
    for event in events_of(trainer):
        events.append(event)
        if isinstance(event, Stepped):
            now = [tensor.clone() for tensor in (trainer.model.parameters.flat, trainer.first, trainer.second)]
            if before is not None:
                is_same = [torch.equal(a, b) for a, b in zip(before, now, strict=True)]
                assert all(is_same) if event.step == 4 else not any(is_same)
            assert not trainer.model.parameters.gradients.any()
            before = now
    notes = of_kind(Note, events)
    assert [note.text for note in notes] == ["step 4 was skipped: its loss or gradient was not a finite number"]
    assert events[events.index(notes[0]) + 1].step == 4
    assert events[-1].step == 8 and trainer.bad_steps == 0


def test_nine_bad_steps_are_borne_and_the_tenth_leads_back_to_the_best_state_with_half_the_rate(monkeypatch):
    with_nan(monkeypatch, lambda step: 9 <= step < 9 + BAD_STEPS - 1)
    assert not any("going on from" in note.text for note in of_kind(Note, events_of(make_trainer(20))))
    monkeypatch.undo()
    with_nan(monkeypatch, lambda step: 9 <= step < 9 + BAD_STEPS)
    trainer, notes, states, rates = make_trainer(60, {"training.plateau": 1.0}), [], {}, {}
    trainer.validation.score = lambda model: (10.0 + trainer.steps_done if trainer.steps_done < 9 else 5.0, 0.5)
    trainer.validation.ignored = []
    for event in events_of(trainer):
        notes += of_kind(Note, [event])
        states[trainer.steps_done], rates[trainer.steps_done] = trainer.model.parameters.flat.clone(), trainer.rate
        if trainer.steps_done == 8 + BAD_STEPS:
            assert not trainer.first.any() and not trainer.second.any() and (trainer.model.grid.values == UNSEEN).all()
    best = 6  # the one validation before the numbers were lost, after a tenth of the budget
    assert torch.equal(states[8 + BAD_STEPS], states[best]) and not torch.equal(states[8], states[best])
    assert rates[9 + BAD_STEPS] == pytest.approx(0.5 * loop.learning_rate(trainer.settings, (8 + BAD_STEPS) / 60))
    assert notes[-1].text == ("10 steps in a row were skipped, the last one step 18: going on from the best state so far with "
                              "half the learning rate")
    assert len(notes) == BAD_STEPS and trainer.returns == 1 and trainer.steps_done == 60 and trainer.bad_steps == 0


def test_without_validation_photos_training_goes_back_to_a_state_of_its_last_tenth(monkeypatch):
    with_nan(monkeypatch, lambda step: 15 <= step < 15 + BAD_STEPS)
    trainer, states = make_trainer(50), {}
    trainer.validation = None
    for _ in events_of(trainer):
        states[trainer.steps_done] = trainer.model.parameters.flat.clone()
    assert trainer.returns == 1 and torch.equal(states[14 + BAD_STEPS], states[10])


@pytest.mark.parametrize("steps, end", [(100, 2 + (MOST_RETURNS + 1) * BAD_STEPS), (20, 20)])
def test_numbers_that_stay_lost_end_the_training_after_a_few_returns_or_with_the_budget(tmp_path, monkeypatch, steps, end):
    with_nan(monkeypatch, lambda step: 3 <= step)
    with pytest.raises(Diverged, match=f"{BAD_STEPS} steps in a row, the last one step {end}, .*learning_rate") as caught:
        list(runs.train_events(SCENE, small_config(steps), tmp_path))
    assert caught.value.exit_code == 6
    facts = json.loads((tmp_path / "diverged.json").read_text())
    assert facts.pop("what") == str(caught.value) and facts.pop("try")[0].endswith("--set training.learning_rate=0.001")
    assert (facts["step"], facts["loss"], facts["went_back"]) == (end, None, MOST_RETURNS if steps == 100 else 1)
    assert facts["rays"] >= 64 and 0.0 < facts["largest_parameter"] < 100.0
    assert 0.0 < facts["learning_rate"] <= 0.01 * 0.5 ** facts["went_back"]


def test_a_run_that_went_back_is_the_same_when_it_was_interrupted(tmp_path, monkeypatch):
    config, lost = small_config(60, {"training.plateau": 1.0}), range(20, 20 + BAD_STEPS)
    real = Trainer._is_finite
    monkeypatch.setattr(Trainer, "_is_finite", lambda self, loss: real(self, loss) and self.steps_done not in lost)
    list(runs.train_events(SCENE, config, tmp_path / "truth"))
    for step in (19, 25, 29, 30):
        stop, folder = threading.Event(), tmp_path / str(step)
        for event in runs.train_events(SCENE, config, folder, stop):
            if isinstance(event, Stepped) and event.step == step:
                stop.set()
        list(runs_on(folder))
        (tensors, header, _), (truth, true_header, _) = checkpoint.load(folder), checkpoint.load(tmp_path / "truth")
        assert tensors.keys() == truth.keys() and all(torch.equal(tensor, truth[name]) for name, tensor in tensors.items())
        assert header.progress == true_header.progress and header.progress["returns"] == 1


def test_another_learning_rate_makes_up_for_the_halved_ones(tmp_path, monkeypatch):
    with_nan(monkeypatch, lambda step: 3 <= step)
    with pytest.raises(Diverged):
        list(runs.train_events(SCENE, small_config(100, {"training.save_seconds": 0.0}), tmp_path))
    monkeypatch.undo()
    assert checkpoint.load(tmp_path)[1].progress["returns"] == MOST_RETURNS
    list(runs_on(tmp_path, {"training.learning_rate": 1e-3, "training.steps": 50}))
    assert not (tmp_path / "diverged.json").exists()
    assert checkpoint.load(tmp_path)[1].progress["returns"] == 0


def test_a_state_saved_before_there_was_a_way_back_is_gone_on_with(tmp_path):
    list(runs.train_events(SCENE, small_config(3), tmp_path))
    tensors, header, _ = checkpoint.load(tmp_path)
    assert GOOD not in tensors, "a finished run keeps nothing that it does not need"
    del header.progress["returns"]
    checkpoint.save(tmp_path, tensors, header)
    assert list(runs_on(tmp_path, {"training.steps": 5}))[-1].step == 5


def runs_on(folder, overrides=None):
    """Resumes with the scene at hand instead of loading it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runs, "load_scene", lambda *_: SCENE)
        yield from runs.resume(folder, ".", overrides)


def test_steps_too_large_end_as_diverged_and_leave_nothing_that_is_not_finite(tmp_path):
    config = small_config(40, {"training.learning_rate": 1e42, "training.save_seconds": 0.0})
    with pytest.raises(Diverged):
        list(runs.train_events(SCENE, config, tmp_path))
    assert json.loads((tmp_path / "diverged.json").read_text())["largest_parameter"] is None
    if list(tmp_path.glob("scene*")):
        assert all(bool(tensor.isfinite().all()) for tensor in checkpoint.load(tmp_path)[0].values())
