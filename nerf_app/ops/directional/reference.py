"""The integrated directional encoding in plain torch, by the recurrences of the associated Legendre polynomials."""

import math

import torch
from torch import Tensor

from nerf_app.ops.directional import BANDS
from nerf_app.ops.shapes import check_shapes


def encode(directions: Tensor, spread: Tensor) -> Tensor:
    """[N, 3] unit vectors, [N] -> [N, WIDTH]."""
    check_shapes("directions [N,3], spread [N]", directions=directions, spread=spread)
    x, y, z = directions.unbind(1)
    found = {}  # (band, m) -> real and imaginary part, [N] each
    real, imaginary = torch.ones_like(x), torch.zeros_like(x)  # (x + iy)^m
    for m in range(BANDS[-1] + 1):
        for band, polynomial in _polynomials(z, m).items():
            found[band, m] = polynomial * real, polynomial * imaginary
        real, imaginary = real * x - imaginary * y, real * y + imaginary * x
    kept = {band: torch.exp(-0.5 * band * (band + 1) * spread) for band in BANDS}
    return torch.stack([kept[band] * found[band, m][part] for part in range(2) for band in BANDS for m in range(band + 1)], 1)


def _polynomials(z: Tensor, m: int) -> dict[int, Tensor]:
    """Of each band from m on, K_lm P_l^m(z) / sin^m: [N]."""
    before, here, found = torch.zeros_like(z), torch.full_like(z, start(m)), {}
    for band in range(m, BANDS[-1] + 1):
        if band in BANDS:
            found[band] = here
        up, back = steps(band, m)
        before, here = here, up * z * here - back * before
    return found


def start(m: int) -> float:
    """K_mm P_m^m / sin^m, the first of its row."""
    return (-1) ** m * math.sqrt((2 * m + 1) / (4 * math.pi) * math.prod((2 * k - 1) / (2 * k) for k in range(1, m + 1)))


def steps(band: int, m: int) -> tuple[float, float]:
    """How the next band's polynomial comes from this one's times z, and from the one before."""
    up = math.sqrt((2 * band + 1) * (2 * band + 3) / ((band + 1) ** 2 - m**2))
    back = math.sqrt((2 * band + 3) * (band**2 - m**2) / ((2 * band - 1) * ((band + 1) ** 2 - m**2))) if band else 0.0
    return up, back
