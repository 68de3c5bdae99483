"""Which triangle each pixel sees: a z-buffer.

    rasterise(corners, faces, height, width) -> Raster

        corners        [V, 3] float32: column and row in pixels from the picture's corner (a pixel's centre is at + 0.5), depth
        faces          [F, 3] int32 or int64, rows of `corners`; seen from both sides
        height, width  pixels, not negative

A pixel belongs to the face that covers its centre with the least depth (float32); of equals, to the first. Depth is a z-depth
or anything else whose inverse grows evenly over the picture; in a texture's plane it is 1 everywhere.

Corners are first rounded to 1/4096 pixel. A pixel centre on an edge belongs to the face that goes on to the right of it (of a
level edge: below it), so of two neighbours exactly one has it, and of a fan around a centre exactly one face: exact where
corners lie within 8192 pixels of the picture's corner. Farther out neighbours still agree about their edge, and only where
a centre all but touches a corner rounding may decide.

Left out are faces without area and those with a corner that is not finite or whose depth is not above zero: nothing is
clipped. Nothing here has a gradient.
"""

from dataclasses import dataclass
from importlib import import_module

from torch import Tensor

SUBPIXELS = 4096  # steps of a corner's place to a pixel: two float64 products of lengths up to 2^13 pixels are exact


@dataclass(frozen=True)
class Raster:
    """What every pixel sees."""

    face_indices: Tensor  # [H, W] int32, -1 where nothing is
    barycentrics: Tensor  # [H, W, 3] float32, shares of the face's corners in space, not in the picture; 0 where nothing is
    depth: Tensor  # [H, W] float32, infinite where nothing is


def check_faces(faces: Tensor, n_corners: int) -> None:
    """Raises IndexError where a face names a corner that is not there: a kernel would read whatever lies behind."""
    if faces.numel() and not 0 <= int(faces.min()) <= int(faces.max()) < n_corners:
        raise IndexError(f"faces must hold 0 to {n_corners - 1}, the rows of corners; got {int(faces.min())} to "
                         f"{int(faces.max())}")


IMPLEMENTATIONS = {
    "reference": lambda: import_module(f"{__name__}.reference"),
    "cpp": lambda: import_module(f"{__name__}.cpp"),
}
