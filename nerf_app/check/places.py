"""Where the cameras stand: scale, up, and what they cover."""

import math
from collections.abc import Sequence

import numpy as np
import torch

from nerf_app.check.finding import Finding
from nerf_app.scene.camera import Camera
from nerf_app.scene.lenses import CameraBatch
from nerf_app.scene.normalise import estimate_up, focus_point

FAR_OFF = 1e4  # distances from the origin, in the cameras' spread: single precision keeps seven digits
SIZES = (1e-4, 1e5)  # input units of the cameras' spread that are usual
TILTED = math.radians(40.0)
WIDE_GAP = math.radians(120.0)
FEW, LITTLE = 3, 0.7  # cameras that must see a place; part of the places, below which it is worth a note
GRID = 8  # places along each side of a photo
MOST_POINTS = 2000


def find_odd_scale(poses: np.ndarray) -> list[Finding]:
    """Cameras far from the origin, or tiny or huge in their units. [V, 4, 4] as they are meant."""
    centres = poses[:, :3, 3]
    middle = np.median(centres, 0)
    spread = float(np.linalg.norm(centres - middle, axis=1).max())
    findings = []
    if np.linalg.norm(middle) > FAR_OFF * spread > 0.0:
        findings.append(Finding(False, "the scene lies far from the origin of its coordinates",
                                f"its middle is at ({', '.join(f'{value:.6g}' for value in middle)}), its cameras reach "
                                f"{spread:.3g} around it",
                                "no harm here, for we count in double precision; other programs may need it moved"))
    if spread > 0.0 and not SIZES[0] < spread < SIZES[1]:
        findings.append(Finding(False, "the scene's size is unusual", f"its cameras reach {spread:.3g} units around their middle",
                                "no harm here; if a unit was to be a metre, scale the poses"))
    return findings


def find_tilt(poses: np.ndarray, up: np.ndarray | None) -> list[Finding]:
    """A world whose up is not where its format has it; None where the format does not say."""
    held = estimate_up(poses)
    is_held = np.linalg.norm(poses[:, :3, 1].mean(0)) > 0.2  # otherwise the cameras were rolled all over
    if up is None or not is_held or held @ up > math.cos(TILTED):
        return []
    return [Finding(False, "up is not where the format has it",
                    "the photos were held with up at ({:.2f}, {:.2f}, {:.2f}), ".format(*held)
                    + "the file says ({:.2f}, {:.2f}, {:.2f})".format(*up),
                    "films tilt, nothing else suffers: turn the world in the program that made the file, or convert to colmap, "
                    "for which up is estimated")]


def looks_inward(poses: np.ndarray) -> bool:
    """Whether the cameras look at one place from around it."""
    offsets = focus_point(poses) - poses[:, :3, 3]
    distances = np.linalg.norm(offsets, axis=1)
    cosines = -(offsets * poses[:, :3, 2]).sum(1) / np.maximum(distances, 1e-12)
    return bool((cosines > math.cos(math.pi / 4)).mean() > 0.8) and np.linalg.norm(poses[:, :3, 2].mean(0)) < 0.9


def widest_gap(poses: np.ndarray, up: np.ndarray) -> float:
    """Radians of the widest sector around what the cameras look at in which none of them stands."""
    offsets = poses[:, :3, 3] - focus_point(poses)
    across = np.cross(up, np.eye(3)[np.abs(up).argmin()])
    across /= np.linalg.norm(across)
    azimuths = np.sort(np.arctan2(offsets @ np.cross(up, across), offsets @ across))
    return float(np.diff(np.append(azimuths, azimuths[0] + 2.0 * math.pi)).max())


def seen_share(poses: np.ndarray, cameras: Sequence[Camera], points: np.ndarray | None) -> float | None:
    """Part of the places that at least FEW cameras have in their picture, whatever stands before them.

    The places are the sparse points; without any, those on a grid of each photo's pixels, as far away as what the
    cameras look at. None where neither says anything.
    """
    batch = CameraBatch.from_cameras(cameras)
    if points is None or len(points) < 100:
        points = _places_in_focus(poses, batch)
    if points is None:
        return None
    points = points[::-(-len(points) // MOST_POINTS)]
    count = np.zeros(len(points), int)
    for i, pose in enumerate(poses):
        local = torch.from_numpy((points - pose[:3, 3]) @ pose[:3, :3])
        count += batch.project(torch.full((len(local),), i), local)[2].numpy()
    return float((count >= FEW).mean())


def _places_in_focus(poses: np.ndarray, batch: CameraBatch) -> np.ndarray | None:
    """[V·G·G, 3] of pixels at the distance of the place that the cameras look at."""
    if not looks_inward(poses):
        return None
    steps = (torch.arange(GRID) + 0.5) / GRID
    rows, columns = (part.reshape(-1).double() for part in torch.meshgrid(steps, steps, indexing="ij"))
    distances = np.linalg.norm(focus_point(poses) - poses[:, :3, 3], axis=1)
    places = []
    for i, pose in enumerate(poses):
        width, height = batch.size_px[i]
        directions, is_valid = batch.directions(torch.full((len(rows),), i), columns * width, rows * height)
        places.append(distances[i] * directions[is_valid].numpy() @ pose[:3, :3].T + pose[:3, 3])
    return np.concatenate(places)


def find_gaps(poses: np.ndarray, cameras: Sequence[Camera], points: np.ndarray | None, up: np.ndarray,
              ) -> tuple[list[Finding], dict[str, float | None]]:
    """Findings on what the photos leave out, and the numbers behind them."""
    findings = []
    gap = widest_gap(poses, up) if looks_inward(poses) else None
    if gap is not None and gap > WIDE_GAP:
        findings.append(Finding(False, "one side was not photographed",
                                f"seen from above, no camera stands in a sector of {math.degrees(gap):.0f}°",
                                "that side will be a guess: take photos from there, or leave it"))
    share = seen_share(poses, cameras, points)
    if share is not None and share < LITTLE:
        findings.append(Finding(False, "much is in one or two photos only",
                                f"{share:.0%} of the places are in the picture of {FEW} cameras or more",
                                "take more photos, so that each place is in several"))
    return findings, {"widest_gap_degrees": None if gap is None else math.degrees(gap), "seen_by_3": share}
