"""SCENE → WHICH APPEARANCE: each kind is trained for a while, and the validation photos say which one goes on."""

import dataclasses
import math
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nerf_app.training.events import Event, Note, Stepped
from nerf_app.training.loop import Trainer, train
from nerf_app.training.schedule import Budget

if TYPE_CHECKING:
    from nerf_app.config import Config

HEADS = ("plain", "diffuse", "reflective")
TRIED = 0.25  # of its budget has a head used when it is judged: a reflective one says little before it is filled and softened
PART = 1.0 / (1.0 + TRIED * (len(HEADS) - 1))  # of the whole budget is each head's: one uses all of it, the others what is tried
CLEAR = 0.1  # decibel by which a head must beat those before it


@dataclass(frozen=True)
class Chosen:
    """What goes on."""

    config: "Config"  # with the head, and its part of the budget
    trainer: Trainer
    seconds: float  # of that part, used so far


def chosen_head(config: "Config", make_trainer: Callable[["Config"], Trainer], threads: int,
                stop: threading.Event | None = None) -> Iterator[Event]:
    """Begins to train each head and says what came of it; gives back (as a generator's value) the Chosen one.

    Without validation photos, or once `stop` is set, that is plain from its beginning.
    """
    scores: dict[str, float] = {}
    chosen: Chosen | None = None
    for place, head in enumerate(HEADS):
        part = _with(config, head, PART)
        trainer, budget = make_trainer(part), Budget(part.training, threads)
        if trainer.validation is None:
            yield Note("appearance plain: no photo could be spared to tell which is better")
            return _plain(config, make_trainer)
        for event in train(trainer, budget, stop):
            if isinstance(event, Stepped):
                tried = min(event.fraction / TRIED, 1.0)
                yield dataclasses.replace(event, fraction=TRIED * (place + tried) / len(HEADS), seconds_left=None)
                if tried == 1.0:
                    break
        if stop is not None and stop.is_set():
            return _plain(config, make_trainer)
        seconds, score = budget.seconds, trainer.validation.score(trainer.model)[0]
        scores[head] = score if math.isfinite(score) else -math.inf
        yield Note(f"appearance {head}: {score:.2f} dB on validation photos after {trainer.steps_done} steps")
        if chosen is None or scores[head] > scores[chosen.config.field.appearance] + CLEAR:
            chosen = Chosen(part, trainer, seconds)
    best = chosen.config.field.appearance
    others = ", ".join(f"{scores[best] - scores[head]:+.2f} dB against {head}" for head in HEADS if head != best)
    yield Note(f"appearance {best} is kept: {others}")
    return chosen


def _plain(config: "Config", make_trainer: Callable[["Config"], Trainer]) -> Chosen:
    plain = _with(config, "plain", 1.0)
    return Chosen(plain, make_trainer(plain), 0.0)


def _with(config: "Config", head: str, part: float) -> "Config":
    """The settings with this head, and a part of the budget."""
    training = config.training
    minutes = None if training.minutes is None else part * training.minutes
    steps = None if training.steps is None else max(round(part * training.steps), 1)
    return dataclasses.replace(config, field=dataclasses.replace(config.field, appearance=head),
                               training=dataclasses.replace(training, minutes=minutes, steps=steps))
