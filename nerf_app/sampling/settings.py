"""Settings of where rays are sampled."""

from dataclasses import dataclass

from nerf_app.setting import setting


@dataclass(frozen=True)
class SamplingSettings:
    kind: str = setting("occupancy", "occupancy (a grid of where something is) or coarse_to_fine (NeRF's two passes)",
                        choices=("occupancy", "coarse_to_fine"))
    steps: int = setting(768, "lattice steps along the diagonal of the scene's cube; training takes four at once at first, then two", low=16, high=8192)
    grid_resolution: int = setting(128, "occupancy cells along an edge", low=8, high=512)
    grid_threshold: float = setting(0.001, "opacity of one step above which a cell counts as occupied; until 60 % of a training, and until half of all pixels were looked at, 0.005 at least, and in pictures where the validation photos do not miss it", low=0.0, high=1.0)
    least_views: int = setting(1, "space without bounds that fewer training photos have in sight stays empty (of few photos, fewer); 0 keeps all", low=0, high=100)
    coarse_samples: int = setting(64, "coarse_to_fine: evenly spread samples a ray", low=4, high=1024)
    fine_samples: int = setting(128, "coarse_to_fine: further samples where the first pass saw something", low=4, high=1024)
