"""What is going on, for a person: a live bar on a terminal, elsewhere one plain line every few seconds.

A display takes lines, which stay, and a state of progress, which the next one replaces. It writes to one stream, the
command line's stderr; a stream that is gone never stops the work. metrics.jsonl is not made here but by the run.
"""

import os
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.text import Text

from nerf_app.scene.paths import shown
from nerf_app.training.events import Event, Finished, Note, Stepped, Validated

if TYPE_CHECKING:
    from nerf_app.scene.scene import Scene

LONGEST_LINE = 4000  # characters
MOST_DROPPED = 5  # photos named one by one; the others are counted
ENDS = {"budget": "the budget is used", "steps": "all steps are done", "plateau": "the validation score rises no more",
        "interrupted": "interrupted"}


def duration(seconds: float) -> str:
    """3:05, or 1:02:03 from an hour on."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def counted(number: int, thing: str) -> str:
    """1 photo, 12 photos."""
    return f"{number:,} {thing}{'s' * (number != 1)}"


class PlainDisplay:
    """Lines for a file, a pipe or a journal; of the states, the first, then one every few seconds, and the last."""

    def __init__(self, stream: TextIO, every_seconds: float = 5.0) -> None:
        self.stream, self.every_seconds = stream, every_seconds
        self._next = 0.0

    def __enter__(self) -> "PlainDisplay":
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def line(self, text: str) -> None:
        with suppress(OSError, ValueError):  # the reader has gone, or the stream is closed: the work goes on unseen
            print(shown(text, LONGEST_LINE), file=self.stream, flush=True)

    def progress(self, fraction: float, text: str, seconds_left: float | None) -> None:
        """`fraction` 0...1 of the work is done."""
        if fraction >= 1.0 or time.monotonic() >= self._next:
            left = f"   left {duration(seconds_left)}" if seconds_left is not None else ""
            self.line(f"{100 * fraction:3.0f} %   {text}{left}")
            self._next = time.monotonic() + self.every_seconds


class LiveDisplay:
    """A bar at the foot of a terminal, lines above it."""

    def __init__(self, stream: TextIO) -> None:
        self.console = Console(file=stream, highlight=False)
        words = (TextColumn(f"{{task.fields[{name}]}}", markup=False) for name in ("percent", "text", "left"))
        self._bar = Progress(BarColumn(bar_width=24), *words, console=self.console, transient=True)
        self._task = self._bar.add_task("", total=1.0, visible=False, percent="", text="", left="")

    def __enter__(self) -> "LiveDisplay":
        self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.stop()

    def line(self, text: str) -> None:
        self.console.print(Text(shown(text, LONGEST_LINE)), soft_wrap=True)

    def progress(self, fraction: float, text: str, seconds_left: float | None) -> None:
        """`fraction` 0...1 of the work is done."""
        left = f"left {duration(seconds_left)}" if seconds_left is not None else ""
        self._bar.update(self._task, completed=fraction, visible=True, percent=f"{100 * fraction:3.0f} %", text=text, left=left)


Display = PlainDisplay | LiveDisplay


def display_on(stream: TextIO) -> Display:
    """The live one where the stream is a terminal that can move its cursor."""
    is_live = stream.isatty() and os.environ.get("TERM", "") not in ("", "dumb", "unknown")
    return LiveDisplay(stream) if is_live else PlainDisplay(stream)


class Recent:
    """What the last steps say together; single steps jump about."""

    def __init__(self, n_steps: int = 50) -> None:
        self._steps: deque[Stepped] = deque(maxlen=n_steps)

    def add(self, step: Stepped) -> None:
        self._steps.append(step)

    def words(self) -> str:
        """Empty before the first step."""
        if not self._steps:
            return ""
        steps = self._steps
        n, first, last = len(steps), steps[0], steps[-1]
        seconds = last.seconds - first.seconds
        rays = sum(step.rays for step in steps) - first.rays  # the first one's were made before its time was noted
        pace = f"   {rays / seconds:,.0f} rays/s" if seconds > 0 else ""
        loss, psnr = (sum(getattr(step, name) for step in steps) / n for name in ("loss", "psnr"))
        return f"step {last.step:,}   loss {loss:.5f}   PSNR {psnr:.1f} dB{pace}"


def show_training(events: Iterable[Event], display: Display) -> Finished | None:
    """Runs the training that gives the events, shows them, and gives back the last one."""
    recent, finished = Recent(), None
    with display:
        for event in events:
            match event:
                case Stepped():
                    recent.add(event)
                    display.progress(event.fraction, recent.words(), event.seconds_left)
                case Validated():
                    display.line(f"step {event.step:,}: validation PSNR {event.psnr:.2f} dB, SSIM {event.ssim:.3f}")
                case Note():
                    display.line(event.text)
                case Finished():
                    finished = event
    if finished is not None:
        display.line(f"{ENDS[finished.reason]} after {duration(finished.seconds)}: {recent.words() or f'step {finished.step:,}'}")
    return finished


class Counter:
    """Progress through a known number of things of one kind ("photo", "frame", "mesh %"); call it with how many are done."""

    def __init__(self, display: Display, name: str) -> None:
        self.display, self.name = display, name
        self._began, self._first = time.monotonic(), None

    def __call__(self, done: int, total: int) -> None:
        if self._first is None:  # those that lay there before do not tell the pace
            self._began, self._first = time.monotonic(), done
        made = done - self._first
        left = (time.monotonic() - self._began) / made * (total - done) if made else None
        words = self.name.replace("%", f"{done} %") if "%" in self.name else f"{self.name} {done:,} of {total:,}"
        self.display.progress(done / max(total, 1), words, left)


class Whole:
    """One display for several stages, itself a display for the one at work: its progress becomes that of all of them.

    Args:
        expected: stage -> seconds that it will take, as far as anybody knows; what is not to be done is not there.
    """

    def __init__(self, display: Display, expected: Mapping[str, float]) -> None:
        self.display, self._seconds = display, dict(expected)
        self._began, self._fraction = time.monotonic(), 0.0
        self.stage = ""  # at work

    def __enter__(self) -> "Whole":
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def line(self, text: str) -> None:
        self.display.line(text)

    def expect(self, seconds: Mapping[str, float]) -> None:
        """What is still to be done, where more has become known of it."""
        self._seconds = dict(seconds)

    def begin(self, stage: str) -> None:
        self.stage = stage
        self.progress(0.0, "begins", None)

    def end(self, stage: str) -> None:
        """It is over, however long it took."""
        self._seconds.pop(stage, None)

    def progress(self, fraction: float, text: str, seconds_left: float | None) -> None:
        """`fraction` 0...1 of the present stage is done."""
        own = self._seconds.get(self.stage, 0.0)
        later = sum(self._seconds.values()) - own
        left = later + ((1.0 - fraction) * own if seconds_left is None else seconds_left)
        spent = time.monotonic() - self._began
        self._fraction = max(self._fraction, spent / max(spent + left, 1e-9))  # a bar that goes back helps nobody
        self.display.progress(self._fraction, f"{self.stage}: {text}", left)


def scene_lines(scene: "Scene") -> Iterator[str]:
    """What was found in a scene and what was left out, a line each."""
    yield f"scene     {scene.format} in {scene.root}"
    yield from scene.notes
    yield from (f"left out  {dropped.name}: {dropped.reason}" for dropped in scene.dropped[:MOST_DROPPED])
    if len(scene.dropped) > MOST_DROPPED:
        yield f"left out  ... and {len(scene.dropped) - MOST_DROPPED} more"


def closing_line(scores: dict[str, Any], n_photos: int) -> str:
    """The test score in a sentence."""
    if not n_photos:
        return "test      no photos were kept for a test"
    n_scored, all_photos = len(scores["photos"]), counted(n_photos, "photo")
    which = all_photos if n_scored == n_photos else f"{n_scored} of {all_photos}"
    which += "" if scores["part"] == 1 else f", {100 * scores['part']:.3g} % of the pixels"
    which += "" if n_scored == n_photos and scores["part"] == 1 else "; `nerf-app eval` scores all"
    return f"test      PSNR {number(scores['psnr'], 2)} dB, SSIM {number(scores['ssim'], 3)} ({which})"


def number(value: float | None, digits: int) -> str:
    """A mean in words; there is none where no photo was scored."""
    return "none" if value is None else f"{value:.{digits}f}"
