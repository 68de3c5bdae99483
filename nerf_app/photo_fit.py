"""PHOTO → what is fitted along with it: its exposure or code, and its camera's pose. Neutral at first, and in the mean of all.

The numbers are parameters like all others, in units in which one learning rate suits everybody. New views are rendered
without them: the mean keeps the field's colours those of the photos, and its place the cameras' own.
"""

import dataclasses

import torch
from torch import Tensor

from nerf_app.fields.parameters import Parameters
from nerf_app.render import Rendering
from nerf_app.training.settings import PhotoSettings

EXPOSURE, CODE, POSE = "photos.exposure", "photos.code", "photos.pose"
CODE_WIDTH = 16  # numbers
NEUTRAL = 4  # of so many photos one is seen without its code
EXPOSURE_UNIT = 0.1  # of the colours' range
POSE_UNIT = 0.02  # radians, and scene units


def fit_shapes(settings: PhotoSettings, n_photos: int) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the parameters of so many training photos."""
    shapes = {"none": {}, "affine": {EXPOSURE: (n_photos, 3, 4)}, "code": {CODE: (n_photos, CODE_WIDTH)}}[settings.exposure]
    return shapes | ({POSE: (n_photos, 6)} if settings.refine_poses else {})


class PhotoFit:
    """The training photos' parameters, and what they change."""

    def __init__(self, parameters: Parameters, poses: Tensor, settings: PhotoSettings) -> None:
        """`poses` [V, 4, 4] float64, scene coordinates, as they were given."""
        self.given = poses
        self.exposure = parameters[EXPOSURE] if settings.exposure == "affine" else None  # [V, 3, 4]
        self.code = parameters[CODE] if settings.exposure == "code" else None  # [V, CODE_WIDTH]
        self.pose = parameters[POSE] if settings.refine_poses else None  # [V, 6] turn about scene axes, shift
        self.together = similarities(poses) if settings.refine_poses else None  # [6 V, 7]

    @property
    def is_idle(self) -> bool:
        """Whether nothing is fitted."""
        return self.exposure is None and self.code is None and self.pose is None

    def poses(self) -> Tensor:
        """[V, 4, 4] float64, scene coordinates; differentiable where they are refined."""
        if self.pose is None:
            return self.given
        moves = POSE_UNIT * self.pose.double().reshape(-1)
        moves = (moves - self.together @ (self.together.T @ moves)).view(-1, 6)
        turned = torch.linalg.matrix_exp(cross_matrices(moves[:, :3])) @ self.given[:, :3, :3]
        shifted = self.given[:, :3, 3:] + moves[:, 3:, None]
        return torch.cat([torch.cat([turned, shifted], 2), self.given[:, 3:]], 1)

    def codes(self, step: int) -> Tensor | None:
        """[V, CODE_WIDTH] by which the field tells the photos' colours apart in a step, if it does.

        Codes are 0 in the mean, but a net shows nobody's mean at 0. So it learns that as well, from all photos in turn.
        """
        if self.code is None:
            return None
        has_code = (torch.arange(len(self.code), device=self.code.device) + step) % NEUTRAL != 0
        return has_code[:, None] * (self.code - self.code.mean(0))

    def photographed(self, rendering: Rendering, photos: Tensor) -> Rendering:
        """What the photos [R] would show of what is there: colours after each one's affine change."""
        if self.exposure is None:
            return rendering
        changes = EXPOSURE_UNIT * (self.exposure - self.exposure.mean(0))  # [V, 3, 4]
        values = torch.cat([rendering.rgb, rendering.opacity[:, None]], 1)  # [R, 4] premultiplied
        more = (changes.index_select(0, photos) @ values[:, :, None])[:, :, 0]  # [R, 3]
        return dataclasses.replace(rendering, rgb=rendering.rgb + more)


def similarities(poses: Tensor) -> Tensor:
    """[6 V, 7] orthonormal: the small moves of all cameras together that a picture cannot tell from moves of the scene.

    Without them the refined cameras stay where the given ones are: no turn, shift or scale, in the sense of least squares.
    """
    centres = poses[:, :3, 3] - poses[:, :3, 3].mean(0)  # [V, 3]
    zeros, eye = torch.zeros_like(centres), torch.eye(3, dtype=poses.dtype, device=poses.device)
    shifts = [torch.cat([zeros, axis.expand_as(centres)], 1) for axis in eye]
    turns = [torch.cat([axis.expand_as(centres), torch.linalg.cross(axis.expand_as(centres), centres)], 1) for axis in eye]
    scale = torch.cat([zeros, centres], 1)
    return torch.linalg.qr(torch.stack([*shifts, *turns, scale], -1).reshape(-1, 7)).Q


def cross_matrices(vectors: Tensor) -> Tensor:
    """[V, 3] -> [V, 3, 3]: matrices that do what the cross product with a vector does."""
    x, y, z = vectors.unbind(1)
    zero = torch.zeros_like(x)
    return torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], 1).view(-1, 3, 3)
