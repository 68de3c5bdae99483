"""One JSON file of the transforms family, as text, and what its entries mean for a frame.

Blender, nerfstudio and instant-ngp write the same keys with different meanings. A key that only one of the tools
writes tells the flavour; a file without any is read as nerfstudio's, with instant-ngp's tolerance for spelling.
"""

import json
import math
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from nerf_app.errors import DataError
from nerf_app.scene.camera import Lens
from nerf_app.scene.listing import Frame, StatedCamera
from nerf_app.scene.paths import inside, name_of, photo, photos_in, read_file, shown
from nerf_app.scene.poses import checked_pose
from nerf_app.scene.settings import SceneSettings

LARGEST_FILE = 64 << 20  # bytes: some 40,000 photos
LARGEST_SIDE = 1_000_000  # pixels
NERFSTUDIO_KEYS = {"camera_model", "distortion_params", "fisheye_crop_radius", "orientation_override", "applied_transform",
                   "applied_scale", "ply_file_path", "train_filenames", "val_filenames", "test_filenames",
                   "mask_path", "depth_file_path", "colmap_im_id"}
INSTANT_NGP_KEYS = {"aabb_scale", "scale", "offset", "aabb", "render_aabb", "up", "n_extra_learnable_dims", "is_fisheye",
                    "from_mitsuba", "normal_mts_args", "white_transparent", "black_transparent", "sharpen",
                    "sharpness_discard_threshold", "n_frames", "importance_sampling", "envmap", "integer_depth_scale",
                    "enable_depth_loading", "enable_ray_loading", "fix_premult", "x_fov", "y_fov", "latlong",
                    "equirectangular", "orthographic", "ftheta_p0", "rolling_shutter", "sharpness", "depth_path",
                    "driver_parameters", "transform_matrix_start", "transform_matrix_end"}
UNREADABLE_KEYS = {"ftheta_p0": "an f-theta lens", "orthographic": "an orthographic camera", "from_mitsuba": "Mitsuba's axes",
                   "normal_mts_args": "Mitsuba's axes", "transform_matrix_start": "a camera that moves",
                   "transform_matrix_end": "a camera that moves",
                   "equirectangular": "an equal-area panorama (\"equirectangular\"; \"latlong\" is read)",
                   "rolling_shutter": "a rolling shutter"}
PERSPECTIVE_MODELS = ("SIMPLE_PINHOLE", "PINHOLE", "SIMPLE_RADIAL", "RADIAL", "OPENCV")
OLD_APPLIED_TRANSFORM = [[0.0, 1.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0], [0.0, 0.0, -1.0, 0.0]]
NUMBERS_OF_DISTORTION = 6  # nerfstudio's distortion_params: k1 k2 k3 k4 p1 p2


class Intrinsics(msgspec.Struct, kw_only=True):
    """What may stand for all photos or in a photo's own entry."""

    w: float | None = None  # pixels; some tools write 605.0
    h: float | None = None
    fl_x: float | None = None  # pixels
    fl_y: float | None = None
    camera_angle_x: float | None = None  # radians
    camera_angle_y: float | None = None
    x_fov: float | None = None  # degrees
    y_fov: float | None = None
    cx: float | None = None
    cy: float | None = None
    k1: float | None = None
    k2: float | None = None
    k3: float | None = None
    k4: float | None = None
    p1: float | None = None
    p2: float | None = None
    distortion_params: list[float] | None = None
    latlong: object = None  # whatever is written there switches it on
    camera_model: str | None = None
    is_fisheye: bool | None = None


class Entry(Intrinsics, kw_only=True):
    """One element of "frames"."""

    file_path: str
    transform_matrix: list[list[float]]
    mask_path: str | None = None
    depth_file_path: str | None = None
    depth_path: str | None = None


class Stated(Intrinsics, kw_only=True):
    """The whole file; keys that do not concern us are passed over."""

    frames: list[Entry]
    applied_transform: list[list[float]] | None = None
    applied_scale: float | None = None
    up: object = None  # instant-ngp's is a direction, other tools' is looked at by nobody
    integer_depth_scale: float | None = None
    ply_file_path: str | None = None
    train_filenames: list[str] | None = None
    val_filenames: list[str] | None = None
    test_filenames: list[str] | None = None


FOCAL = ("fl_x", "fl_y", "camera_angle_x", "camera_angle_y", "x_fov", "y_fov")
DISTORTION = ("k1", "k2", "k3", "k4", "p1", "p2", "distortion_params", "latlong")


@dataclass(frozen=True)
class TransformsFile:
    """A file that was parsed, and the flavour that its keys give away."""

    path: Path
    stated: Stated
    keys: frozenset[str]  # of the file and of its entries
    is_nerfstudio: bool
    is_instant_ngp: bool


def has_frames(path: Path) -> bool:
    """Whether a file looks like one of the family: a cheap look at its bytes."""
    try:
        text = read_file(path, LARGEST_FILE)
    except DataError:
        return False
    return b'"frames"' in text and b'"transform_matrix' in text


def why_no_frames(path: Path) -> str | None:
    """What a file of the right name lacks; None where there is none, or where nothing lacks."""
    if not os.path.isfile(path) or has_frames(path):
        return None
    try:
        is_empty = re.search(rb'"frames"\s*:\s*\[\s*\]', read_file(path, LARGEST_FILE)) is not None
    except DataError as error:
        return str(error)
    what = "lists no photos: its \"frames\" are empty" if is_empty else "is there but has no frames with a transform_matrix"
    return f"{shown(path.name)} {what}"


def read_transforms(path: Path) -> TransformsFile:
    """The parsed file. JSON that is malformed, says a key twice, holds NaN or no frames is a DataError."""
    text = _without_comments(read_file(path, LARGEST_FILE).removeprefix(b"\xef\xbb\xbf"))
    try:
        plain = json.loads(text.decode("utf-8"), object_pairs_hook=_without_twins, parse_int=float)
        keys = frozenset(plain) | frozenset(key for entry in plain["frames"] for key in entry)
        unreadable = [UNREADABLE_KEYS[key] for key in UNREADABLE_KEYS if _is_on(key, plain)]
        if unreadable and not keys & NERFSTUDIO_KEYS:
            raise DataError(f"{shown(path)} describes {unreadable[0]}, which is not supported: "
                            "undistort the photos to a camera that is.")
        stated = msgspec.json.decode(text, type=Stated)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise _unreadable(path, text, error) from None
    if not stated.frames:
        raise DataError(f"{shown(path)} lists no photos: its \"frames\" are empty.")
    is_nerfstudio = bool(keys & NERFSTUDIO_KEYS)
    return TransformsFile(path, stated, keys, is_nerfstudio, not is_nerfstudio and bool(keys & INSTANT_NGP_KEYS))


def _unreadable(path: Path, text: bytes, error: Exception) -> DataError:
    """The DataError for text that `json` or msgspec refused; msgspec's own words where it refuses too: they name the place."""
    try:
        msgspec.json.decode(text, type=Stated)
    except (ValueError, RecursionError) as precise:
        error = precise
    found = re.search(rb"\b(NaN|-?Infinity)\b", text)
    if found:  # what Python writes for such numbers, and JSON has no word for
        before = text[:found.start()]
        photos = re.findall(rb'"file_path"\s*:\s*"([^"]*)"', before)
        near = f", after the photo {shown(photos[-1].decode(errors='replace'))}" if photos else ""
        line = before.count(bytes([10])) + 1
        return DataError(f"{shown(path)} line {line}{near}: numbers must be finite, got {found[0].decode()}. "
                         "Correct this pose, or delete its photo's entry.")
    return DataError(f"{shown(path)} cannot be used: {shown(error)}. Correct the file or write it anew.")


def _without_comments(text: bytes) -> bytes:
    """JSON with // and /* */ blanked out, as instant-ngp allows them. In linear time, whatever comes."""
    token = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?|//[^\n]*+|/\*.*?(?:\*/|\Z)'
    return re.sub(token, lambda found: found[0] if found[0].startswith(b'"') else b" ", text, flags=re.DOTALL)


def _without_twins(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """A JSON object; a key that stands twice is refused, for nobody can know which one was meant."""
    whole = dict(pairs)
    if len(whole) < len(pairs):
        seen: set[str] = set()
        twin = next(key for key, _ in pairs if key in seen or seen.add(key))
        raise ValueError(f"the key {twin!r} stands twice in one object")
    return whole


def _is_on(key: str, plain: dict) -> bool:
    """Whether a key that switches something on does so, in the file or in one of its entries."""
    values = [block[key] for block in (plain, *plain["frames"]) if key in block]
    return any(value and not (isinstance(value, list) and not any(value)) for value in values)


def frame_of(file: TransformsFile, index: int, settings: SceneSettings, default_suffix: str = "") -> tuple[Frame, str | None]:
    """One entry as a frame whose paths are certain to stay in the file's folder, and what had to be mended in its pose."""
    entry, root = file.stated.frames[index], file.path.parent
    where = f"{shown(file.path.name)}: frames[{index}] ({shown(entry.file_path, 80)})"
    pose, note = checked_pose(entry.transform_matrix, where)

    def spelled(path: str) -> str:
        return path if file.is_nerfstudio else path.replace("\\", "/")

    path = photo(root, spelled(entry.file_path), settings, where, default_suffix)
    depth, depth_scale = entry.depth_file_path, 1e-3
    if not depth and (file.stated.integer_depth_scale or 0.0) > 0.0:
        depth, depth_scale = entry.depth_path, file.stated.integer_depth_scale
    return Frame(name=name_of(root, path), path=path, world_from_camera=pose, camera=_camera(file, entry, where),
                 mask=inside(root, spelled(entry.mask_path), settings, where) if entry.mask_path else None,
                 depth=inside(root, spelled(depth), settings, where) if depth else None,
                 depth_scale=depth_scale), note


def _camera(file: TransformsFile, entry: Entry, where: str) -> StatedCamera:
    """An entry's own words win over the file's, group by group: size, focal lengths, centre, distortion."""
    whole = file.stated
    size, focal, lens = (_saying(names, entry, whole) for names in (("w", "h"), FOCAL, DISTORTION))
    width, height = (_side(value, where) for value in (size.w, size.h))
    focal_x, angle_x = _focal_or_angle(focal.fl_x, focal.camera_angle_x, focal.x_fov)
    focal_y, angle_y = _focal_or_angle(focal.fl_y, focal.camera_angle_y, focal.y_fov)
    is_fisheye = bool(whole.is_fisheye if entry.is_fisheye is None else entry.is_fisheye)
    model = entry.camera_model or whole.camera_model or ("OPENCV_FISHEYE" if is_fisheye else "OPENCV")
    return StatedCamera(width, height, focal_x, focal_y, whole.cx if entry.cx is None else entry.cx,
                        whole.cy if entry.cy is None else entry.cy, angle_x, angle_y,
                        _instant_ngp_lens(lens, is_fisheye) if file.is_instant_ngp else _nerfstudio_lens(lens, model, where))


def _saying(names: tuple[str, ...], entry: Entry, whole: Stated) -> Intrinsics:
    """Whoever of the two says something about a group: the entry first."""
    return entry if any(getattr(entry, name) is not None for name in names) else whole


def _side(pixels: float | None, where: str) -> int | None:
    if pixels is None:
        return None
    if not 1 <= pixels <= LARGEST_SIDE:
        raise DataError(f"{where}: \"w\" and \"h\" must lie between 1 and {LARGEST_SIDE} pixels, not {pixels:g}: correct them.")
    return round(pixels)


def _focal_or_angle(focal_px: float | None, radians: float | None, degrees: float | None) -> tuple[float | None, float | None]:
    """(pixels, None) or (None, radians) of one axis, the most trusted first, as instant-ngp takes them."""
    if degrees is not None:
        return None, math.radians(degrees)
    return (focal_px, None) if focal_px is not None else (None, radians)


def _nerfstudio_lens(stated: Intrinsics, model: str, where: str) -> Lens:
    """k1…k4 are factors of r² r⁴ r⁶ r⁸ (never COLMAP's denominator), p1 and p2 tangential."""
    if model == "EQUIRECTANGULAR":
        return Lens("equirectangular")
    if model not in (*PERSPECTIVE_MODELS, "OPENCV_FISHEYE"):
        raise DataError(f"{where}: camera_model {shown(model)} is not supported: use one of "
                        f"{', '.join(PERSPECTIVE_MODELS)}, OPENCV_FISHEYE, EQUIRECTANGULAR.")
    numbers = stated.distortion_params
    if numbers is None:
        numbers = [stated.k1, stated.k2, stated.k3, stated.k4, stated.p1, stated.p2]
    if len(numbers) != NUMBERS_OF_DISTORTION:
        raise DataError(f"{where}: distortion_params must be the 6 numbers k1 k2 k3 k4 p1 p2, got {len(numbers)}: correct them.")
    k1, k2, k3, k4, p1, p2 = (number or 0.0 for number in numbers)
    return Lens("fisheye" if model == "OPENCV_FISHEYE" else "perspective", (k1, k2, k3, k4), tangential=(p1, p2))


def _instant_ngp_lens(stated: Intrinsics, is_fisheye: bool) -> Lens:
    """There are four slots, k1 to k4, of which p1 and p2 overwrite the last two; what a slot means depends on the lens.

    A fisheye's slots are k1…k4. A zero in p1 or p2 does not overwrite there: colmap2nerf always writes such zeros, and
    the measured k3 and k4 beside them are the lens. A perspective lens' slots are k1 k2 p1 p2.
    """
    if stated.latlong:
        return Lens("equirectangular")
    k1, k2, k3, k4 = (number or 0.0 for number in (stated.k1, stated.k2, stated.k3, stated.k4))
    if is_fisheye:
        return Lens("fisheye", (k1, k2, stated.p1 or k3, stated.p2 or k4))
    return Lens("perspective", (k1, k2, 0.0, 0.0), tangential=(k3 if stated.p1 is None else stated.p1,
                                                                k4 if stated.p2 is None else stated.p2))


def applied_transform(file: TransformsFile) -> np.ndarray | None:
    """[3, 4] affine map from the coordinates before nerfstudio's import to the file's own, its applied_scale multiplied in."""
    rows, scale = file.stated.applied_transform, file.stated.applied_scale
    if rows is None and is_of_old_nerfstudio(file):
        rows = OLD_APPLIED_TRANSFORM
    scale = 1.0 if scale is None else scale
    if rows is None and scale == 1.0:
        return None
    rows = np.eye(4)[:3].tolist() if rows is None else rows
    if len(rows) not in (3, 4) or any(len(row) != 4 for row in rows):
        raise DataError(f"{shown(file.path)}: applied_transform must be a 3×4 matrix: correct or delete it.")
    matrix = np.array(rows[:3], np.float64) * scale
    if not abs(np.linalg.det(matrix[:, :3])) > 0.0:
        raise DataError(f"{shown(file.path)}: applied_transform and applied_scale cannot be undone: correct or delete them.")
    return matrix


def is_of_old_nerfstudio(file: TransformsFile) -> bool:
    """Whether the coordinates are COLMAP's, turned as nerfstudio turned them before it wrote applied_transform down."""
    return (file.is_nerfstudio and file.stated.applied_transform is None
            and os.path.isdir(file.path.parent / "colmap/sparse/0"))


def without_entry(files: Sequence[TransformsFile], frames: Sequence[Frame]) -> list[tuple[str, str]]:
    """(name, reason) of the photos beside those of `frames` that none of the files names.

    Companions of a listed photo (1_mask.png, 1.alpha.png, 1_depth_0001.png) are none, nor is what lies in the scene's
    own folder, which holds other pictures too. Where more files with frames lie, each may list some of the photos.
    """
    root, read = files[0].path.parent, {file.path for file in files}
    if any(has_frames(other) for other in json_files(root) if other not in read):
        return []
    listed: dict[str, set[str]] = {}  # folder -> the photos' names without suffix
    for frame in frames:
        folder, name = os.path.split(frame.name)
        if folder and not folder.startswith(".."):  # whoever allows photos from elsewhere has not allowed a search there
            listed.setdefault(folder, set()).add(os.path.splitext(name)[0])
    known = {name_of(root, path) for frame in frames for path in (frame.mask, frame.depth, frame.alpha) if path}
    found = [f"{folder}/{name}" for folder, stems in sorted(listed.items()) for name in photos_in(root / folder)
             if not _is_companion(name, stems)]
    reason = f"no entry in {' or '.join(sorted(shown(file.path.name) for file in files))}"
    return [(name, reason) for name in found if name not in known]


def _is_companion(name: str, stems: set[str]) -> bool:
    """Whether a file's name is that of a photo in `stems`, perhaps with more behind "_" or "."."""
    name = name.removeprefix("dynamic_mask_")
    return any(name[:at] in stems for at, letter in enumerate(name) if letter in "._")


def json_files(folder: Path) -> list[Path]:
    """The folder's *.json in the order of their names."""
    try:
        return sorted(path for path in folder.iterdir() if path.suffix == ".json" and os.path.isfile(path))
    except OSError:
        return []
