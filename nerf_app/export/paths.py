"""Where the camera goes: made-up paths around what was photographed, the training cameras, or a file.

A *direction* is a unit vector in input coordinates; cameras look along -z of their own axes. The *focus* is the point
where the training cameras' axes meet best.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from nerf_app.errors import DataError, UsageError
from nerf_app.export.path_files import (
    LARGEST_SIDE,
    CameraPath,
    PathCamera,
    fitted,
    frame_count,
    pinhole,
    read_path_file,
    rotations_from_quaternions,
)
from nerf_app.scene.camera import Camera
from nerf_app.scene.normalise import estimate_up
from nerf_app.scene.paths import shown
from nerf_app.scene.scene import Normalisation, View

if TYPE_CHECKING:
    from nerf_app.run import Run

LONGEST_SIDE = 1280  # pixels, where the user asks for no size
QUARTER = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])  # counter-clockwise, seen from behind the camera
WIDEST_FIELD = np.radians(75.0)  # of a made-up pinhole in place of a fisheye: wider ones only stretch the edges
SIDE = 0.5  # radians: so far apart photos count as of one side of an orbit
NEARER = 0.95  # than the photos of its side, stands an orbit in a space without end
KEYS_PER_SECOND = 2.0  # of training cameras that `interpolate` passes: more of them make the eye sick
MOST_KEYS = 400  # cameras that the search for a short tour looks at


def camera_path(kind: str, run: "Run", size: tuple[int, int] | None, seconds: float, fps: float) -> CameraPath:
    """The cameras of a video: `kind` is a name in PATHS or a file (nerfstudio, instant-ngp, transforms.json).

    Args:
        size: (width, height) in pixels; None: the file's, or that of the training cameras.
        seconds: of the made-up paths; files that state a length of their own keep it, `train` has one frame a photo.
    """
    frame_count(seconds, fps)
    if size is not None and not 1 <= min(size) <= max(size) <= LARGEST_SIDE:
        raise UsageError(f"--size must be 1×1 to {LARGEST_SIDE}×{LARGEST_SIDE} pixels, got {size[0]}×{size[1]}")
    if kind in PATHS:
        return PATHS[kind](run, size, seconds, fps)
    if not os.path.exists(kind):  # False also for what no file system can spell
        raise DataError(f"there is no camera path {shown(kind)}: --path takes {', '.join(PATHS)}, or a JSON file that exists")
    return read_path_file(Path(kind), run, made_up_camera(run, size), size, seconds, fps)


def made_up_camera(run: "Run", size: tuple[int, int] | None = None) -> Camera:
    """The pinhole of a made-up path: the median training camera's field of view over the short side, even sides.

    Where the photos lie on their side it stands upright.
    """
    cameras = [view.camera for view in _training_views(run)]
    if size is None:
        width, height = (float(np.median([getattr(camera, side) for camera in cameras])) for side in ("width", "height"))
        if quarter_turns(_training_poses(run)) % 2:
            width, height = height, width
        shrink = min(1.0, LONGEST_SIDE / max(width, height))
        size = tuple(2 * max(1, round(side * shrink / 2)) for side in (width, height))
    return pinhole(*size, float(np.median([_short_field(camera) for camera in cameras])), min(size))


def _short_field(camera: Camera) -> float:
    """Radians that a pinhole in the camera's place should see over its shorter side."""
    if camera.lens.family == "equirectangular":
        return WIDEST_FIELD
    focal = camera.focal_x_px if camera.width < camera.height else camera.focal_y_px
    field = 2.0 * np.arctan(min(camera.width, camera.height) / (2.0 * focal))
    return field if camera.lens.family == "perspective" else min(field, WIDEST_FIELD)


# What the training cameras say about the place.

@dataclass(frozen=True)
class Surround:
    """How the training cameras stand. All in input coordinates."""

    positions: np.ndarray  # [V, 3]
    forwards: np.ndarray  # [V, 3] directions
    up: np.ndarray  # [3] direction
    focus: np.ndarray  # [3]
    distance: float  # median from camera to focus
    is_inward: bool  # most cameras look at the focus; else they stand in the middle and look out


def survey(run: "Run") -> Surround:
    """Look at the training cameras once for all paths."""
    poses = _training_poses(run)
    positions, forwards = poses[:, :3, 3], -poses[:, :3, 2]
    focus = _focus(positions, forwards, run.normalisation)
    offsets = focus - positions
    distances = np.linalg.norm(offsets, axis=1)
    aims = np.sum(forwards * offsets, axis=1) / np.maximum(distances, 1e-12)
    up = np.asarray(run.up, np.float64)
    distance = max(float(np.median(distances)), 1e-9 / run.normalisation.scale)
    return Surround(positions, forwards, up / np.linalg.norm(up), focus, distance, bool(np.median(aims) > 0.5))


def _focus(positions: np.ndarray, forwards: np.ndarray, normalisation: Normalisation) -> np.ndarray:
    """[3] nearest to all axes, in the mean of squares; parallel axes leave it at the scene's centre."""
    across = np.eye(3) - forwards[:, :, None] * forwards[:, None, :]  # [V, 3, 3] takes away the part along the axis
    pull = 1e-3 * np.eye(3)  # a little towards the scene's centre decides what the axes leave open
    towards = np.mean(across @ positions[:, :, None], axis=0)[:, 0] + pull @ normalisation.centre
    return np.linalg.solve(np.mean(across, axis=0) + pull, towards)


def _training_views(run: "Run") -> list[View]:
    return [view for view in run.views if view.split == "train"] or list(run.views)


def _training_poses(run: "Run") -> np.ndarray:
    """[V, 4, 4] input coordinates."""
    return np.stack([np.asarray(view.world_from_camera, np.float64) for view in _training_views(run)])


def _upright_poses(run: "Run") -> np.ndarray:
    """The same, turned about their axes where the photos lie on their side."""
    poses = _training_poses(run)
    poses[:, :3, :3] = poses[:, :3, :3] @ np.linalg.matrix_power(QUARTER, quarter_turns(poses))
    return poses


def look(position: np.ndarray, forward: np.ndarray, up: np.ndarray) -> np.ndarray:
    """[4, 4] pose at a point [3], looking along `forward` [3], its horizon square to `up` [3]."""
    back = -forward / np.linalg.norm(forward)
    right = np.cross(up, back)
    if np.linalg.norm(right) < 1e-6:  # straight up or down: any horizon will do
        right = np.cross(np.eye(3)[np.argmin(np.abs(back))], back)
    right /= np.linalg.norm(right)
    pose = np.eye(4)
    pose[:3] = np.stack([right, np.cross(back, right), back, position], axis=1)
    return pose


# The made-up paths.

def orbit(run: "Run", size: tuple[int, int] | None, seconds: float, fps: float) -> CameraPath:
    """One full turn about the up axis, at the height and distance of the training cameras.

    Round an object the camera looks at the focus; where space has no end, it stands on each side as the photos of that side
    do, for behind them nothing was seen. In a room photographed from its middle the circle stays among the cameras and looks
    outwards, as they do.
    """
    around = survey(run)
    centre = around.focus if around.is_inward else np.median(around.positions, axis=0)
    offsets = around.positions - centre
    heights = offsets @ around.up
    flat = offsets - heights[:, None] * around.up
    reach = np.linalg.norm(flat, axis=1)
    first, second = _ground_axes(flat[np.argmax(reach > 0)], around.up)
    angles = 2.0 * np.pi * np.arange(frame_count(seconds, fps)) / frame_count(seconds, fps)
    if not around.is_inward:
        distances, elevations = np.full_like(angles, 0.5 * float(np.median(reach))), np.zeros_like(angles)
    elif run.is_bounded:
        distances = np.full_like(angles, around.distance)
        elevations = np.full_like(angles, np.clip(np.median(np.arctan2(heights, reach)), -1.4, 1.4))
    else:
        distances, elevations = _as_photos_stood(np.arctan2(flat @ second, flat @ first), np.arctan2(heights, reach),
                                                 np.linalg.norm(offsets, axis=1), angles)
    slope = float(np.clip(np.median(around.forwards @ around.up), -0.9, 0.9))  # sine of the pitch, for the way outwards
    poses = []
    for angle, distance, elevation in zip(angles, distances, elevations, strict=True):
        out = np.cos(angle) * first + np.sin(angle) * second
        position = centre + distance * (np.cos(elevation) * out + np.sin(elevation) * around.up)
        forward = centre - position if around.is_inward else np.sqrt(1.0 - slope * slope) * out + slope * around.up
        poses.append(look(position, forward, around.up))
    return CameraPath(_through(made_up_camera(run, size), poses), fps, _far_from_photos(poses, around), is_made_up=True)


def _as_photos_stood(azimuths: np.ndarray, elevations: np.ndarray, distances: np.ndarray,
                     angles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For directions [T] (radians) a distance and an elevation [T]: the mean of the photos' own [V], those about that way
    counting most, and a little nearer. It changes smoothly, and closes."""
    weights = np.exp((np.cos(angles[:, None] - azimuths) - 1.0) / SIDE**2)  # [T, V]
    weights /= weights.sum(1, keepdims=True)
    distance = np.exp(weights @ np.log(np.maximum(distances, 1e-9 * distances.max())))
    return NEARER * distance, np.clip(weights @ elevations, -1.4, 1.4)


def _ground_axes(towards: np.ndarray, up: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Two directions [3], [3] square to `up` and to each other, the first nearest to `towards`; counter-clockwise from above."""
    for candidate in (towards, *np.eye(3)):
        first = candidate - (candidate @ up) * up
        if np.linalg.norm(first) > 1e-3 * np.linalg.norm(candidate):
            first = first / np.linalg.norm(first)
            return first, np.cross(up, first)
    raise AssertionError("one of three axes is always square enough to a direction")


def _far_from_photos(poses: list[np.ndarray], around: Surround) -> tuple[str, ...]:
    """A note where a good part of the path is further from every training camera than most of the way to the focus."""
    places = np.stack(poses)[:, None, :3, 3]
    gaps = np.min(np.linalg.norm(places - around.positions, axis=2), axis=1)
    share = float(np.mean(gaps > 0.8 * around.distance))
    if share <= 0.2:
        return ()
    return (f"{share:.0%} of the orbit is far from every photo and shows what none of them saw; "
            "--path spiral or interpolate stays near them",)


def spiral(run: "Run", size: tuple[int, int] | None, seconds: float, fps: float) -> CameraPath:
    """LLFF's spiral: two turns in the plane of the mean camera, swaying along its axis, looking at the focus; closed."""
    around = survey(run)
    frame = _mean_pose(run, around)
    spread = np.percentile(np.abs((around.positions - frame[:3, 3]) @ frame[:3, :3]), 90, axis=0)  # [3] right, up, back
    ahead = (around.focus - frame[:3, 3]) @ -frame[:3, 2]
    depth = ahead if ahead > 0.1 * around.distance else 1.0 / run.normalisation.scale
    radii = np.clip(spread, 0.02 * depth, 0.3 * depth)  # cameras all round have no plane: stay near the one that stands for them
    target = np.array([0.0, 0.0, -depth])
    poses = []
    for turn in 4.0 * np.pi * np.arange(frame_count(seconds, fps)) / frame_count(seconds, fps):
        offset = radii * np.array([np.cos(turn), np.sin(turn), np.sin(turn / 2.0)])
        poses.append(frame @ look(offset, target - offset, np.array([0.0, 1.0, 0.0])))
    return CameraPath(_through(made_up_camera(run, size), poses), fps, is_made_up=True)


def _mean_pose(run: "Run", around: Surround) -> np.ndarray:
    """[4, 4] pose of the mean training camera; where they look many ways, of the one at the most usual height."""
    poses = _upright_poses(run)
    forward = np.mean(around.forwards, axis=0)
    if np.linalg.norm(forward) < 0.8:
        heights = around.positions @ around.up
        return poses[np.argmin(np.abs(heights - np.median(heights)))]
    return look(np.mean(around.positions, axis=0), forward, np.mean(poses[:, :3, 1], axis=0))


def interpolate(run: "Run", size: tuple[int, int] | None, seconds: float, fps: float) -> CameraPath:
    """A smooth way through the training cameras, in their order where that is a way, else along a short tour.

    Speed is steady for the eye: a frame's step counts its distance and its turn together.
    """
    around = survey(run)
    poses = _upright_poses(run)
    order = visiting_order(_places(poses, around.distance))
    keys = max(2, round(KEYS_PER_SECOND * seconds))
    if len(order) > keys:
        order = order[np.linspace(0, len(order) - 1, keys).round().astype(int)]
    through = smooth_poses(poses[order], around.distance, frame_count(seconds, fps))
    note = f"the path passes {len(order)} of {len(poses)} training cameras"
    return CameraPath(_through(made_up_camera(run, size), list(through)), fps, (note,), is_made_up=True)


def train(run: "Run", size: tuple[int, int] | None, seconds: float, fps: float) -> CameraPath:
    """The training cameras as they are, one frame each; with `size`, all fitted into it."""
    views = _training_views(run)
    cameras = tuple(PathCamera(view.camera if size is None else fitted(view.camera, size),
                               np.asarray(view.world_from_camera, np.float64)) for view in views)
    return CameraPath(cameras, fps)


def _through(camera: Camera, poses: list[np.ndarray]) -> tuple[PathCamera, ...]:
    return tuple(PathCamera(camera, pose) for pose in poses)


def quarter_turns(poses: np.ndarray) -> int:
    """How often cameras [V, 4, 4] must turn by `QUARTER` for most pictures to be upright, as their level horizons say."""
    up = estimate_up(poses)
    right, above = poses[:, :3, 0] @ up, poses[:, :3, 1] @ up
    votes = np.round(np.arctan2(-right, above) / (np.pi / 2)).astype(int) % 4
    return int(np.bincount(votes, np.hypot(right, above), 4).argmax())


# The way from camera to camera.

def visiting_order(places: np.ndarray) -> np.ndarray:
    """Indices of [V, D] points in an order that makes a way: as listed where that is not much longer than a short tour.

    The tour starts at the first point: always on to the nearest one, then pieces are turned round while that shortens it.
    Of very many points it takes evenly chosen ones.
    """
    chosen = np.linspace(0, len(places) - 1, min(len(places), MOST_KEYS)).round().astype(int)
    apart = np.linalg.norm(places[chosen, None] - places[None, chosen], axis=2)
    listed = np.arange(len(chosen))
    tour = _untangled(_nearest_next(apart), apart)
    is_way = _length(listed, apart) <= 1.5 * _length(tour, apart)
    return chosen[listed if is_way else tour]


def _length(order: np.ndarray, apart: np.ndarray) -> float:
    return float(apart[order[:-1], order[1:]].sum())


def _nearest_next(apart: np.ndarray) -> np.ndarray:
    """[V] order that starts at 0 and always goes on to the nearest point left."""
    order, is_left = [0], np.ones(len(apart), bool)
    for _ in range(len(apart) - 1):
        is_left[order[-1]] = False
        order.append(int(np.argmin(np.where(is_left, apart[order[-1]], np.inf))))
    return np.array(order)


def _untangled(order: np.ndarray, apart: np.ndarray) -> np.ndarray:
    """2-opt of an open way: turn round the piece from i on that gains most, until none gains anything."""
    order, is_shorter = order.copy(), True
    while is_shorter:
        is_shorter = False
        for i in range(1, len(order) - 1):
            before, start, ends = order[i - 1], order[i], order[i + 1:]
            cut = np.append(apart[ends[:-1], ends[1:]], 0.0)  # behind each possible end of the piece; the last has nothing behind
            joined = np.append(apart[start, ends[1:]], 0.0)
            gain = apart[before, start] + cut - apart[before, ends] - joined
            best = int(np.argmax(gain))
            if gain[best] > 1e-9 * apart.max():
                order[i:i + best + 2] = order[i:i + best + 2][::-1].copy()
                is_shorter = True
    return order


def smooth_poses(keys: np.ndarray, distance: float, count: int) -> np.ndarray:
    """[count, 4, 4] poses on a smooth way through the key poses [K, 4, 4], evenly spaced in distance and turn.

    Centripetal Catmull-Rom of position and quaternion. `distance` in input units is what a turn of one radian weighs.
    """
    steps = np.linalg.norm(np.diff(_places(keys, distance), axis=0), axis=1)
    keys = keys[np.append(True, steps > 1e-9 * distance)]  # who stands still for a key has no direction there
    if len(keys) == 1:
        return np.repeat(keys, count, axis=0)
    knots = np.append(0.0, np.cumsum(np.sqrt(steps[steps > 1e-9 * distance])))
    values = np.concatenate([keys[:, :3, 3], _aligned(quaternions_from_rotations(keys[:, :3, :3]))], axis=1)  # [K, 7]
    finely = np.interp(np.linspace(0, len(keys) - 1, 64 * (len(keys) - 1) + 1), np.arange(len(keys)), knots)
    dense = _poses(_hermite(finely, knots, values))
    gone = np.append(0.0, np.cumsum(np.linalg.norm(np.diff(_places(dense, distance), axis=0), axis=1)))
    return _poses(_hermite(np.interp(np.linspace(0.0, gone[-1], count), gone, finely), knots, values))


def _places(poses: np.ndarray, distance: float) -> np.ndarray:
    """[V, 4, 4] -> [V, 6] points whose distances count way and turn: position, and where the camera looks at `distance`."""
    return np.concatenate([poses[:, :3, 3], -distance * poses[:, :3, 2]], axis=1)


def _hermite(at: np.ndarray, knots: np.ndarray, values: np.ndarray) -> np.ndarray:
    """[N] parameters -> [N, D]: cubic through `values` [K, D] at `knots` [K], its slopes those of the parabolas through three."""
    slopes = np.gradient(values, knots, axis=0)
    piece = np.clip(np.searchsorted(knots, at, side="right") - 1, 0, len(knots) - 2)
    width = (knots[piece + 1] - knots[piece])[:, None]
    t = (at - knots[piece])[:, None] / width
    start, end = values[piece], values[piece + 1]
    rise = t * t * (3.0 - 2.0 * t)
    return start + rise * (end - start) + width * t * (1.0 - t) * ((1.0 - t) * slopes[piece] - t * slopes[piece + 1])


def _poses(values: np.ndarray) -> np.ndarray:
    """[N, 7] positions and quaternions of any length -> [N, 4, 4]."""
    poses = np.tile(np.eye(4), (len(values), 1, 1))
    poses[:, :3, 3] = values[:, :3]
    poses[:, :3, :3] = rotations_from_quaternions(values[:, 3:])
    return poses


def quaternions_from_rotations(rotations: np.ndarray) -> np.ndarray:
    """[K, 3, 3] -> [K, 4] unit (x, y, z, w): the main axis of Bar-Itzhack's matrix, well-behaved at every angle."""
    r = rotations
    matrix = np.empty((len(r), 4, 4))
    matrix[:, :3, :3] = r + r.transpose(0, 2, 1)
    trace = np.trace(r, axis1=1, axis2=2)
    matrix[:, [0, 1, 2], [0, 1, 2]] -= trace[:, None]
    twist = np.stack([r[:, 2, 1] - r[:, 1, 2], r[:, 0, 2] - r[:, 2, 0], r[:, 1, 0] - r[:, 0, 1]], axis=1)
    matrix[:, 3, :3] = matrix[:, :3, 3] = twist
    matrix[:, 3, 3] = trace
    return np.linalg.eigh(matrix)[1][:, :, -1]


def _aligned(quaternions: np.ndarray) -> np.ndarray:
    """Signs chosen so that each turns into the next the short way."""
    dots = np.sum(quaternions[1:] * quaternions[:-1], axis=1)
    return quaternions * np.append(1.0, np.cumprod(np.where(dots < 0.0, -1.0, 1.0)))[:, None]


PATHS = {"orbit": orbit, "spiral": spiral, "interpolate": interpolate, "train": train}
