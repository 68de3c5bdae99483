"""How many photos saw each part of the surface, and from where too few did.

An *azimuth* goes counter-clockwise about the up axis when seen from above; a *band* is a range of elevations.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nerf_app.export.mesh import Mesh
from nerf_app.export.paths import survey

if TYPE_CHECKING:
    from nerf_app.run import Run

FEW = 3  # photos: with fewer a surface is a guess
BINS = ((0, "none", "#7a1f5c"), (1, "1", "#c8402f"), (2, "2", "#f08a24"), (5, "3 to 5", "#cfe0ee"), (10, "6 to 10", "#7fb0d6"),
        (1 << 30, "over 10", "#2a6ea6"))  # highest number of photos, its name, its colour on the mesh and in charts
SECTORS = 12  # directions round the up axis
BANDS = (("from below", -90, -35), ("from low down", -35, -5), ("at eye level", -5, 30), ("from higher up", 30, 60),
         ("from above", 60, 90))  # where a camera would stand, degrees of elevation
MOST_ADVICE = 3  # places that are named
WORTH_NAMING = 0.002  # of the surface
DOTS = 700  # points of the surface on the map


@dataclass(frozen=True)
class Advice:
    """A place to take photos from."""

    azimuth: float  # radians
    band: str  # a name in BANDS
    part: float  # of the surface: what too few photos saw and what faces there
    near: str  # the training photo taken nearest to that direction


@dataclass(frozen=True)
class Map:
    """The scene from above, in units of the farthest camera's distance from the focus; x to the right, y up the page."""

    cameras: np.ndarray  # [V, 2]
    looks: np.ndarray  # [V, 2] where they look, at most 1 long
    surface: np.ndarray  # [D, 2] points of the mesh
    is_thin: np.ndarray  # [D] bool: seen by fewer than FEW photos
    missing: np.ndarray  # [SECTORS] part of the surface, seen by fewer than FEW photos, that faces each azimuth
    is_inward: bool  # the cameras look at the focus


@dataclass(frozen=True)
class Coverage:
    """What the numbers of photos at the mesh's corners say."""

    parts: np.ndarray  # [len(BINS)] of the surface's area
    few: float  # part that fewer than FEW photos saw
    advice: tuple[Advice, ...]
    map: Map


def coverage(run: "Run", mesh: Mesh) -> Coverage:
    """Measure a mesh that carries `views`."""
    areas = corner_areas(mesh)
    parts = areas / max(areas.sum(), 1e-300)  # [V]
    highest = [bound for bound, _, _ in BINS]
    sums = np.bincount(np.searchsorted(highest, mesh.views), weights=parts, minlength=len(BINS))
    is_thin = mesh.views < FEW
    around = survey(run)
    frame = map_axes(around.up)
    facing = mesh.normals.astype(np.float64) @ frame.T  # [V, 3] east, north, up
    weights = np.where(is_thin, parts, 0.0)
    return Coverage(sums, float(weights.sum()), _advice(run, around, frame, facing, weights),
                    _map(around, frame, mesh, is_thin, facing, weights))


def corner_areas(mesh: Mesh) -> np.ndarray:
    """[V] a third of each adjoining triangle's area, square input units."""
    a, b, c = (mesh.vertices[mesh.faces[:, i]] for i in range(3))
    areas = 0.5 * np.linalg.norm(np.cross(b - a, c - a), axis=1)
    return np.bincount(mesh.faces.ravel(), weights=np.repeat(areas / 3.0, 3), minlength=len(mesh.vertices))


def map_axes(up: np.ndarray) -> np.ndarray:
    """[3, 3] rows east, north, up: a right-handed frame in which the map is drawn; east is near the first axis."""
    for candidate in np.eye(3):
        east = candidate - (candidate @ up) * up
        if np.linalg.norm(east) > 0.5:
            break
    east = east / np.linalg.norm(east)
    return np.stack([east, np.cross(up, east), up])


def _azimuths(facing: np.ndarray) -> np.ndarray:
    return np.arctan2(facing[:, 1], facing[:, 0]) % (2.0 * math.pi)


def _advice(run: "Run", around, frame: np.ndarray, facing: np.ndarray, weights: np.ndarray) -> tuple[Advice, ...]:
    """The directions that most of the thinly seen surface faces, each a sector of the compass and a band."""
    elevations = np.degrees(np.arcsin(np.clip(facing[:, 2], -1.0, 1.0)))
    bands = np.clip(np.searchsorted([high for _, _, high in BANDS], elevations), 0, len(BANDS) - 1)
    sectors = (_azimuths(facing) / (2.0 * math.pi) * SECTORS).astype(int) % SECTORS
    sectors = np.where((bands == 0) | (bands == len(BANDS) - 1), 0, sectors)  # straight up and down there is no compass
    sums = np.bincount(bands * SECTORS + sectors, weights=weights, minlength=len(BANDS) * SECTORS)
    offsets = (around.positions - around.focus) @ frame.T
    offsets /= np.maximum(np.linalg.norm(offsets, axis=1, keepdims=True), 1e-12)
    names = [view.name for view in run.views if view.split == "train"] or [view.name for view in run.views]
    found = []
    for cell in np.argsort(-sums)[:MOST_ADVICE]:
        if sums[cell] < WORTH_NAMING:
            break
        is_there = (bands * SECTORS + sectors == cell) & (weights > 0)
        mean = (facing[is_there] * weights[is_there, None]).sum(0)
        nearest = names[int(np.argmax(offsets @ mean))]
        found.append(Advice(math.atan2(mean[1], mean[0]), BANDS[cell // SECTORS][0], float(sums[cell]), nearest))
    return tuple(found)


def _map(around, frame: np.ndarray, mesh: Mesh, is_thin: np.ndarray, facing: np.ndarray, weights: np.ndarray) -> Map:
    reach = max(float(np.linalg.norm((around.positions - around.focus) @ frame[:2].T, axis=1).max()), 1e-12)
    chosen = np.random.default_rng(0).choice(len(mesh.vertices), min(DOTS, len(mesh.vertices)), replace=False)
    surface = (mesh.vertices[chosen] - around.focus) @ frame[:2].T / reach
    is_near = np.abs(surface).max(axis=1) < 1.1
    sectors = (_azimuths(facing) / (2.0 * math.pi) * SECTORS).astype(int) % SECTORS
    flat = np.linalg.norm(facing[:, :2], axis=1)  # what faces up or down belongs to no direction on the map
    return Map((around.positions - around.focus) @ frame[:2].T / reach, around.forwards @ frame[:2].T, surface[is_near],
               is_thin[chosen][is_near], np.bincount(sectors, weights=weights * flat, minlength=SECTORS), around.is_inward)
