"""How many metres one unit of the input coordinates is: from two points a known way apart, a printed marker in the photos, or
the places that their EXIF names."""

import itertools
import math
import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from nerf_app.errors import DataError, UsageError
from nerf_app.scene.lenses import CameraBatch
from nerf_app.scene.paths import shown
from nerf_app.scene.scene import Scene, View
from nerf_app.scene.vision import MARKER_FAMILIES, Marker, find_markers

FORMS = ('give two points and their distance in metres, "x y z x y z 0.30", a printed marker\'s side, "aruco 0.05", or "gps", '
         "the places in the photos' EXIF")
MISS_PX = 3.0  # what a marker's corner may miss by in a photo that agrees
PARALLAX = math.radians(2.0)  # between two of the rays to a marker, at least: nearer together they say nothing of its size
UNEVEN = 0.1  # relative spread of a square's sides, at most
FEWEST_PLACES = 4  # photos
UNSURE = 0.1  # relative error of a scale from places, at most
MOST_PAIRS = 500  # of photos that may propose where a marker is
ROUNDS = 20  # of fitting, each with weights by the last one's misses
EARTH_RADIUS, EARTH_SQUARED = 6378137.0, 6.69437999014e-3  # metres at the equator, squared eccentricity
GREY_WEIGHTS = (0.299, 0.587, 0.114)  # of red, green, blue in a grey picture


@dataclass(frozen=True)
class Scale:
    """The size of an input unit."""

    metres_per_unit: float
    error: float | None  # relative standard deviation over the sides that were measured; None: it was given
    how: str  # a line for people


@dataclass(frozen=True)
class Sightings:
    """One marker in V photos, as rays in input coordinates."""

    origins: np.ndarray  # [V, 3]
    directions: np.ndarray  # [V, 4, 3] unit vectors to its corners
    pixel_angles: np.ndarray  # [V] radians

    def of(self, which: np.ndarray) -> "Sightings":
        """Those of some photos alone."""
        return Sightings(self.origins[which], self.directions[which], self.pixel_angles[which])


def scale_from(text: str, scene: Callable[[], Scene], on_progress: Callable[[int, int], None]) -> Scale:
    """What `--scale-from` asks for: "x y z x y z metres", "aruco metres" or "gps"; for the last two the scene is loaded."""
    words = re.split(r"[\s,;]+", text.strip())
    if [word.lower() for word in words] == ["gps"]:
        return scale_from_places(scene())
    is_marker = words[0].lower() == "aruco"
    try:
        numbers = [float(word) for word in (words[1:] if is_marker else words)]
    except ValueError:
        numbers = []
    if len(numbers) != (1 if is_marker else 7) or not all(map(math.isfinite, numbers)) or numbers[-1] <= 0.0:
        raise UsageError(f'--scale-from "{shown(text, 80)}" cannot be meant: {FORMS}.')
    if is_marker:
        return scale_from_marker(scene(), numbers[0], on_progress)
    return scale_from_points(np.array(numbers[:3]), np.array(numbers[3:6]), numbers[6])


def scale_from_points(first: np.ndarray, second: np.ndarray, metres: float) -> Scale:
    """From two points [3] in input coordinates and the metres between them."""
    units = float(np.linalg.norm(second - first))
    if units == 0.0:
        raise UsageError("the two points of --scale-from are the same, so their distance tells nothing: give two that differ.")
    return Scale(metres / units, None, f"two points {units:.6g} units apart are {metres:g} m apart: "
                                       f"one unit is {metres / units:.6g} m")


def scale_from_marker(scene: Scene, side_metres: float, on_progress: Callable[[int, int], None]) -> Scale:
    """From printed markers of one known size, found in at least two training photos and measured in input units.

    Several markers count together; `on_progress` is told (photos searched, of how many).
    """
    measured, seen = {}, _sightings(scene, on_progress)
    for marker, sightings in seen.items():
        corners = triangulated_square(sightings)
        if corners is not None:
            measured[marker] = _sides(corners)
    if not measured:
        found = f"markers seen: {', '.join(_name(marker) for marker in seen)}" if seen else "none was seen in any"
        raise DataError(f"no marker was found as one square in two training photos from different sides ({found}): photograph it "
                        "larger and from more sides, or give two points to --scale-from.")
    sides = np.concatenate(list(measured.values()))
    error = float(sides.std() / sides.mean())
    if error > UNEVEN:
        sizes = ", ".join(f"{_name(marker)} {side.mean():.4g} units" for marker, side in measured.items())
        raise DataError(f"the markers differ in size, so one side length cannot hold for all ({sizes}): leave one kind in the "
                        "photos, or give two points to --scale-from.")
    metres_per_unit = side_metres / float(sides.mean())
    names = ", ".join(_name(marker) for marker in measured)
    return Scale(metres_per_unit, error, f"{names}: {len(sides)} sides of {sides.mean():.6g} units ± {100 * error:.2g} % are "
                                         f"{side_metres:g} m: one unit is {metres_per_unit:.6g} m")


def scale_from_places(scene: Scene) -> Scale:
    """From where the photos' EXIF says that they were taken, all of one weight but those that are far off."""
    known = [(view.world_from_camera[:3, 3], file.header.place) for view, file in zip(scene.views, scene.photos.files)
             if file.header.place is not None]
    if len(known) < FEWEST_PLACES:
        raise DataError(f"{len(known)} of {len(scene.views)} photos say in their EXIF where and how high they were taken, and "
                        f"{FEWEST_PLACES} are needed: give two points or a marker to --scale-from.")
    centres, metres = np.array([centre for centre, _ in known]), earth_places(np.array([place for _, place in known]))
    metres_per_unit, error, miss = fitted_scale(centres, metres)
    apart = 2.0 * float(np.median(np.linalg.norm(metres - np.median(metres, 0), axis=1)))
    words = f"the places of {len(known)} photos by their EXIF, {apart:.3g} m apart, miss those of the cameras by {miss:.2g} m"
    if not error <= UNSURE:
        raise DataError(f"{words}: a scale would be wrong by {100 * error:.2g} %. Give two points or a marker to --scale-from.")
    return Scale(metres_per_unit, error, f"{words}: one unit is {metres_per_unit:.6g} m ± {100 * error:.2g} %")


def earth_places(places: np.ndarray) -> np.ndarray:
    """Degrees north and east, metres above the sea [V, 3] -> metres from the earth's middle [V, 3] (WGS 84)."""
    north, east = np.radians(places[:, :2]).T
    radius = EARTH_RADIUS / np.sqrt(1.0 - EARTH_SQUARED * np.sin(north) ** 2)
    out = (radius + places[:, 2]) * np.cos(north)
    return np.stack([out * np.cos(east), out * np.sin(east), ((1.0 - EARTH_SQUARED) * radius + places[:, 2]) * np.sin(north)], 1)


def similarity(source: np.ndarray, target: np.ndarray, weights: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    """Scale, rotation [3, 3] and shift [3] that bring points [V, 3] nearest to others in the weighted sum of squares (Umeyama
    1991); the scale is 0 where all points are one."""
    middle, goal = np.average(source, 0, weights), np.average(target, 0, weights)
    left, strengths, right = np.linalg.svd((target - goal).T @ (weights[:, None] * (source - middle)))
    signs = np.array([1.0, 1.0, np.sign(np.linalg.det(left @ right))])
    spread = weights @ ((source - middle) ** 2).sum(1)
    scale, rotation = float(strengths @ signs / spread) if spread else 0.0, left * signs @ right
    return scale, rotation, goal - scale * rotation @ middle


def fitted_scale(centres: np.ndarray, metres: np.ndarray) -> tuple[float, float, float]:
    """Metres a unit, the relative standard deviation of that, and the median miss in metres, of cameras [V, 3] that are moved,
    turned and scaled onto places [V, 3]. Places far off count less."""
    weights = np.ones(len(centres))
    for _ in range(ROUNDS):
        spread = weights @ ((centres - np.average(centres, 0, weights)) ** 2).sum(1)
        scale, rotation, shift = similarity(centres, metres, weights)
        misses = np.linalg.norm(metres - scale * centres @ rotation.T - shift, axis=1)
        weights = 1.0 / np.maximum(misses / max(float(np.median(misses)), 1e-12), 1.0)
    sigma = math.sqrt(float(weights @ misses**2) / max(3.0 * weights.sum() - 7.0, 1.0))
    return scale, sigma / (scale * math.sqrt(spread)) if scale * spread > 0 else math.inf, float(np.median(misses))


def _name(marker: tuple[str, int]) -> str:
    return f"{marker[0].removesuffix('_1000')} number {marker[1]}"


def _sides(corners: np.ndarray) -> np.ndarray:
    """The lengths of a square's sides: [4, 3] -> [4]."""
    return np.linalg.norm(corners - np.roll(corners, 1, axis=0), axis=1)


# Looking for markers

def _sightings(scene: Scene, on_progress: Callable[[int, int], None]) -> dict[tuple[str, int], Sightings]:
    """All markers that at least two training photos show, by family and number."""
    indices = scene.indices("train")
    families, found = MARKER_FAMILIES, defaultdict(list)
    for place, index in enumerate(indices):
        markers = find_markers(_grey(scene.photos.picture(index)[0].numpy()), families)
        for marker in markers:
            found[marker.family, marker.number].append((place, marker))
        settled = {family for (family, _), seen in found.items() if len(seen) >= 4}
        families = tuple(settled) or families  # prints of one kind lie about: the rest need not be looked for any more
        on_progress(place + 1, len(indices))
    views = [scene.views[index] for index in indices]
    return {marker: _as_rays(seen, views) for marker, seen in found.items() if len(seen) >= 2}


def _grey(pixels: np.ndarray) -> np.ndarray:
    """uint8 [H, W, 3 or 4] -> uint8 [H, W], in front of white."""
    grey = pixels[..., :3] @ np.float32(GREY_WEIGHTS)
    if pixels.shape[2] == 4:
        grey = 255.0 + (grey - 255.0) * (pixels[..., 3] / np.float32(255.0))
    return grey.round().astype(np.uint8)


def _as_rays(seen: list[tuple[int, Marker]], views: Sequence[View]) -> Sightings:
    """Of a marker's place in some of the views."""
    batch = CameraBatch.from_cameras([views[place].camera for place, _ in seen])
    poses = np.array([views[place].world_from_camera for place, _ in seen])
    x, y = torch.from_numpy(np.concatenate([marker.corners for _, marker in seen])).T
    inside, _ = batch.directions(torch.arange(len(seen)).repeat_interleave(4), x, y)
    directions = inside.numpy().reshape(-1, 4, 3) @ poses[:, :3, :3].swapaxes(1, 2)
    return Sightings(poses[:, :3, 3], directions, 1.0 / batch.focal_px.amax(1).numpy())


# Measuring them

def triangulated_square(sightings: Sightings) -> np.ndarray | None:
    """The corners [4, 3] that most photos agree on (RANSAC over pairs of them); None where they are no sure square."""
    pairs = np.array(list(itertools.combinations(range(len(sightings.origins)), 2)))
    if len(pairs) > MOST_PAIRS:
        pairs = np.random.default_rng(0).permutation(pairs)[:MOST_PAIRS]
    agreeing = max((_agreeing(meeting_points(sightings.of(pair)), sightings) for pair in pairs), key=np.count_nonzero)
    for _ in range(2):  # with all that agree the corners lie better, and more may agree
        if np.count_nonzero(agreeing) < 2:
            return None
        corners = meeting_points(sightings.of(agreeing))
        agreeing = _agreeing(corners, sightings)
    middles = sightings.directions[agreeing].mean(1)
    middles /= np.linalg.norm(middles, axis=1, keepdims=True)
    has_parallax = len(middles) >= 2 and (middles @ middles.T).min() < math.cos(PARALLAX)
    sides = _sides(corners)
    diagonals = np.linalg.norm(corners[:2] - corners[2:], axis=1) / math.sqrt(2.0)
    lengths = np.concatenate([sides, diagonals])
    return corners if has_parallax and np.ptp(lengths) < 2.0 * UNEVEN * lengths.mean() else None


def meeting_points(sightings: Sightings) -> np.ndarray:
    """[4, 3]: where the rays to each corner meet best. Distances from rays count as the angles that they are seen under."""
    across = np.eye(3) - sightings.directions[..., :, None] * sightings.directions[..., None, :]  # [V, 4, 3, 3]
    weights = np.ones(sightings.directions.shape[:2])  # [V, 4]
    for _ in range(3):
        weighed = across * weights[..., None, None]
        sums = (weighed @ sightings.origins[:, None, :, None])[..., 0].sum(0)  # [4, 3]
        points = (np.linalg.pinv(weighed.sum(0)) @ sums[..., None])[..., 0]
        away = np.linalg.norm(points - sightings.origins[:, None], axis=2)
        weights = (away.mean() / np.maximum(away, 1e-12 * away.max())) ** 2
    return points


def _agreeing(corners: np.ndarray, sightings: Sightings) -> np.ndarray:
    """[V] bool: which photos show all four corners [4, 3] where they would be seen, in front of the camera."""
    to = corners - sightings.origins[:, None]  # [V, 4, 3]
    across = np.linalg.norm(np.cross(to, sightings.directions), axis=2)
    along = (to * sightings.directions).sum(2)
    return (np.arctan2(across, along) < MISS_PX * sightings.pixel_angles[:, None]).all(1)
