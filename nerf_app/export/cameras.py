"""Cameras as other programs read them: a transforms.json of nerfstudio's flavour, and a COLMAP model."""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from nerf_app.errors import DataError, UsageError
from nerf_app.scene.colmap_writing import write_colmap
from nerf_app.scene.paths import shown
from nerf_app.scene.scene import View
from nerf_app.scene.transforms_words import write_transforms

if TYPE_CHECKING:
    from nerf_app.run import Run


def write_cameras(run: "Run", out: Path, frame: str = "input") -> tuple[list[Path], list[str]]:
    """`out`/transforms.json and `out`/sparse/0: their paths, and a note for a format that has no words for these lenses.

    Photos keep their names relative to the scene's folder: there the files belong, and from there any program reads them.

    Args:
        frame: "input" or "original", the coordinates before nerfstudio's import (its applied_transform undone).
    """
    if frame not in ("input", "original"):
        raise UsageError(f"--frame must be input or original, got {shown(frame)}")
    applied = run.header.applied_transform
    views: Sequence[View] = run.views
    if frame == "original" and applied is not None:
        views, applied = in_original_frame(views, np.array(applied)), None
    writers = {out / "transforms.json": lambda path: write_transforms(views, path, applied),
               out / "sparse/0": lambda path: write_colmap(views, path)}
    written, notes = [], []
    for path, write in writers.items():
        try:
            write(path)
            written.append(path)
        except DataError as error:
            notes.append(f"{path.relative_to(out)} is not written: {error}")
    if not written:
        raise DataError(" ".join(notes))
    return written, notes


def in_original_frame(views: Sequence[View], applied_transform: np.ndarray) -> list[View]:
    """The views with the [3, 4] map from original to input coordinates undone."""
    linear, shift = applied_transform[:, :3], applied_transform[:, 3]
    scale = math.cbrt(np.linalg.det(linear))
    if scale <= 0.0 or np.abs(linear @ linear.T / scale**2 - np.eye(3)).max() > 1e-6:
        raise DataError("the scene's applied_transform must be a rotation, a scale and a shift for cameras to follow it back, "
                        "it mirrors or stretches: use --frame input.")
    originals = []
    for view in views:
        pose = view.world_from_camera.copy()
        pose[:3, :3] = linear.T @ pose[:3, :3] / scale
        pose[:3, 3] = linear.T @ (pose[:3, 3] - shift) / scale**2
        originals.append(replace(view, world_from_camera=pose))
    return originals
