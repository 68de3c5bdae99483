"""Compositing of packed samples in plain torch: sums over rays are differences of one sum over the whole batch."""

import torch
from torch import Tensor

from nerf_app.ops.shapes import check_shapes

OPAQUE = 64.0  # optical depth; behind it 1e-28 of the light is left
DARK = 1e-4  # part of the light; a sample that less than this reaches is not seen


def render_weights(density: Tensor, t_starts: Tensor, t_ends: Tensor, ray_indices: Tensor, n_rays: int) -> Tensor:
    """How much each packed sample adds to its ray: [S].

    A wall counts as OPAQUE, however dense: one of 1e12 would leave the rays behind it in the batch without digits.
    """
    check_shapes("density [S], t_starts [S], t_ends [S], ray_indices [S]", density=density, t_starts=t_starts, t_ends=t_ends,
                 ray_indices=ray_indices)
    lengths = torch.where(ray_indices < n_rays, t_ends - t_starts, 0)
    tau = (density * lengths).double().clamp(max=OPAQUE)  # [S] optical depth of each sample
    ahead, _ = _sums_on_rays(tau, ray_indices)
    left = torch.exp(-ahead)
    return (torch.where(left < DARK, 0, left) * -torch.expm1(-tau)).to(density.dtype)


def accumulate(weights: Tensor, values: Tensor, ray_indices: Tensor, n_rays: int) -> Tensor:
    """Weighted sum over each ray: [S], [S, C] -> [R, C]."""
    check_shapes("weights [S], values [S,C], ray_indices [S]", weights=weights, values=values, ray_indices=ray_indices)
    sums = values.new_zeros(n_rays + 1, values.shape[1])  # the last one takes the unused entries
    return sums.index_add(0, ray_indices, weights[:, None] * values)[:n_rays]


@torch.no_grad()
def distance_of_light(weights: Tensor, t_starts: Tensor, t_ends: Tensor, ray_indices: Tensor, n_rays: int, part: float) -> Tensor:
    """Where a part of a ray's light is stopped: [S] -> [R] scene units, NaN where it never is.

    Inside a sample light fades exponentially, from what is left in front of it to what is left behind.
    """
    check_shapes("weights [S], t_starts [S], t_ends [S], ray_indices [S]", weights=weights, t_starts=t_starts, t_ends=t_ends,
                 ray_indices=ray_indices)
    ahead, through = _sums_on_rays(weights.double(), ray_indices)
    is_crossing = (ahead < part) & (through >= part) & (ray_indices < n_rays)  # on one sample of a ray at most
    left_before = 1.0 - ahead[is_crossing]
    left_behind = (1.0 - through[is_crossing]).clamp(min=torch.finfo(weights.dtype).eps)  # a weight knows no more digits
    inside = torch.log(left_before / (1.0 - part)) / torch.log(left_before / left_behind)
    distances = t_starts.new_full((n_rays,), float("nan"))
    starts = t_starts[is_crossing]
    distances[ray_indices[is_crossing]] = starts + inside.to(starts.dtype) * (t_ends[is_crossing] - starts)
    return distances


def distortion(weights: Tensor, s_starts: Tensor, s_ends: Tensor, ray_indices: Tensor, n_rays: int) -> Tensor:
    """The mean distance between two places drawn by a ray's weights, times their sum squared: [S] -> [R].

    Pairs of samples need one walk along the ray: of those ahead, their weight and its moment suffice.
    """
    check_shapes("weights [S], s_starts [S], s_ends [S], ray_indices [S]", weights=weights, s_starts=s_starts, s_ends=s_ends,
                 ray_indices=ray_indices)
    w, middles = weights.double(), 0.5 * (s_starts + s_ends).detach().double()
    ahead, _ = _sums_on_rays(w, ray_indices)
    moment, _ = _sums_on_rays(w * middles, ray_indices)
    spreads = 2.0 * w * (middles * ahead - moment) + w**2 * (s_ends - s_starts).detach() / 3.0
    sums = spreads.new_zeros(n_rays + 1)  # the last one takes the unused entries
    return sums.index_add(0, ray_indices, spreads)[:n_rays].to(weights.dtype)


def _sums_on_rays(amounts: Tensor, ray_indices: Tensor) -> tuple[Tensor, Tensor]:
    """The sum of all amounts before each sample on its own ray, and that with its own: [S] float64 -> [S], [S]."""
    running = torch.cat([amounts.new_zeros(1), amounts]).cumsum(0)  # [S + 1] over all rays
    firsts = torch.searchsorted(ray_indices, ray_indices)  # [S] where each one's ray begins
    return running[:-1] - running[firsts], running[1:] - running[firsts]
