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
STEEP = 50.0  # slope of the density's logarithm, per scene unit: where it rises less, there is fog


def surface(rendering: Rendering, batch: "Batch", model: RadianceModel) -> Tensor:
    """Ref-NeRF, Eqs. 10 and 11, as means over what is seen: [].

    Both leave the samples' weights alone: a surface that they blame should turn, not fade. The direction of a slope g moves
    the more the smaller g is, which tears fog apart; g / √(g² + STEEP²) in its place is as firm as the surface is.
    """
    field, rays, samples = model.fields[-1], batch.rays, rendering.samples
    seen = (rendering.weights.detach() > LEAST_WEIGHT).nonzero()[:, 0]
    seen = seen[::max(len(seen) // MOST_SAMPLES, 1)][:MOST_SAMPLES]  # of all photos: rays come in their order
    weights, of_ray = rendering.weights.detach()[seen], samples.ray_indices[seen]
    directions = rays.directions.detach()[of_ray]
    middles = 0.5 * (samples.t_starts + samples.t_ends)[seen]
    features, falls = downhill(rays.origins.detach()[of_ray] + middles[:, None] * directions, field, model.space)
    predicted = normals_of(field.colour(features, directions))
    firm = falls / (falls.square().sum(1, keepdim=True) + STEEP**2).sqrt()  # [N, 3] shorter than 1
    turned = (unit(falls.detach()) - predicted).square().sum(1)  # what predicted normals should learn
    bent = (firm - unit(predicted.detach())).square().sum(1)  # and what the density should
    sure = (falls.detach().norm(dim=1) / STEEP).clamp(max=1.0)
    away = (predicted * directions).sum(1).clamp(min=0.0) ** 2
    return (weights * (sure * turned + bent + LOOKS_AWAY * away)).sum() / weights.sum().clamp(min=1e-6)


def downhill(positions: Tensor, field: RadianceField, space: Space) -> tuple[Tensor, Tensor]:
    """Features [N, C] at points [N, 3] in scene coordinates, and downwards the slope there [N, 3] of what grows with
    the density (in a hash grid's field, its logarithm)."""
    with torch.enable_grad():
        positions = positions.detach().requires_grad_()
        in_cube = space.to_unit(positions)
    features, slope = field.slope(in_cube.detach())
    (slope,) = torch.autograd.grad(in_cube, positions, slope, create_graph=torch.is_grad_enabled())
    return features, -slope


def unit(vectors: Tensor) -> Tensor:
    """[N, 3] of length 1."""
    return torch.nn.functional.normalize(vectors, dim=1, eps=1e-6)
