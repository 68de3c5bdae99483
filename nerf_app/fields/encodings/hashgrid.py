"""The multiresolution hash grid (Müller et al. 2022) as an encoding: the op with its table and levels."""

from dataclasses import dataclass
from types import ModuleType

from torch import Tensor

from nerf_app.fields.settings import HashGridSettings
from nerf_app.ops.hashgrid.levels import Level, level_table


@dataclass(frozen=True)
class HashGrid:
    """[N, d] in [0, 1] -> [N, levels · features]."""

    op: ModuleType  # an implementation of ops/hashgrid
    table: Tensor  # [E, F]
    levels: tuple[Level, ...]

    @property
    def width(self) -> int:
        """Numbers per point."""
        return len(self.levels) * self.table.shape[1]

    def __call__(self, x: Tensor) -> Tensor:
        """Features of points: differentiable by position and by table."""
        return self.op.encode(x, self.table, self.levels)

    def pull_back(self, x: Tensor, d_features: Tensor) -> Tensor:
        """A gradient by the features -> that by position [N, d]: differentiable by table and `d_features`."""
        return self.op.pull_back(x, d_features, self.table, self.levels)


def hash_levels(settings: HashGridSettings, dimensions: int) -> tuple[Level, ...]:
    """The level table of these settings."""
    return level_table(settings.levels, settings.coarsest, settings.finest, settings.log2_entries, dimensions)


def table_shape(settings: HashGridSettings, dimensions: int) -> tuple[int, int]:
    """[entries of all levels, features]."""
    return sum(level.entries for level in hash_levels(settings, dimensions)), settings.features
