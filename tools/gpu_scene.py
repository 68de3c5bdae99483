"""Reads a plain Blender set with numpy and Pillow alone, for machines that lack what scene/ needs to read everything."""

import json
import math
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from nerf_app.scene.camera import Camera
from nerf_app.scene.images import Photos
from nerf_app.scene.scene import SPLITS, Normalisation, Scene, View

HALF = 1.5  # of the cube that Blender's sets lie in, in their units
FEW = 3  # photos of each split, where the pictures are made small


def read_blender(folder: Path, size: int | None) -> Scene:
    """All three splits, every photo in memory.

    Args:
        size: pixels a side, for a run that proves nothing but that it goes through; None: as they are, and all photos.
    """
    views, pixels = [], []
    for split in SPLITS:
        file = folder / f"transforms_{split}.json"
        if not file.is_file():
            continue
        stated = json.loads(file.read_text(encoding="utf-8"))
        for frame in stated["frames"][:None if size is None else FEW]:
            name = str(Path(frame["file_path"]).with_suffix(".png"))
            with Image.open(folder / name) as image:
                rgba = image.convert("RGBA") if size is None else image.convert("RGBA").resize((size, size))
            focal = 0.5 * rgba.width / math.tan(0.5 * stated["camera_angle_x"])
            camera = Camera(rgba.width, rgba.height, focal, focal, rgba.width / 2, rgba.height / 2)
            views.append(View(name, camera, np.array(frame["transform_matrix"], np.float64), split))
            pixels.append(np.asarray(rgba).reshape(-1, 4))
    counts = torch.tensor([len(part) for part in pixels])
    photos = Photos((), torch.from_numpy(np.concatenate(pixels)), None, counts.cumsum(0) - counts,
                    torch.tensor([view.camera.width for view in views]), torch.tensor([view.camera.height for view in views]), "")
    return Scene(folder, folder, "blender", tuple(views), photos, Normalisation(np.zeros(3), 1.0 / HALF), True,
                 np.array([0.0, 0.0, 1.0]), None, None, (), ())
