"""What training tells whoever listens: the command line, the plain log, metrics.jsonl, later the viewer."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Note:
    """Something a person should read, once."""

    text: str


@dataclass(frozen=True)
class Stepped:
    """After every step, and the last that is heard of it: a state saved now holds all that was told before."""

    step: int
    fraction: float  # used part of the budget, 0...1
    seconds: float  # of training so far, by the budget's clock
    seconds_left: float | None  # estimate
    loss: float
    psnr: float  # of the step's own rays, decibel
    rays: int  # in this step
    samples: int  # in this step


@dataclass(frozen=True)
class Validated:
    """Score of the validation photos on the way."""

    step: int
    fraction: float
    psnr: float
    ssim: float


@dataclass(frozen=True)
class Saved:
    """A verified state lies in the run folder."""

    step: int


@dataclass(frozen=True)
class Finished:
    """The last event."""

    step: int
    seconds: float
    reason: str  # "budget", "steps", "plateau", "interrupted"


Event = Note | Stepped | Validated | Saved | Finished
