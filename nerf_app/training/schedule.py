"""How much of the budget is used, and what follows from that alone."""

import os
import time

from nerf_app.training.settings import TrainingSettings

WARM_UP = 0.01  # part of the budget in which the learning rate rises
FALL_BEGINS = 0.6  # part of the budget after which it falls
FEW_LEVELS, LEVELS_GROW = 3, 0.4  # levels at the beginning, and the part of the budget after which all are there
STRIDES = ((0.3, 4), (0.8, 2))  # lattice steps taken at once until a part of the budget is used: rough forms need no more
DETAILS_BEGIN = 0.6  # part of the budget after which small things may count: what is finer than a pixel, thin haze
ENOUGH_LOOKS = 0.5  # at each pixel of the photos, on average, until they do: pixels that were never asked teach more
HASTY_THRESHOLD = 0.005  # until then, and in pictures that lose nothing by it, a cell that counts as occupied is so opaque
COMING = 1 / 6  # of the time until then, in which thin haze comes into sight: all of it at once is noise
GROWTH = 16.0  # of the samples in a step, from the budget's beginning until the rate falls


class Budget:
    """One clock behind the fraction that drives everything: wall seconds, CPU seconds per thread, or steps."""

    def __init__(self, settings: TrainingSettings, threads: int, seconds_used: float = 0.0) -> None:
        self.settings, self.threads, self.seconds_before = settings, threads, seconds_used
        self._start = self._now()

    def _now(self) -> float:
        if self.settings.clock == "wall":
            return time.monotonic()
        used = os.times()
        return (used.user + used.system) / self.threads

    @property
    def seconds(self) -> float:
        """Seconds of training so far, earlier sittings included."""
        return self.seconds_before + self._now() - self._start

    def fraction(self, step: int) -> float:
        """Used part after `step` steps, 0...1; of two limits the one that is nearer to its end."""
        parts = [0.0]
        if self.settings.steps is not None:
            parts.append(step / self.settings.steps)
        if self.settings.minutes is not None:
            parts.append(self.seconds / max(60.0 * self.settings.minutes, 1e-9))
        return min(max(parts), 1.0)

    def seconds_left(self, step: int) -> float | None:
        """Estimate from the pace so far; None before anything is known."""
        fraction = self.fraction(step)
        return self.seconds * (1.0 - fraction) / fraction if fraction > 0 else None


def learning_rate(settings: TrainingSettings, fraction: float) -> float:
    """A short rise, a long stretch at the full rate, and a geometric fall to the final part of it."""
    rise = min((fraction + 0.1 * WARM_UP) / WARM_UP, 1.0)
    fallen = max(fraction - FALL_BEGINS, 0.0) / (1.0 - FALL_BEGINS)
    return settings.learning_rate * rise * settings.final_learning_rate**fallen


def samples_wanted(settings: TrainingSettings, fraction: float) -> float:
    """Samples in a step: those of the settings at first, GROWTH times as many at last, in equal ratios.

    Many small steps find the form soonest; later a step's own cost, the optimiser's above all, is better shared by many.
    """
    return settings.samples_per_step * GROWTH ** min(fraction / FALL_BEGINS, 1.0)


def stride_wanted(fraction: float) -> int:
    """Lattice steps that a ray takes at once."""
    return next((stride for end, stride in STRIDES if fraction < end), 1)


def past_rough(fraction: float, looks: float) -> float:
    """How long small things have counted, by the time until they did; below 0 where they do not yet.

    So far each pixel of the photos was looked at `looks` times, on average.
    """
    return min(fraction / DETAILS_BEGIN, looks / ENOUGH_LOOKS) - 1.0


def rays_of_pixel(fraction: float, looks: float) -> int:
    """How many rays ask what a pixel of a photo shows."""
    return 2 if past_rough(fraction, looks) >= 0.0 else 1


def threshold_wanted(threshold: float, fraction: float, looks: float) -> float:
    """How opaque a step must be for its cell to count as occupied; `threshold` is what the settings say of a trained field."""
    if not 0.0 < threshold < HASTY_THRESHOLD:
        return threshold
    fallen = min(max(past_rough(fraction, looks) / COMING, 0.0), 1.0)
    return HASTY_THRESHOLD * (threshold / HASTY_THRESHOLD) ** fallen


def levels_wanted(levels: int, fraction: float) -> int:
    """Of a reflective field's grid: few at first, all from a part of the budget on.

    Fine levels are quick to paint reflections as haze behind the surface; a smooth form teaches first what is mirrored.
    """
    few = min(FEW_LEVELS, levels)
    return few + int((levels - few) * min(fraction / LEVELS_GROW, 1.0))
