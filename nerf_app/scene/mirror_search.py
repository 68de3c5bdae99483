"""PHOTOS → WHERE A FLAT MIRROR HANGS, without masks: what is seen in it stands before it once more.

Features say on which plane (mirror_plane.py). What lies behind that plane is seen through glass: where rays to it pass, and as
far around as photos disagree on what is there. A mirror is believed only if nothing else explains what is seen: it is seen from
one side, much of what lies behind stands before it too, next to nothing lies on it, and a frame or a wall, on which photos
agree, is around it.
"""

import numpy as np
import torch

from nerf_app.scene.flat_mirror import CELLS, FlatMirror, extent, grown
from nerf_app.scene.lenses import CameraBatch
from nerf_app.scene.matching import Sights
from nerf_app.scene.mirror_plane import FEWEST_SEEN, Vote, seen_reversed, vote
from nerf_app.scene.scene import Scene
from nerf_app.scene.vision import largest_piece, without_holes

FEWEST_PHOTOS = 3  # in which features are seen in the mirror and before it
ONE_SIDED, EXPLAINED, BARE, FRAMED = 0.9, 0.3, 0.8, 0.5  # the least parts, see `_Behind.doubt` and `search_mirror`
LOOKING, FEWEST_LOOKING = 24, 3  # photos that see most in the mirror tell where it ends; of them, so many must see a place
FLATTEST = 0.2  # cosine to the normal: whoever looks at the glass more flatly tells nothing
DISAGREEING, LEAST_LEVELS = 0.35, 4.0  # of how much photos disagree where rays pass; of 255
FEWEST_RAYS = 3  # that pass near a cell; where they do so all round it is glass whatever photos say
BESIDE, FAR = 0.15, 1.2  # of a radius of the glass, across: how near; what is farther away from such cells is no glass
NARROW, BAY = 9, 65  # cells: what is no glass, nor a gap in it; what goes into it and is glass too, say a plain ceiling's image
AROUND, RING = 1.4, 41  # of the glass' size: a square that holds its surroundings; cells of it across which they are judged


def search_mirror(scene: Scene) -> tuple[FlatMirror | None, str]:
    """The flat mirror that training photos show; or None, and why."""
    photos, sights, pairs = seen_reversed(scene)
    told = vote(sights, pairs) if len(pairs) else None
    if told is None or told.is_for.sum() < FEWEST_SEEN:
        return None, "hardly anything is seen a second time, reversed"
    behind = _Behind(sights, pairs, told)
    doubt = behind.doubt()
    if doubt:
        return None, doubt
    counts = np.bincount(sights.photos[behind.explained], minlength=len(photos))
    outline = _Outline(scene, [photos[i] for i in np.argsort(-counts, kind="stable")[:LOOKING]], behind)
    found = extent(outline.glass, behind.centre, told.normal, 2 * behind.radius, scene.up)
    framed = outline.framed(*found) if found else 0.0
    if framed < FRAMED:
        return None, f"photos agree on {framed:.0%} of what would be around it, so that nothing ends it"
    return FlatMirror(*found, behind.evidence()), ""


class _Behind:
    """What is seen behind a plane for which pairs speak."""

    def __init__(self, sights: Sights, pairs: np.ndarray, told: Vote) -> None:
        self.told = told
        height, eye = told.heights(sights.places), told.heights(sights.eyes)  # [N]
        is_behind, is_on = (eye > 0) & (height < 0), (eye > 0) & (np.abs(height) < sights.slack)
        part = np.where(is_behind, eye / np.maximum(eye - height, 1e-12), 1.0)  # [N] of the way to a place
        passed = sights.eyes + part[:, None] * (sights.places - sights.eyes)  # [N, 3] on the plane
        chosen = np.unique(pairs[told.is_for])
        self.explained = chosen[height[chosen] < 0]  # [E] rows of sights: those that are before the plane as well
        self.n_photos = len(np.unique(sights.photos[self.explained]))
        self.centre = np.median(passed[self.explained], 0)
        away = np.linalg.norm(passed - self.centre, axis=1)
        self.radius = float(np.percentile(away[self.explained], 90))
        is_behind &= ~is_on
        self.passed = passed[is_behind]  # [B, 3] where rays pass the plane
        self.n_behind, self.n_on = (int((away[some] < self.radius).sum()) for some in (is_behind, is_on))
        self.n_explained = int((away[self.explained] < self.radius).sum())

    def doubt(self) -> str:
        """Why it is no mirror; empty where it may be one."""
        if len(self.explained) < FEWEST_SEEN or self.n_photos < FEWEST_PHOTOS:
            return f"{len(self.explained)} features in {self.n_photos} photos, too few, are seen a second time, reversed"
        against = self.told.is_against.sum() / (self.told.is_for.sum() + self.told.is_against.sum())
        if against > 1 - ONE_SIDED:
            return f"what is seen reversed is symmetric, {against:.0%} of it is seen from the other side too"
        if self.n_explained < EXPLAINED * self.n_behind:
            return f"{self.n_explained / self.n_behind:.0%} of what would be seen in it, too little, stands before it as well"
        if self.n_behind < BARE * (self.n_behind + self.n_on):
            return f"where it would hang {self.n_on} features lie, beside {self.n_behind} that are seen through it"
        return ""

    def evidence(self) -> str:
        """How sure it is."""
        return (f"found without masks: {self.n_explained} of {self.n_behind} features that {self.n_photos} photos see in it "
                "stand before it as well")


class _Outline:
    """Where the glass ends, by photos that look at it."""

    def __init__(self, scene: Scene, photos: list[int], behind: _Behind) -> None:
        self.behind, self.normal, self.up = behind, behind.told.normal, scene.up
        self.poses = scene.normalisation.pose_to_scene(np.stack([scene.views[i].world_from_camera for i in photos]))
        self.cameras = CameraBatch.from_cameras([scene.views[i].camera for i in photos])
        self.pictures = [scene.photos.picture(i) for i in photos]
        spread = np.nan_to_num(self._spread(behind.passed))
        self.limit = max(DISAGREEING * float(np.median(spread)), LEAST_LEVELS)  # levels from which on they disagree

    def glass(self, places: np.ndarray) -> np.ndarray:
        """Of the cells of a square [CELLS², 3]: bool [CELLS, CELLS]."""
        is_sure, is_near = self._near(places)
        differs = self._spread(places).reshape(CELLS, CELLS) > self.limit
        mostly = _share(is_sure | differs, NARROW) > 0.5  # no gaps, and no lines, such as outlines of a frame
        glass = np.pad(largest_piece(mostly & is_near), BAY)
        return without_holes(~grown(~grown(glass, BAY), BAY))[BAY:-BAY, BAY:-BAY]

    def framed(self, frame: np.ndarray, is_glass: np.ndarray) -> float:
        """On what part of the surroundings photos agree, 0...1; what they do not show is left out."""
        steps = ((np.arange(CELLS) + 0.5) / CELLS - 0.5) * AROUND + 0.5  # in the frame's own measure
        inside = (steps >= 0) & (steps < 1)
        glass, some = np.zeros((CELLS, CELLS), bool), (steps[inside] * CELLS).astype(np.int64)
        glass[np.ix_(inside, inside)] = is_glass[np.ix_(some, some)]
        places = frame[0] + steps[:, None, None] * frame[2] + steps[:, None] * frame[1]
        spread = self._spread(places[grown(glass, RING) & ~grown(glass, NARROW)])
        return float((spread <= self.limit).sum() / max((~np.isnan(spread)).sum(), 1))

    def _near(self, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Of the cells of a square, [CELLS, CELLS] bool each: those that rays pass all round, and those not far from rays."""
        corner, edges = places[0], (places[CELLS - 1] - places[0], places[-CELLS] - places[0])
        x, y = ((((self.behind.passed - corner) @ edge) / (edge @ edge) * (CELLS - 1)).round().astype(np.int64) for edge in edges)
        is_in = (np.minimum(x, y) >= 0) & (np.maximum(x, y) < CELLS)
        counts = np.bincount(y[is_in] * CELLS + x[is_in], minlength=CELLS**2).reshape(CELLS, CELLS)
        radius = self.behind.radius / np.linalg.norm(edges[0]) * CELLS  # cells
        beside, far = (2 * round(radius * part / 2) + 1 for part in (BESIDE, FAR))
        has_rays = _share(counts, beside) * beside**2 > FEWEST_RAYS - 0.5
        return ~grown(~has_rays, beside), grown(has_rays, far)

    def _spread(self, places: np.ndarray) -> np.ndarray:
        """[N, 3] -> [N] how far photos are from each other there, in levels; NaN where too few tell.

        It is the middle of their distances from the middle colour: up to half of them may see what stands in front.
        """
        told = np.full((len(self.poses), len(places), 3), np.nan, np.float32)
        for i, (pose, (pixels, ignored)) in enumerate(zip(self.poses, self.pictures)):
            away = places - pose[:3, 3]
            x_px, y_px, is_seen = self.cameras.project(torch.full((len(places),), i), torch.from_numpy(away @ pose[:3, :3]))
            is_told = is_seen.numpy() & (away @ self.normal < -FLATTEST * np.linalg.norm(away, axis=1))
            row, column = (np.clip(at.numpy(), 0, end - 1).astype(np.int64) for at, end in zip((y_px, x_px), pixels.shape))
            colours = pixels.numpy()[row, column]  # [N, C]
            is_told &= (colours[:, 3:] == 255).all(1)  # nothing is where a photo is transparent, and nobody agrees on nothing
            if ignored is not None:
                is_told &= ~ignored.numpy()[row, column]
            told[i, is_told] = colours[is_told, :3]
        told = torch.from_numpy(told)
        spread = (told - told.nanmedian(0).values).abs().nanmedian(0).values.mean(1)
        return torch.where((~told[..., 0].isnan()).sum(0) < FEWEST_LOOKING, torch.nan, spread).numpy()


def _share(cells: np.ndarray, width: int) -> np.ndarray:
    """[H, W] the mean of each cell's surroundings, an odd `width` across; beyond the border is 0."""
    return torch.nn.functional.avg_pool2d(torch.from_numpy(cells).float()[None], width, 1, width // 2)[0].numpy()
