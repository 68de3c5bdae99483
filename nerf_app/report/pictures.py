"""What is shown on the page as pixels: photos and renderings, reduced, as JPEG data URIs. """

import base64
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nerf_app.export.clear_view import clear_view
from nerf_app.export.frames import DepthRange, depth_kind, depth_of
from nerf_app.export.paths import camera_path
from nerf_app.export.pictures import jpeg_bytes, to_bytes
from nerf_app.training.validation import on_white

if TYPE_CHECKING:
    from nerf_app.run import Run
    from nerf_app.scene.scene import Scene

LONGEST_SIDE = 400  # pixels of a picture on the page
THUMBNAIL = 112  # pixels
QUALITY = 82  # of JPEG
AMPLIFIED = 4.0  # differences are small


@dataclass(frozen=True)
class Comparison:
    """A photo that training never saw, what the field shows in its place, and how the two differ."""

    name: str
    psnr: float  # decibel, at full size
    ssim: float | None
    photo: np.ndarray  # [H, W, 3] uint8
    picture: np.ndarray  # [H, W, 3] uint8
    difference: np.ndarray  # [H, W, 3] uint8, see `difference_colours`


@dataclass(frozen=True)
class Still:
    """One picture that stands for the scene."""

    pixels: np.ndarray  # [H, W, 3] uint8
    towards: np.ndarray  # [3] unit vector, input coordinates: from the scene to the camera


@dataclass(frozen=True)
class Geometry:
    """One view's depth and normals, and what their colours mean."""

    name: str
    picture: np.ndarray  # [H, W, 3] uint8
    depth: np.ndarray  # [H, W, 3] uint8
    normals: np.ndarray  # [H, W, 3] uint8
    near: float  # input units, the bright end
    far: float  # input units, the dark end
    kind: str  # "z" along the camera's axis, "range" along the ray


def jpeg_uri(pixels: np.ndarray) -> str:
    """[H, W, 3] uint8 as a data URI."""
    return data_uri(jpeg_bytes(pixels, QUALITY), "image/jpeg")


def data_uri(content: bytes, kind: str) -> str:
    """Any bytes as an address that holds them."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def compare(run: "Run", scene: "Scene", index: int, psnr: float, ssim: float | None) -> Comparison:
    """Photo `index` of the scene beside its rendering, both reduced, in front of white; the scores are handed through."""
    view = scene.views[index]
    camera = view.camera.within(LONGEST_SIDE)
    pixels, ignored = scene.photos.picture(index, (camera.width, camera.height))
    photo, picture = on_white(pixels), run.render(camera, view.world_from_camera, with_depths=False)
    unseen = ~picture.is_seen if ignored is None else ignored.numpy() | ~picture.is_seen
    return Comparison(view.name, psnr, ssim, to_bytes(photo), to_bytes(picture.rgb),
                      difference_colours(photo, picture.rgb, unseen))


def difference_colours(photo: np.ndarray, picture: np.ndarray, ignored: np.ndarray) -> np.ndarray:
    """[H, W, 3] twice in 0...1, [H, W] bool -> uint8: white where equal, over orange to black; grey where nothing is compared."""
    off = np.clip(AMPLIFIED * np.abs(photo - picture).mean(axis=2, keepdims=True), 0.0, 1.0)
    colours = 1.0 - np.clip(off * np.array([1.0, 1.6, 3.0]), 0.0, 1.0)
    return to_bytes(np.where(ignored[..., None], 0.75, colours))


def thumbnail(scene: "Scene", index: int) -> np.ndarray:
    """[H, W, 3] uint8, in front of white, at most THUMBNAIL on either side."""
    camera = scene.views[index].camera.within(THUMBNAIL)
    return to_bytes(on_white(scene.photos.picture(index, (camera.width, camera.height))[0]))


def geometry(run: "Run", scene: "Scene", index: int) -> Geometry:
    """Depth and normals that photo `index` would see."""
    view = scene.views[index]
    picture = run.render(view.camera.within(LONGEST_SIDE), view.world_from_camera, with_normals=True)
    depths = DepthRange.over(depth_of(picture, depth_kind([view.camera])), [view.camera])
    has_normal = np.any(picture.normals != 0, axis=2)
    return Geometry(view.name, to_bytes(picture.rgb), _on_paper(*depths.coloured(picture)),
                    _on_paper((picture.normals + 1.0) / 2.0, has_normal), depths.near, depths.far, depths.kind)


def still(run: "Run") -> Still:
    """The scene as the turntable's first picture shows it."""
    one = camera_path("orbit", run, None, 1.0, 1.0).cameras[0]
    pixels = to_bytes(clear_view(run).render(one.camera.within(LONGEST_SIDE), one.world_from_camera, with_depths=False).rgb)
    return Still(pixels, one.world_from_camera[:3, 2])


def _on_paper(colours: np.ndarray, is_known: np.ndarray) -> np.ndarray:
    return to_bytes(np.where(is_known[..., None], colours, 1.0))
