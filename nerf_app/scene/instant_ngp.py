"""instant-ngp's own: what it keeps beside its photos rather than in the JSON, its order of names, its words."""

import os
import re
from dataclasses import replace
from pathlib import Path

import numpy as np

from nerf_app.errors import DataError
from nerf_app.scene.listing import Frame, Listing, StatedCamera
from nerf_app.scene.normalise import estimate_up, focus_point
from nerf_app.scene.paths import inside, name_of
from nerf_app.scene.poses import points_left_out
from nerf_app.scene.settings import SceneSettings
from nerf_app.scene.transforms_words import frame_words, utf8, write_json

USUAL_SCALE, USUAL_DISTANCE = 0.33, 4.0  # cameras of Blender's sets stand 4 units away, and instant-ngp shrinks to a third
AABB_SCALE = 16  # cubes of that size, one in the other: room for what lies behind an object


def natural(name: str) -> list[tuple[int, str]]:
    """A sorting key by which img2 stands before img10."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d{1,18})", name)]


def beside_photo(frame: Frame, root: Path, settings: SceneSettings) -> Frame:
    """The frame with its dynamic mask (white is ignored) and its opacity picture, where these files exist."""
    photo = Path(frame.name)
    mask = _existing(root, photo.with_name(f"dynamic_mask_{photo.stem}.png"), settings)
    alphas = [_existing(root, photo.with_name(f"{name}.alpha{photo.suffix}"), settings) for name in (photo.name, photo.stem)]
    if mask is not None:
        frame = replace(frame, mask=mask, is_mask_inverted=True)
    return replace(frame, alpha=alphas[0] or alphas[1])


def _existing(root: Path, relative: Path, settings: SceneSettings) -> Path | None:
    name = relative.as_posix()
    return inside(root, name, settings, f"beside a photo: {relative.name}") if os.path.isfile(root / name) else None


def mask_beside(name: str) -> str:
    """Where the mask of a photo lies, by their names below the scene's folder."""
    return Path(name).with_name(f"dynamic_mask_{Path(name).stem}.png").as_posix()


def write(listing: Listing, folder: Path) -> list[str]:
    """transforms.json as instant-ngp reads it, with scale and offset by which its unit cube holds what the cameras see."""
    shared, frames = frame_words(listing.frames, _words)
    for entry, frame in zip(frames, listing.frames, strict=True):
        if frame.depth is not None:
            entry["depth_path"] = utf8(name_of(folder, frame.depth))
            shared |= {"integer_depth_scale": frame.depth_scale, "enable_depth_loading": True}
    poses = np.stack([frame.world_from_camera for frame in listing.frames])
    middle = focus_point(poses)
    distance = float(np.median(np.linalg.norm(poses[:, :3, 3] - middle, axis=1))) or 1.0
    scale = USUAL_SCALE * USUAL_DISTANCE / distance
    up = estimate_up(poses) if listing.up is None else listing.up
    shared |= {"aabb_scale": AABB_SCALE, "scale": scale, "offset": (0.5 - scale * middle).tolist(), "up": up.tolist()}
    write_json(shared | {"frames": frames}, folder / "transforms.json")
    return points_left_out(listing, "instant-ngp")


def _words(camera: StatedCamera) -> dict[str, float | bool]:
    """Size, focal lengths, centre and lens of one camera."""
    lens, words = camera.lens, {"w": camera.width, "h": camera.height}
    if lens.family == "equirectangular":
        return words | {"latlong": True}
    words |= {"fl_x": camera.focal_x_px, "fl_y": camera.focal_y_px, "cx": camera.centre_x_px, "cy": camera.centre_y_px}
    k1, k2, k3, k4 = lens.radial
    has_words = {"perspective": not (k3 or k4), "fisheye": not any(lens.tangential)}.get(lens.family, False)
    if not has_words or any(lens.denominator) or any(lens.prism):
        raise DataError(f"instant-ngp has no words for this {lens.family} lens (it reads k1 k2 p1 p2, of a fisheye k1 k2 k3 k4): "
                        "convert to colmap, or undistort the photos first (colmap image_undistorter).")
    if lens.family == "fisheye":  # p1 and p2 would take the slots of k3 and k4
        return words | {"is_fisheye": True, "k1": k1, "k2": k2, "k3": k3, "k4": k4}
    bends = dict(zip(("k1", "k2", "p1", "p2"), (k1, k2, *lens.tangential), strict=True))
    return words | (bends if any(bends.values()) else {})
