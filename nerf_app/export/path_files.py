"""Camera paths that other programs wrote: nerfstudio's camera_path.json, instant-ngp's path file, any transforms.json.

Which one a file is, its content tells. Everything becomes cameras in input coordinates with OpenGL axes; what a format
leaves open about its coordinates is decided here and said in a note.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import numpy as np

from nerf_app.errors import DataError, UsageError
from nerf_app.scene.camera import Camera, Lens
from nerf_app.scene.paths import read_file, shown
from nerf_app.scene.poses import checked_pose
from nerf_app.scene.settings import SceneSettings
from nerf_app.scene.sizes import PhotoHeader, fit_camera
from nerf_app.scene.transforms_file import frame_of, has_frames, read_transforms

if TYPE_CHECKING:
    from nerf_app.run import Run

MOST_FRAMES = 100_000  # nobody means more; a slip in the units does
MOST_FPS = 1000  # pictures a second
LARGEST_FILE = 256 << 20  # bytes
LARGEST_SIDE = 8192  # pixels: more than any player shows, less than what a picture library takes for an attack


@dataclass(frozen=True)
class PathCamera:
    """One picture to take."""

    camera: Camera
    world_from_camera: np.ndarray  # [4, 4] float64, input coordinates, OpenGL camera axes


@dataclass(frozen=True)
class CameraPath:
    """The pictures of a video in their order."""

    cameras: tuple[PathCamera, ...]
    fps: float
    notes: tuple[str, ...] = ()  # what was assumed, a line each, for the person who asked
    is_made_up: bool = False  # nobody placed its cameras


def frame_count(seconds: float, fps: float) -> int:
    """Pictures in so long a video, at least one."""
    if not (0 < seconds < np.inf and 0 < fps <= MOST_FPS):
        raise UsageError(f"a video needs --seconds above 0 and --fps above 0 and up to {MOST_FPS}, got {seconds} and {fps}")
    if seconds * fps > MOST_FRAMES:
        raise UsageError(f"--seconds {seconds} at --fps {fps} are more than {MOST_FRAMES} pictures: ask for fewer")
    return max(1, round(seconds * fps))


def pinhole(width: int, height: int, field: float, side: float) -> Camera:
    """A camera without distortion that sees `field` radians over `side` pixels."""
    focal = 0.5 * side / np.tan(0.5 * field)
    return Camera(width, height, float(focal), float(focal), width / 2, height / 2)


def fitted(camera: Camera, size: tuple[int, int]) -> Camera:
    """The same view on another canvas: enlarged until it touches, centred, and showing more on the sides that are left."""
    width, height = size
    if camera.lens.family == "equirectangular":
        return camera.resized(width, height)
    scale = min(width / camera.width, height / camera.height)
    return Camera(width, height, camera.focal_x_px * scale, camera.focal_y_px * scale,
                  camera.centre_x_px * scale + (width - camera.width * scale) / 2,
                  camera.centre_y_px * scale + (height - camera.height * scale) / 2, camera.lens)


def rotations_from_quaternions(quaternions: np.ndarray) -> np.ndarray:
    """[N, 4] (x, y, z, w) of any length but zero -> [N, 3, 3]."""
    x, y, z, w = (quaternions / np.linalg.norm(quaternions, axis=1, keepdims=True)).T
    rows = [[1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)]]
    return np.moveaxis(np.array(rows), 2, 0)


class _Head(msgspec.Struct):
    """The keys that tell the formats apart."""

    camera_path: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    path: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


def read_path_file(path: Path, run: "Run", default: Camera, size: tuple[int, int] | None,
                   seconds: float, fps: float) -> CameraPath:
    """The cameras of a path file, whichever program wrote it.

    Args:
        default: gives the size where neither `size` nor the file does.
        size: (width, height) asked for by name; it wins over the file's.
        seconds: for instant-ngp's files, where the length belongs to the rendering.
    """
    if has_frames(path):
        return _transforms(path, default, size, fps)
    head = _decoded(path, _Head)
    if head.camera_path is not msgspec.UNSET:
        return _nerfstudio(path, run, size, fps)
    if head.path is not msgspec.UNSET:
        return _instant_ngp(path, size or (default.width, default.height), seconds, fps)
    raise DataError(f"{shown(path)} is no camera path: it must hold camera_path (nerfstudio), path (instant-ngp) "
                    "or frames (transforms.json)")


def _decoded(path: Path, kind: type):
    """The file as `kind`; what does not fit is refused with the place in the file."""
    try:
        return msgspec.json.decode(read_file(path, LARGEST_FILE), type=kind)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise DataError(f"{shown(path)} cannot be used as a camera path: {shown(error)}; "
                        "correct that place or write the file again") from error


def _pose(matrix: np.ndarray, path: Path, place: str) -> np.ndarray:
    """[4, 4] with a true rotation; refused where it is none."""
    return checked_pose(matrix, f"{shown(path)}: {place}")[0]


# nerfstudio. Matrices by rows, in the frame of its own normalisation; fov is vertical, in degrees.

Side = Annotated[int, msgspec.Meta(ge=1, le=LARGEST_SIDE)]
Matrix = Annotated[list[float], msgspec.Meta(min_length=16, max_length=16)]
Row = tuple[float, float, float, float]


class _NerfstudioCamera(msgspec.Struct):
    camera_to_world: Matrix
    fov: float = 0.0


class _NerfstudioPath(msgspec.Struct):
    camera_path: list[_NerfstudioCamera]
    render_width: Side
    render_height: Side
    seconds: float | None = None
    camera_type: str = "perspective"
    crop: dict | None = None


class _DataparserTransforms(msgspec.Struct):
    transform: tuple[Row, Row, Row]
    scale: Annotated[float, msgspec.Meta(gt=0)]


LENSES = ("perspective", "fisheye", "equirectangular")  # nerfstudio's camera types that are lens families of ours


def _nerfstudio(path: Path, run: "Run", size: tuple[int, int] | None, fps: float) -> CameraPath:
    stated = _decoded(path, _NerfstudioPath)
    if stated.camera_type not in LENSES:
        raise DataError(f"{shown(path)}: camera_type must be {', '.join(LENSES[:-1])} or {LENSES[-1]}, "
                        f"got {shown(stated.camera_type)}; choose one in the viewer and write the path again")
    if not stated.camera_path:
        raise DataError(f"{shown(path)}: camera_path is empty; add cameras in nerfstudio's viewer and write the path again")
    to_input, notes = _from_nerfstudio(path, run)
    if stated.crop is not None:
        notes += ("the crop box of the camera path is left out",)
    cameras = []
    for i, entry in enumerate(stated.camera_path):
        pose = _pose(np.reshape(np.array(entry.camera_to_world), (4, 4)), path, f"camera_path[{i}].camera_to_world")
        camera = _nerfstudio_camera(stated, entry, size, f"{shown(path)}: camera_path[{i}]")
        cameras.append(PathCamera(camera, to_input(pose)))
    fps = len(cameras) / stated.seconds if stated.seconds else fps
    if not 0 < fps <= MOST_FPS:
        raise DataError(f"{shown(path)}: {len(cameras)} pictures in {stated.seconds} seconds are {fps:g} a second, "
                        f"it must be above 0 and up to {MOST_FPS}; correct seconds")
    return CameraPath(tuple(cameras), fps, notes)


def _nerfstudio_camera(stated: _NerfstudioPath, entry: _NerfstudioCamera, size: tuple[int, int] | None, place: str) -> Camera:
    width, height = size or (stated.render_width, stated.render_height)
    lens = Lens(stated.camera_type)
    if lens.family == "equirectangular":
        return Camera(width, height, width / 2, height, width / 2, height / 2, lens)
    if not 0.0 < entry.fov < 180.0:
        raise DataError(f"{place}.fov must lie between 0 and 180 degrees, got {entry.fov}; correct it")
    straight = pinhole(width, height, np.radians(entry.fov), height)  # nerfstudio takes this focal length for fisheyes too
    return Camera(width, height, straight.focal_x_px, straight.focal_y_px, width / 2, height / 2, lens)


def _from_nerfstudio(path: Path, run: "Run") -> tuple[Callable[[np.ndarray], np.ndarray], tuple[str, ...]]:
    """(pose in nerfstudio's normalised frame -> pose in input coordinates, notes).

    Only dataparser_transforms.json of nerfstudio's own run knows that frame: p_ns = scale · transform · [p; 1], with p in
    the coordinates *before* the applied_transform that our input coordinates have behind them.
    """
    beside = path.with_name("dataparser_transforms.json")
    if not beside.exists():
        return (lambda pose: pose), (f"{shown(path.name)} is taken to be in the coordinates of the photos' own file: "
                                     f"if the view is off, put {beside.name} of the nerfstudio run beside it",)
    stated = _decoded(beside, _DataparserTransforms)
    normalised_from_original = _pose(np.array([*stated.transform, (0, 0, 0, 1)], np.float64), beside, "transform")
    input_from_original = np.eye(4)
    if run.header.applied_transform is not None:
        input_from_original[:3] = run.header.applied_transform
    input_from_normalised = input_from_original @ np.linalg.inv(normalised_from_original)

    def to_input(pose: np.ndarray) -> np.ndarray:
        unscaled = pose.copy()
        unscaled[:3, 3] /= stated.scale
        return _pose(input_from_normalised @ unscaled, beside, "transform")  # takes an applied scale out of the rotation

    return to_input, (f"{shown(path.name)} is brought back by {beside.name} beside it",)


# instant-ngp. Keyframes in the unit cube, camera axes x right, y down, z forwards.

Vector = tuple[float, float, float]
NGP_SCALE, NGP_OFFSET = 0.33, (0.5, 0.5, 0.5)  # where the scene's transforms.json says nothing else


class _NgpKeyframe(msgspec.Struct):
    R: Row  # quaternion (x, y, z, w)
    T: Vector
    fov: Annotated[float, msgspec.Meta(gt=0, lt=180)]  # vertical, degrees
    timestamp: float = 0.0


class _NgpPath(msgspec.Struct):
    path: list[_NgpKeyframe]
    loop: bool = False
    spline_order: Annotated[int, msgspec.Meta(ge=0, le=3)] = 3


class _NgpScene(msgspec.Struct):
    scale: Annotated[float, msgspec.Meta(gt=0)] = NGP_SCALE
    offset: Vector | float = NGP_OFFSET  # a number stands for all three axes


def _instant_ngp(path: Path, size: tuple[int, int], seconds: float, fps: float) -> CameraPath:
    stated = _decoded(path, _NgpPath)
    if not stated.path:
        raise DataError(f"{shown(path)}: path is empty; add keyframes in instant-ngp and save the path again")
    keys = np.array([[*key.T, key.fov, *key.R] for key in stated.path])  # [K, 8]
    if not np.linalg.norm(keys[:, 4:], axis=1).min() > 0:
        raise DataError(f"{shown(path)}: R of every keyframe must be a quaternion other than 0; save the path again")
    beside = path.with_name("transforms.json")
    scene = _decoded(beside, _NgpScene) if beside.exists() else _NgpScene()
    count = frame_count(seconds, fps)
    cameras = []
    for frame in range(count):
        key = _between_keys(keys, *_position(stated, frame / count), stated)
        pose = _pose(_pose_from_ngp(key, scene), path, f"the camera at {frame / count:.3f} of the path")
        cameras.append(PathCamera(pinhole(*size, np.radians(key[3]), size[1]), pose))
    offset = ", ".join(f"{value:g}" for value in np.broadcast_to(scene.offset, 3))
    source = f"{beside.name} beside it" if beside.exists() else "its defaults"
    note = f"{shown(path.name)} is taken with instant-ngp's scale {scene.scale:g} and offset {offset} ({source})"
    return CameraPath(tuple(cameras), fps, (note,))


def _position(stated: _NgpPath, fraction: float) -> tuple[int, float]:
    """(piece, 0...1 inside it) at a fraction of the path. A keyframe's timestamp is the *end* of its piece."""
    count = len(stated.path)
    if count == 1:
        return 0, 0.0
    ends = np.array([key.timestamp for key in stated.path])
    if not (np.diff(ends, prepend=0.0) > 0).all():
        ends = np.arange(1.0, count + 1.0)
    last = count - 1 if stated.loop else count - 2
    at = fraction * ends[last]
    piece = min(int(np.searchsorted(ends, at, side="right")), last)
    start = ends[piece - 1] if piece > 0 else 0.0
    return piece, float((at - start) / (ends[piece] - start))


def _between_keys(keys: np.ndarray, piece: int, t: float, stated: _NgpPath) -> np.ndarray:
    """[8] blend of the four keyframes round a piece by instant-ngp's splines; all but order 1 and 0 only come near their keys."""
    weights = {
        0: (0.0, float(t < 0.5), float(t >= 0.5), 0.0),
        1: (0.0, 1 - t, t, 0.0),
        2: ((1 - t) ** 2 / 2, (1 + 2 * t - 2 * t * t) / 2, t * t / 2, 0.0),
        3: ((1 - t) ** 3 / 6, (4 - 6 * t * t + 3 * t**3) / 6, (1 + 3 * t + 3 * t * t - 3 * t**3) / 6, t**3 / 6),
    }[stated.spline_order]
    around = np.arange(piece - 1, piece + 3)
    four = keys[around % len(keys) if stated.loop else np.clip(around, 0, len(keys) - 1)].copy()
    for i in range(1, 4):  # the short way from each to the next: q and -q are one rotation
        if four[i, 4:] @ four[i - 1, 4:] < 0:
            four[i, 4:] *= -1
    return np.array(weights) @ four


def _pose_from_ngp(key: np.ndarray, scene: _NgpScene) -> np.ndarray:
    """[8] keyframe -> [4, 4] in input coordinates: rows cycled back, y and z of the camera turned, scale and offset undone."""
    pose = np.eye(4)
    pose[:3, :3] = rotations_from_quaternions(key[None, 4:])[0]
    pose[:3, 3] = key[:3]
    pose[:3] = pose[[2, 0, 1]]
    pose[:3, 1:3] *= -1
    pose[:3, 3] = (pose[:3, 3] - np.array(scene.offset)) / scene.scale
    return pose


# transforms.json of any kind, in the order of its frames.

def _transforms(path: Path, default: Camera, size: tuple[int, int] | None, fps: float) -> CameraPath:
    file = read_transforms(path)
    anywhere = SceneSettings(outside_root=path.absolute().anchor)  # the photos that the frames name are never opened
    cameras = []
    for index in range(len(file.stated.frames)):
        frame, _ = frame_of(file, index, anywhere)
        header = PhotoHeader(frame.camera.width or default.width, frame.camera.height or default.height)
        camera = fit_camera(f"{shown(path)}: {shown(frame.name)}", frame.camera, header).camera
        cameras.append(PathCamera(camera if size is None else fitted(camera, size), frame.world_from_camera))
    return CameraPath(tuple(cameras), fps)
