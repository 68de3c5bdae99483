"""What a scene's files state about a camera against what the photo says: the camera that fits the photo's pixels.

A photo of another size but the stated shape has its intrinsics scaled; one that is stored lying and stated standing is
turned as its EXIF says; any other disagreement is an error that names both sizes. Where no size is stated, the photo's
own counts, turned as its EXIF says.
"""

import math
from dataclasses import dataclass

from nerf_app.errors import DataError
from nerf_app.scene.camera import Camera
from nerf_app.scene.listing import StatedCamera

LONGEST_SENSOR = 1.55  # its sides' ratio
SWAPS_SIDES = (5, 6, 7, 8)  # EXIF orientations that make a lying picture stand


@dataclass(frozen=True)
class PhotoHeader:
    """What a photo says of itself before its pixels are decoded."""

    width: int  # pixels as stored, before any turning
    height: int
    orientation: int = 1  # EXIF: 1 is upright as stored
    has_alpha: bool = False
    focal_35mm: float | None = None  # EXIF: millimetres behind a frame of 36 × 24 mm
    device: str = ""  # EXIF: maker, model, lens and zoom, alike in photos that one camera took
    place: tuple[float, float, float] | None = None  # EXIF: degrees north and east, metres above sea level

    @property
    def upright_size(self) -> tuple[int, int]:
        """(width, height) after the turn that EXIF asks for."""
        return (self.height, self.width) if self.orientation in SWAPS_SIDES else (self.width, self.height)


@dataclass(frozen=True)
class Fit:
    """How a photo and its stated camera go together."""

    camera: Camera  # of the photo at its full size, after turning
    orientation: int  # the EXIF turn to apply to the stored pixels; 1: none
    remarks: tuple[str, ...]  # what had to be decided; equal texts are said once for all photos


def same_shape(size: tuple[int, int], other: tuple[int, int]) -> bool:
    """Whether two (width, height) differ by scale alone: aspects within 1 %, or by what rounding to whole pixels explains."""
    (width, height), (wide, high) = sorted((size, other))  # the rounding is that of the smaller one
    if abs(width * high / (height * wide) - 1.0) <= 0.01:
        return True
    return abs(width * high / wide - height) <= 1.0 or abs(height * wide / high - width) <= 1.0


def fit_camera(photo: str, stated: StatedCamera, header: PhotoHeader) -> Fit:
    """The camera for the photo's own pixels, and whether they must be turned. `photo` names it in messages."""
    stated_size, orientation = _choose_turn(photo, stated, header)
    turned = (header.height, header.width) if orientation in SWAPS_SIDES else (header.width, header.height)
    remarks = []
    if orientation != 1:
        remarks.append("turned as EXIF says")
    elif header.orientation != 1 and same_shape(header.upright_size, stated_size):
        remarks.append("EXIF asks for a turn, but as stored they have the stated size as well: left as stored")
    if turned != stated_size:
        remarks.append(f"intrinsics scaled from {stated_size[0]}×{stated_size[1]} to {turned[0]}×{turned[1]}")
    focal_x, focal_y = _focal_lengths(photo, stated, stated_size, header)
    if stated.lens.family != "equirectangular" and not _has_focal(stated):
        remarks.append(f"no focal length stated: {focal_x:.0f} px taken from EXIF")
    width, height = stated_size
    centre_x = width / 2 if stated.centre_x_px is None else stated.centre_x_px
    centre_y = height / 2 if stated.centre_y_px is None else stated.centre_y_px
    camera = Camera(width, height, focal_x, focal_y, centre_x, centre_y, stated.lens)
    return Fit(camera if turned == stated_size else camera.resized(*turned), orientation, tuple(remarks))


def _choose_turn(photo: str, stated: StatedCamera, header: PhotoHeader) -> tuple[tuple[int, int], int]:
    """The size that the intrinsics refer to, and the EXIF turn that makes the photo agree with it."""
    width, height = header.upright_size
    if stated.width is None and stated.height is None:
        return (width, height), header.orientation
    size = (stated.width or max(1, round(stated.height * width / height)),
            stated.height or max(1, round(stated.width * height / width)))
    if min(size) < 1:
        raise DataError(f"{photo}: width and height must be at least 1, not {size[0]}×{size[1]}: correct \"w\" and \"h\".")
    if same_shape((header.width, header.height), size):
        return size, 1
    if header.orientation in SWAPS_SIDES and same_shape((width, height), size):
        return size, header.orientation
    raise DataError(f"{photo} is {header.width}×{header.height} but its camera says {size[0]}×{size[1]}: "
                    "correct the camera's size, or leave it out to read sizes from the files.")


def _has_focal(stated: StatedCamera) -> bool:
    return any(value is not None for value in (stated.focal_x_px, stated.focal_y_px, stated.angle_x, stated.angle_y))


def focal_from_35mm(focal_mm: float, width: int, height: int) -> float:
    """Pixels of a focal length that is told as that of a frame of 36 × 24 mm with the same diagonal angle (CIPA DCG-001).

    Sensors are 4:3 or 3:2; what is longer, or nearer to a square, was cut from the former.
    """
    longer, shorter = max(width, height), min(width, height)
    if longer > LONGEST_SENSOR * shorter:
        shorter = 0.75 * longer
    longer = max(longer, shorter / 0.75)
    return focal_mm * math.hypot(longer, shorter) / math.hypot(36.0, 24.0)


def _focal_lengths(photo: str, stated: StatedCamera, size: tuple[int, int], header: PhotoHeader) -> tuple[float, float]:
    """Pixels, of a picture of `size`: as stated, else from the angle of view, else from EXIF; one missing takes the other's."""
    width, height = size
    if stated.lens.family == "equirectangular":
        return width / math.tau, height / math.pi  # pixels per radian; the size alone decides
    focal_x, focal_y = stated.focal_x_px, stated.focal_y_px
    if focal_x is None and stated.angle_x is not None:
        focal_x = _from_angle(photo, "horizontal", stated.angle_x, width)
    if focal_y is None and stated.angle_y is not None:
        focal_y = _from_angle(photo, "vertical", stated.angle_y, height)
    if focal_x is None and focal_y is None and header.focal_35mm:
        focal_x = focal_from_35mm(header.focal_35mm, width, height)
    focal_x, focal_y = focal_y if focal_x is None else focal_x, focal_x if focal_y is None else focal_y
    if focal_x is None or focal_y is None:
        raise DataError(f"{photo} has neither a focal length nor an angle of view, and its EXIF has none: "
                        "state fl_x or camera_angle_x, or find the cameras with COLMAP.")
    for focal in (focal_x, focal_y):
        if not (math.isfinite(focal) and focal > 0.0):
            raise DataError(f"{photo}: a focal length must be positive, not {focal} px: correct it in the scene's file.")
    return focal_x, focal_y


def _from_angle(photo: str, direction: str, angle: float, side: int) -> float:
    """Focal length in pixels behind `side` pixels seen under `angle` radians."""
    if not 0.0 < angle < math.pi:
        raise DataError(f"{photo}: the {direction} angle of view must lie between 0 and {math.pi:.4f} radians, "
                        f"not {angle}: correct it (radians, not degrees) in the scene's file.")
    return 0.5 * side / math.tan(0.5 * angle)
