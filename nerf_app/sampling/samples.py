"""The third noun: intervals on rays, packed one ray after the other."""

from dataclasses import dataclass

from torch import Tensor

from nerf_app.rays import Rays


@dataclass(frozen=True)
class Samples:
    """S intervals on R rays, sorted by ray and distance.

    Entries behind the last real one (a buffer may be larger than what is in it) carry `ray_indices == n_rays` and no
    length; every op ignores them.
    """

    t_starts: Tensor  # [S] scene units
    t_ends: Tensor  # [S] scene units
    ray_indices: Tensor  # [S] int64
    ray_starts: Tensor  # [R] int64: where each ray's samples begin
    ray_counts: Tensor  # [R] int64
    n_rays: int

    def of_rays(self, values: Tensor) -> Tensor:
        """What belongs to each sample's ray: [R, C] -> [S, C]."""
        return values.index_select(0, self.ray_indices.clamp(max=max(self.n_rays - 1, 0)))  # whose gradient sums in order

    def positions(self, rays: Rays) -> Tensor:
        """The intervals' middles: [S, 3] scene coordinates."""
        middles = 0.5 * (self.t_starts + self.t_ends)
        return self.of_rays(rays.origins) + middles[:, None] * self.of_rays(rays.directions)
