"""Straightening in plain torch: all rays at once, and those that are not there yet once more."""

import torch
from torch import Tensor

from nerf_app.ops.lens import NEWTON_STEPS, TOLERANCE_PX
from nerf_app.ops.shapes import check_shapes


@torch.no_grad()
def straighten(picture: Tensor, guess: Tensor, cameras: Tensor, coefficients: Tensor, focal_px: Tensor,
               valid_radius: Tensor) -> tuple[Tensor, Tensor]:
    """Picture [R, 2] -> base [R, 2], is_found [R]; shapes in the contract."""
    check_shapes("picture [R,2], guess [R,2], cameras [R], coefficients [13,V], focal_px [V,2], valid_radius [V]",
                 picture=picture, guess=guess, cameras=cameras, coefficients=coefficients, focal_px=focal_px,
                 valid_radius=valid_radius)
    base, is_found = guess.clone(), torch.zeros(len(guess), dtype=torch.bool, device=guess.device)
    todo = torch.arange(len(base), device=base.device)
    for _ in range(NEWTON_STEPS):
        lens = cameras[todo]
        bent, jacobian = bend(coefficients[:, lens], base[todo])
        miss = picture[todo] - bent
        is_near = (miss * focal_px[lens]).abs().amax(1) <= TOLERANCE_PX
        is_found[todo[is_near]] = is_within(base[todo], jacobian, valid_radius[lens])[is_near]
        base[todo] += _solve(jacobian, miss)  # the last step, from a near one, reaches rounding
        todo = todo[~is_near & base[todo].isfinite().all(1)]
        if len(todo) == 0:
            break
    return torch.where(is_found[:, None], base, 0.0), is_found


def bend(coefficients: Tensor, base: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Coefficients [13, R], base [R, 2] -> picture [R, 2] and the derivatives dx/da, dx/db, dy/da, dy/db, each [R]."""
    k1, k2, k3, k4, d1, d2, d3, p1, p2, s1, s2, s3, s4 = coefficients
    a, b = base.unbind(1)
    s = a * a + b * b
    below = 1 + s * (d1 + s * (d2 + s * d3))
    factor = (1 + s * (k1 + s * (k2 + s * (k3 + s * k4)))) / below
    slope = (k1 + s * (2 * k2 + s * (3 * k3 + s * 4 * k4)) - factor * (d1 + s * (2 * d2 + s * 3 * d3))) / below  # by s
    x = a * factor + 2 * p1 * a * b + p2 * (s + 2 * a * a) + s * (s1 + s * s2)
    y = b * factor + 2 * p2 * a * b + p1 * (s + 2 * b * b) + s * (s3 + s * s4)
    shared = 2 * (a * b * slope + p1 * a + p2 * b)
    prism_x, prism_y = 2 * (s1 + 2 * s * s2), 2 * (s3 + 2 * s * s4)  # by s, doubled
    jacobian = (factor + 2 * a * a * slope + 2 * p1 * b + 6 * p2 * a + prism_x * a, shared + prism_x * b,
                shared + prism_y * a, factor + 2 * b * b * slope + 2 * p2 * a + 6 * p1 * b + prism_y * b)
    return torch.stack([x, y], 1), jacobian


def is_within(base: Tensor, jacobian: tuple[Tensor, ...], valid_radius: Tensor) -> Tensor:
    """Whether base points [R, 2] lie where the lens, valid up to a radius [R], is one to one: [R] bool."""
    xa, xb, ya, yb = jacobian
    return (torch.linalg.vector_norm(base, dim=1) <= valid_radius) & (xa * yb - xb * ya > 0)


def _solve(jacobian: tuple[Tensor, ...], miss: Tensor) -> Tensor:
    """The 2 × 2 systems' solutions: [R, 2]; not finite where there is none."""
    xa, xb, ya, yb = jacobian
    x, y = miss.unbind(1)
    return torch.stack([yb * x - xb * y, xa * y - ya * x], 1) / (xa * yb - xb * ya)[:, None]
