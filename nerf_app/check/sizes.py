"""What a photo's file says of itself against what the scene's files say of its camera."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from nerf_app.check.finding import Finding
from nerf_app.errors import DataError
from nerf_app.scene.images import PhotoFile, read_header
from nerf_app.scene.listing import Frame, StatedCamera
from nerf_app.scene.paths import shown
from nerf_app.scene.sizes import Fit, PhotoHeader, fit_camera, same_shape

MOST_UNREADABLE = 0.1  # of the photos: more stop a training
WIDEST, NARROWEST = math.radians(150.0), math.radians(1.0)  # angles of view of perspective cameras
EXIF_RATIO = 1.5  # between focal lengths: crops explain less
OFF_CENTRE = 0.2  # of the width or height, from the middle to the principal point


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
    """Angles of view that no such camera has, focal lengths that EXIF denies, principal points far from the middle."""
    absurd, denied, aside, unturned = [], [], [], []
    for one in sized:
        camera, header = one.fit.camera, one.file.header
        if camera.lens.family == "perspective":
            angle = 2.0 * math.atan(0.5 * max(camera.width / camera.focal_x_px, camera.height / camera.focal_y_px))
            if not NARROWEST < angle < WIDEST:
                absurd.append((one.frame.name, f"its camera sees {math.degrees(angle):.3g}° with a focal length of "
                               f"{camera.focal_x_px:.6g} px in {camera.width}×{camera.height}"))
        if camera.lens.family in ("perspective", "fisheye"):
            by_exif = (header.focal_35mm or 0.0) * max(camera.width, camera.height) / 36.0
            if by_exif and not 1 / EXIF_RATIO < camera.focal_x_px / by_exif < EXIF_RATIO:
                denied.append((one.frame.name, f"EXIF says {by_exif:.0f} px, the scene's file {camera.focal_x_px:.0f} px"))
            off = max(abs(camera.centre_x_px / camera.width - 0.5), abs(camera.centre_y_px / camera.height - 0.5))
            if off > OFF_CENTRE:
                aside.append((one.frame.name, f"({camera.centre_x_px:.0f}, {camera.centre_y_px:.0f}) "
                              f"in {camera.width}×{camera.height}"))
        if header.orientation != 1 and one.fit.orientation == 1:
            unturned.append((one.frame.name, f"its size {header.width}×{header.height} is the stated one as it is stored"))
    rows = ((True, absurd, "photos with an impossible angle of view",
             "the focal length must be in pixels of the stated size, angles in radians: correct them"),
            (False, denied, "photos with another focal length than in their EXIF",
             "right for photos that were cropped; otherwise the focal length belongs to another size: correct it"),
            (False, aside, "photos with their principal point far from the middle",
             "right for photos that were cropped; otherwise cx and cy belong to another size or are exchanged: correct them"),
            (False, unturned, "photos used as they are stored although their EXIF asks for a turn",
             "right where the cameras were found on the pixels as they are stored; otherwise turn the photos themselves"))
    return [Finding(is_fault, f"{what}: {len(found)}", found[0][1], cure, tuple(name for name, _ in found))
            for is_fault, found, what, cure in rows if found]
