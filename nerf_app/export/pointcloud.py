"""Depth seen from the training cameras -> one cloud of points with normals, colours and the number of views that agree.

Every view is rendered small, its pixels become points, points that share a voxel become one, and what fewer than MIN_VIEWS
of the views see where it is goes. Voxels lie in the unit cube: in an unbounded scene they grow with the distance.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from nerf_app.errors import DataError, UsageError
from nerf_app.export.pictures import to_bytes
from nerf_app.picture import pixel_directions
from nerf_app.scene.camera import Camera
from nerf_app.scene.lenses import CameraBatch
from nerf_app.scene.scene import View
from nerf_app.scene.writing import made_folder, write_bytes

if TYPE_CHECKING:
    from nerf_app.export.crop import Box
    from nerf_app.run import Run

MOST_POINTS = 10_000_000
RAYS_PER_POINT = 12  # of all views together: most see nothing, or what another has seen
LEAST_PIXELS = 20_000  # of a picture: in smaller ones a slanted surface differs by AGREEING from pixel to pixel
SPARE = 1.3  # voxels for each point asked for: some will find too few views
FINEST = 2**20  # voxels along an edge of the unit cube; three such numbers fit into one of 64 bits
AGREEING = 0.005  # of the distance: what a view's own depth may differ by from a point that it confirms
MIN_VIEWS = 3
# what part of a pixel's light must be stopped where its point is, by is_bounded: far samples are long
SURE = {True: 0.5, False: 0.2}
GRAZING = 0.1  # cosine between surface and ray under which a pixel shows an edge, or next to nothing
ROW = np.dtype([("xyz", "<f8", 3), ("normal", "<f4", 3), ("rgb", "u1", 3), ("confidence", "<f4")])
PROPERTIES = ("double x", "double y", "double z", "float nx", "float ny", "float nz", "uchar red", "uchar green", "uchar blue",
              "float confidence")


@dataclass(frozen=True)
class PointCloud:
    """N points in input coordinates."""

    points: np.ndarray  # [N, 3] float64 input units
    normals: np.ndarray  # [N, 3] float32 unit vectors, outwards
    colours: np.ndarray  # [N, 3] float32 0...1, sRGB-coded
    views: np.ndarray  # [N] int32: how many training views see it where it is

    def at(self, which: np.ndarray) -> "PointCloud":
        """Some of the points."""
        return PointCloud(*(getattr(self, field.name)[which] for field in fields(self)))


def write_point_cloud(run: "Run", out: Path, on_progress: Callable[[int, int], None], *, count: int = 300_000,
                      box: "Box | None" = None) -> PointCloud:
    """A binary PLY of at most `count` points; inside the box alone, where one is given. Memory: some 500 bytes a point."""
    if not 1 <= count <= MOST_POINTS:
        raise UsageError(f"--points must be 1 to {MOST_POINTS}, got {count}.")
    cloud = fuse_points(run, count, box, on_progress)
    write_ply(cloud, out)
    return cloud


def fuse_points(run: "Run", count: int, box: "Box | None", on_progress: Callable[[int, int], None]) -> PointCloud:
    """The cloud of at most `count` points; `on_progress` is told (views done, of how many), each view counting twice."""
    views = [view for view in run.views if view.split == "train"]
    cameras = [_small(view.camera, max(LEAST_PIXELS, RAYS_PER_POINT * count / len(views))) for view in views]
    parts, ranges = [], []
    for i, (view, camera) in enumerate(zip(views, cameras, strict=True)):
        part, distance = _seen_by(run, camera, view.world_from_camera)
        parts.append(part if box is None else part.at(box.contains(part.points)))
        ranges.append(distance)
        on_progress(i + 1, 2 * len(views))
    cloud = _fused(run, PointCloud(*(np.concatenate([getattr(part, field.name) for part in parts])
                                     for field in fields(PointCloud))), math.ceil(SPARE * count))
    cloud = _confirmed(cloud, cameras, views, ranges, lambda done: on_progress(len(views) + done, 2 * len(views)))
    needed = min(MIN_VIEWS, len(views))
    cloud = cloud.at(cloud.views >= needed)
    if not len(cloud.points):
        where = "" if box is None else " inside the crop"
        raise DataError(f"no point{where} is seen by {needed} training views at one place: train longer, or crop less.")
    spared = np.random.default_rng(0).permutation(len(cloud.points))[:count]
    return cloud.at(np.sort(spared))


def _small(camera: Camera, pixels: float) -> Camera:
    """The camera with about so many pixels, never more than it has."""
    return camera.shrunk(math.sqrt(pixels / (camera.width * camera.height)), least=3)


def _seen_by(run: "Run", camera: Camera, world_from_camera: np.ndarray) -> tuple[PointCloud, np.ndarray]:
    """The points of one picture's inner pixels, views still 0, and its ranges [H, W] float32 input units."""
    picture = run.render(camera, world_from_camera, "transparent", are_edges_smooth=False)
    directions = pixel_directions(camera) @ world_from_camera[:3, :3].T  # [H, W, 3]
    points = world_from_camera[:3, 3] + picture.range[..., None] * directions
    across, down = points[1:-1, 2:] - points[1:-1, :-2], points[2:, 1:-1] - points[:-2, 1:-1]
    inner = (slice(1, -1), slice(1, -1))
    normals = np.cross(down, across)  # [H - 2, W - 2, 3] towards the camera, NaN beside unknown depths
    lengths = np.linalg.norm(normals, axis=2, keepdims=True)
    normals /= np.where(lengths > 0.0, lengths, np.nan)
    is_good = (-(normals * directions[inner]).sum(2) > GRAZING) & (picture.confidence[inner] >= SURE[run.is_bounded])
    straight = picture.rgb / np.maximum(picture.alpha, 1e-6)[..., None]
    count = np.count_nonzero(is_good)
    return PointCloud(points[inner][is_good], normals[is_good].astype(np.float32), straight[inner][is_good],
                      np.zeros(count, np.int32)), picture.range


# Points of one voxel become one

def _fused(run: "Run", cloud: PointCloud, most: int) -> PointCloud:
    """The means of what shares a voxel, in the smallest voxels of which no more than `most` hold something."""
    scene = torch.from_numpy(run.normalisation.to_scene(cloud.points))
    unit = run.model.space.to_unit(scene).numpy()
    low, high = 1, FINEST  # halves of an interval of sizes, most of which is never looked at
    while high - low > max(1, low // 100):
        middle = math.isqrt(low * high) if high > 2 * low else (low + high) // 2
        low, high = (middle, high) if len(np.unique(_voxels(unit, middle))) <= most else (low, middle)
    _, place, counts = np.unique(_voxels(unit, low), return_inverse=True, return_counts=True)

    def mean(values: np.ndarray) -> np.ndarray:
        return np.stack([np.bincount(place, column, len(counts)) for column in values.T], 1) / counts[:, None]

    centre = run.normalisation.centre  # sums of places far from 0 would lose digits
    normals = mean(cloud.normals)
    lengths = np.linalg.norm(normals, axis=1, keepdims=True)
    means = PointCloud(mean(cloud.points - centre) + centre, (normals / np.maximum(lengths, 1e-6)).astype(np.float32),
                       mean(cloud.colours).astype(np.float32), np.zeros(len(counts), np.int32))
    return means.at(lengths[:, 0] > 1e-6)


def _voxels(unit: np.ndarray, resolution: int) -> np.ndarray:
    """[N, 3] in the unit cube -> [N] int64, the number of the voxel in a grid of `resolution`³."""
    cells = np.minimum((unit * resolution).astype(np.int64), resolution - 1)
    return (cells[:, 0] * resolution + cells[:, 1]) * resolution + cells[:, 2]


def _confirmed(cloud: PointCloud, cameras: Sequence[Camera], views: Sequence[View], ranges: Sequence[np.ndarray],
               on_view: Callable[[int], None]) -> PointCloud:
    """The same with the number of views whose own depth, at the pixel where the point falls, is the point's."""
    agreeing = np.zeros(len(cloud.points), np.int32)
    for i, (camera, view, distance) in enumerate(zip(cameras, views, ranges, strict=True)):
        pose = view.world_from_camera
        inside = (cloud.points - pose[:3, 3]) @ pose[:3, :3]
        batch = CameraBatch.from_cameras([camera])
        x, y, is_seen = batch.project(torch.zeros(len(inside), dtype=torch.int64), torch.from_numpy(inside))
        columns, rows = (np.clip(pixels.numpy(), 0, side - 1).astype(np.int64)
                         for pixels, side in ((x, camera.width), (y, camera.height)))
        away = np.linalg.norm(inside, axis=1)
        agreeing += is_seen.numpy() & (np.abs(distance[rows, columns] - away) <= AGREEING * away)
        on_view(i + 1)
    return PointCloud(cloud.points, cloud.normals, cloud.colours, agreeing)


# The file

def write_ply(cloud: PointCloud, out: Path) -> None:
    """A binary little-endian PLY, as MeshLab, CloudCompare, Blender and Open3D read it."""
    header = ("ply\nformat binary_little_endian 1.0\ncomment input coordinates; confidence: training views that agree\n"
              f"element vertex {len(cloud.points)}\n" + "".join(f"property {line}\n" for line in PROPERTIES) + "end_header\n")
    rows = np.empty(len(cloud.points), ROW)
    rows["xyz"], rows["normal"], rows["rgb"] = cloud.points, cloud.normals, to_bytes(cloud.colours)
    rows["confidence"] = cloud.views
    made_folder(out.parent)
    write_bytes(header.encode() + rows.tobytes(), out)
