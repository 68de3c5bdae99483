"""Which part of the world is exported: one box in input units, the same for every export.

Nobody has to give one: a bounded scene's is what there is, an unbounded one's what lies in the scene's cube. `auto` finds
the thing that all cameras look at, without what it stands on.
"""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from nerf_app.errors import DataError, UsageError
from nerf_app.export.clean import connected_parts
from nerf_app.export.depth_views import DepthView, depth_views, training_views
from nerf_app.picture import Picture, pixel_directions
from nerf_app.scene.camera import Camera
from nerf_app.scene.normalise import focus_point
from nerf_app.scene.paths import shown

if TYPE_CHECKING:
    from nerf_app.run import Run

MOST, FOCAL_PX = 32, 110.0  # small pictures that are looked at, and their pixels for a radian
STRAY = 0.05  # per cent of the points at each end of each axis that the box may miss
MARGIN = 0.03  # of the box's largest side, around what was seen
CELLS = 48  # along the way from a camera to what it looks at; parts that keep a cell's distance are things apart
FIRM = 0.25  # of the pictures that must see a surface in a cell of an unbounded scene, and more than look through it
STRIDES = np.array([1, 2 * CELLS + 3, (2 * CELLS + 3) ** 2])  # from a cell's number to its neighbours'
FLOOR_TRIES, FLOOR_POINTS = 1000, 4000
FLOOR_THICKNESS = 1.0  # cells up and down: what is so near to the floor belongs to it
FLOOR_SHARE, BELOW = 0.1, 0.6  # of the points on a floor at least; of those on it, under it at most


@dataclass(frozen=True)
class Box:
    """A box in input coordinates, turned in any way."""

    centre: np.ndarray  # [3]
    axes: np.ndarray  # [3, 3] rows: its unit directions, right-handed
    half_sizes: np.ndarray  # [3] input units, along the axes

    def contains(self, points: np.ndarray) -> np.ndarray:
        """[N, 3] input coordinates -> [N] bool."""
        return (np.abs((np.asarray(points) - self.centre) @ self.axes.T) <= self.half_sizes).all(-1)

    def __str__(self) -> str:
        sizes = " × ".join(f"{2 * half:.4g}" for half in self.half_sizes)
        return f"box of {sizes} input units around ({', '.join(f'{value:.4g}' for value in self.centre)})"


def parse_crop(text: str | None, run: "Run") -> Box:
    """The box of --crop: None for all there is, "auto", or "x0 y0 z0 x1 y1 z1" (commas will do) in input units."""
    if text is None:
        points = np.concatenate([view.points() for view in _small_views(run)])
        return _box_around(points[_cube(run).contains(points)], np.eye(3))
    if text.strip() == "auto":
        return _object_box(run)
    words = text.replace(",", " ").split()
    try:
        low, high = np.array(words, float).reshape(2, 3)
    except ValueError:
        low = high = np.full(3, np.nan)
    if not (np.isfinite([low, high]).all() and (low < high).all()):
        raise UsageError("--crop must be auto or six numbers x0 y0 z0 x1 y1 z1 in input units with x0 < x1, y0 < y1, z0 < z1; "
                         f"got {text!r}")
    return Box((low + high) / 2, np.eye(3), (high - low) / 2)


def clipped(picture: Picture, box: Box, camera: Camera, world_from_camera: np.ndarray) -> Picture:
    """A picture whose depths outside of the box are unknown: NaN, without confidence. Colour and alpha stay."""
    ways = pixel_directions(camera) @ world_from_camera[:3, :3].T
    is_in = box.contains(world_from_camera[:3, 3] + picture.range[..., None] * ways)  # NaN is not
    depths = {name: np.where(is_in, getattr(picture, name), np.float32(np.nan)) for name in ("z_depth", "range", "mean_range")}
    return replace(picture, confidence=np.where(is_in, picture.confidence, np.float32(0.0)), **depths)


def _cube(run: "Run") -> Box:
    """The scene's cube, which holds all of a bounded scene and the middle of any other."""
    return Box(run.normalisation.to_input(np.zeros(3)), np.eye(3), np.full(3, 1.0 / run.normalisation.scale))


def _small_views(run: "Run") -> list[DepthView]:
    """Small pictures from the training cameras, of what they see as far as the end of the scene's cube."""
    views = depth_views(run, training_views(run, MOST), lambda view: FOCAL_PX, _cube(run), lambda done: None)
    if not any(_cube(run).contains(view.points()).any() for view in views):
        raise DataError(f"{shown(run.folder)} shows nothing opaque to any training photo: train longer, or look at the photos "
                        "with `nerf-app check`.")
    return views


def _box_around(points: np.ndarray, axes: np.ndarray) -> Box:
    """The box with these axes around all but a few strays of the points, with a margin."""
    low, high = np.percentile(points @ axes.T, [STRAY, 100.0 - STRAY], axis=0)
    return Box((low + high) / 2 @ axes, axes, (high - low) / 2 + MARGIN * (high - low).max())


def _object_box(run: "Run") -> Box:
    """The box of what the cameras look at, cut off where it stands on a floor."""
    poses = np.stack([view.world_from_camera for view in run.views])
    focus = focus_point(poses)
    towards = focus - poses[:, :3, 3]
    distances = np.maximum(np.linalg.norm(towards, axis=1), 1e-12)
    looking = (-(towards * poses[:, :3, 2]).sum(1) > np.cos(np.pi / 6) * distances).mean()
    if looking < 0.6:
        raise DataError(f"--crop auto needs cameras that look at one thing, and only {100 * looking:.0f} % of these do: "
                        "give the box as six numbers, or leave --crop out.")
    radius = float(np.median(distances))
    cell = radius / CELLS
    points = _firm_points(_small_views(run), focus, radius, 0.0 if run.is_bounded else FIRM)
    floor = None if run.is_bounded else _find_floor(points, poses[:, :3, 3], cell)  # silhouettes hold no floor
    if floor is not None:
        points = points[points @ floor.up - floor.height > FLOOR_THICKNESS * cell]
    if len(points) == 0:
        raise DataError("--crop auto finds nothing opaque where the cameras look: give the box as six numbers, or train longer.")
    thing = _thing_at(points, focus, radius)
    return _box_around(thing, np.eye(3)) if floor is None else floor.cut(_box_around(thing, floor.axes()), cell)


@dataclass(frozen=True)
class _Floor:
    """The plane up · x = height that things stand on."""

    up: np.ndarray  # [3] unit vector
    height: float  # input units

    def axes(self) -> np.ndarray:
        """[3, 3] rows: the input axes, turned by as little as makes one of them `up` or its opposite."""
        target = np.eye(3)[np.abs(self.up).argmax()] * np.sign(self.up[np.abs(self.up).argmax()])
        turn = np.cross(np.eye(3), np.cross(target, self.up))  # Rodrigues: the matrix of the cross product
        return np.eye(3) - turn + turn @ turn / (1.0 + target @ self.up)

    def cut(self, box: Box, cell: float) -> Box:
        """A box with `axes`, made to reach from just above the floor, whatever it was at that end."""
        axis = int(np.abs(box.axes @ self.up).argmax())
        middle, half = box.centre @ self.up, box.half_sizes[axis]
        low, high = self.height + FLOOR_THICKNESS * cell / 2, middle + half
        halves = box.half_sizes.copy()
        halves[axis] = (high - low) / 2
        return Box(box.centre + ((low + high) / 2 - middle) * self.up, box.axes, halves)


def _find_floor(points: np.ndarray, cameras: np.ndarray, cell: float) -> _Floor | None:
    """The plane with most of the points [N, 3] on it, few behind it and every camera [V, 3] before it, if there is one (RANSAC).

    Which way is up decides nothing: photos are often taken with the camera on its side.
    """
    if len(points) == 0:
        return None
    rng = np.random.default_rng(0)
    some = points[rng.permutation(len(points))[:FLOOR_POINTS]]
    best, most = None, FLOOR_SHARE * len(some)
    for trio in some[rng.integers(0, len(some), (FLOOR_TRIES, 3))]:
        up = np.cross(trio[1] - trio[0], trio[2] - trio[0])
        up /= max(np.linalg.norm(up), 1e-30) * (np.sign((cameras[0] - trio[0]) @ up) or 1.0)
        heights = (some - trio[0]) @ up
        on = np.abs(heights) < FLOOR_THICKNESS * cell
        n_below = (heights < -2 * FLOOR_THICKNESS * cell).sum()
        if on.sum() > most and n_below < BELOW * on.sum() and ((cameras - trio[0]) @ up > 2 * FLOOR_THICKNESS * cell).all():
            best, most = some[on], on.sum()
    if best is None:
        return None
    middle = best.mean(0)
    up = np.linalg.svd(best - middle, full_matrices=False)[2][2]
    up *= np.sign((cameras[0] - middle) @ up)
    return _Floor(up, float(middle @ up))


def _cells_of(points: np.ndarray, focus: np.ndarray, radius: float) -> np.ndarray:
    """[N] int64: numbers of the cells that points within the radius lie in; neighbours differ by STRIDES."""
    return (np.floor((points - focus) * (CELLS / radius)).astype(np.int64) + CELLS + 1) @ STRIDES


def _firm_points(views: list[DepthView], focus: np.ndarray, radius: float, firm: float) -> np.ndarray:
    """Places [N, 3] near the focus where enough pictures see a surface: what few of them see, or most look through, is haze."""
    near = [points[np.linalg.norm(points - focus, axis=1) < radius] for points in (view.points() for view in views)]
    cells = [_cells_of(points, focus, radius) for points in near]
    keys, hits = np.unique(np.concatenate([np.unique(numbers) for numbers in cells]), return_counts=True)
    places = np.stack([keys // stride % STRIDES[1] for stride in STRIDES], 1) - CELLS - 0.5
    middles = focus + places * (radius / CELLS)
    passes = sum(view.looks_through(middles, 1.5 * radius / CELLS) for view in views) if firm else np.zeros(len(keys))
    is_firm = (hits >= firm * len(views)) & (hits > passes)
    return np.concatenate(near)[is_firm[np.searchsorted(keys, np.concatenate(cells))]]


def _thing_at(points: np.ndarray, focus: np.ndarray, radius: float) -> np.ndarray:
    """Of points [N, 3], the connected part that has the most of itself near the focus."""
    keys, cells = np.unique(_cells_of(points, focus, radius), return_inverse=True)
    pairs = []
    for step in (step for step in np.ndindex(3, 3, 3) if step > (1, 1, 1)):  # each neighbour once
        wanted = keys + (np.array(step) - 1) @ STRIDES
        found = np.searchsorted(keys, wanted).clip(max=len(keys) - 1)
        pairs.append(np.stack([np.arange(len(keys)), found], 1)[keys[found] == wanted])
    parts = connected_parts(len(keys), np.concatenate(pairs))[cells]  # [N]
    nearness = np.exp(-(4 * np.linalg.norm(points - focus, axis=1) / radius) ** 2)
    return points[parts == np.bincount(parts, nearness).argmax()]
