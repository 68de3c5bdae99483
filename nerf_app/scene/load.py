"""Files become a Scene: the format is found by looking, its listing is held against the photos, and all is decided once.

In this order: listing → photos that are there → cameras that fit them → masks → splits → pixels → scene coordinates.
"""

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType

import numpy as np
import torch

from nerf_app.errors import DataError
from nerf_app.scene import blender, colmap, llff, transforms
from nerf_app.scene.camera import Camera
from nerf_app.scene.images import LoadedPhotos, PhotoFile, Photos, load_photos, read_header
from nerf_app.scene.lenses import CameraBatch
from nerf_app.scene.listing import Frame, Listing
from nerf_app.scene.masks import decide_masks, find_masks
from nerf_app.scene.normalise import check_reach, choose_normalisation, estimate_up
from nerf_app.scene.paths import PHOTO_SUFFIXES, shown
from nerf_app.scene.scene import SPLITS, Dropped, Normalisation, Scene, View
from nerf_app.scene.settings import SceneSettings
from nerf_app.scene.sizes import fit_camera
from nerf_app.scene.splits import choose_splits

FORMATS = (blender, transforms, colmap, llff)  # where several fit, the first counts
FEWEST_VIEWS = 3
BROKEN_PART = 0.1  # of the photos that are there: more broken ones than this stop the program
SILHOUETTE_SIDE = 200  # pixels
UNSEEN_GRID = 32  # places along each side of a photo
DEFAULTS = SceneSettings()


@dataclass(frozen=True)
class Candidates:
    """Photos that can be opened, with what was decided about them so far: parallel lists."""

    frames: tuple[Frame, ...]
    files: tuple[PhotoFile, ...]
    cameras: tuple[Camera, ...]  # of the whole photos
    splits: tuple[str, ...] = ()

    def only(self, positions: Sequence[int]) -> "Candidates":
        return Candidates(*(tuple(values[i] for i in positions)
                             for values in (self.frames, self.files, self.cameras, self.splits)))

    @property
    def poses(self) -> np.ndarray:
        """[V, 4, 4] camera-to-world, input coordinates."""
        return np.stack([frame.world_from_camera for frame in self.frames])


def load_scene(path: str | Path, settings: SceneSettings = DEFAULTS, splits: Mapping[str, str] | None = None) -> Scene:
    """The scene in a folder (or of one scene file), checked; every photo has been decoded to its end.

    `splits` of a run that goes on, by the photos' names, are taken instead of chosen; a photo it does not know may train.
    Raises DataError with one line for what cannot be used as it is; what can be left out is in `dropped` and `notes`.
    """
    listing, notes = read_listing(Path(path), settings)
    present, left_out, remarks = split_off_absent(listing, settings)
    candidates, unreadable, more = open_headers(present)
    total, reasons = len(present) + len(left_out), [*remarks, *listing.notes]
    _check_count(path, len(present), total, reasons)
    notes += [*_loud_where_few(len(present), total), *remarks, *more]
    candidates, how, remarks = _decide(candidates, replace(listing, frames=candidates.frames), left_out, settings, splits)
    notes += remarks
    loaded = load_photos(candidates.files)
    broken = unreadable + [Dropped(candidates.frames[i].name, reason) for i, reason in loaded.broken.items()]
    remarks = _check_broken(broken, len(present), settings)
    notes += remarks + _check_masks(loaded, candidates.files)
    candidates = candidates.only([i for i in range(len(candidates.files)) if i not in loaded.broken])
    _check_count(path, len(candidates.frames), total, remarks + reasons)
    views = tuple(View(frame.name, _kept_camera(camera, file), frame.world_from_camera, split) for frame, file, camera, split
                  in zip(candidates.frames, candidates.files, candidates.cameras, candidates.splits))
    try:
        normalisation, is_bounded, remarks = _normalise(views, loaded.photos, listing, settings)
    except DataError as error:
        raise DataError(f"{shown(path)} ({_summary(candidates, how)}): {error}") from None
    if listing.up is None:
        up = estimate_up(candidates.poses)
        remarks = [*remarks, "up: estimated from how the cameras were held, ({:.2f}, {:.2f}, {:.2f})".format(*up)]
    else:
        up = listing.up
    return Scene(path=Path(path), root=listing.root, format=listing.format, views=views, photos=loaded.photos,
                 normalisation=normalisation, is_bounded=is_bounded, up=up,
                 points=listing.points, sightings=listing.sightings,
                 applied_transform=listing.applied_transform,
                 notes=(_summary(candidates, how), *notes, *remarks), dropped=(*left_out, *broken))


def _normalise(views: Sequence[View], photos: Photos, listing: Listing,
               settings: SceneSettings) -> tuple[Normalisation, bool, list[str]]:
    """See `choose_normalisation`: by the training photos, the others have no say."""
    training = [i for i, view in enumerate(views) if view.split == "train"]
    if not training:
        raise DataError("no training photo is left: mend the broken ones, or keep fewer for the test.")
    batch = CameraBatch.from_cameras([views[i].camera for i in training])
    poses = np.array([views[i].world_from_camera for i in training]).reshape(-1, 4, 4)
    normalisation, is_bounded, notes = choose_normalisation(poses, batch, listing.points, _silhouettes(photos, training),
                                                            settings.space, listing.depth_range)
    check_reach([view.name for view in views], np.array([view.world_from_camera for view in views]), normalisation)
    return normalisation, is_bounded, [*_unseen_part(batch, views, training), *notes]


def _check_count(path: str | Path, left: int, total: int, reasons: Sequence[str]) -> None:
    """DataError where too few photos are left to learn a scene from, with what became of the others."""
    if left < FEWEST_VIEWS:
        why = "; ".join(reasons[:3]) or "its files list no more"
        raise DataError(f"{shown(path)}: a scene needs {FEWEST_VIEWS} distinct views, but of its {total} photos {left} "
                        f"can be used ({why}): mend these, or add photos with poses.")


def _loud_where_few(left: int, total: int) -> list[str]:
    return [f"FEWER THAN HALF OF THE PHOTOS CAN BE USED: {left} of {total}"] if left < 0.5 * total else []


def _unseen_part(batch: CameraBatch, views: Sequence[View], training: Sequence[int]) -> list[str]:
    """A note where lenses do not say what some pixels see, counted on a grid of places in each photo; DataError where
    they say it of none."""
    places = (torch.arange(UNSEEN_GRID) + 0.5) / UNSEEN_GRID
    rows, columns = (part.reshape(-1) for part in torch.meshgrid(places, places, indexing="ij"))
    unseen = 0.0
    for number, i in enumerate(training):
        camera = views[i].camera
        indices = torch.full((len(rows),), number)
        _, is_valid = batch.directions(indices, columns.double() * camera.width, rows.double() * camera.height)
        unseen += float((~is_valid).double().mean()) * camera.width * camera.height
    total = sum(views[i].camera.width * views[i].camera.height for i in training)
    if unseen >= total:
        raise DataError("the lens says of no pixel where it looks: correct its distortion coefficients.")
    return [f"about {unseen:,.0f} of {total:,} pixels lie beyond what the lens can see and are left out"] if unseen else []


def read_listing(path: Path, settings: SceneSettings) -> tuple[Listing, list[str]]:
    """What the scene's files say, by the first format that fits, and notes."""
    if not os.path.exists(path):
        raise DataError(f"{shown(path)} does not exist: give a folder with photos and their cameras.")
    fitting = [module for module in FORMATS if module.recognises(path)]
    if not fitting:
        raise DataError(_unknown(path))
    listing = fitting[0].read(path, settings)
    if not listing.frames:
        raise DataError(f"{shown(path)} lists no photo that could be used ({fitting[0].NAME}): check its files.")
    notes = list(listing.notes)
    if len(fitting) > 1:
        others = " and ".join(module.NAME for module in fitting[1:])
        notes.insert(0, f"read as {fitting[0].NAME}; {others} would fit as well")
    return _with_sightings(listing, path, fitting[1:], settings), notes


def _with_sightings(listing: Listing, path: Path, others: Sequence[ModuleType], settings: SceneSettings) -> Listing:
    """With the sparse points, and what photos see of them, of another description of the same photos at the same places."""
    poses, turn = {frame.name: frame.world_from_camera for frame in listing.frames}, np.eye(4)
    if listing.applied_transform is not None:  # to the coordinates of what nerfstudio made it of
        turn[:3] = listing.applied_transform
    for module in others if listing.sightings is None else ():
        try:
            other = module.read(path, settings)
        except DataError:
            continue
        places = {frame.name: turn @ frame.world_from_camera for frame in other.frames}
        if other.sightings and poses.keys() <= places.keys() and all(
                np.allclose(poses[name], places[name], rtol=1e-5, atol=1e-6) for name in poses):
            return replace(listing, points=other.points @ turn[:3, :3].T + turn[:3, 3], sightings=other.sightings)
    return listing


def is_scene(path: Path) -> bool:
    """Whether its files are those of some format, or were meant to be."""
    return any(module.recognises(path) or module.missing(path) for module in FORMATS)


def _unknown(path: Path) -> str:
    """What was found where no format fits, and what is missing for the nearest."""
    lacking = [lack for module in FORMATS if (lack := module.missing(path))]
    if lacking:
        return f"{shown(path)} is no scene: {lacking[0]} (found {_contents(path)})."
    cure = ("there must be transforms.json, transforms_train.json, a COLMAP model (sparse/0) or "
            "poses_bounds.npy; photos alone and videos need poses first: `nerf-app process` finds them")
    return f"{shown(path)} is no scene of a known format: found {_contents(path)}; {cure}."


def _contents(path: Path) -> str:
    """For instance: 3 photos, notes.txt."""
    try:
        names = sorted(os.listdir(path)) if os.path.isdir(path) else [path.name]
    except OSError as error:
        return f"that it cannot be read ({error.strerror})"
    photos = [name for name in names if os.path.splitext(name)[1].lower() in PHOTO_SUFFIXES]
    others = [shown(name) for name in names if name not in photos]
    listed = [f"{len(photos)} photo{'s' * (len(photos) > 1)}"] if photos else []
    return ", ".join([*listed, *others[:5], *["…"] * (len(others) > 5)]) or "nothing"


def split_off_absent(listing: Listing, settings: SceneSettings) -> tuple[list[Frame], list[Dropped], list[str]]:
    """Frames whose photo is there, those left out, and notes. Photos without a pose and poses without a photo are normal."""
    present = [frame for frame in listing.frames if frame.path.is_file()]
    left_out = [Dropped(name, reason) for name, reason in listing.dropped]
    left_out += [Dropped(frame.name, "listed but not there") for frame in listing.frames if not frame.path.is_file()]
    if not left_out:
        return present, [], []
    notes = [_some([drop.name for drop in left_out if drop.reason == reason], f"left out, {shown(reason)}")
             for reason in dict.fromkeys(drop.reason for drop in left_out)]
    if settings.is_strict or not present:
        cure = "correct what lists them, or leave out --strict" if settings.is_strict else "or correct what lists them"
        raise DataError(f"{shown(listing.root)}: {'; '.join(notes[:3])}: put the photos there, {cure}.")
    return present, left_out, notes


def open_headers(frames: Sequence[Frame]) -> tuple[Candidates, list[Dropped], list[str]]:
    """The photos whose header can be read, with cameras that fit; the broken ones; notes on what was fitted."""
    opened, broken, remarks = [], [], Counter()
    for frame in frames:
        try:
            header = read_header(frame.path)
        except DataError as error:
            broken.append(Dropped(frame.name, str(error)))
            continue
        fit = fit_camera(shown(frame.name), frame.camera, header)
        opened.append((frame, PhotoFile(frame.name, frame.path, header, fit.orientation), fit.camera))
        remarks.update(fit.remarks)
    if not opened:
        raise DataError(f"none of {len(frames)} photos can be opened, first: {broken[0].reason}")
    notes = [f"{count} of {len(frames)} photos: {remark}" for remark, count in remarks.most_common(3)]
    if len(remarks) > 3:
        notes.append(f"and {len(remarks) - 3} more sizes or focal lengths like these")
    return Candidates(*map(tuple, zip(*opened))), broken, notes


def _decide(candidates: Candidates, listing: Listing, left_out: Sequence[Dropped],
            settings: SceneSettings, known: Mapping[str, str] | None) -> tuple[Candidates, str, list[str]]:
    """The candidates with masks, splits and the size they are kept in; how the test was chosen; notes."""
    found, is_stated, notes = find_masks(listing, candidates.files, settings)
    masks, remarks = decide_masks(found, is_stated, candidates.files, candidates.cameras, candidates.poses, settings.masks)
    names, stated = zip(*((frame.name, frame.split) for frame in candidates.frames))
    if known is None:
        splits, how = choose_splits(names, stated, settings.test, listing.root, {drop.name for drop in left_out})
    else:
        splits, how = [known.get(name, "train") for name in names], "the run's own"
    files = [replace(file, masks=masks.get(i, ()), kept_size=None if split == "test" else _kept_size(file, settings))
             for i, (file, split) in enumerate(zip(candidates.files, splits))]
    reduced = sum(file.kept_size not in (None, file.size) for file in files)
    notes += [*remarks, *([f"{reduced} photos reduced to {settings.longest_side} pixels for training"] if reduced else [])]
    return replace(candidates, files=tuple(files), splits=tuple(splits)), how, notes


def _kept_size(file: PhotoFile, settings: SceneSettings) -> tuple[int, int]:
    """(width, height) in the store: the photo's own, or with its longer side reduced to the setting."""
    longest = max(file.size)
    if settings.longest_side is None or longest <= settings.longest_side:
        return file.size
    width, height = (max(1, round(side * settings.longest_side / longest)) for side in file.size)
    return width, height


def _kept_camera(camera: Camera, file: PhotoFile) -> Camera:
    """The camera for the pixels that the store gives out."""
    return camera if file.kept_size in (None, file.size) else camera.resized(*file.kept_size)


def _check_broken(broken: Sequence[Dropped], present: int, settings: SceneSettings) -> list[str]:
    """A note on photos that are there and cannot be used; DataError where they are too many."""
    if not broken:
        return []
    if settings.is_strict or len(broken) > BROKEN_PART * present:
        more = f" ({len(broken)} of {present} photos cannot be used)" if len(broken) > 1 else ""
        raise DataError(f"{broken[0].reason}{more}")
    return [_some([drop.name for drop in broken], f"broken and left out of {present}")]


def _check_masks(loaded: LoadedPhotos, files: Sequence[PhotoFile]) -> list[str]:
    """A note on masks that leave nothing of their photo; DataError where all do."""
    empty = [files[i].name for i in loaded.empty]
    masked = [i for i, file in enumerate(files) if file.masks and i not in loaded.broken]
    if empty and len(empty) == len(masked):
        raise DataError(f"all {len(masked)} masks are black everywhere, first that of {shown(empty[0])}: "
                        "white must mark what counts; correct the masks, or leave them out with --masks none.")
    return [_some(empty, "with a mask that leaves nothing to look at")] if empty else []


def _silhouettes(photos: Photos, training: Sequence[int]) -> list[tuple[int, np.ndarray]] | None:
    """(position in `training`, bool [h, w] where any of a few pixels is opaque) of each; None without alpha."""
    if not photos.has_alpha:
        return None
    result = []
    for i, view in enumerate(training):
        pixels, ignored = photos.picture(view)
        alpha = pixels[..., 3] if ignored is None else pixels[..., 3].masked_fill(ignored, 255)  # [H, W] unknown may be there
        stride = -(-max(alpha.shape) // SILHOUETTE_SIDE)
        most = torch.nn.functional.max_pool2d(alpha[None].float(), stride, ceil_mode=True)[0]  # thin parts must not get lost
        result.append((i, (most > 127).numpy()))
    if not any(silhouette.any() for _, silhouette in result):
        raise DataError("every training photo is transparent everywhere, so there is nothing to learn from: correct the photos' "
                        "alpha (or their object masks, which are white on the object), or save the photos without it.")
    return result


def _summary(candidates: Candidates, how: str) -> str:
    """For instance: 106 photos 400×400, 81 train, 4 val, 21 test (every 8th)."""
    sizes = sorted({file.size for file in candidates.files}, key=lambda size: size[0] * size[1])
    first, last = (f"{width}×{height}" for width, height in (sizes[0], sizes[-1]))
    counts = ", ".join(f"{candidates.splits.count(split)} {split}" for split in SPLITS)
    return f"{len(candidates.files)} photos {first if len(sizes) == 1 else f'from {first} to {last}'}, {counts} ({how})"


def _some(names: Sequence[str], what: str) -> str:
    """One line about several photos; `dropped` has them all."""
    return f"{len(names)} photo{'s' * (len(names) > 1)} {what}: {', '.join(map(shown, names[:3]))}{', …' * (len(names) > 3)}"
