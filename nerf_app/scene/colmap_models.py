"""COLMAP's camera models in this program's words, and back."""

from collections.abc import Sequence
from math import isfinite, pi

from nerf_app.errors import DataError
from nerf_app.scene.camera import Camera, Lens
from nerf_app.scene.listing import StatedCamera

MODEL_NAMES = {
    0: "SIMPLE_PINHOLE", 1: "PINHOLE", 2: "SIMPLE_RADIAL", 3: "RADIAL", 4: "OPENCV", 5: "OPENCV_FISHEYE",
    6: "FULL_OPENCV", 7: "FOV", 8: "SIMPLE_RADIAL_FISHEYE", 9: "RADIAL_FISHEYE", 10: "THIN_PRISM_FISHEYE",
    11: "RAD_TAN_THIN_PRISM_FISHEYE", 12: "SIMPLE_DIVISION", 13: "DIVISION", 14: "SIMPLE_FISHEYE", 15: "FISHEYE",
    16: "EUCM", 17: "EQUIRECTANGULAR",
}
MODEL_SIZES = {0: 3, 1: 4, 2: 4, 3: 5, 4: 8, 5: 8, 6: 12, 7: 5, 8: 4, 9: 5, 10: 12,  # numbers that a model has;
               11: 16, 12: 4, 13: 5, 14: 3, 15: 4, 16: 6, 17: 2}  # binary readers need them all to find the next camera
NOT_READ = {11, 12, 13, 16}
ONE_FOCAL = {0, 2, 3, 8, 9, 14}  # models with one focal length for both axes


def camera_from_colmap(model_id: int, width: int, height: int, params: Sequence[float]) -> Camera:
    """The camera of a COLMAP model with its parameters in COLMAP's order; DataError for models that are not read."""
    name = MODEL_NAMES.get(model_id, f"number {model_id}")
    if model_id not in MODEL_NAMES or model_id in NOT_READ:
        raise DataError(f"the camera model {name} of COLMAP is not read: use one of {_readable_models()} "
                        "(colmap model_converter and image_undistorter change the model).")
    params = [float(value) for value in params]
    if len(params) != MODEL_SIZES[model_id]:
        raise DataError(f"camera model {name} has {MODEL_SIZES[model_id]} parameters, got {len(params)}: "
                        "correct or re-export the file.")
    if not all(isfinite(value) for value in params):
        raise DataError(f"the parameters of a camera must be finite, got {params} for model {name}: "
                        "correct or re-export the file.")
    if model_id == 17:
        return _panorama(width, height, params)
    focal_count = 1 if model_id in ONE_FOCAL else 2
    focal_x, focal_y, centre_x, centre_y = params[0], params[focal_count - 1], *params[focal_count:focal_count + 2]
    if focal_x <= 0 or focal_y <= 0:
        raise DataError(f"focal lengths must be positive, got {focal_x:g} and {focal_y:g} for model {name}: "
                        "correct or re-export the file.")
    return Camera(width, height, focal_x, focal_y, centre_x, centre_y, _lens(model_id, params[focal_count + 2:]))


def _panorama(width: int, height: int, params: Sequence[float]) -> Camera:
    if list(params) != [width, height]:
        raise DataError(f"a panorama must fill its image: model EQUIRECTANGULAR says {params[0]:g}×{params[1]:g}, "
                        f"the image is {width}×{height}: correct or re-export the file.")
    return Camera(width, height, width / 2, height, width / 2, height / 2, Lens("equirectangular"))


def _lens(model_id: int, k: Sequence[float]) -> Lens:
    """The numbers that follow the principal point."""
    match MODEL_NAMES[model_id]:
        case "SIMPLE_RADIAL" | "RADIAL":
            return Lens(radial=_padded(k))
        case "OPENCV":
            return Lens(radial=_padded(k[:2]), tangential=(k[2], k[3]))
        case "FULL_OPENCV":
            return Lens(radial=(k[0], k[1], k[4], 0.0), denominator=(k[5], k[6], k[7]), tangential=(k[2], k[3]))
        case "SIMPLE_FISHEYE" | "FISHEYE" | "SIMPLE_RADIAL_FISHEYE" | "RADIAL_FISHEYE" | "OPENCV_FISHEYE":
            return Lens("fisheye", radial=_padded(k))
        case "THIN_PRISM_FISHEYE":
            return Lens("fisheye", (k[0], k[1], k[4], k[5]), tangential=(k[2], k[3]), prism=(k[6], 0.0, k[7], 0.0))
        case "FOV":
            if abs(k[0]) >= pi:
                raise DataError(f"the angle of the FOV model must lie between -pi and pi, got {k[0]:g}: "
                                "correct or re-export the file.")
            return Lens("fov", omega=k[0])
    return Lens()


def _padded(k: Sequence[float]) -> tuple[float, float, float, float]:
    return (*k, 0.0, 0.0, 0.0, 0.0)[:4]


def _readable_models() -> str:
    return ", ".join(name for number, name in MODEL_NAMES.items() if number not in NOT_READ)


def colmap_model(camera: Camera | StatedCamera) -> tuple[int, tuple[float, ...]]:
    """COLMAP's number of the simplest model that holds the camera, and its parameters."""
    lens = camera.lens
    pinhole = (camera.focal_x_px, camera.focal_y_px, camera.centre_x_px, camera.centre_y_px)
    k1, k2, k3, k4 = lens.radial
    s1, s2, s3, s4 = lens.prism
    if lens.family == "equirectangular":
        return 17, (camera.width, camera.height)
    if lens.family == "fov":
        return 7, (*pinhole, lens.omega)
    is_fisheye = lens.family == "fisheye"
    if s2 or s4 or (not is_fisheye and (s1 or s3 or k4)):
        what = "thin prisms" if any(lens.prism) else "a term of r⁸"
        raise DataError(f"COLMAP has no words for a {lens.family} lens with {what}: undistort the photos.")
    if is_fisheye:
        if any(lens.tangential) or s1 or s3:
            return 10, (*pinhole, k1, k2, *lens.tangential, k3, k4, s1, s3)
        return 5, (*pinhole, *lens.radial)
    if k3 or any(lens.denominator):
        return 6, (*pinhole, k1, k2, *lens.tangential, k3, *lens.denominator)
    return (4, (*pinhole, k1, k2, *lens.tangential)) if k1 or k2 or any(lens.tangential) else (1, pinhole)
