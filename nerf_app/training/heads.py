"""SCENE → WHICH APPEARANCE: each kind is trained for a short while, and the validation photos say which one to keep."""

import dataclasses
import math
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from nerf_app.training.events import Event, Note, Stepped
from nerf_app.training.loop import Trainer, train
from nerf_app.training.schedule import Budget

if TYPE_CHECKING:
    from nerf_app.config import Config

HEADS = ("plain", "diffuse", "reflective")
TRIAL_PART = 0.1  # of the budget, for each
CLEAR = 0.1  # decibel by which a head must beat those before it


def chosen_head(config: "Config", make_trainer: Callable[["Config"], Trainer], threads: int,
                stop: threading.Event | None = None) -> Iterator[Event]:
    """Tries the heads and says what came of it; gives back (as a generator's value) the settings to train with.

    Their budget is what the trials leave of it. Without validation photos, or once `stop` is set, plain is kept.
    """
    scores: dict[str, float] = {}
    for place, head in enumerate(HEADS):
        trainer = make_trainer(_with(config, head, TRIAL_PART))
        if trainer.validation is None:
            yield Note("appearance plain: no photo could be spared to tell which is better")
            return _with(config, "plain", 1.0)
        for event in train(trainer, Budget(_with(config, head, TRIAL_PART).training, threads), stop):
            if isinstance(event, Stepped):
                yield dataclasses.replace(event, fraction=(place + event.fraction) * TRIAL_PART, seconds_left=None)
        if stop is not None and stop.is_set():
            return _with(config, "plain", 1.0)
        score = trainer.validation.score(trainer.model)[0]
        scores[head] = score if math.isfinite(score) else -math.inf
        yield Note(f"appearance {head}: {score:.2f} dB on validation photos after {trainer.steps_done} steps")
    best = HEADS[0]
    for head in HEADS[1:]:
        best = head if scores[head] > scores[best] + CLEAR else best
    others = ", ".join(f"{scores[best] - scores[head]:+.2f} dB against {head}" for head in HEADS if head != best)
    yield Note(f"appearance {best} is kept: {others}")
    return _with(config, best, 1.0 - TRIAL_PART * len(HEADS))


def _with(config: "Config", head: str, part: float) -> "Config":
    """The settings with this head, and a part of the budget."""
    training = config.training
    minutes = None if training.minutes is None else part * training.minutes
    steps = None if training.steps is None else max(round(part * training.steps), 1)
    return dataclasses.replace(config, field=dataclasses.replace(config.field, appearance=head),
                               training=dataclasses.replace(training, minutes=minutes, steps=steps))
