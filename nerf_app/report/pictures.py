"""What is shown on the page as pixels: photos and renderings, reduced, as JPEG data URIs. The report's door to Pillow."""

import base64
import io
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image

from nerf_app.export.frames import depth_colours
from nerf_app.export.paths import camera_path
from nerf_app.export.pictures import to_bytes
from nerf_app.picture import unseen_pixels
from nerf_app.scene.camera import Camera
from nerf_app.scene.images import reduced
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
    psnr: float  # decibel, of the whole photo
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
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format="JPEG", quality=QUALITY, optimize=True)
    return data_uri(stream.getvalue(), "image/jpeg")


def data_uri(content: bytes, kind: str) -> str:
    """Any bytes as an address that holds them."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def compare(run: "Run", scene: "Scene", index: int, psnr: float, ssim: float | None) -> Comparison:
    """Photo `index` of the scene beside its rendering, both reduced, in front of white; the scores are handed through."""
    view = scene.views[index]
    camera = shrunk(view.camera, LONGEST_SIDE)
    photo = small_photo(scene, index, (camera.width, camera.height))
    picture = run.render(camera, view.world_from_camera).rgb
    _, ignored = scene.photos.picture(index)
    unseen = unseen_pixels(camera)
    if ignored is not None:
        grey = Image.fromarray(ignored.numpy().astype(np.uint8)).resize((camera.width, camera.height), Image.Resampling.NEAREST)
        unseen |= np.array(grey, bool)
    return Comparison(view.name, psnr, ssim, to_bytes(photo), to_bytes(picture), difference_colours(photo, picture, unseen))


def difference_colours(photo: np.ndarray, picture: np.ndarray, ignored: np.ndarray) -> np.ndarray:
    """[H, W, 3] twice in 0...1, [H, W] bool -> uint8: white where equal, over orange to black; grey where nothing is compared."""
    off = np.clip(AMPLIFIED * np.abs(photo - picture).mean(axis=2, keepdims=True), 0.0, 1.0)
    colours = 1.0 - np.clip(off * np.array([1.0, 1.6, 3.0]), 0.0, 1.0)
    return to_bytes(np.where(ignored[..., None], 0.75, colours))


def small_photo(scene: "Scene", index: int, size: tuple[int, int]) -> np.ndarray:
    """[H, W, 3] float32 0...1 of a photo in front of white, on fewer pixels (width, height)."""
    pixels, _ = scene.photos.picture(index)
    return on_white(torch.from_numpy(reduced(pixels.numpy(), size)))


def thumbnail(scene: "Scene", index: int) -> np.ndarray:
    """[H, W, 3] uint8, at most THUMBNAIL on either side."""
    camera = shrunk(scene.views[index].camera, THUMBNAIL)
    return to_bytes(small_photo(scene, index, (camera.width, camera.height)))


def geometry(run: "Run", scene: "Scene", index: int) -> Geometry:
    """Depth and normals that photo `index` would see."""
    view = scene.views[index]
    picture = run.render(shrunk(view.camera, LONGEST_SIDE), view.world_from_camera, with_normals=True)
    kind = "z" if view.camera.lens.family == "perspective" else "range"
    depth = picture.z_depth if kind == "z" else picture.range
    is_known = np.isfinite(depth) & (depth > 0)
    near, far = np.percentile(depth[is_known], [1, 99]) if is_known.any() else (1.0, 2.0)
    far = max(far, 1.001 * near)
    logs = np.log(np.where(is_known, depth, near) / near) / math.log(far / near)
    has_normal = np.any(picture.normals != 0, axis=2)
    return Geometry(view.name, to_bytes(picture.rgb), _on_paper(depth_colours(logs), is_known),
                    _on_paper((picture.normals + 1.0) / 2.0, has_normal), float(near), float(far), kind)


def still(run: "Run") -> Still:
    """The scene as the turntable's first picture shows it."""
    one = camera_path("orbit", run, None, 1.0, 1.0).cameras[0]
    pixels = to_bytes(run.render(shrunk(one.camera, LONGEST_SIDE), one.world_from_camera).rgb)
    return Still(pixels, one.world_from_camera[:3, 2])


def shrunk(camera: Camera, longest: int) -> Camera:
    """The same view on at most `longest` pixels a side."""
    factor = min(1.0, longest / max(camera.width, camera.height))
    return camera.resized(max(1, round(camera.width * factor)), max(1, round(camera.height * factor)))


def _on_paper(colours: np.ndarray, is_known: np.ndarray) -> np.ndarray:
    return to_bytes(np.where(is_known[..., None], colours, 1.0))
