"""What cameras see of a mesh: a z-buffer for any lens.

Corners go through the lens, and what is between them is drawn straight. That is exact for a pinhole and good to a tenth of a
pixel for any lens while faces are small, so wide ones are drawn in *pieces*: edges are halved until none spans more than
0.05 radians as the camera sees it, the same on both sides of an edge, so that no gap opens. For a pinhole only faces that
reach behind it are cut. Left out are pieces with a corner that the lens does not see, and those that it draws out more than
tenfold: around the back of a fisheye, across the seam of a panorama and at its poles.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import pi

import numpy as np
import torch
from torch import Tensor

from nerf_app.export.mesh import Mesh
from nerf_app.ops.backend import Backend
from nerf_app.ops.raster import Raster
from nerf_app.scene.camera import Camera, Lens
from nerf_app.scene.lenses import CameraBatch
from nerf_app.scene.scene import View

MARGIN_PX = 2**20  # around the picture: corners out there are seen too
WIDEST = 0.05  # radians between the ends of a piece's edge
ROUNDS = 40  # of halving: what is still wide then touches the camera, and is left out
LONGEST = 10 * WIDEST  # radians that a piece's edge may seem to span by its length in the picture
STEEPEST = 0.1  # cosine between view and normal from which on a surface counts as no steeper


def mesh_seen_from(mesh: Mesh, camera: Camera, world_from_camera: np.ndarray, ops: Backend) -> Raster:
    """What each pixel [H, W] sees of the mesh; both sides of a face are seen.

    `depth` is in input units: z-depth for perspective lenses, the range along the ray for all others; a lens's
    curvature makes it wrong by some 3e-4 of itself.

    Args:
        world_from_camera: [4, 4] input coordinates, OpenGL camera axes.
    """
    pieces = _in_pieces(mesh, camera, _in_camera(mesh, world_from_camera, ops))
    raster, _ = _draw(pieces, camera, ops)
    is_drawn = raster.face_indices >= 0
    piece = raster.face_indices[is_drawn].long()
    raster.face_indices[is_drawn] = pieces.parents[piece].int()
    raster.barycentrics[is_drawn] = (raster.barycentrics[is_drawn][:, None] @ pieces.shares[piece])[:, 0]
    return raster


def vertex_visibility(mesh: Mesh, camera: Camera, world_from_camera: np.ndarray, ops: Backend) -> np.ndarray:
    """Which vertices a camera sees: [V] bool. In the picture, at a face that turns to the camera, and not hidden.

    Hidden is a vertex that lies farther away than the face drawn at its pixel, by more than a pixel's width there along its
    own slope: width = depth / focal length, over the cosine between the line of sight and the normal of the best turned of
    its faces (at least 0.1). The face's depth is taken at the vertex's own place in its plane, not at the pixel's centre, so
    that a slope does not hide itself however large the faces are. A vertex at whose pixel nothing is drawn is not hidden.
    """
    points = _in_camera(mesh, world_from_camera, ops)
    pieces = _in_pieces(mesh, camera, points)
    raster, corners = _draw(pieces, camera, ops)
    cosine = _turned(mesh, points)
    x, y, depth = corners[:len(points)].unbind(1)
    is_seen = (cosine > 0) & (x >= 0) & (x < camera.width) & (y >= 0) & (y < camera.height)  # NaN is nowhere
    rows = is_seen.nonzero()[:, 0]
    face = raster.face_indices[y[rows].long(), x[rows].long()].long()
    rows, face = rows[face >= 0], face[face >= 0]
    triangles = corners[pieces.faces[face]]  # [K, 3, 3]
    allowed = depth[rows] * _pixel_angle(camera) / cosine[rows].clamp(min=STEEPEST)
    is_seen[rows] = depth[rows] - allowed <= _depth_at(triangles, x[rows], y[rows])
    return is_seen.cpu().numpy()


def count_views(mesh: Mesh, views: Sequence[View], ops: Backend) -> np.ndarray:
    """How many of the training views see each vertex: [V] int32."""
    counts = np.zeros(len(mesh.vertices), np.int32)
    for view in views:
        if view.split == "train":
            counts += vertex_visibility(mesh, view.camera, view.world_from_camera, ops)
    return counts


def _in_camera(mesh: Mesh, world_from_camera: np.ndarray, ops: Backend) -> Tensor:
    """The vertices in camera axes: [V, 3] float64."""
    return torch.as_tensor((mesh.vertices - world_from_camera[:3, 3]) @ world_from_camera[:3, :3], device=ops.device)


def _project(camera: Camera, points: Tensor) -> Tensor:
    """Points [V, 3] in camera axes -> column, row in pixels and depth [V, 3] float64; NaN where the lens sees nothing."""
    wide = camera
    if camera.lens.family != "equirectangular":
        wide = replace(camera, width=camera.width + 2 * MARGIN_PX, height=camera.height + 2 * MARGIN_PX,
                       centre_x_px=camera.centre_x_px + MARGIN_PX, centre_y_px=camera.centre_y_px + MARGIN_PX)
    batch = CameraBatch.from_cameras([wide], points.device)
    x, y, is_seen = batch.project(torch.zeros(len(points), dtype=torch.int64, device=points.device), points)
    margin = wide.centre_x_px - camera.centre_x_px
    depth = -points[:, 2] if camera.lens.family == "perspective" else torch.linalg.vector_norm(points, dim=1)
    return torch.where(is_seen[:, None], torch.stack([x - margin, y - margin, depth], 1), torch.nan)


@dataclass(frozen=True)
class _Pieces:
    """A mesh cut for a camera: P corners, the vertices first, and N triangles."""

    points: Tensor  # [P, 3] float64, camera axes
    faces: Tensor  # [N, 3] int64, rows of `points`
    parents: Tensor  # [N] int64: the mesh's face that a piece is of
    shares: Tensor  # [N, 3, 3] float32: barycentrics of a piece's corners in that face


def _in_pieces(mesh: Mesh, camera: Camera, points: Tensor) -> _Pieces:
    """The mesh with its vertices at `points` [V, 3] in camera axes, its wide faces halved across their widest edge, and again."""
    faces = torch.as_tensor(mesh.faces, device=points.device).long()
    parents = torch.arange(len(faces), device=points.device)
    shares = torch.eye(3, device=points.device).expand(len(faces), 3, 3)
    kept, todo = [], (faces, parents, shares)
    for _ in range(ROUNDS):
        widest, is_wide = _widest_edge(points[todo[0]], camera)
        kept.append([part[~is_wide] for part in todo])
        if not is_wide.any():
            break
        points, *todo = _halved(points, *(part[is_wide] for part in todo), widest[is_wide])
    return _Pieces(points, *(torch.cat(parts) for parts in zip(*kept, strict=True)))


def _widest_edge(triangles: Tensor, camera: Camera) -> tuple[Tensor, Tensor]:
    """Of triangles [K, 3, 3] the first corner of the widest edge [K], and whether that edge is to be halved [K]."""
    directions = torch.nn.functional.normalize(triangles, dim=2)
    widths, widest = torch.linalg.vector_norm(directions - directions.roll(-1, 1), dim=2).max(1)
    is_wide = widths > WIDEST
    if camera.lens == Lens():
        is_behind = triangles[..., 2] >= 0
        is_wide &= is_behind.any(1) & ~is_behind.all(1)
    return widest, is_wide


def _halved(points: Tensor, faces: Tensor, parents: Tensor, shares: Tensor, widest: Tensor) -> tuple[Tensor, ...]:
    """Points with the middles of the widest edges [K] behind them; faces, parents and shares of both halves [2K]."""
    order = (widest[:, None] + torch.arange(3, device=widest.device)) % 3  # [K, 3], the widest edge first
    a, b, c = faces.gather(1, order).unbind(1)
    p, q, r = shares.gather(1, order[:, :, None].expand(-1, -1, 3)).unbind(1)
    middle, half = torch.arange(len(faces), device=a.device) + len(points), (p + q) / 2
    points = torch.cat([points, (points[a] + points[b]) / 2])
    faces = torch.cat([torch.stack([a, middle, c], 1), torch.stack([middle, b, c], 1)])
    return points, faces, parents.repeat(2), torch.cat([torch.stack([p, half, r], 1), torch.stack([half, q, r], 1)])


def _draw(pieces: _Pieces, camera: Camera, ops: Backend) -> tuple[Raster, Tensor]:
    """The raster of the pieces, and where their corners fall [P, 3]."""
    corners, faces = _project(camera, pieces.points), pieces.faces
    if camera.lens.family != "perspective":
        places = corners[faces, :2]
        is_torn = (torch.linalg.vector_norm(places - places.roll(-1, 1), dim=2) * _pixel_angle(camera) > LONGEST).any(1)
        faces = torch.where(is_torn[:, None], 0, faces)  # to a face without area
    return ops.raster.rasterise(corners.float(), faces, camera.height, camera.width), corners


def _turned(mesh: Mesh, points: Tensor) -> Tensor:
    """The cosine between the line of sight and the normal of that face of a vertex that best turns to the camera: [V].

    Faces rather than `mesh.normals`: at a sharp edge the mean of its faces may turn away from who sees one of them.
    """
    faces = torch.as_tensor(mesh.faces, device=points.device).long()
    a, b, c = points[faces].unbind(1)
    normals = torch.nn.functional.normalize(torch.linalg.cross(b - a, c - a), dim=1)
    best = torch.full_like(points[:, 0], -1.0)
    for k in range(3):
        cosine = -(normals * torch.nn.functional.normalize(points[faces[:, k]], dim=1)).sum(1)
        best = best.scatter_reduce(0, faces[:, k], cosine, "amax")
    return best


def _depth_at(triangles: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """The depth at places in the planes of triangles [K, 3, 3] in the picture: [K]; never beyond that of their corners."""
    a, b, c = triangles[..., :2].unbind(1)
    place = torch.stack([x, y], 1)
    areas = torch.stack([_area(place, b, c), _area(place, c, a), _area(place, a, b)], 1)
    inverses = 1 / triangles[..., 2]
    inverse = (areas * inverses).sum(1) / areas.sum(1)
    return 1 / inverse.clamp(inverses.amin(1), inverses.amax(1))


def _area(a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """Twice the signed area of triangles with corners [K, 2]."""
    return (b[:, 0] - a[:, 0]) * (c[:, 1] - a[:, 1]) - (b[:, 1] - a[:, 1]) * (c[:, 0] - a[:, 0])


def _pixel_angle(camera: Camera) -> float:
    """What a pixel sees of the surface opposite, over its depth."""
    return 2 * pi / camera.width if camera.lens.family == "equirectangular" else 1 / camera.focal_x_px
