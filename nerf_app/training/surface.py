"""What keeps the normals of a reflective field true: they agree with its density, and no visible surface looks away."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from nerf_app.fields.radiance import RadianceField
from nerf_app.fields.shading import normals_of
from nerf_app.model import RadianceModel
from nerf_app.render import Rendering
from nerf_app.sampling.contraction import Space

if TYPE_CHECKING:
    from nerf_app.training.batches import Batch

MOST_SAMPLES = 4096  # of a step that are asked: a slope costs as much as some ten densities
LEAST_WEIGHT = 0.01  # of those that are
LOOKS_AWAY = 1.0  # times the weight of a disagreement


def surface(rendering: Rendering, batch: "Batch", model: RadianceModel) -> Tensor:
    """Ref-NeRF, Eqs. 10 and 11, as means over what is seen: [].

    Both leave the samples' weights alone: a surface that they blame should turn, not fade.
    """
    field, rays, samples = model.fields[-1], batch.rays, rendering.samples
    seen = (rendering.weights.detach() > LEAST_WEIGHT).nonzero()[:MOST_SAMPLES, 0]  # rays are drawn at random: any are as good
    weights, of_ray = rendering.weights.detach()[seen], samples.ray_indices[seen]
    directions = rays.directions.detach()[of_ray]
    middles = 0.5 * (samples.t_starts + samples.t_ends)[seen]
    features, normals = outward(rays.origins.detach()[of_ray] + middles[:, None] * directions, field, model.space)
    predicted = normals_of(field.colour(features, directions))
    apart = ((normals - predicted) ** 2).sum(1)
    away = (predicted * directions).sum(1).clamp(min=0.0) ** 2
    return (weights * (apart + LOOKS_AWAY * away)).sum() / weights.sum().clamp(min=1e-6)


def outward(positions: Tensor, field: RadianceField, space: Space) -> tuple[Tensor, Tensor]:
    """Features [N, C] at points [N, 3] in scene coordinates, and the unit vectors [N, 3] along which the density falls."""
    with torch.enable_grad():
        positions = positions.detach().requires_grad_()
        unit = space.to_unit(positions)
    features, slope = field.slope(unit.detach())
    (slope,) = torch.autograd.grad(unit, positions, slope, create_graph=torch.is_grad_enabled())
    return features, -torch.nn.functional.normalize(slope, dim=1, eps=1e-6)
