"""The viewing direction in real spherical harmonics up to degree 4."""

from dataclasses import dataclass
from types import ModuleType

from torch import Tensor


@dataclass(frozen=True)
class SphericalHarmonics:
    """[N, 3] unit vectors -> [N, 16]."""

    op: ModuleType  # an implementation of ops/spherical_harmonics
    width: int = 16

    def __call__(self, directions: Tensor) -> Tensor:
        """The sixteen values of each direction."""
        return self.op.spherical_harmonics(directions)
