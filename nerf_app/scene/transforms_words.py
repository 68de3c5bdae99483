"""Cameras in the words of transforms.json, for whoever writes one of the family.

Numbers go out as float64, so reading them back gives the same poses and, digit for digit, the same intrinsics. What a
format has no words for is refused, never left out.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nerf_app.errors import DataError
from nerf_app.scene.camera import Camera, Lens
from nerf_app.scene.listing import Frame, StatedCamera
from nerf_app.scene.paths import shown
from nerf_app.scene.scene import SPLITS, View
from nerf_app.scene.writing import made_folder, write_bytes


def write_transforms(views: Sequence[View | Frame], out: Path,
                     applied_transform: Sequence[Sequence[float]] | None = None) -> None:
    """One JSON file of nerfstudio's flavour for all the views; see `nerfstudio_words`."""
    write_json(nerfstudio_words(views, applied_transform), out)


def nerfstudio_words(views: Sequence[View | Frame], applied_transform: Sequence[Sequence[float]] | None = None) -> dict[str, Any]:
    """The file's content: intrinsics stand once where all views share them, splits where somebody chose them.

    Args:
        views: frames must state their cameras in full.
        applied_transform: [3, 4], kept for whoever wants the coordinates before nerfstudio's import.
    """
    if not views:
        raise DataError("there are no cameras to write: give a scene with photos.")
    content: dict[str, Any] = {"camera_model": _shared_model([view.camera for view in views])}
    shared, frames = frame_words(views, lambda camera: {key: word for key, word in intrinsics(camera).items()
                                                        if key != "camera_model"})
    if applied_transform is not None:
        shared["applied_transform"] = np.asarray(applied_transform, np.float64).tolist()
    if any(view.split for view in views):
        shared |= {f"{split}_filenames": [view.name for view in views if view.split == split] for split in SPLITS}
    return content | shared | {"frames": frames}


def frame_words(views: Sequence[View | Frame],
                words_of: Callable[[Camera | StatedCamera], dict[str, Any]]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """(what all cameras share in the words of `words_of`, the entries of "frames" with what they do not share)."""
    words = [words_of(view.camera) for view in views]
    is_shared = all(entry == words[0] for entry in words)
    frames = [{"file_path": utf8(view.name), **({} if is_shared else entry),
               "transform_matrix": np.asarray(view.world_from_camera, np.float64).tolist()}
              for view, entry in zip(views, words, strict=True)]
    return (dict(words[0]) if is_shared else {}), frames


def write_json(content: dict[str, Any], out: Path) -> None:
    """A JSON file that a person can read."""
    made_folder(out.parent)
    write_bytes((json.dumps(content, indent=1) + "\n").encode(), out)


def intrinsics(camera: Camera | StatedCamera) -> dict[str, str | float]:
    """camera_model, w, h, fl_x, fl_y, cx, cy and the lens' coefficients in the words of transforms.json."""
    lens = camera.lens
    if lens.family not in ("perspective", "fisheye", "equirectangular") or any(lens.denominator) or any(lens.prism):
        raise DataError(f"transforms.json has no words for a lens with {_peculiarity(lens)}: the COLMAP model has.")
    words = dict(zip(("k1", "k2", "k3", "k4", "p1", "p2"), (*lens.radial, *lens.tangential), strict=True))
    is_bent = any(words.values())
    model = {"perspective": "OPENCV" if is_bent else "PINHOLE", "fisheye": "OPENCV_FISHEYE"}.get(lens.family, "EQUIRECTANGULAR")
    return {"camera_model": model, "w": camera.width, "h": camera.height, "fl_x": camera.focal_x_px, "fl_y": camera.focal_y_px,
            "cx": camera.centre_x_px, "cy": camera.centre_y_px, **(words if is_bent else {})}


def _shared_model(cameras: Sequence[Camera | StatedCamera]) -> str:
    """The camera_model that holds for every camera: a pinhole is an OPENCV lens whose coefficients are 0."""
    models = {intrinsics(camera)["camera_model"] for camera in set(cameras)}
    if models == {"PINHOLE", "OPENCV"}:
        return "OPENCV"
    if len(models) > 1:
        raise DataError(f"one transforms.json holds one kind of lens, these cameras have {', '.join(sorted(models))}: "
                        "the COLMAP model holds them all.")
    return models.pop()


def utf8(name: str) -> str:
    """The name, which JSON can hold."""
    try:
        name.encode()
    except UnicodeEncodeError:
        raise DataError(f"{shown(name)} is no UTF-8, and JSON has no other names: rename the photo.") from None
    return name


def _peculiarity(lens: Lens) -> str:
    if any(lens.denominator):
        return "rational distortion (FULL_OPENCV)"
    return "thin prisms" if any(lens.prism) else f"the {lens.family.upper()} model"
