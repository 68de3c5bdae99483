"""The validation photos, small: what training looks at to know whether it still gets better."""

import dataclasses
import math

import numpy as np
import torch
from torch import Tensor

from nerf_app.model import RadianceModel
from nerf_app.picture import render_picture
from nerf_app.scene.scene import Scene
from nerf_app.training.metrics import psnr, ssim

MOST_RAYS = 1 << 14  # all validation pictures together


class Validation:
    """Up to a few photos of the "val" split at reduced size, in front of white."""

    def __init__(self, scene: Scene) -> None:
        indices = scene.indices("val")
        self.cameras, self.poses, self.photos, self.ignored = [], [], [], []
        for index in indices:
            view = scene.views[index]
            pixels, ignored = scene.photos.picture(index)
            factor = max(1, math.ceil(math.sqrt(view.camera.width * view.camera.height * len(indices) / MOST_RAYS)))
            photo = reduced(on_white(pixels), factor)
            whole = view.camera.resized(view.camera.width / factor, view.camera.height / factor)
            self.cameras.append(dataclasses.replace(whole, height=photo.shape[0], width=photo.shape[1]))
            self.poses.append(scene.normalisation.pose_to_scene(view.world_from_camera))
            self.photos.append(photo)
            self.ignored.append(None if ignored is None else reduced(ignored[..., None].numpy().astype(np.float32), factor)[..., 0] > 0)

    @property
    def n_rays(self) -> int:
        """Rays that one look at the photos takes."""
        return sum(camera.width * camera.height for camera in self.cameras)

    def score(self, model: RadianceModel) -> tuple[float, float]:
        """Mean PSNR in decibel and mean SSIM over the photos."""
        scores = []
        for camera, pose, photo, ignored in zip(self.cameras, self.poses, self.photos, self.ignored, strict=True):
            picture = render_picture(model, camera, pose).rgb
            scores.append((psnr(picture, photo, ignored), ssim(picture, photo, ignored)))
        return tuple(float(value) for value in np.nanmean(scores, axis=0))


def on_white(pixels: Tensor) -> np.ndarray:
    """[H, W, 3 or 4] uint8, straight alpha -> [H, W, 3] float32 0...1."""
    values = pixels.numpy().astype(np.float32) / 255.0
    if values.shape[2] == 3:
        return values
    return values[..., :3] * values[..., 3:] + 1.0 - values[..., 3:]


def reduced(values: np.ndarray, factor: int) -> np.ndarray:
    """Means over squares of `factor` pixels; a rest at the right and lower edge is cut: [H, W, C] -> [H/f, W/f, C]."""
    height, width = values.shape[0] // factor, values.shape[1] // factor
    cut = torch.from_numpy(values[:height * factor, :width * factor]).permute(2, 0, 1)[None]
    return torch.nn.functional.avg_pool2d(cut, factor)[0].permute(1, 2, 0).numpy()
