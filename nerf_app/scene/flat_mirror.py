"""What is known of a flat mirror: its place and extent, in scene coordinates."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from nerf_app.scene.scene import Normalisation

CELLS = 256  # along each edge of the rectangle that holds the glass


@dataclass(frozen=True)
class FlatMirror:
    """A rectangle in scene coordinates, and which of its cells are glass."""

    frame: np.ndarray  # [3, 3] float64: a corner, and from there the edges to the right and upwards, as seen from its front
    is_glass: np.ndarray  # [CELLS, CELLS] bool, from the bottom, from the left
    evidence: str  # how it was found, and how sure that is

    def words(self, normalisation: Normalisation) -> str:
        """What was found, in input coordinates."""
        ends = [cells.nonzero()[0][[0, -1]] + [0, 1] for cells in (self.is_glass.any(0), self.is_glass.any(1))]
        width, height = (np.linalg.norm(edge) * np.ptp(end) / CELLS / normalisation.scale
                         for edge, end in zip(self.frame[1:], ends))
        middle = self.frame[0] + sum(edge * end.mean() / CELLS for edge, end in zip(self.frame[1:], ends))
        place = ", ".join(f"{value:.3g}" for value in normalisation.to_input(middle))
        return f"flat, {width:.3g} × {height:.3g} units, its middle at ({place}), {self.evidence}"


def extent(is_glass: Callable[[np.ndarray], np.ndarray], centre: np.ndarray, normal: np.ndarray, radius: float,
           up: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """The rectangle that holds the glass, upright, as a frame [3, 3], and which of its cells are glass; None where none are.

    `is_glass` tells it of places on the plane [CELLS², 3], row by row: bool [CELLS, CELLS].
    """
    for _ in range(2):  # first roughly, then as fine as can be
        points, (right, upwards) = square(centre, normal, radius, up)
        glass = is_glass(points)
        if not glass.any():
            return None
        rows, columns = glass.any(1).nonzero()[0], glass.any(0).nonzero()[0]
        middle = (np.array([columns[0] + columns[-1], rows[0] + rows[-1]]) + 1) / CELLS - 1  # of the square, -1...1
        centre = centre + radius * (middle[0] * right + middle[1] * upwards)
        radius *= (max(np.ptp(columns), np.ptp(rows)) + 3) / CELLS
    frame = np.stack([centre - radius * (right + upwards), 2 * radius * right, 2 * radius * upwards])
    glass = is_glass(square(centre, normal, radius, up)[0])
    return (frame, glass) if glass.any() else None


def square(centre: np.ndarray, normal: np.ndarray, radius: float,
           up: np.ndarray) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
    """Middles of the cells [CELLS², 3] of a square on a plane, row by row from the bottom left, and its axes."""
    right, upwards = axes_on(normal, up)
    steps = radius * ((np.arange(CELLS) + 0.5) / CELLS * 2 - 1)
    return (centre + steps[:, None, None] * upwards + steps[None, :, None] * right).reshape(-1, 3), (right, upwards)


def axes_on(normal: np.ndarray, up: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors to the right and upwards on a plane, as seen from its front."""
    if up is None or np.linalg.norm(np.cross(up, normal)) < 0.1:  # it lies: any side is as good
        up = np.eye(3)[np.abs(normal).argmin()]
    right = np.cross(up, normal) / np.linalg.norm(np.cross(up, normal))
    return right, np.cross(normal, right)


def grown(mask: np.ndarray, width: int) -> np.ndarray:
    """A bool [H, W], wider by half of an odd `width` all round."""
    cells = torch.from_numpy(mask).float()[None]
    for window in ((width, 1), (1, width)):  # one after the other is the same and far less work
        cells = torch.nn.functional.max_pool2d(cells, window, stride=1, padding=(window[0] // 2, window[1] // 2))
    return cells[0].numpy() > 0
