"""How training went: metrics.jsonl of a run, thinned to what a small chart can show."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from nerf_app.run import METRICS

MOST_POINTS = 240  # of a line
LARGEST_LINE = 10_000  # bytes; ours have a few hundred


@dataclass(frozen=True)
class Curve:
    """Loss and scores by the seconds of training."""

    seconds: np.ndarray  # [N] middle of each stretch of steps
    loss: np.ndarray  # [N] its mean
    psnr: np.ndarray  # [N] decibel, of the steps' own rays
    val_seconds: np.ndarray  # [M]
    val_psnr: np.ndarray  # [M] decibel, of the validation photos


class Line(msgspec.Struct):
    """What is used of a line in metrics.jsonl."""

    event: str
    seconds: float | None = None
    loss: float | None = None
    psnr: float | None = None


def read_curve(folder: Path) -> Curve | None:
    """The run's curve; None where nothing was logged. A line that is not whole is passed over."""
    steps, scores, now = [], [], 0.0
    for line in _lines(folder / METRICS):
        if line.event == "stepped" and None not in (line.seconds, line.loss, line.psnr):
            now = line.seconds
            steps.append((line.seconds, line.loss, line.psnr))
        elif line.event == "validated" and line.psnr is not None:
            scores.append((now, line.psnr))
    if not steps:
        return None
    seconds, loss, psnr = _thinned(np.array(steps)).T
    val_seconds, val_psnr = np.array(scores).reshape(-1, 2).T
    return Curve(seconds, loss, psnr, val_seconds, val_psnr)


def _lines(path: Path) -> Iterator[Line]:
    if not path.is_file():
        return
    with open(path, "rb") as file:
        while content := file.readline(LARGEST_LINE):
            try:
                yield msgspec.json.decode(content, type=Line)
            except msgspec.MsgspecError:  # cut by a full disk, or no line of ours
                continue


def _thinned(rows: np.ndarray) -> np.ndarray:
    """[N, C] -> [at most MOST_POINTS, C]: means over stretches of the same number of steps."""
    count = min(len(rows), MOST_POINTS)
    begins = np.linspace(0, len(rows), count, endpoint=False).astype(int)
    return np.add.reduceat(rows, begins) / np.diff(np.append(begins, len(rows)))[:, None]
