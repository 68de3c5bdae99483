"""Rasterising by the C++ kernel."""

import torch
from torch import Tensor

from nerf_app.ops.native import call, indices, plain
from nerf_app.ops.raster import Raster, check_faces
from nerf_app.ops.shapes import check_shapes


def rasterise(corners: Tensor, faces: Tensor, height: int, width: int) -> Raster:
    """The nearest face at every pixel's centre; shapes and units in the contract."""
    check_shapes("corners [V,3], faces [F,3]", corners=corners, faces=faces)
    corners, faces = plain(corners), indices(faces.long())
    check_faces(faces, len(corners))
    raster = Raster(torch.empty(height, width, dtype=torch.int32), torch.empty(height, width, 3), torch.empty(height, width))
    rows = torch.empty(2, len(faces), dtype=torch.int32)
    call("raster_rows", corners, faces, len(faces), height, rows)
    call("raster_draw", corners, faces, len(faces), rows, height, width, raster.face_indices, raster.barycentrics, raster.depth)
    return raster
