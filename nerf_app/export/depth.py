"""Depth maps: how far away things are at each pixel of a photo, or of a path's pictures, and how surely.

*z* is counted along the camera's axis, *range* along the pixel's ray, both to the surface (`picture.surface_distance`);
their *mean* is where the light is stopped on average. Lengths are input units, but for the 16-bit pictures once a metric
scale is known.
Where less than half of the light is stopped nothing is known: NaN in the float files, 0 in the pictures.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np

from nerf_app.errors import DataError, UsageError
from nerf_app.export.crop import Box, clipped
from nerf_app.export.float_files import FLOAT_FILES
from nerf_app.export.frames import CHANNELS, depth_range_of
from nerf_app.export.path_files import CameraPath, PathCamera
from nerf_app.export.pictures import to_bytes, write_png
from nerf_app.picture import NEARBY
from nerf_app.scene.camera import Camera, Lens
from nerf_app.scene.paths import is_photo
from nerf_app.scene.scene import SPLITS
from nerf_app.scene.transforms_words import intrinsics
from nerf_app.scene.writing import made_folder, write_bytes

if TYPE_CHECKING:
    from nerf_app.picture import Picture
    from nerf_app.run import Run

KINDS, PICTURES = ("z", "range", "mean_z", "mean_range"), ("png", "confidence.png", "colour.png", "json")
MOST_STEPS = 2**16 - 1  # of a 16-bit picture
LOST = 1e-3  # part of all known pixels that a finer factor of the 16-bit pictures may leave out as too far
WHITE = np.ones(3, np.float32)
CONFIDENCE = f"255 = all of the pixel's light is stopped within {100 * NEARBY:g} % of its depth, 0 = none or depth unknown"


def shots_of_split(run: "Run", split: str) -> dict[str, PathCamera]:
    """The cameras of a split's photos by name; "all" is every photo."""
    shots = {view.name: PathCamera(view.camera, view.world_from_camera) for view in run.views if split in (view.split, "all")}
    if not shots:
        have = [split for split in SPLITS if any(view.split == split for view in run.views)]
        raise UsageError(f"the run has no {split} photos; --split {' or '.join(have)} or all has some.")
    return shots


def shots_of_path(path: CameraPath) -> dict[str, PathCamera]:
    """The cameras of a path, by number."""
    return {f"{i:05d}": one for i, one in enumerate(path.cameras)}


def write_depth(run: "Run", shots: Mapping[str, PathCamera], out: Path, on_progress: Callable[[int, int], None], *,
                metres_per_unit: float | None = None, undistort: bool = False, box: "Box | None" = None,
                form: str = "npy") -> list[Path]:
    """Depth files of every shot below `out`, named after it, and depth.json, which explains them and comes first of what returns.

    NAME.z.npy, NAME.range.npy, NAME.mean_z.npy and NAME.mean_range.npy (float32), NAME.png (16 bits), NAME.confidence.png,
    NAME.colour.png (one range for all) and NAME.json with the camera, on the photo's own pixels and lens.

    Args:
        undistort: pinholes of the same focal lengths take the place of the lenses.
        box: what is seen outside of it counts as unknown.
        form: of the float files, "npy" or "exr".
    """
    if undistort:
        shots = {name: replace(shot, camera=_pinhole(shot.camera)) for name, shot in shots.items()}
    places = {name: out / stem for name, stem in _stems(shots, form).items()}
    colours = depth_range_of(run, list(shots.values()), box)
    powers: Counter[int] = Counter()
    for i, (name, shot) in enumerate(shots.items()):
        made_folder(places[name].parent)
        picture = run.render(shot.camera, shot.world_from_camera, are_edges_smooth=False)
        picture = picture if box is None else clipped(picture, box, shot.camera, shot.world_from_camera)
        write_png(CHANNELS["depth"](picture, WHITE, colours), _file(places[name], "colour.png"))
        write_png(to_bytes(picture.confidence), _file(places[name], "confidence.png"))
        for kind, depth in _depths(picture).items():
            write_bytes(FLOAT_FILES[form].content(depth), _file(places[name], f"{kind}.{form}"))
            if kind == colours.kind:
                powers += _powers(depth * (metres_per_unit or 1.0))
        on_progress(i + 1, len(shots))
    png = {"holds": colours.kind, "steps_per": "metre" if metres_per_unit else "input unit",
           "factor": 10.0 ** _power(powers, 3 if metres_per_unit else None)}
    for name, shot in shots.items():
        _write_steps(places[name], form, png, metres_per_unit, _camera_words(name, shot))
    n_pixels = sum(shot.camera.width * shot.camera.height for shot in shots.values())
    meaning = {"unit": "input units", "metres_per_unit": metres_per_unit, "png": png, "confidence": CONFIDENCE,
               "known_part": powers.total() / n_pixels,
               "crop": None if box is None else {name: values.tolist() for name, values in vars(box).items()},
               "colours": {**asdict(colours), "steps": "even in log(depth), near is bright"},
               "depths": [place.relative_to(out).as_posix() for place in places.values()]}
    _write_json(meaning, out / "depth.json")
    return [out / "depth.json", *(_file(place, ending) for place in places.values() for ending in _endings(form))]


def known_words(index: Path) -> str:
    """How much of the pictures has a depth, for people; `index` is the depth.json that `write_depth` gives."""
    part = json.loads(index.read_bytes())["known_part"]
    return f"{100 * part:.3g} % of the pixels have one" if part else "NONE OF THE PIXELS HAS ONE: nothing opaque is seen there"


def _depths(picture: "Picture") -> dict[str, np.ndarray]:
    """All four kinds of depth, [H, W] float32 input units, by the name they have in files."""
    z_per_range = picture.z_depth / picture.range
    return {"z": picture.z_depth, "range": picture.range, "mean_z": picture.mean_range * z_per_range,
            "mean_range": picture.mean_range}


def _pinhole(camera: Camera) -> Camera:
    if camera.lens.family == "equirectangular":
        raise UsageError("a panorama sees all round and no pinhole does: leave out --undistort.")
    return replace(camera, lens=Lens())


def _camera_words(name: str, shot: PathCamera) -> dict[str, Any]:
    """The sidecar's part about the camera, in the words of transforms.json where it has some for the lens."""
    try:
        words = intrinsics(shot.camera)
    except DataError:
        words = asdict(shot.camera)
    return {"name": name, **words, "transform_matrix": np.asarray(shot.world_from_camera, np.float64).tolist(),
            "axes": "camera-to-world, input coordinates; camera x right, y up, z backwards"}


# 16-bit pictures: their factor is known when the farthest depth is, so they are made from the float files.

def _powers(depth: np.ndarray) -> Counter[int]:
    """How many known depths allow which power of ten as their factor, at most."""
    known = depth[depth > 0]  # NaN is not
    return Counter(np.floor(np.log10(MOST_STEPS / known.astype(np.float64))).astype(int).tolist())


def _power(powers: Counter[int], most: int | None) -> int:
    """The largest power of ten that leaves out no more than LOST of the depths: a far speck must not cost the digits."""
    allowed, room = most or 0, LOST * powers.total()
    for power in sorted(powers):
        if room < 0:
            break
        allowed = power
        room -= powers[power]
    return allowed if most is None else min(allowed, most)


def _write_steps(place: Path, form: str, png: dict[str, Any], metres_per_unit: float | None, words: dict[str, Any]) -> None:
    """NAME.png and NAME.json from what NAME.z or NAME.range holds."""
    steps = FLOAT_FILES[form].read(_file(place, f"{png['holds']}.{form}")) * (png["factor"] * (metres_per_unit or 1.0))
    is_known = steps > 0
    is_far = is_known & (steps >= MOST_STEPS + 0.5)
    pixels = np.where(is_known & ~is_far, np.clip(np.nan_to_num(steps).round(), 1, MOST_STEPS), 0).astype(np.uint16)
    write_png(pixels, _file(place, "png"))
    facts = {"unit": "input units", "metres_per_unit": metres_per_unit,
             "png": {**png, "unknown": 0, "too_far": int(is_far.sum())}, "known_pixels": int(is_known.sum())}
    _write_json(words | facts, _file(place, "json"))


# Files

def _endings(form: str) -> tuple[str, ...]:
    """What all files of a photo end in."""
    return (*(f"{kind}.{form}" for kind in KINDS), *PICTURES)


def _stems(names: Iterable[str], form: str) -> dict[str, str]:
    """A path below the output folder for each photo: its own without the suffix or, where two files would have one name, with
    it and a number."""
    whole = {name: "/".join(part for part in PurePosixPath(name).parts if part not in ("/", "..")) for name in names}
    short = {name: str(PurePosixPath(path).with_suffix("")) if is_photo(path) else path for name, path in whole.items()}
    endings = _endings(form)
    numbered = {name: f"{path}-{i}" for i, (name, path) in enumerate(whole.items())}
    uses = Counter(["depth.json", *(f"{stem}.{ending}" for stem in (*short.values(), *numbered.values()) for ending in endings)])
    return {name: stem if all(uses[f"{stem}.{ending}"] == 1 for ending in endings) else numbered[name]
            for name, stem in short.items()}


def _file(place: Path, ending: str) -> Path:
    return place.with_name(f"{place.name}.{ending}")


def _write_json(content: dict[str, Any], out: Path) -> None:
    write_bytes((json.dumps(content, indent=1) + "\n").encode(), out)
