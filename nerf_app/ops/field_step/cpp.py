"""Rays through a hash-grid field by the C++ kernels."""

import ctypes
from typing import Any

import torch
from torch import Tensor

from nerf_app.ops.field_step import HashGridNets, Samples
from nerf_app.ops.hashgrid.cpp import packed_levels
from nerf_app.ops.march import Space
from nerf_app.ops.native import call, indices, plain
from nerf_app.ops.shapes import check_shapes

HARMONICS = 16


class _See(torch.autograd.Function):
    @staticmethod
    def forward(ctx, rays: tuple[Any, ...], field: HashGridNets, is_kept: bool, least_light: float, table: Tensor,
                *matrices: Tensor) -> tuple[Tensor, Tensor]:
        n_rays, n_samples, width = len(rays[0]), len(rays[2]), len(field.levels) * table.shape[1]
        sums, weights = torch.empty(n_rays, field.channels + 2), torch.zeros(n_samples)
        kept = None, None, None, None
        if is_kept:  # features, colours and density of samples that the light reaches, and how many those are on each ray
            kept = (torch.empty(n_samples, width), torch.empty(n_samples, field.channels), torch.empty(n_samples),
                    torch.empty(n_rays, dtype=torch.int64))
        inputs = [*rays[:6], n_rays, rays[6], *_parameters(field, table, matrices)]
        call("field_step_forward", *inputs, 0.0 if is_kept else least_light, sums, weights, *kept)
        if is_kept:  # an output must not lie on ctx itself: the circle would outlive the step
            ctx.save_for_backward(weights, *kept, table, *matrices)
            ctx.inputs, ctx.table, ctx.n_density = inputs, table, len(field.density)
            ctx.set_materialize_grads(False)
        return sums, weights

    @staticmethod
    def backward(ctx, d_sums: Tensor | None, d_weights: Tensor | None) -> tuple[Tensor | None, ...]:
        weights, features, rgb, densities, lit, table, *matrices = ctx.saved_tensors
        d_sums = torch.zeros(len(lit), rgb.shape[1] + 2) if d_sums is None else plain(d_sums)
        places = lit.cumsum(0) - lit
        n_lit = int(lit.sum())
        unit, d_features = torch.empty(n_lit, 3), torch.empty(n_lit, features.shape[1])
        d_matrices = [torch.empty(matrix.shape) for matrix in matrices]
        is_sink, d_table = ctx.table.is_leaf and ctx.table.grad is not None, None
        if ctx.needs_input_grad[4]:  # a leaf's own gradient is added to in place, as ops/hashgrid does
            d_table = ctx.table.grad if is_sink else torch.zeros(table.shape)
        call("field_step_backward", *ctx.inputs, weights, features, rgb, densities, lit, d_sums,
             None if d_weights is None else plain(d_weights), places, n_lit, unit, d_features,
             d_matrices[:ctx.n_density], d_matrices[ctx.n_density:], d_table)
        return None, None, None, None, None if is_sink else d_table, *d_matrices


def see(origins: Tensor, directions: Tensor, samples: Samples, space: Space, field: HashGridNets,
        least_light: float = 0.0) -> tuple[Tensor, Tensor]:
    """[R, C + 2] sums over each ray, [S] weights; see the contract."""
    check_shapes("origins [R,3], directions [R,3], t_starts [S], t_ends [S], ray_starts [R], ray_counts [R]", origins=origins,
                 directions=directions, t_starts=samples.t_starts, t_ends=samples.t_ends, ray_starts=samples.ray_starts,
                 ray_counts=samples.ray_counts)
    rays = (*map(plain, (origins, directions, samples.t_starts, samples.t_ends)), indices(samples.ray_starts),
            indices(samples.ray_counts), space.is_bounded)
    return _See.apply(rays, field, torch.is_grad_enabled(), least_light, field.table, *field.density, *field.colour)


def _parameters(field: HashGridNets, table: Tensor, matrices: tuple[Tensor, ...]) -> list[Any]:
    """What the kernels are told about the field."""
    density, colour = ([plain(matrix) for matrix in net] for net in
                       (matrices[:len(field.density)], matrices[len(field.density):]))
    if colour[0].shape[1] != len(density[-1]) + HARMONICS:
        raise ValueError(f"the colour net must take {len(density[-1])} + {HARMONICS} numbers, got {colour[0].shape[1]}")
    return [plain(table), table.shape[1], packed_levels(field.levels), len(field.levels), density, _widths(density), len(density),
            colour, _widths(colour), len(colour), field.is_view_dependent, field.channels]


def _widths(matrices: list[Tensor]) -> ctypes.Array:
    return (ctypes.c_int * (len(matrices) + 1))(matrices[0].shape[1], *[len(matrix) for matrix in matrices])
