"""PHOTO, MESH → LOOK: one photo as the surface sees it, and how far its colours are to be trusted.

Legend: N points, H W pixels of the photo.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import grid_sample, max_pool2d

from nerf_app.export.mesh import Mesh
from nerf_app.export.visibility import mesh_seen_from
from nerf_app.ops.backend import Backend
from nerf_app.scene.lenses import CameraBatch
from nerf_app.scene.scene import Scene, View

FACING = 0.17  # cosine under which a surface is seen too flat to be read: 80 degrees
EDGE_PX = 6  # pixels of a photo: what is nearer to an edge of its picture counts less
EDGE_TRUST = 0.02  # what is left of it at the edge
JUMP = 4.0  # pixels' widths of depth from one pixel to the next that make an edge


@dataclass(frozen=True)
class Look:
    """One photo as the mesh sees it; lengths in input units from the mesh's middle."""

    centre: Tensor  # [3] float32, where the camera stands
    axes: Tensor  # [3, 3] float32, its axes in columns
    batch: CameraBatch
    is_straight: bool  # depth is along the axis, else along the ray
    pixel: float  # width of a pixel at distance 1
    depth: Tensor  # [H, W] float32, of the mesh; inf where it is not
    picture: Tensor  # [1, 5, H, W] float32: colour times alpha 0...1, alpha, trust


def pixel_width(view: View) -> float:
    """Width of one of its pixels at distance 1, about the middle of the picture."""
    camera = view.camera
    if camera.lens.family == "equirectangular":
        return 2 * math.pi / camera.width
    return 1 / max(camera.focal_x_px, camera.focal_y_px)


def look_at(scene: Scene, index: int, mesh: Mesh, middle: np.ndarray, ops: Backend) -> Look:
    view = scene.views[index]
    pose, pixel = view.world_from_camera, pixel_width(view)
    depth = mesh_seen_from(mesh, view.camera, pose, ops).depth.cpu()
    stored, ignored = scene.photos.picture(index)
    values = stored.float().permute(2, 0, 1) / 255.0  # [3 or 4, H, W]
    alpha = values[3:] if len(values) == 4 else torch.ones_like(values[:1])
    if ignored is not None:
        alpha = alpha * ~ignored
    trust = trust_of_pixels(alpha[0] >= 0.5, depth, pixel)
    return Look(torch.from_numpy((pose[:3, 3] - middle).astype(np.float32)), torch.from_numpy(pose[:3, :3].astype(np.float32)),
                 CameraBatch.from_cameras([view.camera]), view.camera.lens.family == "perspective", pixel, depth,
                 torch.cat([values[:3] * alpha, alpha, trust[None]])[None])


def trust_of_pixels(is_known: Tensor, depth: Tensor, pixel: float) -> Tensor:
    """How much a pixel's colour belongs to the surface behind its centre: [H, W] 0...1, growing away from edges.

    Edges are those of the picture, of what is known (not transparent, not masked) and of the mesh's depth.
    """
    limit = JUMP * pixel
    is_edge = torch.nn.functional.pad((~is_known).float(), (1, 1, 1, 1), value=1.0)
    for axis in (0, 1):
        near, far = depth.narrow(axis, 0, depth.shape[axis] - 1), depth.narrow(axis, 1, depth.shape[axis] - 1)
        jumps = ((near - far).abs() > limit * torch.minimum(near, far)).float()  # False where both are inf
        for begin in (1, 2):
            part = is_edge[1:-1, 1:-1].narrow(axis, begin - 1, jumps.shape[axis])
            part.copy_(torch.maximum(part, jumps))
    inner, edge = torch.zeros_like(depth), is_edge[None, None]
    for _ in range(EDGE_PX):
        inner += 1 - edge[0, 0, 1:-1, 1:-1]
        edge = max_pool2d(edge, 3, 1, 1)
    return is_known * (EDGE_TRUST + (1 - EDGE_TRUST) * inner / EDGE_PX)


def project(look: Look, points: Tensor, normals: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Places [N, 2] in the photo's grid (-1...1), whether the points are seen [N], their cosines and distances [N]."""
    towards = look.centre - points
    distance = torch.linalg.vector_norm(towards, dim=1).clamp(min=1e-30)
    cosine = (towards * normals).sum(1) / distance
    inside = -towards @ look.axes  # [N, 3] camera axes
    x, y, is_seen = look.batch.project(torch.zeros(len(points), dtype=torch.int64), inside)
    height, width = look.depth.shape
    columns, rows = x.clamp(0, width - 1).long(), y.clamp(0, height - 1).long()
    depth = -inside[:, 2] if look.is_straight else distance
    slope = (1 / cosine.clamp(FACING, 1.0) ** 2 - 1).sqrt()
    slack = look.pixel * distance * (1 + slope)  # the surface may fall off that much between the point and the pixel's centre
    is_seen = is_seen & (depth <= look.depth[rows, columns] + slack)
    return torch.stack([x * (2 / width) - 1, y * (2 / height) - 1], 1).float(), is_seen, cosine, distance


def sampled(picture: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
    """Colours [N, 3] and trust times alpha [N] of a picture [1, 5, H, W] at places [N, 2]."""
    values = grid_sample(picture, places[None, None], padding_mode="border", align_corners=False)[0, :, 0]  # [5, N]
    return (values[:3] / values[3].clamp(min=1e-6)).T, torch.where(values[3] >= 0.5, values[4] * values[3], 0.0)
