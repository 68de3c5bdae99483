"""PIXELS → RAYS WITH COLOURS: what the training photos show there."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from nerf_app.ops.backend import Backend
from nerf_app.rays import Rays, cast_rays
from nerf_app.scene.lenses import CameraBatch
from nerf_app.scene.scene import Scene
from nerf_app.training.points import SparsePoints
from nerf_app.training.tiles import Drawn

# Pixels from the middle: one of these is where the first of a pixel's two rays goes; the second one goes to the other side.
BESIDE = ((0.33, 0.17), (0.17, 0.33), (-0.17, 0.33), (-0.33, 0.17))
CUT_OUT = 0.05  # part of all pixels that is empty where things were cut out of what is behind them


@dataclass(frozen=True)
class Batch:
    """R pixels, what the photos show there, and the rays that ask a field the same."""

    rays: Rays  # K·R: the K of a pixel are neighbours
    rgb: Tensor  # [R, 3] 0...1, straight
    alpha: Tensor  # [R] 0...1
    counts: Tensor  # [R] bool: False where a mask or the lens says not to look
    drawn: Drawn

    @property
    def is_empty(self) -> Tensor:
        """[R] bool: the photo shows that nothing is there."""
        return self.alpha == 0

    def mean(self, values: Tensor) -> Tensor:
        """[K·R, C] of rays -> [R, C] of pixels."""
        return values.unflatten(0, (len(self.counts), self._each)).mean(1)

    def of_rays(self, values: Tensor) -> Tensor:
        """[R, ...] of pixels -> [K·R, ...] of rays."""
        return of_rays(values, self._each)

    @property
    def _each(self) -> int:
        return self.rays.count // max(len(self.counts), 1)


class PixelBatches:
    """Pixels of a scene's training photos. Photos stay uint8; only what is drawn becomes numbers."""

    def __init__(self, scene: Scene, ops: Backend) -> None:
        self.lens, device = ops.lens, ops.device
        indices = scene.indices("train")
        photos = scene.photos
        self.pixels, self.has_alpha = photos.pixels.to(device), photos.has_alpha  # [P, C] uint8
        self.ignored = None if photos.ignored is None else photos.ignored.to(device)  # [P] bool
        self.offsets = photos.offsets[torch.tensor(indices)].to(device)  # [V] a view's first pixel in them
        views = [scene.views[i] for i in indices]
        poses = np.stack([scene.normalisation.pose_to_scene(view.world_from_camera) for view in views])
        self.beside = torch.tensor(BESIDE, device=device)
        self.cameras = CameraBatch.from_cameras([view.camera for view in views], device)
        self.poses = torch.tensor(poses, device=device)  # [V, 4, 4] float64
        self.sizes = torch.tensor([(view.camera.width, view.camera.height) for view in views])  # [V, 2] on the CPU
        self.n_pixels = int(self.sizes.prod(1).sum())
        self.widths = self.sizes[:, 0].to(device)
        self.sparse = SparsePoints(scene, self)

    @property
    def has_outlines(self) -> bool:
        """Whether alpha tells things from what is behind them; looks at all pixels."""
        return self.has_alpha and int((self.pixels[:, 3] == 0).count_nonzero()) > CUT_OUT * len(self.pixels)

    def at(self, drawn: Drawn, poses: Tensor | None = None, rays_of_pixel: int = 1) -> Batch:
        """What the photos show at R pixels; `poses` [V, 4, 4] instead of the given ones.

        One ray goes through a pixel's middle; two, whose mean is a better one of its area, to either side of it.
        """
        which, rows, columns = drawn.view, drawn.row, drawn.column  # [R]; `which` is the position among the training views
        x_px, y_px = columns + 0.5, rows + 0.5
        if rays_of_pixel == 2:
            aside = self.beside[(len(BESIDE) * drawn.way).long()]  # [R, 2]
            x_px, y_px = (torch.stack([middle + way, middle - way], 1).view(-1)
                          for middle, way in zip((x_px, y_px), aside.unbind(1)))
        of_view = of_rays(which, rays_of_pixel)
        rays = cast_rays(self.cameras, self.poses if poses is None else poses, of_view, x_px, y_px, self.lens)
        index = self.offsets[which] + rows * self.widths[which] + columns  # [R] in the store
        values = self.pixels[index].float() / 255.0  # [R, C]
        alpha = values[:, 3] if self.has_alpha else torch.ones_like(values[:, 0])
        counts = rays.is_valid.view(-1, rays_of_pixel).all(1)
        if self.ignored is not None:
            counts = counts & ~self.ignored[index]
        return Batch(rays, values[:, :3], alpha, counts, drawn)


def of_rays(values: Tensor, each: int) -> Tensor:
    """[R, ...] of pixels -> [each · R, ...] of their rays, which are neighbours."""
    return values.unsqueeze(1).expand(-1, each, *values.shape[1:]).flatten(0, 1)
