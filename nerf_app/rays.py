"""CAMERA, PIXELS → RAYS."""

from dataclasses import dataclass
from types import ModuleType

import torch
from torch import Tensor

from nerf_app.ops.lens import reference
from nerf_app.scene.lenses import CameraBatch


@dataclass(frozen=True)
class Rays:
    """Half-lines in scene coordinates."""

    origins: Tensor  # [R, 3] float32 scene units
    directions: Tensor  # [R, 3] float32, unit length
    z_per_distance: Tensor  # [R] float32: z-depth = distance along the ray · this
    view_indices: Tensor  # [R] int64
    is_valid: Tensor  # [R] bool: False where the lens does not say what the pixel sees

    @property
    def count(self) -> int:
        """R."""
        return self.origins.shape[0]


def cast_rays(cameras: CameraBatch, scene_from_camera: Tensor, view_indices: Tensor, x_px: Tensor, y_px: Tensor,
              lens: ModuleType = reference) -> Rays:
    """The rays of pixels (x, y) of the views; differentiable in the poses.

    Args:
        scene_from_camera: [V, 4, 4] float64, scene coordinates, one pose per camera of the batch.
        view_indices: [R] int64, which camera and pose.
        x_px, y_px: [R] pixels from the image's corner: column + 0.5 is a pixel's centre.
        lens: who straightens what bent lenses see, one of ops/lens.
    """
    directions, is_valid = cameras.directions(view_indices, x_px, y_px, lens.straighten)  # [R, 3] float64, camera axes
    poses = scene_from_camera[view_indices]  # [R, 4, 4]
    turned = (poses[:, :3, :3] @ directions[:, :, None])[:, :, 0]  # [R, 3] scene axes
    return Rays(poses[:, :3, 3].float(), turned.float(), -directions[:, 2].float(), view_indices, is_valid)


def view_rays(cameras: CameraBatch, scene_from_camera: Tensor, view: int, rows: Tensor, columns: Tensor) -> Rays:
    """The rays through the centres of some pixels of one view: [R] rows, [R] columns."""
    indices = torch.full_like(rows, view)
    return cast_rays(cameras, scene_from_camera, indices, columns + 0.5, rows + 0.5)
