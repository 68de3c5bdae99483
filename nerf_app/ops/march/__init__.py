"""Which steps along each ray are worth a look.

    march(origins, directions, near, far, jitter, step, occupied, space, max_samples) -> Marched

        origins      [R, 3] scene coordinates
        directions   [R, 3] unit length
        near, far    [R] scene units along the ray, near > 0; a ray with far <= near (or NaN) gets no samples
        jitter       [R] in [0, 1): how far the ray's lattice is shifted, in steps; 0.5 when rendering
        step         length of a step on the lattice
        occupied     [G, G, G] bool, z y x, over the unit cube; what changes it must be torch, which counts its changes
        space        what lies where: see Space
        max_samples  room for samples, or None for as many as there are

Candidate k of a ray covers [s0 + (k + u)·step, s0 + (k + 1 + u)·step] on the lattice, s0 = lattice_at(near), u its jitter,
and t = distance_at(s) along the ray. It is kept where its middle (that of s) lies before `far` and in an occupied cell. How
an implementation finds them is its own affair: the kept set is the same everywhere (nerfacc's but for rounding).

Where there are more than `max_samples`, whole rays are dropped from the end: those that still fit form the beginning of the
batch, and `is_complete` tells a dropped ray (to be left out of a loss) from one that met nothing. An implementation with
buffers of fixed size may return up to `max_samples` entries; unused ones come last, with ray_indices == R and zero length.
Nothing here has a gradient.
"""

from dataclasses import dataclass
from importlib import import_module
from typing import Protocol

from torch import Tensor


class Space(Protocol):
    """Where samples may lie, and how steps grow with distance: the two of sampling/contraction.py, which kernels know."""

    is_bounded: bool
    lattice_length: float  # about how much of the lattice lies on a ray

    def to_unit(self, points: Tensor) -> Tensor:
        """[N, 3] scene coordinates -> [N, 3] in [0, 1]."""

    def distance_at(self, s: Tensor) -> Tensor:
        """Lattice coordinate -> scene units along the ray; monotonic, finite."""

    def lattice_at(self, t: Tensor) -> Tensor:
        """The inverse of `distance_at`."""


@dataclass(frozen=True)
class Marched:
    """Intervals, packed one ray after the other, near to far."""

    t_starts: Tensor  # [S] scene units
    t_ends: Tensor  # [S] scene units
    ray_indices: Tensor  # [S] int64, sorted
    ray_starts: Tensor  # [R] int64: where each ray's intervals begin
    ray_counts: Tensor  # [R] int64: how many it has
    is_complete: Tensor  # [R] bool: none of its intervals was dropped for want of room


IMPLEMENTATIONS = {
    "reference": lambda: import_module(f"{__name__}.reference"),
    "cpp": lambda: import_module(f"{__name__}.cpp"),
    "triton": lambda: import_module(f"{__name__}.kernel_triton"),
    "nerfacc": lambda: import_module(f"{__name__}.nerfacc"),
}
