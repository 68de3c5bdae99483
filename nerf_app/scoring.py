"""PHOTO, FIELD → SCORES: of the whole photo or, where it is large and time is short, of windows spread over it.

A window shows pixels as they are: its scores are those of the photo at full size, estimated from a part of it.
"""

import math
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from nerf_app.picture import Window
from nerf_app.scene.camera import Camera
from nerf_app.scene.scene import View
from nerf_app.training.metrics import mean_of_known, psnr, ssim
from nerf_app.training.validation import on_white

if TYPE_CHECKING:
    from nerf_app.run import Run

FEWEST_SCORED = 3  # photos, however short the time
SIDE = 192  # pixels of a window
FEWEST_WINDOWS = 8  # of a photo
LOOKED_AT = {"cpu": 128, "cuda": 512}  # pixels of the small picture by which the time of a large one is known
STRIDES = (0.7548776662466927, 0.5698402909980532)  # multiples of them fill a square evenly (Roberts 2018)


def windows_each(run: "Run", views: Sequence[View], seconds: float) -> int | None:
    """How many windows of each photo can be scored, of at least three photos; None where so many whole ones can be."""
    small = views[0].camera.within(LOOKED_AT[run.backend.device.type])
    for _ in range(2):  # the first time kernels are loaded
        begin = time.monotonic()
        run.render(small, views[0].world_from_camera, with_depths=False)
    most = seconds * small.width * small.height / (time.monotonic() - begin)  # pixels
    pixels = [view.camera.width * view.camera.height for view in views]
    fewest = min(FEWEST_SCORED, len(views))
    if fewest * max(pixels) <= most:
        return None
    n_photos = min(max(fewest, int(most / (FEWEST_WINDOWS * SIDE**2))), len(views))
    return max(FEWEST_WINDOWS, int(most / (n_photos * SIDE**2)))


def windows_of(camera: Camera, count: int | None) -> list[Window]:
    """So many different windows, evenly spread; the whole picture for None."""
    columns, rows = camera.width // SIDE, camera.height // SIDE
    if count is None or count >= columns * rows:
        return [Window(0, 0, camera.width, camera.height)]
    cells: dict[tuple[int, int], None] = {}
    number = 0
    while len(cells) < count:
        number += 1
        cells[int(number * STRIDES[0] % 1 * columns), int(number * STRIDES[1] % 1 * rows)] = None
    return [Window(column * camera.width // columns, row * camera.height // rows, SIDE, SIDE) for column, row in cells]


def photo_scores(run: "Run", view: View, pixels: Tensor, ignored: Tensor | None,
                 windows: Sequence[Window]) -> dict[str, float]:
    """PSNR over all windows of a photo and the mean of their SSIMs, NaN of nothing: uint8 [H, W, 3 or 4], bool [H, W]."""
    pictures, photos, left_out = [], [], []
    for window in windows:
        picture = run.render(view, with_depths=False, window=window)
        unseen = ~picture.is_seen
        pictures.append(picture.rgb)
        photos.append(on_white(window.of(pixels)))
        left_out.append(unseen if ignored is None else window.of(ignored).numpy() | unseen)
    similarity = mean_of_known(map(ssim, pictures, photos, left_out))
    return {"psnr": psnr(*map(np.concatenate, (pictures, photos, left_out))),
            "ssim": math.nan if similarity is None else similarity}
