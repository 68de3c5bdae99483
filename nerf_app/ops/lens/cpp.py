"""Straightening by the C++ kernel."""

import torch
from torch import Tensor

from nerf_app.ops import native
from nerf_app.ops.shapes import check_shapes


def straighten(picture: Tensor, guess: Tensor, cameras: Tensor, coefficients: Tensor, focal_px: Tensor,
               valid_radius: Tensor) -> tuple[Tensor, Tensor]:
    """Picture [R, 2] -> base [R, 2], is_found [R]; shapes in the contract."""
    check_shapes("picture [R,2], guess [R,2], cameras [R], coefficients [13,V], focal_px [V,2], valid_radius [V]",
                 picture=picture, guess=guess, cameras=cameras, coefficients=coefficients, focal_px=focal_px,
                 valid_radius=valid_radius)
    base, is_found = torch.empty(len(picture), 2, dtype=torch.float64), torch.empty(len(picture), dtype=torch.bool)
    doubles = [native.plain(values, torch.float64) for values in (picture, guess, coefficients, focal_px, valid_radius)]
    native.call("straighten", *doubles[:2], native.indices(cameras), *doubles[2:], len(picture), len(valid_radius), base,
                is_found)
    return base, is_found
