"""What instant-ngp keeps beside its photos rather than in the JSON, and its order of names."""

import os
import re
from dataclasses import replace
from pathlib import Path

from nerf_app.scene.listing import Frame
from nerf_app.scene.paths import inside
from nerf_app.scene.settings import SceneSettings


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
