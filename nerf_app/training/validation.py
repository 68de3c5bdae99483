"""The validation photos, small: what training looks at to know whether it still gets better."""

import math

import numpy as np
from torch import Tensor

from nerf_app.model import RadianceModel
from nerf_app.picture import render_picture, unseen_pixels
from nerf_app.scene.camera import Camera
from nerf_app.scene.scene import Scene
from nerf_app.training.metrics import psnr, ssim

MOST_RAYS = 1 << 14  # all validation pictures together


class Validation:
    """Every n-th pixel of every n-th row of up to a few photos of the "val" split, in front of white.

    Single pixels rather than means over squares: one ray is what a pixel is in training and in the closing score.
    """

    def __init__(self, scene: Scene) -> None:
        indices = scene.indices("val")
        self.cameras, self.poses, self.photos, self.ignored = [], [], [], []
        for index in indices:
            view = scene.views[index]
            pixels, ignored = scene.photos.picture(index)
            stride = math.ceil(math.sqrt(view.camera.width * view.camera.height * len(indices) / MOST_RAYS))
            chosen = slice(stride // 2, None, stride)
            self.cameras.append(thinned(view.camera, stride))
            self.poses.append(scene.normalisation.pose_to_scene(view.world_from_camera))
            self.photos.append(on_white(pixels[chosen, chosen]))
            unseen = unseen_pixels(self.cameras[-1])
            self.ignored.append(unseen if ignored is None else ignored[chosen, chosen].numpy() | unseen)

    @property
    def n_rays(self) -> int:
        """Rays that one look at the photos takes."""
        return sum(camera.width * camera.height for camera in self.cameras)

    def score(self, model: RadianceModel) -> tuple[float, float]:
        """Mean PSNR in decibel and mean SSIM over the photos that have one; NaN where none has."""
        scores = []
        for camera, pose, photo, ignored in zip(self.cameras, self.poses, self.photos, self.ignored, strict=True):
            picture = render_picture(model, camera, pose).rgb
            scores.append((psnr(picture, photo, ignored), ssim(picture, photo, ignored)))
        psnrs, ssims = ([value for value in column if not math.isnan(value)] for column in zip(*scores, strict=True))
        return tuple(sum(values) / len(values) if values else math.nan for values in (psnrs, ssims))


def on_white(pixels: Tensor) -> np.ndarray:
    """[H, W, 3 or 4] uint8, straight alpha -> [H, W, 3] float32 0...1."""
    values = pixels.numpy().astype(np.float32) / 255.0
    if values.shape[2] == 3:
        return values
    return values[..., :3] * values[..., 3:] + 1.0 - values[..., 3:]


def thinned(camera: Camera, stride: int) -> Camera:
    """The camera whose pixel centres are those of pixels stride // 2, stride // 2 + stride, ... of the given one."""
    first = stride // 2
    return Camera(len(range(first, camera.width, stride)), len(range(first, camera.height, stride)),
                  camera.focal_x_px / stride, camera.focal_y_px / stride,
                  (camera.centre_x_px - first - 0.5) / stride + 0.5, (camera.centre_y_px - first - 0.5) / stride + 0.5,
                  camera.lens)
