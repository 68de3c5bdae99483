"""Photos that can be computed of a place full of detail: the corner of a room with three papered walls."""

from pathlib import Path

import numpy as np
from PIL import Image

from tests.sphere import look_at

WIDTH, HEIGHT, FOCAL_PX = 320, 240, 290.0
TEXELS = 300  # along one unit of a wall
TARGET = np.array([0.5, 0.5, 0.5])


def wallpaper(seed: int) -> np.ndarray:
    """[1200, 1200] of blots of all sizes, 0...255."""
    rng, total = np.random.default_rng(seed), np.zeros((1200, 1200))
    for cell in (4, 10, 30, 100):
        total += rng.random((1200 // cell, 1200 // cell)).repeat(cell, 0).repeat(cell, 1) * cell**0.3
    return 255 * (total - total.min()) / np.ptp(total)


WALLS = [wallpaper(axis) for axis in range(3)]


def poses(count: int) -> np.ndarray:
    """[V, 4, 4] along an arc before the corner, each looking there."""
    eyes = [TARGET + 2.6 * np.array([np.cos(a), np.sin(a), 0.45 + 0.25 * np.sin(3 * a)]) for a in np.linspace(0.35, 1.2, count)]
    return np.array([look_at(eye, TARGET) for eye in eyes])


def photograph(pose: np.ndarray, samples: int = 2, focal_px: float = FOCAL_PX) -> np.ndarray:
    """[H, W, 3] uint8."""
    places = (np.arange(samples) + 0.5) / samples
    x = (np.arange(WIDTH)[:, None] + places).ravel() - WIDTH / 2
    y = HEIGHT / 2 - (np.arange(HEIGHT)[:, None] + places).ravel()
    inside = np.stack(np.broadcast_arrays(x / focal_px, (y / focal_px)[:, None], -1.0), -1)  # [sH, sW, 3]
    directions = inside @ pose[:3, :3].T
    away = np.where(directions < 0.0, -pose[:3, 3] / np.minimum(directions, -1e-9), np.inf)  # [sH, sW, 3] to each wall
    hit = away.argmin(-1)
    points = pose[:3, 3] + away.min(-1)[..., None] * directions
    grey = np.zeros(hit.shape)
    for axis, wall in enumerate(WALLS):
        u, v = np.clip(np.delete(points[hit == axis], axis, 1).T * TEXELS, 0, 1199).astype(int)
        grey[hit == axis] = wall[u, v]
    grey = grey.reshape(HEIGHT, samples, WIDTH, samples).mean((1, 3))
    return np.stack([grey, 0.9 * grey, 0.8 * grey], -1).astype(np.uint8)


def write_photos(folder: Path, count: int, names: list[str] | None = None) -> np.ndarray:
    """The photos as JPEG files in the folder, under these names or numbers; their poses."""
    folder.mkdir()
    truth = poses(count)
    for number, pose in enumerate(truth):
        Image.fromarray(photograph(pose)).save(folder / (names[number] if names else f"{number:02}.jpg"), "JPEG", quality=95)
    return truth
