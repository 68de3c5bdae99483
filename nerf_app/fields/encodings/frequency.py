"""Sines and cosines of a position: NeRF's octaves, and random directions (Fourier features)."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Frequency:
    """x, then sin(2^k x) and cos(2^k x) for k < octaves (NeRF, Eq. 4; without its factor π, as NeRF's own code has it)."""

    dimensions: int
    octaves: int

    @property
    def width(self) -> int:
        """Numbers per point."""
        return self.dimensions * (1 + 2 * self.octaves)

    def __call__(self, x: Tensor) -> Tensor:
        """[N, d], usually in [-1, 1] -> [N, width]."""
        scales = 2.0 ** torch.arange(self.octaves, dtype=x.dtype, device=x.device)
        angles = (x[:, None, :] * scales[:, None]).flatten(1)
        return torch.cat([x, torch.sin(angles), torch.cos(angles)], 1)


@dataclass(frozen=True)
class GaussianFourier:
    """sin(2π B x) and cos(2π B x), the entries of B normal with deviation sigma (Tancik et al. 2020, §5)."""

    directions: Tensor  # [m, d]: B

    @classmethod
    def random(cls, dimensions: int, features: int, sigma: float, seed: int) -> "GaussianFourier":
        """B drawn from a seed: the same on every machine."""
        generator = torch.Generator().manual_seed(seed)
        return cls(sigma * torch.randn(features, dimensions, generator=generator))

    @property
    def width(self) -> int:
        """Numbers per point."""
        return 2 * self.directions.shape[0]

    def __call__(self, x: Tensor) -> Tensor:
        """[N, d] -> [N, width]."""
        angles = 2.0 * math.pi * x @ self.directions.to(x).T
        return torch.cat([torch.sin(angles), torch.cos(angles)], 1)
