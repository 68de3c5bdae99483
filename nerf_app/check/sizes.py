"""What a photo's file says of itself against what the scene's files say of its camera."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache

import torch

from nerf_app.check.finding import Finding
from nerf_app.errors import DataError
from nerf_app.scene.camera import Camera, Lens
from nerf_app.scene.images import PhotoFile, read_header
from nerf_app.scene.lenses import CameraBatch
from nerf_app.scene.listing import Frame, StatedCamera
from nerf_app.scene.paths import shown
from nerf_app.scene.sizes import Fit, PhotoHeader, fit_camera, focal_from_35mm, same_shape

MOST_UNREADABLE = 0.1  # of the photos: more stop a training
WIDEST, NARROWEST = math.radians(150.0), math.radians(1.0)  # angles of view of perspective cameras
EXIF_RATIO = 1.5  # between focal lengths: crops explain less
OFF_CENTRE, OUTSIDE = 0.2, 1.5  # of the width or height, from the middle to the principal point: odd; beyond any crop
UNEQUAL = 1.1  # between focal lengths across and down: pixels are square
EDGE = 21  # pixels along an edge at which a lens is looked at
LITTLE_LOST, MOST_LOST = 0.1, 0.5  # of the picture
LEAST_INWARDS, MOST_OUTWARDS = 0.7, 4.0  # of where the picture's edge looks without the lens: beyond pincushions, fish's eyes
LOST = "lies where the lens's coefficients give two directions or none"


@dataclass(frozen=True)
class Sized:
    """A frame whose photo opens and whose camera fits it, perhaps after mending."""

    frame: Frame  # with its camera as mended
    file: PhotoFile
    fit: Fit


def fit_photos(frames: Sequence[Frame]) -> tuple[list[Sized], list[Finding]]:
    """The frames whose photo can be opened and fits its camera, sides exchanged where that is what is wrong; findings."""
    sized, unreadable, misfits, swapped = [], [], [], []
    for frame in frames:
        try:
            header = read_header(frame.path)
        except DataError as error:
            unreadable.append((frame.name, str(error)))
            continue
        camera = frame.camera
        try:
            fit = fit_camera(shown(frame.name), camera, header)
        except DataError as error:
            camera = with_sides_exchanged(frame.camera, header)
            if camera is None:
                misfits.append((frame.name, str(error)))
                continue
            fit = fit_camera(shown(frame.name), camera, header)
            swapped.append((frame.name, f"the photo is {header.width}×{header.height}, its camera says "
                            f"{frame.camera.width}×{frame.camera.height}"))
        sized.append(Sized(replace(frame, camera=camera), PhotoFile(frame.name, frame.path, header, fit.orientation), fit))
    return sized, [*unreadable_finding(unreadable, len(frames)), *_misfit_findings(misfits, swapped)]


def unreadable_finding(unreadable: Sequence[tuple[str, str]], total: int) -> list[Finding]:
    """(name, what is said of it) of the photos that cannot be decoded."""
    if not unreadable:
        return []
    return [Finding(len(unreadable) > MOST_UNREADABLE * total, f"photos that cannot be read: {len(unreadable)} of {total}",
                    unreadable[0][1], "copy them again, or take them out of the list; --fix takes them out",
                    tuple(name for name, _ in unreadable), True)]


def _misfit_findings(misfits: Sequence[tuple[str, str]], swapped: Sequence[tuple[str, str]]) -> list[Finding]:
    findings = []
    if swapped:
        findings.append(Finding(True, f"photos whose cameras have width and height exchanged: {len(swapped)}", swapped[0][1],
                                "exchange w and h (with COLMAP and LLFF width and height) in the scene's file; --fix does",
                                tuple(name for name, _ in swapped), True))
    if misfits:
        findings.append(Finding(True, f"photos that do not go together with their cameras: {len(misfits)}", misfits[0][1],
                                "correct the camera's numbers, or leave the size out where the format allows it",
                                tuple(name for name, _ in misfits)))
    return findings


def with_sides_exchanged(stated: StatedCamera, header: PhotoHeader) -> StatedCamera | None:
    """The camera with width and height exchanged, where only then it has its photo's shape. A principal point and focal
    lengths that were exchanged too go along: it is the one that lies nearer to the middle."""
    if stated.width is None or stated.height is None:
        return None
    size = (stated.height, stated.width)
    if not any(same_shape(size, photo) for photo in ((header.width, header.height), header.upright_size)):
        return None
    camera = replace(stated, width=size[0], height=size[1])
    if stated.centre_x_px is None or stated.centre_y_px is None:
        return camera
    x, y = stated.centre_x_px, stated.centre_y_px
    as_it_is, turned = (math.dist(point, (size[0] / 2, size[1] / 2)) for point in ((x, y), (y, x)))
    if turned < as_it_is:
        return replace(camera, centre_x_px=y, centre_y_px=x, focal_x_px=stated.focal_y_px or stated.focal_x_px,
                       focal_y_px=stated.focal_x_px)
    return camera


def find_odd_lenses(sized: Sequence[Sized]) -> list[Finding]:
    """Numbers that no such camera has, or that EXIF denies."""
    findings = []
    for is_fault, words, what, cure in ODD_LENSES:
        found = [(one.frame.name, said) for one in sized if (said := words(one))]
        if found:
            findings.append(Finding(is_fault, f"{what}: {len(found)}", found[0][1], cure, tuple(name for name, _ in found)))
    return findings


def _impossible_angle(one: Sized) -> str | None:
    camera = one.fit.camera
    angle = 2.0 * math.atan(0.5 * max(camera.width / camera.focal_x_px, camera.height / camera.focal_y_px))
    if camera.lens.family != "perspective" or NARROWEST < angle < WIDEST:
        return None
    return (f"its camera sees {math.degrees(angle):.3g}° with a focal length of {camera.focal_x_px:.6g} px in "
            f"{camera.width}×{camera.height}")


def _impossible_lens(one: Sized) -> str | None:
    if not _has_focal(one.fit.camera) or _impossible_angle(one) or _centre_outside(one):
        return None  # the reason lies there
    lost, inwards, outwards = bending(one.fit.camera)
    if lost > MOST_LOST:
        return f"{lost:.0%} of the picture {LOST}"
    if inwards < LEAST_INWARDS or outwards > MOST_OUTWARDS:
        factor = inwards if inwards < LEAST_INWARDS else outwards
        return f"its picture's edge looks {factor:.2g} times as far aside as without the lens"
    return None


def _lost_corners(one: Sized) -> str | None:
    lost = bending(one.fit.camera)[0] if _has_focal(one.fit.camera) else 0.0
    return f"{lost:.0%} of the picture {LOST}" if LITTLE_LOST < lost <= MOST_LOST else None


@cache
def bending(camera: Camera) -> tuple[float, float, float]:
    """Part of the picture in which the lens leaves no direction; how far aside its other pixels look, in parts of what they would
    without the lens, at least and at most."""
    steps = torch.linspace(0.0, 1.0, EDGE, dtype=torch.float64)
    down, across = (part.reshape(-1) for part in torch.meshgrid(steps, steps, indexing="ij"))
    both = CameraBatch.from_cameras([camera, replace(camera, lens=Lens(camera.lens.family))])
    pixels = across * camera.width, down * camera.height
    bent, straight = (both.directions(torch.full((EDGE**2,), which), *pixels) for which in (0, 1))
    aside, plain = (torch.acos((-found[:, 2]).clamp(-1.0, 1.0)) for found, _ in (bent, straight))
    if camera.lens.family == "perspective":
        aside, plain = aside.tan(), plain.tan()
    is_told = bent[1] & straight[1] & (plain > 0.0)
    factors = (aside / plain)[is_told] if is_told.any() else torch.ones(1)
    return 1.0 - float(bent[1].double().mean()), float(factors.min()), float(factors.max())


def _denied_by_exif(one: Sized) -> str | None:
    camera = one.fit.camera
    by_exif = focal_from_35mm(one.file.header.focal_35mm or 0.0, camera.width, camera.height)
    if not _has_focal(camera) or not by_exif or 1 / EXIF_RATIO < camera.focal_x_px / by_exif < EXIF_RATIO:
        return None
    return f"EXIF says {by_exif:.0f} px, the scene's file {camera.focal_x_px:.0f} px"


def _unequal_focals(one: Sized) -> str | None:
    camera = one.fit.camera
    if not _has_focal(camera) or 1 / UNEQUAL < camera.focal_x_px / camera.focal_y_px < UNEQUAL:
        return None
    return f"{camera.focal_x_px:.6g} px across, {camera.focal_y_px:.6g} px down"


def _centre_outside(one: Sized) -> str | None:
    return _centre(one.fit.camera) if _off_centre(one.fit.camera) > OUTSIDE else None


def _centre_aside(one: Sized) -> str | None:
    return _centre(one.fit.camera) if OFF_CENTRE < _off_centre(one.fit.camera) <= OUTSIDE else None


def _off_centre(camera: Camera) -> float:
    """From the picture's middle to the principal point, in parts of the width or height."""
    return max(abs(camera.centre_x_px / camera.width - 0.5), abs(camera.centre_y_px / camera.height - 0.5)) \
        if _has_focal(camera) else 0.0


def _centre(camera: Camera) -> str:
    return f"({camera.centre_x_px:.0f}, {camera.centre_y_px:.0f}) in {camera.width}×{camera.height}"


def _has_focal(camera: Camera) -> bool:
    return camera.lens.family in ("perspective", "fisheye")


def _unturned(one: Sized) -> str | None:
    header = one.file.header
    if header.orientation == 1 or one.fit.orientation != 1:
        return None
    return f"its size {header.width}×{header.height} is the stated one as it is stored"


ODD_LENSES = (  # is it a fault, what is said of a photo it is true of, what it is, the cure
    (True, _impossible_angle, "photos with an impossible angle of view",
     "the focal length must be in pixels of the stated size, angles in radians: correct them"),
    (True, _impossible_lens, "photos with an impossible lens",
     "k1, k2 … must be those of the stated model, for coordinates divided by the focal length: correct them, or set them to 0"),
    (True, _centre_outside, "photos with their principal point far outside",
     "cx and cy must be pixels of the stated size, from its upper left corner: correct them, or set them to half of w and h"),
    (False, _denied_by_exif, "photos with another focal length than in their EXIF",
     "right for photos that were cropped; otherwise the focal length belongs to another size: correct it"),
    (False, _unequal_focals, "photos with other focal lengths across than down",
     "right for photos that were stretched; otherwise one of them belongs to another size: correct it"),
    (False, _centre_aside, "photos with their principal point far from the middle",
     "right for photos that were cropped; otherwise cx and cy belong to another size or are exchanged: correct them"),
    (False, _lost_corners, "photos with parts that nothing is learned from",
     "right for lenses that leave corners dark; otherwise correct k1, k2 …, or find the cameras anew: nerf-app process"),
    (False, _unturned, "photos used as they are stored although their EXIF asks for a turn",
     "right where the cameras were found on the pixels as they are stored; otherwise turn the photos themselves"),
)
