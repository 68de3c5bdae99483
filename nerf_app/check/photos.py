"""Photos that are broken, blurred or there twice."""

from collections.abc import Sequence

import numpy as np

from nerf_app.check.finding import Finding
from nerf_app.check.looks import Look

BLURRED = -1.0  # log of finer by coarser detail, against the other photos; in sharp sets hardly any is below
FEWEST = 8  # photos to judge one by the others
ALIKE = 0.02  # difference of thumbnails, in parts of the photo's own contrast
APART_DEGREES = 5.0  # between poses of photos that look the same
APART = 0.05  # the same for places, in parts of the cameras' spread


def find_blurred(names: Sequence[str], looks: Sequence[Look]) -> list[Finding]:
    """Photos that lack fine detail which the others have, along x or along y."""
    if len(looks) < FEWEST:
        return []
    detail = np.array([look.detail for look in looks])  # [V, 2]
    lack = (detail - np.median(detail, 0)).min(1)
    worst = [int(i) for i in np.argsort(lack) if lack[i] < BLURRED]
    if not worst:
        return []
    return [Finding(False, f"photos that look blurred, the worst first: {len(worst)} of {len(names)}",
                    f"of their finest detail {np.exp(lack[worst[0]]):.0%} is there, compared with the other photos",
                    "look at them; where others show the same, take them out, else leave them: blurred is better than missing",
                    tuple(names[i] for i in worst))]


def find_twins(names: Sequence[str], looks: Sequence[Look], poses: np.ndarray) -> tuple[list[Finding], set[int]]:
    """Findings on photos with the same or nearly the same pixels, and the positions of those that may go.

    `poses` [V, 4, 4] as they are meant. Of the same photo with the same pose the first is kept; with different poses
    nobody knows which is right, and all but the first may go too.
    """
    turned, moved = _differences(poses)
    seen: dict[str, int] = {}
    same, torn, extra = [], [], set()
    for i, look in enumerate(looks):
        first = seen.setdefault(look.digest, i)
        if first != i:
            extra.add(i)
            is_torn = turned[first, i] > APART_DEGREES or moved[first, i] > APART
            (torn if is_torn else same).append((first, i))
    findings = []
    if torn:
        first, second = torn[0]
        findings.append(Finding(True, f"photos that are there again with another pose: {len(torn)}",
                                f"{names[first]} and {names[second]} have the same pixels, but their cameras are turned by "
                                f"{turned[first, second]:.0f}°: one pose is wrong at least",
                                "keep the one whose pose is right; --fix keeps the first",
                                tuple(names[i] for _, i in torn), True))
    if same:
        findings.append(Finding(False, f"photos that are there twice: {len(same)}",
                                f"{names[same[0][0]]} and {names[same[0][1]]} have the same pixels and the same pose",
                                "delete one: a photo that stands in training and test makes the score too good; --fix does",
                                tuple(names[i] for _, i in same), True))
    return findings + _lookalikes(names, looks, turned, extra), extra


def _lookalikes(names: Sequence[str], looks: Sequence[Look], turned: np.ndarray, extra: set[int]) -> list[Finding]:
    """Photos that hardly differ though their cameras do."""
    thumbnails = np.array([look.thumbnail.ravel() for look in looks])  # [V, 1024]
    contrast = thumbnails.std(1)
    squares = (thumbnails**2).sum(1)
    difference = np.sqrt(np.maximum(squares[:, None] + squares - 2.0 * thumbnails @ thumbnails.T, 0.0) / thumbnails.shape[1])
    is_alike = (difference < ALIKE * np.maximum(contrast, 1.0)[:, None]) & (turned > 2 * APART_DEGREES)
    pairs = [(i, j) for i, j in np.argwhere(np.triu(is_alike, 1)) if not {i, j} & extra]
    if not pairs:
        return []
    first, second = max(pairs, key=lambda pair: turned[tuple(pair)])
    return [Finding(False, f"pairs of photos that look the same though their cameras differ: {len(pairs)}",
                    f"{names[first]} and {names[second]} hardly differ, but their cameras are turned by "
                    f"{turned[first, second]:.0f}°",
                    "right for a thing that looks the same from there; otherwise one of the poses is wrong: delete its photo",
                    tuple(dict.fromkeys(names[i] for pair in pairs for i in pair)))]


def _differences(poses: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Between all cameras: [V, V] degrees turned, [V, V] distance in parts of the cameras' spread."""
    turns, centres = poses[:, :3, :3].reshape(-1, 9), poses[:, :3, 3]
    degrees = np.degrees(np.arccos(np.clip((turns @ turns.T - 1.0) / 2.0, -1.0, 1.0)))
    centres = centres - np.median(centres, 0)
    spread = np.median(np.linalg.norm(centres, axis=1)) or 1.0
    return degrees, np.linalg.norm(centres[:, None] - centres, axis=2) / spread
