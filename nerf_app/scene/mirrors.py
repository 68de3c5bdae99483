"""MASKS → WHERE A FLAT MIRROR HANGS, by geometry: before anything is trained, and whatever shows in it.

What is white in one mask, thrown on to a plane, is white in all others on one plane only: that of the glass. So a plane is
judged by the part of all white that others deny, and the best one is looked for: first all round the place where the masks'
middles cross, then in ever smaller steps. Neither corners nor a convex outline are needed; glass may reach out of a photo,
things may stand before it, and lenses may bend. Where enough shows in the mirror that photos see before it too, that tells the
plane more finely.
"""

from functools import cached_property
from itertools import product
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from nerf_app.errors import DataError, UsageError
from nerf_app.scene.flat_mirror import CELLS, FlatMirror, axes_on, extent, grown
from nerf_app.scene.images import MaskFile, fitted_mask
from nerf_app.scene.lenses import CameraBatch
from nerf_app.scene.masks import masks_in
from nerf_app.scene.mirror_plane import FEWEST_SEEN, refined, seen_reversed
from nerf_app.scene.paths import shown
from nerf_app.scene.scene import Scene
from nerf_app.scene.vision import largest_piece

FEWEST_MASKS, MOST_MASKS = 3, 24  # photos that show the mirror; of them, the ones that show most of it look for its plane
LONGEST_SIDE = 320  # pixels of a mask: finer ones are reduced
TILTS, OFFSETS = 100, (-0.6, -0.3, 0.0, 0.3, 0.6)  # planes that are tried: normals all round, distances in radii of the glass
REFINED = 3  # of them, the best
ANY, NEAR_OUTLINE = 150, 600  # white pixels of each mask by which a plane is judged: any, and more finely, those near its outline
COARSE, WHOLE, FINE = slice(0, 30), slice(0, ANY), slice(ANY, ANY + NEAR_OUTLINE)
OUTLINE = 5  # pixels across: what of a mask is near its outline
LEAST_SIGHT = 0.25  # part of the photos that must have a place in sight, or nobody agrees on it
IS_GLASS = 0.35  # part of the photos that have a place in sight: what stands before the glass hides it from the others
DISAGREEING = 0.3  # part of the white that others deny, from which on there is no plane
MOST_TURN = np.radians(2.0)  # by which features may turn the plane that outlines tell
MOST_DENIED = 0.02  # more than before of what masks show, by photos, once features turned it
STEPS = 64  # the largest step over the smallest one, in radians and in radii of the glass


def mirror_folder(mirror: str, places: tuple[Path, ...]) -> Path:
    """The folder of masks that --mirror names: from here, or in one of the places. UsageError where there is none."""
    for path in (Path(mirror), *(place / mirror for place in places)):
        if path.is_dir():
            return path
    raise UsageError("--mirror must be none, auto, or a folder of masks, white where the mirror shows; "
                     f"{shown(mirror)} is none of these.")


def find_mirror(scene: Scene, folder: Path) -> FlatMirror:
    """The flat mirror that masks in a folder show; DataError where they show none. Test photos' masks are not looked at."""
    photos = scene.indices("train")
    files = [scene.photos.files[i] for i in photos]
    found, _ = masks_in(folder, scene.root, files)
    if len(found) < FEWEST_MASKS:
        raise DataError(f"{shown(folder)} holds masks for {len(found)} of {len(photos)} training photos, and a mirror is found "
                        f"from {FEWEST_MASKS} at least: name masks as their photos, "
                        f"such as {shown(Path(files[0].name).stem)}.png.")
    masks = {photos[i]: _reduced(fitted_mask(MaskFile(path, "object"), files[i]) > 127) for i, path in found.items()}
    showing = sorted((i for i in masks if masks[i].any()), key=lambda i: -masks[i].mean())
    if len(showing) < FEWEST_MASKS:
        raise DataError(f"masks in {shown(folder)} show a mirror in {len(showing)} photos, and it is found from {FEWEST_MASKS} "
                        "at least: masks must be white where the mirror is seen, and black elsewhere.")
    judge = _Sights(scene, {i: masks[i] for i in showing[:MOST_MASKS]})
    centre, normal, disagreement = _by_features(scene, judge, *_plane(judge))
    found = None if disagreement > DISAGREEING else _extent(_Sights(scene, masks), judge, centre, normal)
    if found is None:
        raise DataError(f"the masks in {shown(folder)} do not fit one flat mirror: on the plane that fits best, "
                        f"{disagreement:.0%} of what some photos see as mirror others do not. Mark one mirror alone, "
                        "in all photos the same one.")
    return FlatMirror(*found, f"seen in {len(showing)} photos that agree on {1 - disagreement:.0%} of it")


class _Sights:
    """What masks say of places in scene coordinates."""

    def __init__(self, scene: Scene, masks: dict[int, np.ndarray]) -> None:
        views = [scene.views[i] for i in masks]
        poses = scene.normalisation.pose_to_scene(np.stack([view.world_from_camera for view in views]))  # [V, 4, 4]
        self.up = scene.up
        self.eyes, self.turns = poses[:, :3, 3], poses[:, :3, :3]
        self.cameras, self.masks = CameraBatch.from_cameras([view.camera for view in views]), list(masks.values())
        self.sizes = np.array([mask.shape for mask in self.masks])  # [V, 2] height, width
        self.begins = np.cumsum([0, *(mask.size for mask in self.masks)])[:-1]
        self.pixels = np.concatenate([mask.ravel() for mask in self.masks])

    def counts(self, points: np.ndarray, normal: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Of places [N, 3] on a plane: how many photos before it have each in sight [N], and how many see glass there [N]."""
        n = len(points)
        views = np.arange(len(self.eyes)).repeat(n)
        apart = points[None] - self.eyes[:, None]  # [V, N, 3]
        x_px, y_px, is_seen = self.cameras.project(torch.from_numpy(views), torch.from_numpy((apart @ self.turns).reshape(-1, 3)))
        size_px = self.cameras.size_px[torch.from_numpy(views)].numpy()
        height, width = self.sizes[views].T
        column = np.clip(x_px.numpy() / size_px[:, 0] * width, 0, width - 1).astype(np.int64)
        row = np.clip(y_px.numpy() / size_px[:, 1] * height, 0, height - 1).astype(np.int64)
        is_seen = is_seen.numpy() & ((apart @ normal).ravel() < 0)
        is_white = is_seen & self.pixels[self.begins[views] + row * width + column]
        return is_seen.reshape(-1, n).sum(0), is_white.reshape(-1, n).sum(0)

    def disagreement(self, centre: np.ndarray, normal: np.ndarray, some: slice) -> float:
        """What part of the photos denies what is white to one, in the mean over some pixels of each: 0...1."""
        points, is_met = self.thrown(centre, normal, some)
        seen, white = self.counts(points, normal)
        is_told = is_met & (seen >= max(LEAST_SIGHT * len(self.eyes), FEWEST_MASKS))
        return float(np.where(is_told, 1 - white / np.maximum(seen, 1), 1.0).mean())

    def thrown(self, centre: np.ndarray, normal: np.ndarray, some: slice) -> tuple[np.ndarray, np.ndarray]:
        """Where some white pixels of each mask fall on a plane [N, 3], and whether it lies before them [N]."""
        directions = self.white[:, some]
        steep, away = directions @ normal, ((centre - self.eyes) @ normal)[:, None]  # [V, P], [V, 1]
        is_met = (steep < -1e-3) & (away < 0)
        distance = np.where(is_met, away / np.where(is_met, steep, 1), 0)
        return (self.eyes[:, None] + distance[..., None] * directions).reshape(-1, 3), is_met.ravel()

    @cached_property
    def white(self) -> np.ndarray:
        """[V, ANY + NEAR_OUTLINE, 3] unit vectors in scene axes through white pixels of each mask."""
        rng, found = np.random.default_rng(0), []
        for i, mask in enumerate(self.masks):
            some = rng.choice(np.flatnonzero(mask), ANY)
            near = np.flatnonzero(mask & grown(~mask, OUTLINE))
            pixels = np.concatenate([some, rng.choice(near if len(near) else some, NEAR_OUTLINE)])
            size_px, (height, width) = self.cameras.size_px[i], self.sizes[i]
            x_px, y_px = (torch.from_numpy((at + 0.5) / side * float(size)) for at, side, size
                          in ((pixels % width, width, size_px[0]), (pixels // width, height, size_px[1])))
            found.append(self.cameras.directions(torch.full((len(pixels),), i), x_px, y_px)[0].numpy() @ self.turns[i].T)
        return np.stack(found)

    def middle(self) -> tuple[np.ndarray, float]:
        """The place [3] where lines through the middles of masks pass each other, and about how far from it glass reaches."""
        whole = [i for i, mask in enumerate(self.masks) if not (mask[[0, -1]].any() or mask[:, [0, -1]].any())]
        chosen = whole if len(whole) >= FEWEST_MASKS else list(range(len(self.masks)))
        eyes, lines = self.eyes[chosen], np.array([_unit(self.white[i, WHOLE].mean(0)) for i in chosen])
        across = np.eye(3) - lines[:, :, None] * lines[:, None]  # [V, 3, 3]
        middle = np.linalg.lstsq(across.sum(0), (across @ eyes[:, :, None]).sum(0)[:, 0], rcond=None)[0]
        angles = np.linalg.norm(self.white[chosen, WHOLE] - lines[:, None], axis=2).max(1)
        return middle, float(np.median(angles * np.linalg.norm(eyes - middle, axis=1)))


def _plane(judge: _Sights) -> tuple[np.ndarray, np.ndarray]:
    """A place on the glass, and its normal towards the cameras."""
    middle, radius = judge.middle()
    to_cameras = _unit((judge.eyes - middle).mean(0))
    numbers = np.arange(2 * TILTS) + 0.5
    height, turn = 1 - numbers / TILTS, numbers * np.pi * (3 - np.sqrt(5))  # evenly on the sphere
    normals = np.stack([np.sqrt(1 - height**2) * np.cos(turn), np.sqrt(1 - height**2) * np.sin(turn), height], 1)
    tried = [(judge.disagreement(middle + offset * radius * normal, normal, COARSE), tuple(normal), offset)
             for normal, offset in product(normals[normals @ to_cameras > 0], OFFSETS)]
    ends = [_refined(judge, middle + offset * radius * np.array(normal), np.array(normal), radius, WHOLE, 0.2)
            for _, normal, offset in sorted(tried)[:REFINED]]
    centre, normal, _ = min(ends, key=lambda end: end[2])
    return _refined(judge, centre, normal, radius, FINE, 0.02)[:2]


def _by_features(scene: Scene, judge: _Sights, centre: np.ndarray, normal: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """The plane again, and its disagreement: what shows in the mirror tells it more finely than outlines do, where enough does.

    Unless the outlines deny it: the features may be those of another mirror, which hangs a little behind this one.
    """
    disagreement = judge.disagreement(centre, normal, WHOLE)
    _, sights, pairs = seen_reversed(scene)
    if not len(pairs):
        return centre, normal, disagreement
    told = refined(sights, pairs, normal, centre @ normal)
    if told.is_for.sum() < FEWEST_SEEN or told.normal @ normal < np.cos(MOST_TURN):
        return centre, normal, disagreement
    moved = centre - told.heights(centre) * told.normal
    turned = judge.disagreement(moved, told.normal, WHOLE)
    is_believed = turned - disagreement <= MOST_DENIED
    return (moved, told.normal, turned) if is_believed else (centre, normal, disagreement)


def _refined(judge: _Sights, centre: np.ndarray, normal: np.ndarray, radius: float, some: slice,
             step: float) -> tuple[np.ndarray, np.ndarray, float]:
    """The plane near this one on which some pixels agree best, found in ever smaller steps, and what is denied there."""
    best, last = judge.disagreement(centre, normal, some), step / STEPS
    while step > last:
        right, up = axes_on(normal)
        moves = [(sign * step * radius * normal, normal) for sign in (-1, 1)]
        moves += [(0 * normal, _unit(normal + sign * step * axis)) for sign in (-1, 1) for axis in (right, up)]
        scores = [judge.disagreement(centre + shift, turned, some) for shift, turned in moves]
        if min(scores) < best:
            best, (shift, normal) = min(scores), moves[int(np.argmin(scores))]
            centre = centre + shift
        else:
            step /= 2
    return centre, normal, best


def _extent(everyone: _Sights, judge: _Sights, centre: np.ndarray, normal: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Of the glass on a plane, by what all masks say: see `extent`."""
    points, is_met = judge.thrown(centre, normal, WHOLE)
    centre = np.median(points[is_met], 0)
    radius = 1.2 * float(np.linalg.norm(points[is_met] - centre, axis=1).max())
    return extent(lambda places: _is_glass(everyone, places, normal), centre, normal, radius, everyone.up)


def _is_glass(judge: _Sights, points: np.ndarray, normal: np.ndarray) -> np.ndarray:
    """[CELLS, CELLS] bool: the largest piece of what enough photos see as glass."""
    seen, white = (np.concatenate(parts) for parts in zip(*(judge.counts(some, normal) for some in np.array_split(points, 64))))
    return largest_piece((white >= IS_GLASS * np.maximum(seen, 1)).reshape(CELLS, CELLS) & (white > 0).reshape(CELLS, CELLS))


def _unit(vector: np.ndarray) -> np.ndarray:
    return vector / np.linalg.norm(vector)


def _reduced(mask: np.ndarray) -> np.ndarray:
    """A mask with a longest side of LONGEST_SIDE pixels at most."""
    scale = LONGEST_SIDE / max(mask.shape)
    if scale >= 1:
        return mask
    size = round(mask.shape[1] * scale), round(mask.shape[0] * scale)
    return np.array(Image.fromarray(mask).resize(size, Image.Resampling.NEAREST))
