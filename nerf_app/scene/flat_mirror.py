"""What is known of a flat mirror: its place and extent, in scene coordinates."""

from dataclasses import dataclass

import numpy as np

CELLS = 256  # along each edge of the rectangle that holds the glass


@dataclass(frozen=True)
class FlatMirror:
    """A rectangle in scene coordinates, and which of its cells are glass."""

    frame: np.ndarray  # [3, 3] float64: a corner, and from there the edges to the right and upwards, as seen from its front
    is_glass: np.ndarray  # [CELLS, CELLS] bool, from the bottom, from the left
    disagreement: float  # 0...1, the part of what one mask says that others deny
    n_photos: int  # that show it

    def words(self, scale: float) -> str:
        """What was found; `scale` is scene units per input unit."""
        rows, columns = (np.ptp(self.is_glass.any(axis).nonzero()[0]) + 1 for axis in (1, 0))
        width, height = (np.linalg.norm(edge) * cells / CELLS / scale
                         for edge, cells in zip(self.frame[1:], (columns, rows)))
        return (f"flat, {width:.3g} × {height:.3g} units, seen in {self.n_photos} photos that agree on "
                f"{1 - self.disagreement:.0%} of it")
