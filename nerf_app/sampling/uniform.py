"""RAYS → SAMPLES without any memory: evenly spread ones, and more of them where a first look saw something (NeRF, §5.2)."""

import torch
from torch import Tensor

from nerf_app.rays import Rays
from nerf_app.sampling.contraction import Limits, Space
from nerf_app.sampling.draws import COARSE, FINE, Draws
from nerf_app.sampling.samples import Samples


def spread_evenly(rays: Rays, space: Space, count: int, draws: Draws | None, limits: Limits | None = None) -> Samples:
    """`count` intervals that cover each ray's way through the space, their borders shifted at random."""
    near, far = space.limits(rays.origins, rays.directions, limits)
    far = torch.where(rays.is_valid, torch.maximum(far, near), near)
    first, last = space.lattice_at(near), space.lattice_at(far)
    places = torch.arange(count + 1, device=near.device, dtype=near.dtype).expand(rays.count, -1).clone()  # [R, count + 1]
    if draws is not None:
        shifts = draws.uniform(COARSE, rays.count * count)[:, 0].reshape(rays.count, count)
        places[:, 1:-1] += shifts[:, 1:] - 0.5
    borders = space.distance_at(first[:, None] + (last - first)[:, None] * places / count)
    return _packed(borders)


def resample(rays: Rays, samples: Samples, weights: Tensor, count: int, draws: Draws | None) -> Samples:
    """The old intervals cut at `count` more places, drawn in proportion to `weights` [S]; nothing flows back through them."""
    borders = torch.cat([samples.t_starts.reshape(rays.count, -1), samples.t_ends.reshape(rays.count, -1)[:, -1:]], 1)
    weights = weights.detach().reshape(rays.count, -1) + 1e-5
    cumulative = torch.nn.functional.pad(torch.cumsum(weights / weights.sum(1, keepdim=True), 1), (1, 0))  # [R, K + 1]
    u = torch.arange(count, device=borders.device).expand(rays.count, -1)
    offset = 0.5 if draws is None else draws.uniform(FINE, rays.count * count)[:, 0].reshape(rays.count, count)
    u = ((u + offset) / count).clamp(max=1.0 - 1e-6)
    above = torch.searchsorted(cumulative, u.contiguous(), right=True).clamp(1, borders.shape[1] - 1)
    low, high = cumulative.gather(1, above - 1), cumulative.gather(1, above)
    part = (u - low) / (high - low).clamp(min=1e-8)
    new = torch.lerp(borders.gather(1, above - 1), borders.gather(1, above), part.clamp(0.0, 1.0))
    return _packed(torch.sort(torch.cat([borders, new], 1), 1).values)


def _packed(borders: Tensor) -> Samples:
    """[R, K + 1] borders -> Samples with K intervals a ray."""
    n_rays, k = borders.shape[0], borders.shape[1] - 1
    rays = torch.arange(n_rays, device=borders.device)
    return Samples(borders[:, :-1].reshape(-1), borders[:, 1:].reshape(-1), rays.repeat_interleave(k),
                   rays * k, torch.full_like(rays, k), n_rays)
