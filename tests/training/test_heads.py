"""Which appearance is kept."""

import threading
from types import SimpleNamespace

import pytest

from nerf_app import run as runs
from nerf_app.training import heads
from nerf_app.training.events import Note, Stepped
from nerf_app.training.heads import HEADS, PART, TRIED, chosen_head
from tests.sphere import small_config, sphere_scene

AUTO = {"field.appearance": "auto"}


def choose(monkeypatch, scores, stop=None, **changes):
    """What is chosen where the heads score like this, what is heard, and the settings that trainers were made with."""
    tried = []

    def make_trainer(config):
        tried.append(config)
        score = scores and scores[config.field.appearance]
        return SimpleNamespace(validation=scores and SimpleNamespace(score=lambda model: (score, 0.9)), model=None, steps_done=3)
    steps = [Stepped(1, part * TRIED, 1.0, 1.0, 0.1, 20.0, 64, 64) for part in (0.5, 1.0, 1.5)]
    monkeypatch.setattr(heads, "train", lambda *_: iter(steps))
    choosing, heard = chosen_head(small_config(200, AUTO | changes), make_trainer, 1, stop), []
    while True:
        try:
            heard.append(next(choosing))
        except StopIteration as end:
            return end.value, heard, tried


@pytest.mark.parametrize("scores, best", [((20.0, 19.0, 24.0), "reflective"), ((20.0, 25.0, 24.0), "diffuse"),
                                          ((20.0, 19.0, 20.05), "plain"), ((20.0, float("nan"), 19.0), "plain"),
                                          ((float("nan"), 19.0, 18.0), "diffuse")])
def test_the_head_with_the_best_validation_score_goes_on_and_is_said(monkeypatch, scores, best):
    chosen, heard, tried = choose(monkeypatch, dict(zip(HEADS, scores, strict=True)))
    assert chosen.config.field.appearance == best
    assert [one.field.appearance for one in tried] == list(HEADS) and chosen.config in tried
    assert f"appearance {best} is kept" in heard[-1].text
    if best == "reflective":
        assert "+4.00 dB against plain, +5.00 dB against diffuse" in heard[-1].text


def test_what_is_tried_and_what_goes_on_share_the_budget(monkeypatch):
    chosen, heard, tried = choose(monkeypatch, dict.fromkeys(HEADS, 20.0), **{"training.minutes": 4.0})
    assert PART + 2 * TRIED * PART == pytest.approx(1.0)
    assert [one.training.steps for one in tried] == [round(200 * PART)] * 3
    assert chosen.config.training.minutes == pytest.approx(4.0 * PART)
    fractions = [event.fraction for event in heard if isinstance(event, Stepped)]
    assert fractions == pytest.approx([TRIED * sixth / 6 for sixth in range(1, 7)])  # training goes on from there


def test_without_validation_photos_plain_is_kept_and_nothing_is_tried(monkeypatch):
    chosen, heard, tried = choose(monkeypatch, None)
    assert chosen.config.field.appearance == "plain" and chosen.config.training.steps == 200 and chosen.seconds == 0.0
    assert [type(one) for one in heard] == [Note]


def test_whoever_asks_to_stop_is_not_kept_waiting(monkeypatch):
    stop = threading.Event()
    stop.set()
    chosen, _, tried = choose(monkeypatch, dict.fromkeys(HEADS, 20.0), stop)
    assert chosen.config.field.appearance == "plain" and chosen.config.training.steps == 200
    assert [one.field.appearance for one in tried] == ["plain", "plain"]


def test_a_run_knows_the_head_that_was_chosen(tmp_path):
    heard = []
    run = runs.train(sphere_scene(), small_config(30, AUTO), tmp_path / "run", heard.append)
    assert run.config.field.appearance in HEADS
    assert any(isinstance(one, Note) and f"appearance {run.config.field.appearance} is kept" in one.text for one in heard)
    assert run.header.step == round(30 * PART)
