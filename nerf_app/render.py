"""CAMERA → RENDERING: rays → samples → field → composite. Read `see` first: all of NeRF is in it."""

from dataclasses import dataclass

import torch
from torch import Tensor

from nerf_app.fields.radiance import RadianceField
from nerf_app.fields.shading import Surface
from nerf_app.ops.backend import Backend
from nerf_app.ops.field_step import SEEN
from nerf_app.rays import Rays
from nerf_app.sampling.contraction import Space
from nerf_app.sampling.samples import Samples


@dataclass(frozen=True)
class Rendering:
    """What R rays show."""

    rgb: Tensor  # [R, 3] premultiplied: light that comes from the field alone, sRGB-coded
    opacity: Tensor  # [R] 0...1
    distance: Tensor  # [R] scene units, mean over what the ray meets; 0 where it meets nothing
    normals: Tensor | None  # [R, 3] scene axes, length ≤ 1: the mean of what the ray meets
    weights: Tensor  # [S] each sample's part
    samples: Samples  # what the weights belong to
    surface: Surface | None = None  # of a field with a shading: what its colours are made of


def render_samples(rays: Rays, samples: Samples, field: RadianceField, space: Space, ops: Backend,
                   *, with_normals: bool = False, codes: Tensor | None = None, least_light: float = 0.0) -> Rendering:
    """The field seen along rays, with their photos' codes [V, CODE_WIDTH] if there are any.

    Differentiable in all of them, but for the normals of a field that has no shading.

    Where nothing needs a gradient, rays may be left when `least_light` of their light is left.
    """
    moves = torch.is_grad_enabled() and (rays.origins.requires_grad or rays.directions.requires_grad)
    by_slope = with_normals and field.shading is None  # a shading knows normals of its own
    if field.nets is None or moves or codes is not None:
        sums, weights = see(rays, samples, field, space, ops, codes)
    else:  # the same in one pass
        sums, weights = ops.field_step.see(rays.origins, rays.directions, samples, space, field.nets, least_light)
    normals = _normals(rays, samples, weights, field, space, ops) if by_slope else None
    rgb, opacity, distance, surface = sums[:, :-2], sums[:, -2], sums[:, -1] / sums[:, -2].clamp(min=1e-6), None
    if field.shading is not None:
        surface = field.shading(rgb / opacity.clamp(min=1e-6)[:, None], rays.directions)
        rgb, normals = opacity[:, None] * surface.rgb, opacity[:, None] * surface.normals
    return Rendering(rgb, opacity, distance, normals, weights, samples, surface)


def see(rays: Rays, samples: Samples, field: RadianceField, space: Space, ops: Backend,
        codes: Tensor | None) -> tuple[Tensor, Tensor]:
    """NeRF, Eq. 3: [R, C + 2] red, green, blue, opacity and distance · opacity; [S] weights."""
    output = field.density(space.to_unit(samples.positions(rays)))
    weights = ops.composite.render_weights(output.density, samples.t_starts, samples.t_ends, samples.ray_indices, rays.count)

    seen = (weights.detach() > SEEN).nonzero()[:, 0]
    seen_by = samples.ray_indices[seen]
    seen_codes = None if codes is None else codes.index_select(0, rays.view_indices[seen_by])  # [S', CODE_WIDTH]
    colours = field.colour(output.features.index_select(0, seen), rays.directions.index_select(0, seen_by), seen_codes)
    rgb = colours.new_zeros(len(weights), colours.shape[1]).index_copy(0, seen, colours)

    middles = 0.5 * (samples.t_starts + samples.t_ends)
    values = torch.cat([rgb, torch.ones_like(middles)[:, None], middles[:, None]], 1)  # [S, C + 2]
    return ops.composite.accumulate(weights, values, samples.ray_indices, rays.count), weights


def over(rendering: Rendering, background: Tensor) -> Tensor:
    """The picture in front of a background, [3] or [R, 3]: [R, 3]."""
    return rendering.rgb + (1.0 - rendering.opacity[:, None]) * background


def distance_of_light(seen: Rendering, part: float, ops: Backend) -> Tensor:
    """[R] scene units: where a part of each ray's light is stopped, at most a half; NaN where less than half of all is."""
    samples = seen.samples
    distance = ops.composite.distance_of_light(seen.weights.detach(), samples.t_starts, samples.t_ends, samples.ray_indices,
                                               samples.n_rays, part)
    return torch.where(seen.opacity >= 0.5, distance, torch.nan)


def _normals(rays: Rays, samples: Samples, weights: Tensor, field: RadianceField, space: Space, ops: Backend) -> Tensor:
    """[R, 3] where the density falls, in the mean over what is seen; most samples lie behind it."""
    weights = weights.detach()
    seen = (weights > SEEN).nonzero()[:, 0]
    with torch.enable_grad():
        positions = samples.positions(rays).index_select(0, seen).detach().requires_grad_()
        density = field.density(space.to_unit(positions)).density
        (gradient,) = torch.autograd.grad(density, positions, torch.ones_like(density))
    normals = -torch.nn.functional.normalize(gradient, dim=1)  # [S', 3]
    return ops.composite.accumulate(weights[seen], normals, samples.ray_indices[seen], samples.n_rays)
