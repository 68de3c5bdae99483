"""What the features of photos say about their poses, in words."""

from collections.abc import Sequence

import numpy as np

from nerf_app.check.conventions import DIRECTIONS, OF_FORMAT, Convention, Matches, shares
from nerf_app.check.finding import Finding
from nerf_app.scene.camera import Camera
from nerf_app.scene.lenses import CameraBatch
from nerf_app.scene.matching import directions_of
from nerf_app.scene.vision import Features, match_features

TOLERANCE_PX = 2.0  # of a photo of 640 pixels
FEWEST_MATCHES = 12  # of a pair: fewer are chance
FEWEST_PAIRS = 4
CLEAR, LEAD, WINS = 0.3, 1.15, 0.75  # to be believed: the best's share, what it is of the next one's, and in how many
# pairs it is ahead. From far away a thing turned inside out looks nearly right: the next one may be close, but never first
HOPELESS = 0.15  # share of the best: then no convention explains the photos
CURES = {"blender": "transform_matrix must be camera-to-world, x right, y up, z back (looking along -z)",
         "transforms": "transform_matrix must be camera-to-world, x right, y up, z back (looking along -z)",
         "llff": "poses_bounds.npy must be camera-to-world, columns down, right, back",
         "colmap": "a COLMAP model must be world-to-camera, x right, y down, z forward"}


def matches_of(pairs: Sequence[tuple[int, int]], features: dict[int, Features], cameras: Sequence[Camera],
               sides_px: int) -> list[Matches]:
    """What the pairs of photos have in common; `features` in pixels of the whole photos, found at `sides_px` a side."""
    batch, found = CameraBatch.from_cameras(cameras), []
    for first, second in pairs:
        if first not in features or second not in features:
            continue  # a broken photo
        rows = match_features(features[first], features[second])
        if len(rows) < FEWEST_MATCHES:
            continue
        sights, valid = zip(*(directions_of(batch, photo, features[photo].places[rows[:, side]])
                              for side, photo in enumerate((first, second))), strict=True)
        is_valid = valid[0] & valid[1]
        camera = cameras[second]
        focal = camera.focal_x_px * min(1.0, sides_px / max(camera.width, camera.height))
        if is_valid.any():
            found.append(Matches(first, second, (sights[0][is_valid], sights[1][is_valid]), focal))
    return found


def judge(found: Sequence[Matches], poses: np.ndarray, format: str) -> tuple[Convention, dict[Convention, float], list[Finding]]:
    """How the file's matrices are meant, the share of matches for each convention, and findings.

    `poses` [V, 4, 4] as the format's reader gives them. Where the photos do not tell, the format's own convention counts.
    """
    own = OF_FORMAT[format]
    if len(found) < FEWEST_PAIRS:
        return own, {}, [Finding(False, "whether the poses are right could not be judged",
                                 f"{f'only {len(found)}' if found else 'no'} pairs of photos show enough of the same",
                                 "look at the picture: the cameras must look at what was photographed")]
    by_pair = shares(found, own.stored(poses), TOLERANCE_PX)
    by_convention = {convention: float(values.mean()) for convention, values in by_pair.items()}
    best, second = sorted(by_convention, key=by_convention.get, reverse=True)[:2]
    top, evidence = by_convention[best], _evidence(by_convention, own, best, len(found))
    if top < HOPELESS:
        return own, by_convention, [Finding(
            True, "the poses do not belong to these photos", evidence,
            "are photos and poses in the same order, and the cameras those of this size? Otherwise find poses anew")]
    if best == own:
        return own, by_convention, []
    is_ahead = (by_pair[best] > by_pair[second]).mean() >= WINS and top > LEAD * by_convention[second]
    if top < CLEAR or not is_ahead:
        return own, by_convention, [Finding(False, "whether the poses are right could not be judged", evidence,
                                            "look at the picture: the cameras must look at what was photographed")]
    return best, by_convention, [Finding(
        True, f"the poses are {best}, not {own} as this format has them", evidence,
        f"{CURES[format]}: {_steps(best, own)}; --fix writes them so", is_mended=True)]


def _evidence(by_convention: dict[Convention, float], own: Convention, best: Convention, pairs: int) -> str:
    read = (f"of the features that {pairs} pairs of photos have in common, {by_convention[own]:.0%} agree with the poses "
            "as they stand")
    return read if best == own else f"{read}, {by_convention[best]:.0%} if they are {best}"


def _steps(best: Convention, own: Convention) -> str:
    """What to do with the matrices."""
    words = []
    if best.direction != own.direction:
        words.append("invert the matrices")
    if best.axes != own.axes:
        other = "the cameras' axes" if best.direction == DIRECTIONS[0] else "the cameras' axes (rows of the inverse)"
        words.append(f"turn {other} from {best.axes} to {own.axes}")
    return " and ".join(words)
