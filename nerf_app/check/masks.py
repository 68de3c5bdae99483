"""Masks that say the opposite of what they are meant to say."""

from collections.abc import Sequence

import numpy as np

from nerf_app.check.finding import Finding
from nerf_app.errors import DataError
from nerf_app.scene.camera import Camera
from nerf_app.scene.images import PhotoFile, fitted_mask
from nerf_app.scene.masks import Found, position
from nerf_app.scene.normalise import focus_point
from nerf_app.scene.vision import largest_piece

LOOKED_AT = 24  # masks
LOOKED_AT_SIDE = 200  # pixels
AIM = 0.06  # half the side of the window around what the cameras aim at, parts of the longer side
MOST = 0.75  # of the masks that must speak for it


def find_inverted(found: Found, files: Sequence[PhotoFile], cameras: Sequence[Camera], poses: np.ndarray) -> list[Finding]:
    """One finding where the masks hide just what all cameras look at. `poses` [V, 4, 4] as they are meant."""
    indices = list(found)[::max(1, -(-len(found) // LOOKED_AT))]
    whites = {}
    for i in indices:
        try:
            white = np.minimum.reduce([fitted_mask(mask, files[i]) for mask in found[i]]) > 127  # [H, W] what counts
        except DataError:
            continue  # it is found broken where it is decoded
        stride = -(-max(white.shape) // LOOKED_AT_SIDE)
        whites[i] = white[::stride, ::stride]
    if not _hides_the_aim(whites, cameras, poses):
        return []
    first = next(iter(whites))
    return [Finding(True, "the masks look inverted: they hide what all cameras look at",
                    f"{files[first].name}: {1 - whites[first].mean():.0%} of its mask is black, in one piece where the cameras "
                    "aim, and what is around it counts",
                    "white must mark what counts (instant-ngp's dynamic masks: what does not): invert the masks; --fix does",
                    is_mended=True)]


def find_inverted_alpha(names: Sequence[str], silhouettes: Sequence[np.ndarray | None], cameras: Sequence[Camera],
                        poses: np.ndarray) -> list[Finding]:
    """The same for photos that are transparent where all cameras look."""
    whites = {i: silhouette for i, silhouette in enumerate(silhouettes) if silhouette is not None}
    if len(whites) < 0.5 * len(names) or not _hides_the_aim(whites, cameras, poses):
        return []
    return [Finding(True, "the photos' alpha looks inverted: what all cameras look at is transparent",
                    f"{names[next(iter(whites))]} is opaque around what the cameras aim at, and transparent there",
                    "invert the alpha channel: 255 is where the object is; --fix does", is_mended=True)]


def _hides_the_aim(whites: dict[int, np.ndarray], cameras: Sequence[Camera], poses: np.ndarray) -> bool:
    """Whether in most masks black is one piece that holds the aim, within a frame of white."""
    if not whites:
        return False
    is_one_way = np.linalg.norm(poses[:, :3, 2].mean(0)) > 0.9
    aim = None if is_one_way else focus_point(poses)
    votes = []
    for i, white in whites.items():
        u, v = (0.5, 0.5) if aim is None else position(cameras[i], poses[i], aim)
        votes.append(_is_hidden(white, u, v))
    return float(np.mean(votes)) >= MOST


def _is_hidden(white: np.ndarray, u: float, v: float) -> bool:
    """For one mask, bool [h, w]; (u, v) are parts of the width and height."""
    height, width = white.shape
    reach = max(1, round(AIM * max(height, width)))
    row, column = int(np.clip(v, 0, 1) * (height - 1)), int(np.clip(u, 0, 1) * (width - 1))
    window = white[max(0, row - reach):row + reach + 1, max(0, column - reach):column + reach + 1]
    border = np.concatenate([white[0], white[-1], white[:, 0], white[:, -1]])
    black = ~white
    return bool(window.mean() < 0.2 and border.mean() > 0.6 and largest_piece(black).sum() > 0.8 * black.sum())
