"""Compositing by the C++ kernels."""

import math

import torch
from torch import Tensor

from nerf_app.ops.native import call, indices, plain
from nerf_app.ops.shapes import check_shapes


class _RenderWeights(torch.autograd.Function):
    @staticmethod
    def forward(ctx, density: Tensor, t_starts: Tensor, t_ends: Tensor, ray_indices: Tensor, n_rays: int) -> Tensor:
        density, t_starts, t_ends = plain(density), plain(t_starts), plain(t_ends)
        weights = torch.zeros_like(density)
        call("render_weights_forward", density, t_starts, t_ends, ray_indices, len(density), n_rays, weights)
        ctx.save_for_backward(density, t_starts, t_ends, ray_indices, weights)
        ctx.n_rays = n_rays
        return weights

    @staticmethod
    def backward(ctx, d_weights: Tensor) -> tuple[Tensor | None, ...]:
        density, t_starts, t_ends, ray_indices, weights = ctx.saved_tensors
        d_density = torch.zeros_like(density)
        has_ends = ctx.needs_input_grad[1] or ctx.needs_input_grad[2]
        d_starts, d_ends = (torch.zeros_like(density), torch.zeros_like(density)) if has_ends else (None, None)
        call("render_weights_backward", density, t_starts, t_ends, ray_indices, len(density), ctx.n_rays, weights,
             plain(d_weights), d_density, d_starts, d_ends)
        return d_density, d_starts, d_ends, None, None


class _Accumulate(torch.autograd.Function):
    @staticmethod
    def forward(ctx, weights: Tensor, values: Tensor, ray_indices: Tensor, n_rays: int) -> Tensor:
        weights, values = plain(weights), plain(values)
        sums = torch.zeros(n_rays, values.shape[1])
        call("accumulate_forward", weights, values, values.shape[1], ray_indices, len(weights), n_rays, sums)
        ctx.save_for_backward(weights, values, ray_indices)
        ctx.n_rays = n_rays
        return sums

    @staticmethod
    def backward(ctx, d_sums: Tensor) -> tuple[Tensor | None, ...]:
        weights, values, ray_indices = ctx.saved_tensors
        d_weights, d_values = torch.zeros_like(weights), torch.zeros_like(values)
        call("accumulate_backward", weights, values, values.shape[1], ray_indices, len(weights), ctx.n_rays, plain(d_sums),
             d_weights, d_values)
        return d_weights, d_values, None, None


class _Distortion(torch.autograd.Function):
    @staticmethod
    def forward(ctx, weights: Tensor, s_starts: Tensor, s_ends: Tensor, ray_indices: Tensor, n_rays: int) -> Tensor:
        weights, s_starts, s_ends = plain(weights), plain(s_starts), plain(s_ends)
        spread = torch.zeros(n_rays)
        call("distortion_forward", weights, s_starts, s_ends, ray_indices, len(weights), n_rays, spread)
        ctx.save_for_backward(weights, s_starts, s_ends, ray_indices)
        ctx.n_rays = n_rays
        return spread

    @staticmethod
    def backward(ctx, d_spread: Tensor) -> tuple[Tensor | None, ...]:
        weights, s_starts, s_ends, ray_indices = ctx.saved_tensors
        d_weights = torch.zeros_like(weights)
        call("distortion_backward", weights, s_starts, s_ends, ray_indices, len(weights), ctx.n_rays, plain(d_spread), d_weights)
        return d_weights, None, None, None, None


def render_weights(density: Tensor, t_starts: Tensor, t_ends: Tensor, ray_indices: Tensor, n_rays: int) -> Tensor:
    """How much each packed sample adds to its ray: [S]."""
    check_shapes("density [S], t_starts [S], t_ends [S], ray_indices [S]", density=density, t_starts=t_starts, t_ends=t_ends,
                 ray_indices=ray_indices)
    return _RenderWeights.apply(density, t_starts, t_ends, indices(ray_indices), n_rays)


def accumulate(weights: Tensor, values: Tensor, ray_indices: Tensor, n_rays: int) -> Tensor:
    """Weighted sum over each ray: [S], [S, C] -> [R, C]."""
    check_shapes("weights [S], values [S,C], ray_indices [S]", weights=weights, values=values, ray_indices=ray_indices)
    return _Accumulate.apply(weights, values, indices(ray_indices), n_rays)


def distance_of_light(weights: Tensor, t_starts: Tensor, t_ends: Tensor, ray_indices: Tensor, n_rays: int, part: float) -> Tensor:
    """Where a part of a ray's light is stopped: [S] -> [R] scene units, NaN where it never is."""
    check_shapes("weights [S], t_starts [S], t_ends [S], ray_indices [S]", weights=weights, t_starts=t_starts, t_ends=t_ends,
                 ray_indices=ray_indices)
    distances = torch.full((n_rays,), math.nan)
    call("distance_of_light", plain(weights), plain(t_starts), plain(t_ends), indices(ray_indices), len(weights), n_rays,
         float(part), distances)
    return distances


def distortion(weights: Tensor, s_starts: Tensor, s_ends: Tensor, ray_indices: Tensor, n_rays: int) -> Tensor:
    """How far each ray's weights are from lying in one place: [S] -> [R]."""
    check_shapes("weights [S], s_starts [S], s_ends [S], ray_indices [S]", weights=weights, s_starts=s_starts, s_ends=s_ends,
                 ray_indices=ray_indices)
    return _Distortion.apply(weights, s_starts, s_ends, indices(ray_indices), n_rays)
