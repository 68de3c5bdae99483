"""Compositing by Triton: a program takes some rays and passes along them, CHUNK neighbouring samples of each at once.

What lies ahead of a sample is a running sum over its own ray, so float32 does; `light` is shared with ops/field_step.
"""

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from nerf_app.ops.gpu import WARPS, blocks, plain
from nerf_app.ops.shapes import check_shapes

RAYS, CHUNK = 16, 16  # of a program: rays, and samples of each at a time
OPAQUE, DARK = tl.constexpr(64.0), tl.constexpr(1e-4)  # as composite/reference.py has them
BLOCK = 256


@triton.jit
def rays_of_program(starts_ptr, counts_ptr, n_rays, RAYS: tl.constexpr):
    """Numbers of this program's rays, whether they are there, where their samples begin, and how many there are: [RAYS]."""
    rays = tl.program_id(0) * RAYS + tl.arange(0, RAYS)
    inside = rays < n_rays
    start, count = samples_of_rays(starts_ptr, counts_ptr, rays, inside)
    return rays, inside, start, count


@triton.jit
def samples_of_rays(starts_ptr, counts_ptr, rays, inside):
    """Where the samples of rays begin, and how many there are."""
    start, count = tl.load(starts_ptr + rays, mask=inside, other=0), tl.load(counts_ptr + rays, mask=inside, other=0)
    return start, count.to(tl.int32)


@triton.jit
def chunk_of_rays(start, count, begin, CHUNK: tl.constexpr):
    """Where the next samples of each ray lie, from its number `begin` on, and whether they are there: [RAYS, CHUNK]."""
    i = begin + tl.arange(0, CHUNK)[None, :]
    return start[:, None] + i, i < count[:, None]


@triton.jit
def light(density_ptr, t_starts_ptr, t_ends_ptr, at, inside, ahead):
    """Of samples at `at` [RAYS, CHUNK] behind an optical depth `ahead` [RAYS]: the light that reaches each, 0 in the dark; the
    part of it that passes; the length; whether the depth counts as it is; and the optical depth of all."""
    length = tl.load(t_ends_ptr + at, mask=inside, other=0.0) - tl.load(t_starts_ptr + at, mask=inside, other=0.0)
    raw = tl.load(density_ptr + at, mask=inside, other=0.0) * length
    is_clear = ~(raw > OPAQUE)
    tau = tl.where(is_clear, raw, OPAQUE)
    left = tl.exp(-(ahead[:, None] + tl.cumsum(tau, 1) - tau))
    left = tl.where(left < DARK, 0.0, left)
    return left, tl.exp(-tau), length, is_clear, tl.sum(tau, 1)


@triton.jit(do_not_specialize=["n_rays"])
def render_weights_forward(density_ptr, t_starts_ptr, t_ends_ptr, starts_ptr, counts_ptr, n_rays, weights_ptr,
                           RAYS: tl.constexpr, CHUNK: tl.constexpr):
    """Weights [S]; those of unused entries are left alone."""
    rays, _is_ray, start, count = rays_of_program(starts_ptr, counts_ptr, n_rays, RAYS)
    ahead = tl.zeros([RAYS], tl.float32)
    for begin in range(0, tl.max(count, 0), CHUNK):
        at, inside = chunk_of_rays(start, count, begin, CHUNK)
        left, passing, _length, _is_clear, depth = light(density_ptr, t_starts_ptr, t_ends_ptr, at, inside, ahead)
        tl.store(weights_ptr + at, left * (1.0 - passing), mask=inside)
        ahead += depth


@triton.jit(do_not_specialize=["n_rays"])
def render_weights_backward(density_ptr, t_starts_ptr, t_ends_ptr, starts_ptr, counts_ptr, n_rays, d_weights_ptr,
                            d_density_ptr, d_starts_ptr, d_ends_ptr, RAYS: tl.constexpr, CHUNK: tl.constexpr):
    """Gradients by density and both ends [S]: a first pass sums what all samples of a ray pull, a second one gives it out."""
    rays, _is_ray, start, count = rays_of_program(starts_ptr, counts_ptr, n_rays, RAYS)
    ahead, behind = tl.zeros([RAYS], tl.float32), tl.zeros([RAYS], tl.float32)
    for begin in range(0, tl.max(count, 0), CHUNK):
        at, inside = chunk_of_rays(start, count, begin, CHUNK)
        left, passing, _length, _is_clear, depth = light(density_ptr, t_starts_ptr, t_ends_ptr, at, inside, ahead)
        behind += tl.sum(tl.load(d_weights_ptr + at, mask=inside, other=0.0) * left * (1.0 - passing), 1)
        ahead += depth
    ahead = tl.zeros([RAYS], tl.float32)
    for begin in range(0, tl.max(count, 0), CHUNK):
        at, inside = chunk_of_rays(start, count, begin, CHUNK)
        left, passing, length, is_clear, depth = light(density_ptr, t_starts_ptr, t_ends_ptr, at, inside, ahead)
        pull = tl.load(d_weights_ptr + at, mask=inside, other=0.0)
        pulled = pull * left * (1.0 - passing)
        d_tau = pull * left * passing - (behind[:, None] - tl.cumsum(pulled, 1))
        d_tau = tl.where(is_clear & (left > 0), d_tau, 0.0)
        density = tl.load(density_ptr + at, mask=inside, other=0.0)
        tl.store(d_density_ptr + at, d_tau * length, mask=inside)
        tl.store(d_ends_ptr + at, d_tau * density, mask=inside)
        tl.store(d_starts_ptr + at, -d_tau * density, mask=inside)
        behind -= tl.sum(pulled, 1)
        ahead += depth


@triton.jit(do_not_specialize=["n_rays", "C"])
def accumulate_forward(weights_ptr, values_ptr, starts_ptr, counts_ptr, n_rays, sums_ptr, C, WIDTH: tl.constexpr,
                       RAYS: tl.constexpr):
    """Weighted sums [R, C], sample by sample along each ray."""
    rays, is_ray, start, count = rays_of_program(starts_ptr, counts_ptr, n_rays, RAYS)
    channel = tl.arange(0, WIDTH)
    is_channel = (channel < C)[None, :]
    sums = tl.zeros([RAYS, WIDTH], tl.float32)
    for i in range(0, tl.max(count, 0)):
        inside = i < count
        weight = tl.load(weights_ptr + start + i, mask=inside, other=0.0)
        sums += weight[:, None] * tl.load(values_ptr + (start + i)[:, None] * C + channel[None, :],
                                          mask=inside[:, None] & is_channel, other=0.0)
    tl.store(sums_ptr + rays.to(tl.int64)[:, None] * C + channel[None, :], sums, mask=is_ray[:, None] & is_channel)


@triton.jit(do_not_specialize=["n", "n_rays", "C"])
def accumulate_backward(weights_ptr, values_ptr, ray_indices_ptr, n, n_rays, d_sums_ptr, d_weights_ptr, d_values_ptr, C,
                        WIDTH: tl.constexpr, BLOCK: tl.constexpr):
    """Gradients by weights [S] and values [S, C]; 0 for unused entries."""
    rows = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    ray = tl.load(ray_indices_ptr + rows, mask=rows < n, other=n_rays)
    channel = tl.arange(0, WIDTH)
    is_channel = (channel < C)[None, :]
    is_used = (ray < n_rays)[:, None] & is_channel
    d_sums = tl.load(d_sums_ptr + ray[:, None] * C + channel[None, :], mask=is_used, other=0.0)
    values = tl.load(values_ptr + rows[:, None] * C + channel[None, :], mask=is_used, other=0.0)
    weights = tl.load(weights_ptr + rows, mask=rows < n, other=0.0)
    tl.store(d_weights_ptr + rows, tl.sum(d_sums * values, 1), mask=rows < n)
    tl.store(d_values_ptr + rows[:, None] * C + channel[None, :], d_sums * weights[:, None],
             mask=(rows < n)[:, None] & is_channel)


@triton.jit(do_not_specialize=["n_rays", "part"])
def distances_of_light(weights_ptr, t_starts_ptr, t_ends_ptr, starts_ptr, counts_ptr, n_rays, part, distances_ptr,
                       RAYS: tl.constexpr, CHUNK: tl.constexpr):
    """Where a part of each ray's light is stopped [R]; rays on which that is nowhere are left alone."""
    rays, _is_ray, start, count = rays_of_program(starts_ptr, counts_ptr, n_rays, RAYS)
    gone = tl.zeros([RAYS], tl.float64)
    for begin in range(0, tl.max(count, 0), CHUNK):
        at, inside = chunk_of_rays(start, count, begin, CHUNK)
        weight = tl.load(weights_ptr + at, mask=inside, other=0.0).to(tl.float64)
        through = gone[:, None] + tl.cumsum(weight, 1)
        before = 1.0 - (through - weight)
        behind = 1.0 - through
        behind = tl.where(behind > 1.1920928955078125e-7, behind, 1.1920928955078125e-7)  # a weight knows no more digits
        is_crossing = inside & (through - weight < part) & (through >= part)
        before = tl.where(is_crossing, before, 1.0)
        share = tl.log(before / (1.0 - part)) / tl.log(before / tl.where(is_crossing, behind, 0.5))
        t_start, t_end = tl.load(t_starts_ptr + at, mask=inside, other=0.0), tl.load(t_ends_ptr + at, mask=inside, other=0.0)
        at_ray = distances_ptr + rays[:, None] + tl.zeros([RAYS, CHUNK], tl.int32)
        tl.store(at_ray, t_start + share.to(tl.float32) * (t_end - t_start), mask=is_crossing)
        gone += tl.sum(weight, 1)


@triton.jit
def _placed(weights_ptr, s_starts_ptr, s_ends_ptr, at, inside):
    """Of samples at `at` [RAYS, CHUNK]: weight, middle, length."""
    start, end = tl.load(s_starts_ptr + at, mask=inside, other=0.0), tl.load(s_ends_ptr + at, mask=inside, other=0.0)
    return tl.load(weights_ptr + at, mask=inside, other=0.0), 0.5 * (start + end), end - start


@triton.jit(do_not_specialize=["n_rays"])
def distortion_forward(weights_ptr, s_starts_ptr, s_ends_ptr, starts_ptr, counts_ptr, n_rays, spreads_ptr, RAYS: tl.constexpr,
                       CHUNK: tl.constexpr):
    """How far each ray's weights are from lying in one place [R]."""
    rays, is_ray, start, count = rays_of_program(starts_ptr, counts_ptr, n_rays, RAYS)
    mass, moment, spread = tl.zeros([RAYS], tl.float32), tl.zeros([RAYS], tl.float32), tl.zeros([RAYS], tl.float32)
    for begin in range(0, tl.max(count, 0), CHUNK):
        at, inside = chunk_of_rays(start, count, begin, CHUNK)
        weight, middle, length = _placed(weights_ptr, s_starts_ptr, s_ends_ptr, at, inside)
        turned = weight * middle
        ahead, moment_ahead = mass[:, None] + tl.cumsum(weight, 1) - weight, moment[:, None] + tl.cumsum(turned, 1) - turned
        spread += tl.sum(2.0 * weight * (middle * ahead - moment_ahead) + weight * weight * length / 3.0, 1)
        mass += tl.sum(weight, 1)
        moment += tl.sum(turned, 1)
    tl.store(spreads_ptr + rays, spread, mask=is_ray)


@triton.jit(do_not_specialize=["n_rays"])
def distortion_backward(weights_ptr, s_starts_ptr, s_ends_ptr, starts_ptr, counts_ptr, n_rays, d_spreads_ptr, d_weights_ptr,
                        RAYS: tl.constexpr, CHUNK: tl.constexpr):
    """The gradient by weights [S]: a sample is pulled by those ahead of it and those behind it, whose sums a first pass finds."""
    rays, is_ray, start, count = rays_of_program(starts_ptr, counts_ptr, n_rays, RAYS)
    d_spread = 2.0 * tl.load(d_spreads_ptr + rays, mask=is_ray, other=0.0)
    mass, moment = tl.zeros([RAYS], tl.float32), tl.zeros([RAYS], tl.float32)
    for begin in range(0, tl.max(count, 0), CHUNK):
        at, inside = chunk_of_rays(start, count, begin, CHUNK)
        weight, middle, _length = _placed(weights_ptr, s_starts_ptr, s_ends_ptr, at, inside)
        mass += tl.sum(weight, 1)
        moment += tl.sum(weight * middle, 1)
    behind, moment_behind = mass, moment  # of what was not passed yet
    for begin in range(0, tl.max(count, 0), CHUNK):
        at, inside = chunk_of_rays(start, count, begin, CHUNK)
        weight, middle, length = _placed(weights_ptr, s_starts_ptr, s_ends_ptr, at, inside)
        left = behind[:, None] - tl.cumsum(weight, 1)  # behind this one
        moment_left = moment_behind[:, None] - tl.cumsum(weight * middle, 1)
        ahead, moment_ahead = mass[:, None] - left - weight, moment[:, None] - moment_left - weight * middle
        pull = middle * (ahead - left) + moment_left - moment_ahead + weight * length / 3.0
        tl.store(d_weights_ptr + at, d_spread[:, None] * pull, mask=inside)
        behind -= tl.sum(weight, 1)
        moment_behind -= tl.sum(weight * middle, 1)


def places_of(ray_indices: Tensor, n_rays: int) -> tuple[Tensor, Tensor]:
    """Where each ray's samples begin and how many there are: [S] sorted -> [R], [R] int64."""
    borders = torch.searchsorted(ray_indices, torch.arange(n_rays + 1, device=ray_indices.device))
    return borders[:-1], borders[1:] - borders[:-1]


class _RenderWeights(torch.autograd.Function):
    @staticmethod
    def forward(ctx, density: Tensor, t_starts: Tensor, t_ends: Tensor, ray_indices: Tensor, n_rays: int) -> Tensor:
        inputs = (*map(plain, (density, t_starts, t_ends)), *places_of(ray_indices, n_rays))
        weights = torch.zeros_like(inputs[0])
        render_weights_forward[(blocks(n_rays, RAYS),)](*inputs, n_rays, weights, RAYS=RAYS, CHUNK=CHUNK, num_warps=WARPS)
        ctx.save_for_backward(*inputs)
        return weights

    @staticmethod
    def backward(ctx, d_weights: Tensor) -> tuple[Tensor | None, ...]:
        inputs = ctx.saved_tensors
        n_rays = len(inputs[-1])
        gradients = [torch.zeros_like(inputs[0]) for _ in range(3)]
        render_weights_backward[(blocks(n_rays, RAYS),)](*inputs, n_rays, plain(d_weights), *gradients, RAYS=RAYS, CHUNK=CHUNK,
                                                         num_warps=WARPS)
        return *gradients, None, None


class _Accumulate(torch.autograd.Function):
    @staticmethod
    def forward(ctx, weights: Tensor, values: Tensor, ray_indices: Tensor, n_rays: int) -> Tensor:
        weights, values, channels = plain(weights), plain(values), values.shape[1]
        sums = torch.zeros(n_rays, channels, device=values.device)
        accumulate_forward[(blocks(n_rays, RAYS),)](weights, values, *places_of(ray_indices, n_rays), n_rays, sums, channels,
                                                    WIDTH=triton.next_power_of_2(channels), RAYS=RAYS, num_warps=WARPS)
        ctx.save_for_backward(weights, values, ray_indices)
        return sums

    @staticmethod
    def backward(ctx, d_sums: Tensor) -> tuple[Tensor | None, ...]:
        weights, values, ray_indices = ctx.saved_tensors
        d_weights, d_values = torch.empty_like(weights), torch.empty_like(values)
        accumulate_backward[(blocks(len(weights), BLOCK),)](
            weights, values, ray_indices, len(weights), len(d_sums), plain(d_sums), d_weights, d_values, values.shape[1],
            WIDTH=triton.next_power_of_2(values.shape[1]), BLOCK=BLOCK, num_warps=WARPS)
        return d_weights, d_values, None, None


def spreads_of(weights: Tensor, s_starts: Tensor, s_ends: Tensor, places: tuple[Tensor, Tensor]) -> Tensor:
    """[R] of rays whose samples [S] begin at [R] and are [R] in number."""
    n_rays = len(places[0])
    spreads = torch.zeros(n_rays, device=weights.device)
    distortion_forward[(blocks(n_rays, RAYS),)](weights, s_starts, s_ends, *places, n_rays, spreads, RAYS=RAYS, CHUNK=CHUNK,
                                                num_warps=WARPS)
    return spreads


def pull_of_spreads(weights: Tensor, s_starts: Tensor, s_ends: Tensor, places: tuple[Tensor, Tensor],
                    d_spreads: Tensor) -> Tensor:
    """From gradients by spreads [R] to those by weights [S]."""
    n_rays, d_weights = len(d_spreads), torch.zeros_like(weights)
    distortion_backward[(blocks(n_rays, RAYS),)](weights, s_starts, s_ends, *places, n_rays, d_spreads, d_weights, RAYS=RAYS,
                                                 CHUNK=CHUNK, num_warps=WARPS)
    return d_weights


class _Distortion(torch.autograd.Function):
    @staticmethod
    def forward(ctx, weights: Tensor, s_starts: Tensor, s_ends: Tensor, ray_indices: Tensor, n_rays: int) -> Tensor:
        inputs = (*map(plain, (weights, s_starts, s_ends)), *places_of(ray_indices, n_rays))
        ctx.save_for_backward(*inputs)
        return spreads_of(*inputs[:3], inputs[3:])

    @staticmethod
    def backward(ctx, d_spreads: Tensor) -> tuple[Tensor | None, ...]:
        inputs = ctx.saved_tensors
        return pull_of_spreads(*inputs[:3], inputs[3:], plain(d_spreads)), None, None, None, None


def render_weights(density: Tensor, t_starts: Tensor, t_ends: Tensor, ray_indices: Tensor, n_rays: int) -> Tensor:
    """How much each packed sample adds to its ray: [S]."""
    check_shapes("density [S], t_starts [S], t_ends [S], ray_indices [S]", density=density, t_starts=t_starts, t_ends=t_ends,
                 ray_indices=ray_indices)
    return _RenderWeights.apply(density, t_starts, t_ends, plain(ray_indices, torch.int64), n_rays)


def accumulate(weights: Tensor, values: Tensor, ray_indices: Tensor, n_rays: int) -> Tensor:
    """Weighted sum over each ray: [S], [S, C] -> [R, C]."""
    check_shapes("weights [S], values [S,C], ray_indices [S]", weights=weights, values=values, ray_indices=ray_indices)
    return _Accumulate.apply(weights, values, plain(ray_indices, torch.int64), n_rays)


def distance_of_light(weights: Tensor, t_starts: Tensor, t_ends: Tensor, ray_indices: Tensor, n_rays: int, part: float) -> Tensor:
    """Where a part of a ray's light is stopped: [S] -> [R] scene units, NaN where it never is."""
    check_shapes("weights [S], t_starts [S], t_ends [S], ray_indices [S]", weights=weights, t_starts=t_starts, t_ends=t_ends,
                 ray_indices=ray_indices)
    distances = torch.full((n_rays,), math.nan, device=weights.device)
    distances_of_light[(blocks(n_rays, RAYS),)](*map(plain, (weights, t_starts, t_ends)),
                                                *places_of(plain(ray_indices, torch.int64), n_rays), n_rays, float(part),
                                                distances, RAYS=RAYS, CHUNK=CHUNK, num_warps=WARPS)
    return distances


def distortion(weights: Tensor, s_starts: Tensor, s_ends: Tensor, ray_indices: Tensor, n_rays: int) -> Tensor:
    """How far each ray's weights are from lying in one place: [S] -> [R]."""
    check_shapes("weights [S], s_starts [S], s_ends [S], ray_indices [S]", weights=weights, s_starts=s_starts, s_ends=s_ends,
                 ray_indices=ray_indices)
    return _Distortion.apply(weights, s_starts, s_ends, plain(ray_indices, torch.int64), n_rays)
