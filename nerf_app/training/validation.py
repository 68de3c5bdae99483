"""The validation photos, small: what training looks at to know whether it still gets better."""

import math

import numpy as np
import torch
from torch import Tensor

from nerf_app.model import RadianceModel
from nerf_app.picture import CHUNK
from nerf_app.rays import Rays, view_rays
from nerf_app.render import over
from nerf_app.scene.camera import Camera
from nerf_app.scene.lenses import CameraBatch
from nerf_app.scene.scene import Scene
from nerf_app.training.metrics import psnr, ssim

MOST_RAYS = 1 << 14  # all validation pictures together


class Validation:
    """Every n-th pixel of every n-th row of up to a few photos of the "val" split, in front of white.

    Single pixels rather than means over squares, each along the ray through its middle: the closing score is a little higher.
    """

    def __init__(self, scene: Scene, device: torch.device | str = "cpu") -> None:
        indices = scene.indices("val")
        self.rays, self.photos, self.ignored = [], [], []  # of each photo: chunks of Rays, [h, w, 3] 0...1, [h, w] bool
        for index in indices:
            view = scene.views[index]
            pixels, ignored = scene.photos.picture(index)
            stride = math.ceil(math.sqrt(view.camera.width * view.camera.height * len(indices) / MOST_RAYS))
            chosen = slice(stride // 2, None, stride)
            self.photos.append(on_white(pixels[chosen, chosen]))
            self.rays.append(_rays(view.camera, scene.normalisation.pose_to_scene(view.world_from_camera), chosen, device))
            unseen = ~torch.cat([rays.is_valid for rays in self.rays[-1]]).cpu().numpy().reshape(self.photos[-1].shape[:2])
            self.ignored.append(unseen if ignored is None else ignored[chosen, chosen].numpy() | unseen)

    @property
    def n_rays(self) -> int:
        """Rays that one look at the photos takes."""
        return sum(ignored.size for ignored in self.ignored)

    def look(self, model: RadianceModel, number: int) -> np.ndarray:
        """What the model shows in place of the numbered photo: [h, w, 3] 0...1."""
        with torch.no_grad():
            parts = [over(model.render(rays), torch.ones_like(rays.origins)).cpu() for rays in self.rays[number]]
        return torch.cat(parts).clamp(0.0, 1.0).numpy().reshape(self.photos[number].shape)

    def score(self, model: RadianceModel) -> tuple[float, float]:
        """Mean PSNR in decibel and mean SSIM over the photos that have one; NaN where none has."""
        scores = []
        for number, (photo, ignored) in enumerate(zip(self.photos, self.ignored, strict=True)):
            picture = self.look(model, number)
            scores.append((psnr(picture, photo, ignored), ssim(picture, photo, ignored)))
        psnrs, ssims = ([value for value in column if not math.isnan(value)] for column in zip(*scores, strict=True))
        return tuple(sum(values) / len(values) if values else math.nan for values in (psnrs, ssims))


def on_white(pixels: Tensor) -> np.ndarray:
    """[H, W, 3 or 4] uint8, straight alpha -> [H, W, 3] float32 0...1."""
    values = pixels.numpy().astype(np.float32) / 255.0
    if values.shape[2] == 3:
        return values
    return values[..., :3] * values[..., 3:] + 1.0 - values[..., 3:]


def _rays(camera: Camera, pose: np.ndarray, chosen: slice, device: torch.device | str) -> list[Rays]:
    """The rays through the pixels of some rows and columns, row by row, in chunks; `pose` [4, 4] in scene coordinates."""
    rows, columns = torch.meshgrid(torch.arange(camera.height, device=device)[chosen],
                                   torch.arange(camera.width, device=device)[chosen], indexing="ij")
    batch, poses = CameraBatch.from_cameras([camera], device), torch.from_numpy(pose)[None].to(device)
    chunks = zip(rows.reshape(-1).split(CHUNK), columns.reshape(-1).split(CHUNK))
    return [view_rays(batch, poses, 0, *pixels) for pixels in chunks]
