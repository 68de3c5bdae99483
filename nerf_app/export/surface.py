"""TRAINED FIELD → SURFACE, in two ways, both on one grid of voxels over the crop box.

`tsdf_surface` renders depth from the training cameras and takes the mean over them of how far in front of what they see
each voxel lies (Curless and Levoy 1996). `density_surface` follows one value of the density itself. The first is the
default: what cameras see is what training was about, while density inside of things is anybody's guess.
"""

import math
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from nerf_app.errors import DataError, ResourceError
from nerf_app.export.clean import with_normals
from nerf_app.export.crop import Box
from nerf_app.export.depth_views import DepthView, depth_views, training_views
from nerf_app.export.mesh import Mesh
from nerf_app.scene.scene import View

if TYPE_CHECKING:
    from nerf_app.run import Run

MOST_VIEWS = 100  # that are rendered
VOXELS = 12_000_000  # of a grid whose resolution nobody asked for
FAINTEST = 2.0  # per cent of the surfaces that cameras see, which `density_surface` may miss
AGREEING = {True: 1, False: 3}  # pictures that must see a surface at a place, by is_bounded: what was cut out is sure
CLEAR = 0.99  # truncations before all surfaces on average: free
TRUNCATION = 5  # voxels: how far from a surface a depth still counts
BLOCK = 2  # voxels along the edge of what is looked at or not
VOXEL_BYTES = 40  # of memory, at the worst moment
ELSEWHERE_BYTES = 400 << 20
CHUNK = 1 << 17  # voxels that one thread works on


@dataclass(frozen=True)
class Grid:
    """Voxels over a box: voxel (i, j, k) is the point `origin + (i, j, k) · edge` along the box's axes."""

    box: Box
    edge: float  # input units
    counts: tuple[int, int, int]

    @classmethod
    def over(cls, box: Box, resolution: int | None) -> "Grid":
        """So many voxels along the box's longest side; None: about VOXELS in all. ResourceError where they do not fit."""
        sizes = 2 * box.half_sizes
        edge = float(sizes.max() / resolution if resolution else (sizes.prod() / VOXELS) ** (1 / 3))
        counts = tuple(max(2, math.ceil(size / edge - 1e-6) + 1) for size in sizes)
        needed, free = math.prod(counts) * VOXEL_BYTES + ELSEWHERE_BYTES, free_memory()
        if needed > free:
            fitting = int(max(counts) * (max(free - ELSEWHERE_BYTES, 0) / (needed - ELSEWHERE_BYTES)) ** (1 / 3)) - 2
            raise ResourceError(f"a resolution of {max(counts) - 1} needs {needed / 1e9:.1f} GB of memory for "
                                f"{' × '.join(map(str, counts))} voxels, and {free / 1e9:.1f} GB are free: "
                                f"use --resolution {max(fitting, 16)}, or a smaller --crop.")
        return cls(box, edge, counts)

    def points(self, steps: np.ndarray) -> np.ndarray:
        """Places [N, 3], counted in voxels, -> input coordinates."""
        low = -self.edge * (np.array(self.counts) - 1) / 2
        return (low + self.edge * steps) @ self.box.axes + self.box.centre

    def steps(self, points: np.ndarray) -> np.ndarray:
        """The inverse of `points`."""
        return (points - self.box.centre) @ self.box.axes.T / self.edge + (np.array(self.counts) - 1) / 2


def tsdf_surface(run: "Run", box: Box, resolution: int | None, on_progress: Callable[[int, int], None]) -> Mesh:
    """The surface that the training cameras see, open where none of them looks; with `depth_spread`.

    Args:
        resolution: voxels along the box's longest side; None chooses.
    """
    grid = Grid.over(box, resolution)
    views = depths_over(run, grid, on_progress)
    places = _near_surface(grid, views)
    sums = _fuse(grid, views, places, run.backend.threads)
    weight, mean, square, surface = (_dense(grid, places, values) for values in sums.unbind(1))
    spread = np.sqrt(np.maximum(square / np.maximum(weight, 1e-6) - (mean / np.maximum(weight, 1e-6)) ** 2, 0.0))
    is_known = (weight > 0) & ((surface >= min(AGREEING[run.is_bounded], len(views))) | (mean > CLEAR * weight))
    del square, surface
    for axis in range(3):
        weight, mean = _smoothed(weight, axis), _smoothed(mean, axis)
    values = np.where(is_known, mean / np.maximum(weight, 1e-6), 1.0).astype(np.float32)
    mesh = _marched(grid, values, 0.0, is_known)
    nearest = tuple(np.rint(grid.steps(mesh.vertices)).astype(int).T)
    return replace(mesh, depth_spread=(spread[nearest] * TRUNCATION * grid.edge).astype(np.float32))


def density_surface(run: "Run", box: Box, resolution: int | None, on_progress: Callable[[int, int], None]) -> Mesh:
    """Where the density reaches what it has at all but the faintest surfaces that cameras see. Arguments as above."""
    grid = Grid.over(box, resolution)
    views = depths_over(run, grid, on_progress)
    places = _near_surface(grid, views)
    seen = np.concatenate([view.points() for view in views])
    seen = seen[box.contains(seen)]
    level = np.percentile(_log_density(run, seen[:: max(1, len(seen) // 100_000)]), FAINTEST)
    values = np.concatenate([_log_density(run, grid.points(_unravelled(part, grid))) for part in
                             np.array_split(places, math.ceil(len(places) / CHUNK))])
    is_known = _dense(grid, places, torch.ones(len(places))) > 0
    return _marched(grid, -_dense(grid, places, torch.from_numpy(values)), -float(level), is_known)


def free_memory() -> int:
    """Bytes that this process may still take, as far as the machine says."""
    free = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    for line in _lines("/proc/meminfo"):
        if line.startswith("MemAvailable:"):
            free.append(int(line.split()[1]) * 1024)
    limit, used = _lines("/sys/fs/cgroup/memory.max"), _lines("/sys/fs/cgroup/memory.current")
    if limit and used and limit[0].isdecimal():
        free.append(int(limit[0]) - int(used[0]))
    return min(free)


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []


def depths_over(run: "Run", grid: Grid, on_progress: Callable[[int, int], None]) -> list[DepthView]:
    """Pictures of the training cameras, as fine as the voxels that they see."""
    views = training_views(run, MOST_VIEWS)
    reach = np.linalg.norm(grid.box.half_sizes)

    def focal_px(view: View) -> float:
        distance = np.linalg.norm(view.world_from_camera[:3, 3] - grid.box.centre)
        return max(distance, reach / 2) / grid.edge

    found = depth_views(run, views, focal_px, grid.box, lambda done: on_progress(done, len(views)))
    if not any(grid.box.contains(view.points()).any() for view in found):
        raise DataError(f"no training photo sees anything opaque in the crop {grid.box}: move or widen --crop, or leave it out; "
                        "if that is no help, train longer.")
    return found


def _near_surface(grid: Grid, views: list[DepthView]) -> np.ndarray:
    """[N] int64: numbers of the voxels within TRUNCATION of a place where some camera sees a surface, by blocks."""
    blocks = np.zeros([math.ceil(count / BLOCK) for count in grid.counts], bool)
    for view in views:
        steps = np.rint(grid.steps(view.points())).astype(np.int64)
        steps = steps[((steps >= 0) & (steps < grid.counts)).all(1)]
        blocks[tuple((steps // BLOCK).T)] = True
    for axis in range(3):
        grown, source = np.moveaxis(blocks.copy(), axis, 0), np.moveaxis(blocks, axis, 0)
        for shift in range(1, math.ceil(TRUNCATION / BLOCK) + 1):
            grown[shift:] |= source[:-shift]
            grown[:-shift] |= source[shift:]
        blocks = np.moveaxis(grown, 0, axis)
    corners = np.argwhere(blocks) * BLOCK
    steps = (corners[:, None] + np.array(list(product(range(BLOCK), repeat=3)))).reshape(-1, 3)
    steps = steps[(steps < grid.counts).all(1)]
    return np.ravel_multi_index(tuple(steps.T), grid.counts)


def _unravelled(places: np.ndarray, grid: Grid) -> np.ndarray:
    return np.stack(np.unravel_index(places, grid.counts), 1)


def _dense(grid: Grid, places: np.ndarray, values: Tensor) -> np.ndarray:
    """[N] -> the whole grid float32, 0 elsewhere."""
    dense = np.zeros(grid.counts, np.float32)
    dense.reshape(-1)[places] = values.numpy()
    return dense


def _fuse(grid: Grid, views: list[DepthView], places: np.ndarray, threads: int) -> Tensor:
    """Over the views that have a say at a voxel: how many, the sum of their distances and of the squares, and how many of
    them see a surface within the truncation: [N, 4].

    A distance is that from the voxel to what the view sees, along its axis, in units of the truncation, at most 1.
    """
    cells = [_cells(view, TRUNCATION * grid.edge) for view in views]

    def work(part: np.ndarray) -> Tensor:
        points = torch.from_numpy(grid.points(_unravelled(part, grid)) - grid.box.centre).float()
        sums = torch.zeros(len(part), 4)
        for view, cell in zip(views, cells, strict=True):
            distance, has_say = _distances(view, cell, points, grid)
            distance = torch.where(has_say, distance.clamp(max=1.0), 0.0)
            sums += torch.stack([has_say.float(), distance, distance**2, (has_say & (distance < 1.0)).float()], 1)
        return sums

    with ThreadPoolExecutor(threads) as pool:
        return torch.cat(list(pool.map(work, np.array_split(places, math.ceil(len(places) / CHUNK)))))


def _cells(view: DepthView, truncation: float) -> tuple[Tensor, Tensor]:
    """Between four pixels each: their depths [(H-1)·(W-1), 4], and whether they belong to one surface or all to none.

    Between a thing and what lies behind it neither is there: no skirt is drawn from one to the other.
    """
    d = torch.from_numpy(view.depth)
    four = torch.stack([d[:-1, :-1], d[:-1, 1:], d[1:, :-1], d[1:, 1:]], -1).reshape(-1, 4)
    near, far = four.amin(1), four.amax(1)
    return four, (near == far) | (far - near < truncation)  # NaN is neither, infinity minus itself is NaN


def _distances(view: DepthView, cell: tuple[Tensor, Tensor], points: Tensor, grid: Grid) -> tuple[Tensor, Tensor]:
    """How far in front of the view's surface points [N, 3] (from the box's centre) lie, in truncations, and has_say [N]."""
    four, is_one = cell
    camera, (height, width) = view.camera, view.depth.shape
    turn = torch.from_numpy(view.world_from_camera[:3, :3]).float()
    there = (points - torch.from_numpy(view.world_from_camera[:3, 3] - grid.box.centre).float()) @ turn
    z = -there[:, 2]
    scale = camera.focal_x_px / z.clamp(min=1e-12)
    x, y = there[:, 0] * scale + (camera.centre_x_px - 0.5), camera.centre_y_px - 0.5 - there[:, 1] * scale
    is_inside = (z > 0) & (x >= 0) & (x < width - 1) & (y >= 0) & (y < height - 1)
    column, row = (where.nan_to_num(0.0).clamp(0, size - 2).long() for where, size in ((x, width), (y, height)))
    index = row * (width - 1) + column
    a, b, c, d = four[index].unbind(1)
    fx, fy = x - column, y - row
    depth = torch.lerp(torch.lerp(a, b, fx), torch.lerp(c, d, fx), fy)
    depth = torch.where(torch.isinf(a), a, depth)
    nearest = torch.minimum(torch.minimum(a, b), torch.minimum(c, d))
    is_one = is_one[index]
    distance = (torch.where(is_one, depth, nearest) - z) / (TRUNCATION * grid.edge)
    return distance, is_inside & (distance > torch.where(is_one, -1.0, 1.0))  # across an edge only what is clear before both


def _smoothed(values: np.ndarray, axis: int) -> np.ndarray:
    """The mean of neighbours 1 : 2 : 1 along an axis."""
    out, source = np.moveaxis(values.copy(), axis, 0), np.moveaxis(values, axis, 0)
    out[1:-1] += 0.5 * (source[:-2] + source[2:])
    out[1:-1] *= 0.5
    return np.moveaxis(out, 0, axis)


def _marched(grid: Grid, values: np.ndarray, level: float, is_known: np.ndarray) -> Mesh:
    """Marching cubes where all eight corners are known; values grow outwards."""
    from skimage.measure import marching_cubes

    whole = is_known
    for axis in range(3):
        source = np.moveaxis(whole, axis, 0)
        both = np.zeros_like(source)
        both[1:] = source[1:] & source[:-1]
        whole = np.moveaxis(both, 0, axis)
    try:
        vertices, faces, _, _ = marching_cubes(values, level, mask=whole, gradient_direction="descent", allow_degenerate=False)
    except (ValueError, RuntimeError) as error:  # nothing crosses the level
        raise DataError(f"there is no surface in the crop {grid.box}: move or widen --crop, or train longer.") from error
    vertices = grid.points(vertices.astype(np.float64))
    return with_normals(Mesh(vertices, faces.astype(np.int32), np.zeros(vertices.shape, np.float32)))


def _log_density(run: "Run", points: np.ndarray) -> np.ndarray:
    """[N, 3] input coordinates -> [N] float32, in which density is as good as straight between voxels."""
    scene = torch.from_numpy(run.normalisation.to_scene(points)).float().to(run.backend.device)
    return torch.log(run.model.density(run.model.space.to_unit(scene)).clamp(min=1e-6)).cpu().numpy()
