"""PHOTOS THROUGH ANY LENSES → PHOTOS THROUGH ONE PINHOLE, for formats that know no other camera.

Poses stay what they are: each photo is drawn anew on the plane in front of its own camera.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from nerf_app.scene.camera import Camera
from nerf_app.scene.lenses import CameraBatch

WIDEST = 3.0**0.5  # half the width of the plane at distance 1 that is drawn at most: 120°
EDGE = 33  # places along an edge at which it is asked whether a photo shows them
HALVINGS = 30
FEWEST_PX = 8  # along an edge
ROWS = 256  # at a time


def common_pinhole(cameras: Sequence[Camera]) -> Camera | None:
    """The largest one that sees nothing but what each of the cameras sees, of the middle one's shape and as fine as it; None
    where they see too little in common, straight ahead."""
    focal = float(np.median([camera.focal_x_px for camera in cameras]))
    slope = float(np.median([camera.height / camera.width for camera in cameras]))
    different = list(dict.fromkeys(cameras))
    batch, steps = CameraBatch.from_cameras(different), torch.linspace(-1.0, 1.0, EDGE, dtype=torch.float64)
    y, x = (part.reshape(-1) for part in torch.meshgrid(steps, steps, indexing="ij"))
    low, high = 0.0, WIDEST
    for _ in range(HALVINGS):
        half = (low + high) / 2
        places = torch.stack([half * x, half * slope * y, -torch.ones_like(x)], 1).repeat(len(different), 1)
        is_seen = batch.project(torch.arange(len(different)).repeat_interleave(EDGE**2), places)[2]
        low, high = (half, high) if is_seen.all() else (low, half)
    width, height = 2 * int(low * focal + 1e-6), 2 * int(low * slope * focal + 1e-6)  # halving ends just below
    return None if min(width, height) < FEWEST_PX else Camera(width, height, focal, focal, width / 2, height / 2)


def part_seen(pinhole: Camera, cameras: Sequence[Camera]) -> float:
    """Part of the cameras' pixels that the pinhole sees too, the mean over all."""
    batch, narrow = CameraBatch.from_cameras(cameras), CameraBatch.from_cameras([pinhole])
    steps = (torch.arange(EDGE, dtype=torch.float64) + 0.5) / EDGE
    y, x = (part.reshape(-1).repeat(len(cameras)) for part in torch.meshgrid(steps, steps, indexing="ij"))
    which = torch.arange(len(cameras)).repeat_interleave(EDGE**2)
    directions, is_valid = batch.directions(which, x * batch.size_px[which, 0], y * batch.size_px[which, 1])
    return float((narrow.project(torch.zeros_like(which), directions)[2] & is_valid).double().mean())


def straightened(pixels: np.ndarray, camera: Camera, pinhole: Camera) -> np.ndarray:
    """What the pinhole shows of a photo, between pixels linearly: uint8 [H, W, 3 | 4], straight alpha -> [h, w, 3 | 4]."""
    values = torch.from_numpy(pixels).float().permute(2, 0, 1)[None]  # [1, C, H, W]
    if values.shape[1] == 4:
        values = torch.cat([values[:, :3] * values[:, 3:] / 255.0, values[:, 3:]], 1)
    bands = [_band(values, camera, pinhole, row, min(row + ROWS, pinhole.height)) for row in range(0, pinhole.height, ROWS)]
    drawn = torch.cat(bands, 1)  # [C, h, w]
    if len(drawn) == 4:
        drawn = torch.cat([255.0 * drawn[:3] / drawn[3:].clamp(min=1e-3), drawn[3:]])
    return drawn.permute(1, 2, 0).round().clamp(0, 255).byte().numpy()


def _band(values: Tensor, camera: Camera, pinhole: Camera, first: int, end: int) -> Tensor:
    """Some rows: [1, C, H, W] -> [C, end - first, w]."""
    rows, columns = torch.meshgrid(torch.arange(first, end), torch.arange(pinhole.width), indexing="ij")
    which = torch.zeros(rows.numel(), dtype=torch.int64)
    ahead = CameraBatch.from_cameras([pinhole]).directions(which, columns.reshape(-1) + 0.5, rows.reshape(-1) + 0.5)[0]
    x, y, _ = CameraBatch.from_cameras([camera]).project(which, ahead)
    places = torch.stack([2.0 * x / camera.width - 1.0, 2.0 * y / camera.height - 1.0], 1).float()
    return torch.nn.functional.grid_sample(values, places.view(1, *rows.shape, 2), padding_mode="border", align_corners=False)[0]
