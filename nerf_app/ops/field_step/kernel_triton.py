"""Rays through a hash-grid field by Triton: a launch for each stage, buffers of the samples' size, nothing read on the host.

Forward: samples → unit cube → features → both nets in one kernel → sums along rays. Backward: gradients of samples → a list of
those that the light reaches → both nets once more, whose matrices' gradients stay in registers → the table. Where nothing is
learned, rays are followed stretch by stretch, and left where no light is left. Nets that the kernels do not take (see `fits`) are
computed by the small ops one after the other.
"""

import math
from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from nerf_app.ops.composite import kernel_triton as composite
from nerf_app.ops.composite.kernel_triton import CHUNK, RAYS, pull_of_spreads, render_weights_forward, spreads_of
from nerf_app.ops.composite.reference import DARK, OPAQUE
from nerf_app.ops.field_step import HashGridNets, Samples
from nerf_app.ops.field_step.rays_triton import list_lit, place_samples, show_and_compare, show_backward, show_forward
from nerf_app.ops.field_step.reference import SmallOps, see_by
from nerf_app.ops.gpu import WARPS, blocks, plain, power_of_two, processors
from nerf_app.ops.hashgrid import kernel_triton as hashgrid
from nerf_app.ops.hashgrid.kernel_triton import BLOCK, add_table_gradient, features_of
from nerf_app.ops.march import Space
from nerf_app.ops.mlp import kernel_triton as dense
from nerf_app.ops.mlp.tiles_triton import add_matrix, matrix, product, relu, turned_product
from nerf_app.ops.shapes import check_shapes
from nerf_app.ops.spherical_harmonics import kernel_triton as spherical_harmonics
from nerf_app.ops.spherical_harmonics.kernel_triton import harmonics

GEOMETRY, HARMONICS, SUMS = 16, 16, 5
NARROW, WIDE = (16, 32), (16, 32, 64)  # hidden layers of which registers hold the gradients of float32 matrices; all others
LARGEST_HALF = tl.constexpr(65504.0)
FIRST_LOOK = 8  # samples of each ray, before it is asked whether light is left; then twice as many, and so on
GONE = -math.log(DARK) + 0.01  # optical depth behind which all is dark, however it is summed up
REGISTERS = 128  # of a thread that composites and compares: with fewer, which the compiler is fond of, some values lie in memory
SMALL_OPS = SmallOps(hashgrid, dense, composite, spherical_harmonics)


@triton.jit
def _features(features_ptr, samples, inside, IN: tl.constexpr, PADDED: tl.constexpr):
    column = tl.arange(0, PADDED)[None, :]
    return tl.load(features_ptr + samples.to(tl.int64)[:, None] * IN + column, mask=inside[:, None] & (column < IN), other=0.0)


@triton.jit
def _seen_from(directions_ptr, ray_indices_ptr, samples, inside, IS_VIEW: tl.constexpr, TILE: tl.constexpr):
    """The direction's harmonics [TILE, 16], or zeros."""
    values = tl.zeros([TILE, 16], tl.float32)
    if IS_VIEW:
        at = directions_ptr + tl.load(ray_indices_ptr + samples, mask=inside, other=0) * 3
        values = harmonics(tl.load(at, mask=inside, other=0.0), tl.load(at + 1, mask=inside, other=0.0),
                           tl.load(at + 2, mask=inside, other=0.0), TILE)
    return values


@triton.jit
def _colour_matrices(c0_ptr, c1_ptr, c2_ptr, W: tl.constexpr, COLOUR: tl.constexpr, IS_HALF: tl.constexpr):
    """The colour net, read once for all tiles of a program: its first matrix in two halves, its middle and its last one."""
    c1 = tl.zeros([16, 16], tl.float32)
    if COLOUR == 2:
        c1 = matrix(c1_ptr, W, W, 0, W, IS_HALF)
    return matrix(c0_ptr, W, 32, 0, 16, IS_HALF), matrix(c0_ptr, W, 32, 16, 16, IS_HALF), c1, matrix(c2_ptr, 16, W, 0, W, IS_HALF)


@triton.jit
def _density(g):
    """exp(min(first column, 15)) of the density net's outputs [TILE, 16]."""
    raw = tl.sum(tl.where((tl.arange(0, 16) == 0)[None, :], g, 0.0), 1)
    return tl.exp(tl.where(raw > 15.0, 15.0, raw))


@triton.jit
def _hidden(g, seen_from, geometry, view, c1, COLOUR: tl.constexpr, IS_VIEW: tl.constexpr):
    """The colour net's hidden layers: the first, and the last (the same where there is one)."""
    first = product(g, tl.trans(geometry))
    if IS_VIEW:
        first += product(seen_from, tl.trans(view))
    first = relu(first)
    last = first
    if COLOUR == 2:
        last = relu(product(first, tl.trans(c1)))
    return first, last


@triton.jit
def _geometry(ptr, rows, inside):
    """Sixteen numbers of each row: what the density net gives, or what flows back into it."""
    return tl.load(ptr + rows.to(tl.int64)[:, None] * 16 + tl.arange(0, 16)[None, :], mask=inside[:, None], other=0.0)


@triton.jit
def field_forward(features_ptr, directions_ptr, ray_indices_ptr, count_ptr, d0_ptr, d1_ptr, c0_ptr, c1_ptr, c2_ptr, density_ptr,
                  rgb_ptr, geometry_ptr, IN: tl.constexpr, PADDED: tl.constexpr, W: tl.constexpr, COLOUR: tl.constexpr,
                  IS_VIEW: tl.constexpr, IS_HALF: tl.constexpr, TILE: tl.constexpr):
    """Density [S], colour [S, 3] and the density net's outputs [S, 16] of the first `count` samples."""
    count = tl.load(count_ptr)
    d0, d1 = matrix(d0_ptr, W, IN, 0, PADDED, IS_HALF), matrix(d1_ptr, 16, W, 0, W, IS_HALF)
    c0, view, c1, c2 = _colour_matrices(c0_ptr, c1_ptr, c2_ptr, W, COLOUR, IS_HALF)
    for tile in range(tl.program_id(0), tl.cdiv(count, TILE), tl.num_programs(0)):
        samples = tile * TILE + tl.arange(0, TILE)
        inside = samples < count
        h = relu(product(_features(features_ptr, samples, inside, IN, PADDED), tl.trans(d0)))
        g = product(h, tl.trans(d1))
        tl.store(density_ptr + samples, _density(g), mask=inside)
        column = tl.arange(0, 16)[None, :]
        tl.store(geometry_ptr + samples.to(tl.int64)[:, None] * 16 + column, g.to(geometry_ptr.dtype.element_ty),
                 mask=inside[:, None])
        seen_from = _seen_from(directions_ptr, ray_indices_ptr, samples, inside, IS_VIEW, TILE)
        _, last = _hidden(g, seen_from, c0, view, c1, COLOUR, IS_VIEW)
        colour = tl.sigmoid(product(last, tl.trans(c2)))
        tl.store(rgb_ptr + samples.to(tl.int64)[:, None] * 3 + column, colour, mask=inside[:, None] & (column < 3))


@triton.jit
def colour_backward(geometry_ptr, directions_ptr, ray_indices_ptr, index_ptr, count_ptr, c0_ptr, c1_ptr, c2_ptr, d_raw_ptr,
                    d_rgb_ptr, d_geometry_ptr, d_c0_ptr, d_c1_ptr, d_c2_ptr, W: tl.constexpr, COLOUR: tl.constexpr,
                    IS_VIEW: tl.constexpr, IS_HALF: tl.constexpr, TILE: tl.constexpr):
    """For samples index[: count]: gradients by the density net's outputs, row by row of the index, and by the colour net."""
    count = tl.load(count_ptr)
    c0, view, c1, c2 = _colour_matrices(c0_ptr, c1_ptr, c2_ptr, W, COLOUR, IS_HALF)
    sum_c0, sum_view = tl.zeros([W, 16], tl.float32), tl.zeros([W, 16], tl.float32)
    sum_c1, sum_c2 = tl.zeros([W, W], tl.float32), tl.zeros([16, W], tl.float32)
    for tile in range(tl.program_id(0), tl.cdiv(count, TILE), tl.num_programs(0)):
        rows = tile * TILE + tl.arange(0, TILE)
        inside = rows < count
        samples = tl.load(index_ptr + rows, mask=inside, other=0)
        g = _geometry(geometry_ptr, samples, inside)
        seen_from = _seen_from(directions_ptr, ray_indices_ptr, samples, inside, IS_VIEW, TILE)
        first, last = _hidden(g, seen_from, c0, view, c1, COLOUR, IS_VIEW)
        colour = tl.sigmoid(product(last, tl.trans(c2)))
        column = tl.arange(0, 16)[None, :]
        d_rgb = tl.load(d_rgb_ptr + samples.to(tl.int64)[:, None] * 3 + column, mask=inside[:, None] & (column < 3), other=0.0)
        d_out = d_rgb * colour * (1.0 - colour)
        sum_c2 += turned_product(d_out, last, IS_HALF)
        d_hidden = tl.where(last > 0.0, product(d_out, c2), 0.0)
        if COLOUR == 2:
            sum_c1 += turned_product(d_hidden, first, IS_HALF)
            d_hidden = tl.where(first > 0.0, product(d_hidden, c1), 0.0)
        sum_c0 += turned_product(d_hidden, g, IS_HALF)
        if IS_VIEW:
            sum_view += turned_product(d_hidden, seen_from, IS_HALF)
        d_g = product(d_hidden, c0)
        d_g += tl.where(column == 0, tl.load(d_raw_ptr + samples, mask=inside, other=0.0)[:, None], 0.0)
        tl.store(d_geometry_ptr + rows.to(tl.int64)[:, None] * 16 + column, d_g.to(d_geometry_ptr.dtype.element_ty),
                 mask=inside[:, None])
    add_matrix(d_c0_ptr, sum_c0, W, 32, 0, 16)
    add_matrix(d_c2_ptr, sum_c2, 16, W, 0, W)
    if IS_VIEW:
        add_matrix(d_c0_ptr, sum_view, W, 32, 16, 16)
    if COLOUR == 2:
        add_matrix(d_c1_ptr, sum_c1, W, W, 0, W)


@triton.jit
def density_backward(features_ptr, d_geometry_ptr, index_ptr, count_ptr, d0_ptr, d1_ptr, d_features_ptr, d_d0_ptr, d_d1_ptr,
                     IN: tl.constexpr, PADDED: tl.constexpr, W: tl.constexpr, IS_HALF: tl.constexpr, TILE: tl.constexpr):
    """The same through the density net: gradients by features, row by row of the index, and by both matrices."""
    count = tl.load(count_ptr)
    d0, d1 = matrix(d0_ptr, W, IN, 0, PADDED, IS_HALF), matrix(d1_ptr, 16, W, 0, W, IS_HALF)
    sum_d0, sum_d1 = tl.zeros([W, PADDED], tl.float32), tl.zeros([16, W], tl.float32)
    for tile in range(tl.program_id(0), tl.cdiv(count, TILE), tl.num_programs(0)):
        rows = tile * TILE + tl.arange(0, TILE)
        inside = rows < count
        features = _features(features_ptr, tl.load(index_ptr + rows, mask=inside, other=0), inside, IN, PADDED)
        h = relu(product(features, tl.trans(d0)))
        d_g = _geometry(d_geometry_ptr, rows, inside)
        sum_d1 += turned_product(d_g, h, IS_HALF)
        d_h = tl.where(h > 0.0, product(d_g, d1), 0.0)
        sum_d0 += turned_product(d_h, features, IS_HALF)
        d_features = product(d_h, d0)
        if IS_HALF:  # or float16 makes it infinite, which nobody would see in the matrices' gradients
            d_features = tl.minimum(tl.maximum(d_features, -LARGEST_HALF), LARGEST_HALF)
        column = tl.arange(0, PADDED)[None, :]
        tl.store(d_features_ptr + rows.to(tl.int64)[:, None] * IN + column, d_features.to(d_features_ptr.dtype.element_ty),
                 mask=inside[:, None] & (column < IN))
    add_matrix(d_d0_ptr, sum_d0, W, IN, 0, PADDED)
    add_matrix(d_d1_ptr, sum_d1, 16, W, 0, W)


@dataclass(frozen=True)
class FieldKernels:
    """A field as the kernels take it: its table and matrices, detached, and the numbers that a binary is compiled for."""

    field: HashGridNets
    table: Tensor  # [E, F] float32 or float16
    is_half: bool  # whether features and the factors of products are float16

    def forward(self, origins: Tensor, directions: Tensor, samples: Samples, space: Space, count: Tensor) -> "Passed":
        """The first `count` ([] int32) samples, looked at from their rays."""
        n, device = len(samples.t_starts), origins.device
        unit, density, rgb = (torch.zeros(shape, device=device) for shape in ((n, 3), (n,), (n, 3)))
        geometry = torch.zeros(n, GEOMETRY, device=device, dtype=self._dtype)
        place_samples[(blocks(n, BLOCK),)](
            origins, directions, samples.t_starts, samples.t_ends, samples.ray_indices, count, len(origins), unit,
            IS_BOUNDED=space.is_bounded, BLOCK=BLOCK, num_warps=WARPS)
        features = features_of(unit, self.table, self.field.levels, count, self._dtype)
        field_forward[(self._programs(n),)](features, directions, samples.ray_indices, count, *self._density(self.matrices),
                                            *self._colour(self.matrices), density, rgb, geometry, **self._encoded, **self._sizes)
        return Passed(directions, samples.ray_indices, unit, features, geometry, density, rgb)

    def backward(self, passed: "Passed", index: Tensor, count: Tensor, gradients: tuple[Tensor, Tensor],
                 d_table: Tensor | None, d_matrices: list[Tensor]) -> None:
        """Adds to the gradients of the table (unless None) and of the matrices.

        Args:
            index, count: [S] int32, the samples that learn something, and [] int32, how many they are.
            gradients: by the logarithm of the density [S], and by the colour [S, 3].
        """
        d_geometry, d_features = torch.zeros_like(passed.geometry), torch.zeros_like(passed.features)
        programs, sizes = (self._programs(len(index)),), self._sizes
        colour_backward[programs](passed.geometry, passed.directions, passed.ray_indices, index, count,
                                  *self._colour(self.matrices), *gradients, d_geometry, *self._colour(d_matrices), **sizes)
        del sizes["COLOUR"], sizes["IS_VIEW"]
        density_backward[programs](passed.features, d_geometry, index, count, *self._density(self.matrices), d_features,
                                   *self._density(d_matrices), **self._encoded, **sizes)
        if d_table is not None:
            add_table_gradient(passed.unit, d_features, self.field.levels, d_table, count, index)

    @property
    def matrices(self) -> list[Tensor]:
        """Of both nets, in order."""
        return [plain(matrix) for matrix in (*self.field.density, *self.field.colour)]

    def _programs(self, n: int) -> int:
        return min(blocks(n, self._tile), processors(self.table.device))

    @staticmethod
    def _density(matrices: list[Tensor]) -> tuple[Tensor, Tensor]:
        return matrices[0], matrices[1]

    @staticmethod
    def _colour(matrices: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """First, middle and last; the first stands in for a middle one that is not there and not read."""
        return matrices[2], matrices[-2], matrices[-1]

    @property
    def _dtype(self) -> torch.dtype:
        return torch.float16 if self.is_half else torch.float32

    @property
    def _encoded(self) -> dict[str, int]:
        features = self.field.density[0].shape[1]
        return {"IN": features, "PADDED": power_of_two(features, 16)}

    @property
    def _sizes(self) -> dict[str, int | bool]:
        return {"W": self._width, "COLOUR": len(self.field.colour) - 1, "IS_VIEW": self.field.is_view_dependent,
                "IS_HALF": self.is_half, "TILE": self._tile, "num_warps": WARPS * (2 if self._width > 32 else 1), "num_stages": 2}

    @property
    def _width(self) -> int:
        return len(self.field.density[0])

    @property
    def _tile(self) -> int:
        """Samples at once: as many as leave room in the registers for the matrices' gradients."""
        return 64 if self.is_half and self._width <= 32 else 32


@dataclass(frozen=True)
class Passed:
    """What a forward pass leaves for the way back."""

    directions: Tensor  # [R, 3]
    ray_indices: Tensor  # [S]
    unit: Tensor  # [S, 3]
    features: Tensor  # [S, L·F]
    geometry: Tensor  # [S, 16] the density net's outputs
    density: Tensor  # [S]
    rgb: Tensor  # [S, 3]


def fits(field: HashGridNets, widths: tuple[int, ...]) -> bool:
    """Whether the kernels take a field: two matrices for density, two or three for colour, and one of the widths throughout."""
    density, colour = field.density, field.colour
    found = {len(density[0]), *(len(matrix) for matrix in colour[:-1])}
    return (len(density) == 2 and len(colour) in (2, 3) and len(found) == 1 and found <= set(widths)
            and len(density[1]) == len(colour[-1]) == GEOMETRY and colour[0].shape[1] == GEOMETRY + HARMONICS
            and density[0].shape[1] <= 64 and field.channels == 3)


def lit_samples(starts: Tensor, lit: Tensor, room: int) -> tuple[Tensor, Tensor]:
    """[room] int32 samples that the light reaches, of rays that begin at [R] and have [R] of them; and [] int32 how many."""
    ends = lit.cumsum(0)
    index = torch.zeros(room, dtype=torch.int32, device=lit.device)
    list_lit[(blocks(len(lit), RAYS),)](starts, lit, ends - lit, len(lit), index, RAYS=RAYS, CHUNK=CHUNK, num_warps=WARPS)
    return index, lit.sum(dtype=torch.int32)


def weights_along(passed: Passed, samples: Samples) -> Tensor:
    """How much each sample adds to its ray: [S], 0 in unused entries."""
    weights, n_rays = torch.zeros_like(passed.density), len(samples.ray_counts)
    render_weights_forward[(blocks(n_rays, RAYS),)](passed.density, samples.t_starts, samples.t_ends, samples.ray_starts,
                                                    samples.ray_counts, n_rays, weights, RAYS=RAYS, CHUNK=CHUNK, num_warps=WARPS)
    return weights


def spread_and_learn(weights: Tensor, samples: Samples, space: Space, counts: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """How far the light of rays is spread over their lattice (ops/composite's distortion), and what weights learn from it.

    Returns:
        [] the sum over rays that count [R] bool; and `scale` times its gradient by weights [S].
    """
    places = samples.ray_starts, samples.ray_counts
    along = weights, *(space.lattice_at(t) / space.lattice_length for t in (samples.t_starts, samples.t_ends)), places
    return (spreads_of(*along) * counts).sum(), pull_of_spreads(*along, scale * counts)


def show_and_learn(passed: Passed, samples: Samples, background: Tensor, truth: Tensor, costs: Tensor, counts: Tensor,
                   scale: float, huber: float, d_weights: Tensor | None = None
                   ) -> tuple[Tensor, Tensor, Tensor, tuple[Tensor, Tensor]]:
    """What pixels show, how far that is from the photos, and what samples learn from it, in one launch.

    Rays are as many as pixels, or a multiple: those of a pixel are neighbours, and it shows their mean.

    Args:
        background, truth, counts: [R, 3], [R, 3], [R] bool: as training/losses.py has them.
        costs: [R] what the opacity of a pixel adds to the loss, by itself.
        scale: what gradients are multiplied with.
        huber: error beyond which it counts linearly.
        d_weights: [S] what else pulls at weights, so multiplied.

    Returns:
        [3] loss, squared error and number of the pixels that count, each summed over them; [R] squared errors, 0 for the others;
        int32, of each ray, how many samples the light reaches; and the gradients of the loss's sum that `FieldKernels.backward`
        takes.
    """
    n_pixels, n_rays, device = len(truth), len(samples.ray_starts), truth.device
    weights, d_raw, d_rgb = torch.zeros_like(passed.density), torch.zeros_like(passed.density), torch.zeros_like(passed.rgb)
    totals, squares = torch.zeros(3, device=device), torch.zeros(n_pixels, device=device)
    lit = torch.zeros(n_rays, dtype=torch.int32, device=device)
    show_and_compare[(blocks(n_pixels, RAYS),)](
        passed.density, samples.t_starts, samples.t_ends, passed.rgb, samples.ray_starts, samples.ray_counts, n_pixels,
        background, truth, costs, counts.view(torch.uint8), scale, weights, weights if d_weights is None else d_weights, d_raw,
        d_rgb, lit, squares, totals, HUBER=huber, HAS_WEIGHTS=d_weights is not None, EACH=n_rays // max(n_pixels, 1), PIXELS=RAYS,
        CHUNK=CHUNK, num_warps=WARPS, maxnreg=REGISTERS)
    return totals, squares, lit, (d_raw, d_rgb)


class _See(torch.autograd.Function):
    @staticmethod
    def forward(ctx, rays: tuple[Tensor, Tensor], samples: Samples, space: Space, field: HashGridNets, table: Tensor,
                *matrices: Tensor) -> tuple[Tensor, Tensor]:
        n_rays, n, device = len(rays[0]), len(samples.t_starts), table.device
        kernels = FieldKernels(field, plain(table), False)
        passed = kernels.forward(*map(plain, rays), samples, space, samples.ray_counts.sum(dtype=torch.int32))
        sums, weights = torch.zeros(n_rays, SUMS, device=device), torch.zeros(n, device=device)
        lit = torch.zeros(n_rays, dtype=torch.int32, device=device)
        along = passed.density, samples.t_starts, samples.t_ends, passed.rgb, samples.ray_starts, samples.ray_counts
        show_forward[(blocks(n_rays, RAYS),)](*along, n_rays, weights, sums, lit, RAYS=RAYS, CHUNK=CHUNK, num_warps=WARPS)
        ctx.kernels, ctx.passed, ctx.along, ctx.lit, ctx.table = kernels, passed, along, lit, table
        ctx.set_materialize_grads(False)
        return sums, weights

    @staticmethod
    def backward(ctx, d_sums: Tensor | None, d_weights: Tensor | None) -> tuple[Tensor | None, ...]:
        kernels, passed, lit, table = ctx.kernels, ctx.passed, ctx.lit, ctx.table
        d_sums = torch.zeros(len(lit), SUMS, device=lit.device) if d_sums is None else plain(d_sums)
        d_raw, d_rgb = torch.zeros_like(passed.density), torch.zeros_like(passed.rgb)
        show_backward[(blocks(len(lit), RAYS),)](
            *ctx.along, len(lit), d_sums, passed.density if d_weights is None else plain(d_weights), d_raw, d_rgb,
            HAS_WEIGHTS=d_weights is not None, RAYS=RAYS, CHUNK=CHUNK, num_warps=WARPS)
        index, count = lit_samples(ctx.along[4], lit, len(d_raw))
        d_matrices = [torch.zeros_like(matrix) for matrix in kernels.matrices]
        is_sink, d_table = table.is_leaf and table.grad is not None, None
        if ctx.needs_input_grad[4]:  # a leaf's own gradient is added to in place, as ops/hashgrid does
            d_table = table.grad if is_sink else torch.zeros_like(kernels.table)
        kernels.backward(passed, index, count, (d_raw, d_rgb), d_table, d_matrices)
        return None, None, None, None, None if is_sink else d_table, *d_matrices


@dataclass(frozen=True)
class Some:
    """Samples of any rays, in any order: all that is needed of them before compositing."""

    t_starts: Tensor
    t_ends: Tensor
    ray_indices: Tensor


def see_until_dark(origins: Tensor, directions: Tensor, samples: Samples, space: Space,
                   field: HashGridNets) -> tuple[Tensor, Tensor]:
    """What `see` gives, without a way back: of samples in the dark, which count for nothing, the field is not asked."""
    rays, n_rays, device = samples.ray_indices, len(origins), origins.device
    kernels = FieldKernels(field, plain(field.table), False)
    density, rgb = torch.zeros_like(samples.t_starts), torch.zeros(len(rays), 3, device=device)
    ahead = torch.zeros(n_rays + 1, device=device)  # [R + 1] optical depth so far; the last one is that of unused entries
    ahead[n_rays] = torch.inf
    numbers = torch.arange(len(rays), device=device) - torch.nn.functional.pad(samples.ray_starts, (0, 1))[rays]  # [S] on its ray
    begin, end, longest = 0, FIRST_LOOK, int(samples.ray_counts.max()) if n_rays else 0
    while begin < longest:
        due = ((numbers >= begin) & (numbers < end) & (ahead < GONE)[rays]).nonzero()[:, 0]
        some = Some(samples.t_starts[due], samples.t_ends[due], rays[due])
        passed = kernels.forward(origins, directions, some, space, torch.full((), len(due), dtype=torch.int32, device=device))
        density[due], rgb[due] = passed.density, passed.rgb
        ahead.index_add_(0, some.ray_indices, (passed.density * (some.t_ends - some.t_starts)).clamp(max=OPAQUE))
        begin, end = end, 3 * end - 2 * begin
    sums, weights = torch.zeros(n_rays, SUMS, device=device), torch.zeros_like(density)
    show_forward[(blocks(n_rays, RAYS),)](
        density, samples.t_starts, samples.t_ends, rgb, samples.ray_starts, samples.ray_counts, n_rays, weights, sums,
        torch.zeros(n_rays, dtype=torch.int32, device=device), RAYS=RAYS, CHUNK=CHUNK, num_warps=WARPS)
    return sums, weights


def see(origins: Tensor, directions: Tensor, samples: Samples, space: Space, field: HashGridNets,
        least_light: float = 0.0) -> tuple[Tensor, Tensor]:
    """[R, C + 2] sums over each ray, [S] weights; see the contract."""
    check_shapes("origins [R,3], directions [R,3], t_starts [S], t_ends [S], ray_starts [R], ray_counts [R]", origins=origins,
                 directions=directions, t_starts=samples.t_starts, t_ends=samples.t_ends, ray_starts=samples.ray_starts,
                 ray_counts=samples.ray_counts)
    if not torch.is_grad_enabled() and fits(field, WIDE):
        return see_until_dark(plain(origins), plain(directions), samples, space, field)
    if not fits(field, NARROW):
        return see_by(SMALL_OPS, origins, directions, samples, space, field)
    return _See.apply((origins, directions), samples, space, field, field.table, *field.density, *field.colour)
