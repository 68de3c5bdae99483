"""Straightening by Triton: a program stays with its rays until all are there, so that nobody on the host need ask."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from nerf_app.ops.gpu import WARPS, blocks, plain
from nerf_app.ops.lens import NEWTON_STEPS, TOLERANCE_PX
from nerf_app.ops.shapes import check_shapes

BLOCK = 128  # rays


@triton.jit
def _lens(coefficients_ptr, cameras, n_cameras, inside, first: tl.constexpr):
    """Two coefficients of each ray's lens, from number `first` on."""
    at = coefficients_ptr + first * n_cameras + cameras
    return tl.load(at, mask=inside, other=0.0), tl.load(at + n_cameras, mask=inside, other=0.0)


@triton.jit(do_not_specialize=["n", "n_cameras"])
def straighten_kernel(picture_ptr, guess_ptr, cameras_ptr, coefficients_ptr, focal_ptr, radius_ptr, n, n_cameras, base_ptr,
                      is_found_ptr, STEPS: tl.constexpr, TOLERANCE: tl.constexpr, BLOCK: tl.constexpr):
    """Base coordinates [R, 2], and whether they were found [R]; see reference.py for the formulas."""
    rays = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = rays < n
    cameras = tl.load(cameras_ptr + rays, mask=inside, other=0)
    k1, k2 = _lens(coefficients_ptr, cameras, n_cameras, inside, 0)
    k3, k4 = _lens(coefficients_ptr, cameras, n_cameras, inside, 2)
    d1, d2 = _lens(coefficients_ptr, cameras, n_cameras, inside, 4)
    d3, p1 = _lens(coefficients_ptr, cameras, n_cameras, inside, 6)
    p2, s1 = _lens(coefficients_ptr, cameras, n_cameras, inside, 8)
    s2, s3 = _lens(coefficients_ptr, cameras, n_cameras, inside, 10)
    s4 = tl.load(coefficients_ptr + 12 * n_cameras + cameras, mask=inside, other=0.0)
    focal_x, focal_y = (tl.load(focal_ptr + 2 * cameras, mask=inside, other=1.0),
                        tl.load(focal_ptr + 2 * cameras + 1, mask=inside, other=1.0))
    radius = tl.load(radius_ptr + cameras, mask=inside, other=0.0)
    at = rays.to(tl.int64) * 2
    wanted_x, wanted_y = tl.load(picture_ptr + at, mask=inside, other=0.0), tl.load(picture_ptr + at + 1, mask=inside, other=0.0)
    a, b = tl.load(guess_ptr + at, mask=inside, other=0.0), tl.load(guess_ptr + at + 1, mask=inside, other=0.0)
    is_there, todo, step = inside & False, inside, 0
    while (step < STEPS) & (tl.max(todo.to(tl.int32), 0) > 0):
        s = a * a + b * b
        below = 1.0 + s * (d1 + s * (d2 + s * d3))
        factor = (1.0 + s * (k1 + s * (k2 + s * (k3 + s * k4)))) / below
        slope = (k1 + s * (2.0 * k2 + s * (3.0 * k3 + s * 4.0 * k4)) - factor * (d1 + s * (2.0 * d2 + s * 3.0 * d3))) / below
        x = wanted_x - (a * factor + 2.0 * p1 * a * b + p2 * (s + 2.0 * a * a) + s * (s1 + s * s2))
        y = wanted_y - (b * factor + 2.0 * p2 * a * b + p1 * (s + 2.0 * b * b) + s * (s3 + s * s4))
        shared = 2.0 * (a * b * slope + p1 * a + p2 * b)
        prism_x, prism_y = 2.0 * (s1 + 2.0 * s * s2), 2.0 * (s3 + 2.0 * s * s4)
        xa = factor + 2.0 * a * a * slope + 2.0 * p1 * b + 6.0 * p2 * a + prism_x * a
        yb = factor + 2.0 * b * b * slope + 2.0 * p2 * a + 6.0 * p1 * b + prism_y * b
        xb, ya = shared + prism_x * b, shared + prism_y * a
        area = xa * yb - xb * ya
        is_near = (tl.abs(x * focal_x) <= TOLERANCE) & (tl.abs(y * focal_y) <= TOLERANCE)
        is_there = is_there | (todo & is_near & (s <= radius * radius) & (area > 0.0))
        there_a, there_b = a + (yb * x - xb * y) / area, b + (xa * y - ya * x) / area  # the last step reaches rounding
        is_finite = (tl.abs(there_a) < float("inf")) & (tl.abs(there_b) < float("inf"))
        a, b = tl.where(todo & is_finite, there_a, a), tl.where(todo & is_finite, there_b, b)
        todo = todo & ~is_near & is_finite
        step += 1
    tl.store(base_ptr + at, tl.where(is_there, a, 0.0), mask=inside)
    tl.store(base_ptr + at + 1, tl.where(is_there, b, 0.0), mask=inside)
    tl.store(is_found_ptr + rays, is_there.to(tl.uint8), mask=inside)


def straighten(picture: Tensor, guess: Tensor, cameras: Tensor, coefficients: Tensor, focal_px: Tensor,
               valid_radius: Tensor) -> tuple[Tensor, Tensor]:
    """Picture [R, 2] -> base [R, 2], is_found [R]; shapes in the contract."""
    check_shapes("picture [R,2], guess [R,2], cameras [R], coefficients [13,V], focal_px [V,2], valid_radius [V]",
                 picture=picture, guess=guess, cameras=cameras, coefficients=coefficients, focal_px=focal_px,
                 valid_radius=valid_radius)
    n, device = len(picture), picture.device
    base, is_found = torch.zeros(n, 2, dtype=torch.float64, device=device), torch.zeros(n, dtype=torch.bool, device=device)
    doubles = [plain(values, torch.float64) for values in (picture, guess, coefficients, focal_px, valid_radius)]
    straighten_kernel[(blocks(n, BLOCK),)](*doubles[:2], plain(cameras, torch.int64), *doubles[2:], n, len(valid_radius), base,
                                           is_found.view(torch.uint8), STEPS=NEWTON_STEPS, TOLERANCE=TOLERANCE_PX, BLOCK=BLOCK,
                                           num_warps=WARPS)
    return base, is_found
