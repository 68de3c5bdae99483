"""A scene is looked at without training: its files, its photos, and whether they belong together."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from nerf_app.check.conventions import OF_FORMAT, Convention
from nerf_app.check.drawing import Sketch, draw
from nerf_app.check.finding import Finding
from nerf_app.check.judge import judge, matches_of
from nerf_app.check.looks import FEATURES_SIDE, SILHOUETTE_SIDE, Look, look_at
from nerf_app.check.masks import find_inverted, find_inverted_alpha
from nerf_app.check.photos import find_blurred, find_twins
from nerf_app.check.places import find_gaps, find_odd_scale, find_tilt
from nerf_app.check.sizes import Sized, find_odd_lenses, fit_photos, unreadable_finding
from nerf_app.convert import Ready, in_full
from nerf_app.errors import DataError
from nerf_app.scene.camera import Camera
from nerf_app.scene.images import PhotoFile, fitted_mask
from nerf_app.scene.lenses import CameraBatch
from nerf_app.scene.listing import Listing
from nerf_app.scene.load import FEWEST_VIEWS, read_listing
from nerf_app.scene.masks import decide_masks, find_masks
from nerf_app.scene.matching import choose_pairs, within
from nerf_app.scene.normalise import choose_normalisation, estimate_up
from nerf_app.scene.paths import shown
from nerf_app.scene.scene import Normalisation
from nerf_app.scene.settings import SceneSettings

MOST_PAIRS = 36
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Examination:
    """What was found, and the scene as it would be without what can be mended."""

    format: str | None  # None: no format's reader could make sense of it
    n_photos: int  # that can be used, perhaps after mending
    findings: tuple[Finding, ...]  # faults first
    shares: dict[Convention, float]  # of the features that agree, for each convention; empty where they could not be asked
    coverage: dict[str, float | None]
    picture: np.ndarray | None  # [H, W, 3] uint8
    mended: Ready | None

    @property
    def exit_code(self) -> int:
        """3, as for data that a training refuses, where there is a fault; else 0."""
        return DataError.exit_code if any(finding.is_fault for finding in self.findings) else 0


def examine(path: Path, settings: SceneSettings, on_photo: Progress) -> Examination:
    """All that can be said of the scene in a folder or file. Raises DataError only where there is no scene at all."""
    if not path.exists():
        raise DataError(f"{shown(path)} does not exist: give a folder with photos and their cameras.")
    try:
        listing, notes = read_listing(path, settings)
    except DataError as error:
        fault = Finding(True, "the scene's files cannot be used", str(error), "as it says")
        return Examination(None, 0, (fault,), {}, {}, None, None)
    present = [frame for frame in listing.frames if frame.path.is_file()]
    findings = [*_remarks(listing, notes), *_unused(listing, len(present))]
    sized, more = fit_photos(present)
    findings += more + find_odd_lenses(sized)
    if not sized:
        return _closed(listing, findings)
    poses = np.stack([one.frame.world_from_camera for one in sized])
    pairs = choose_pairs(poses, MOST_PAIRS)
    looks, broken = _looks(sized, {photo for pair in pairs for photo in pair}, on_photo)
    findings += unreadable_finding(broken, len(present))
    features = {photo: look.features for photo, look in looks.items() if look.features is not None}
    found = matches_of(pairs, features, [one.fit.camera for one in sized], FEATURES_SIDE)
    convention, shares, more = judge(found, poses, listing.format)
    whole = list(looks)
    poses = convention.read(OF_FORMAT[listing.format].stored(poses))[whole]
    return _with_poses(replace(listing, frames=tuple(sized[i].frame for i in whole)), [sized[i] for i in whole], poses,
                       list(looks.values()), settings, [*findings, *more], shares)


def _with_poses(listing: Listing, sized: Sequence[Sized], poses: np.ndarray, looks: Sequence[Look], settings: SceneSettings,
                findings: list[Finding], shares: dict[Convention, float]) -> Examination:
    """The rest of `examine`, once it is known how the poses are meant: parallel lists of the photos that are whole."""
    if len(sized) < FEWEST_VIEWS:
        return _closed(listing, findings)
    names, cameras = [one.frame.name for one in sized], [one.fit.camera for one in sized]
    files = [one.file for one in sized]
    findings = findings + find_odd_scale(poses) + find_tilt(poses, listing.up)
    files, more = _masked(listing, files, cameras, poses, settings)
    inverted = find_inverted_alpha(names, [look.silhouette for look in looks], cameras, poses)
    if inverted:
        files = [replace(file, is_alpha_inverted=True) for file in files]
        looks = [look if look.silhouette is None else replace(look, silhouette=~look.silhouette) for look in looks]
    findings += more + inverted
    findings += find_blurred(names, looks)
    twins, extra = find_twins(names, looks, poses)
    up = estimate_up(poses) if listing.up is None else listing.up
    silhouettes = [_silhouette(file, look) for file, look in zip(files, looks, strict=True)]
    box, more = _box(poses, cameras, listing, silhouettes)
    findings += twins + more
    coverage: dict[str, float | None] = {}
    if box is not None:
        gaps, coverage = find_gaps(poses, cameras, listing.points, up)
        findings += gaps
    kept = [i for i in range(len(names)) if i not in extra]
    frames = tuple(replace(sized[i].frame, world_from_camera=poses[i], camera=in_full(cameras[i])) for i in kept)
    mended = Ready(replace(listing, frames=frames), tuple(files[i] for i in kept))
    about = {name for finding in findings for name in finding.photos}
    sketch = Sketch(poses, cameras, np.array([name in about for name in names]), up, listing.points, box)
    title = f"{listing.format}: {len(names)} photos; green cameras (thick: upper edge), red: see the findings; blue: the box"
    return Examination(listing.format, len(names), _sorted(findings), shares, coverage, draw(sketch, title), mended)


def _closed(listing: Listing, findings: Sequence[Finding]) -> Examination:
    """Where too few photos are left to say more."""
    few = Finding(True, "too few photos can be used", f"a scene needs {FEWEST_VIEWS}", "mend what is said of the others")
    return Examination(listing.format, 0, _sorted([*findings, few]), {}, {}, None, None)


def _sorted(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    return tuple(sorted(findings, key=lambda finding: not finding.is_fault))


def _remarks(listing: Listing, notes: Sequence[str]) -> list[Finding]:
    """What the format's reader had to say."""
    return [Finding(False, "the scene's files say something that was passed over or mended", note,
                    "nothing, where that is what was meant") for note in dict.fromkeys([*listing.notes, *notes])]


def _unused(listing: Listing, present: int) -> list[Finding]:
    """Photos without a pose, and poses without a photo."""
    absent = [frame.name for frame in listing.frames if not frame.path.is_file()]
    findings = []
    for reason in dict.fromkeys(reason for _, reason in listing.dropped):
        names = tuple(name for name, why in listing.dropped if why == reason)
        findings.append(Finding(False, f"photos that are not used: {len(names)}", shown(reason),
                                "find their poses too (nerf-app process), or leave them out", names))
    if absent:
        findings.append(Finding(present < FEWEST_VIEWS, f"photos that are listed but not there: {len(absent)}",
                                f"first {shown(absent[0])}", "put them there, or take them out of the list; --fix takes them out",
                                tuple(absent), True))
    return findings


def _looks(sized: Sequence[Sized], in_pairs: set[int], on_photo: Progress) -> tuple[dict[int, Look], list[tuple[str, str]]]:
    """Looks by position, and (name, reason) of the photos that are broken."""
    looks, broken = {}, []
    for i, one in enumerate(sized):
        try:
            looks[i] = look_at(one.file, i in in_pairs)
        except DataError as error:
            broken.append((one.frame.name, str(error)))
        on_photo(i + 1, len(sized))
    return looks, broken


def _masked(listing: Listing, files: Sequence[PhotoFile], cameras: Sequence[Camera], poses: np.ndarray,
            settings: SceneSettings) -> tuple[list[PhotoFile], list[Finding]]:
    """The files with their masks, inverted where these look so, and findings about masks."""
    found, is_stated, troubles = find_masks(listing, files, settings)
    findings = [Finding(False, "masks are missing or cannot be told apart", trouble, "put each where its photo is")
                for trouble in troubles]
    findings += find_inverted(found, files, cameras, poses)
    if any("inverted" in finding.what for finding in findings):
        found = {i: tuple(replace(mask, is_inverted=not mask.is_inverted) for mask in masks) for i, masks in found.items()}
    try:
        masks, _ = decide_masks(found, is_stated, files, cameras, poses, settings.masks)
    except DataError as error:
        masks = {}
        findings.append(Finding(True, "the masks cannot be used", str(error),
                                "make them anew in their photos' size, or leave them out with --masks none"))
    return [replace(file, masks=masks.get(i, ())) for i, file in enumerate(files)], findings


def _silhouette(file: PhotoFile, look: Look) -> np.ndarray | None:
    """[h, w] bool, reduced: where the photo's alpha and its mask leave something; None where they leave all."""
    masks = [mask for mask in file.masks if mask.kind == "object"]
    if not masks:
        return look.silhouette
    try:
        counts = np.minimum.reduce([fitted_mask(mask, file) for mask in masks])
    except DataError:
        return look.silhouette
    return np.asarray(within(Image.fromarray(counts), SILHOUETTE_SIDE)) > 0


def _box(poses: np.ndarray, cameras: Sequence[Camera], listing: Listing,
         silhouettes: Sequence[np.ndarray | None]) -> tuple[Normalisation | None, list[Finding]]:
    """The cube that a training would fill, or why there is none."""
    telling = [(i, silhouette) for i, silhouette in enumerate(silhouettes) if silhouette is not None] or None
    try:
        box, _, _ = choose_normalisation(poses, CameraBatch.from_cameras(cameras), listing.points, telling, "auto",
                                         listing.depth_range)
    except DataError as error:
        return None, [Finding(True, "these cameras cannot be learnt from", str(error), "as it says")]
    return box, []
