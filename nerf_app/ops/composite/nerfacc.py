"""Compositing by nerfacc, with our rule for the dark. Distances of light and spreads are the reference's.

Not run with the real library yet: tests/ops/test_adapters.py checks shapes, dtypes and layout against a stand-in.
"""

import torch
from torch import Tensor

from nerf_app.ops.composite import reference
from nerf_app.ops.composite.reference import DARK
from nerf_app.ops.shapes import check_shapes

distance_of_light, distortion = reference.distance_of_light, reference.distortion


def render_weights(density: Tensor, t_starts: Tensor, t_ends: Tensor, ray_indices: Tensor, n_rays: int) -> Tensor:
    """How much each packed sample adds to its ray: [S]."""
    check_shapes("density [S], t_starts [S], t_ends [S], ray_indices [S]", density=density, t_starts=t_starts, t_ends=t_ends,
                 ray_indices=ray_indices)
    import nerfacc
    used = torch.where(ray_indices < n_rays, density, 0.0)  # unused entries are those of one more ray
    weights, left, _ = nerfacc.render_weight_from_density(t_starts, t_ends, used, ray_indices=ray_indices, n_rays=n_rays + 1)
    return torch.where(left < DARK, 0.0, weights)


def accumulate(weights: Tensor, values: Tensor, ray_indices: Tensor, n_rays: int) -> Tensor:
    """Weighted sum over each ray: [S], [S, C] -> [R, C]."""
    check_shapes("weights [S], values [S,C], ray_indices [S]", weights=weights, values=values, ray_indices=ray_indices)
    import nerfacc
    return nerfacc.accumulate_along_rays(weights, values, ray_indices, n_rays + 1)[:n_rays]
