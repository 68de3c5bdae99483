"""A camera path -> pictures -> videos, which take each picture as it is drawn. What was slow to draw survives an interruption.

On a CPU every picture is also written into `<out>.frames/<channel>/`; a second call for the same request goes on at the first
one that is missing. The folder goes when the videos are complete, and stays where pictures were asked for. A GPU draws a
picture about as fast as it is written: there only those are that were asked for.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np
from PIL import ImageColor

from nerf_app.checkpoint import CURRENT
from nerf_app.errors import DataError, ResourceError, UsageError
from nerf_app.export.clear_view import clear_view
from nerf_app.export.crop import Box, clipped
from nerf_app.export.parts import require_parts
from nerf_app.export.path_files import CameraPath, PathCamera
from nerf_app.export.pictures import read_png, to_bytes, write_png
from nerf_app.export.video import open_video
from nerf_app.scene.camera import Camera
from nerf_app.scene.paths import shown
from nerf_app.scene.writing import write_bytes

if TYPE_CHECKING:
    from nerf_app.picture import Picture
    from nerf_app.run import Run

REQUEST = "request.json"
PROBES, PROBE_SIDE = 8, 160  # pictures, and pixels of their longest side, that fix the range of a depth video


@dataclass(frozen=True)
class DepthRange:
    """What the colours of a depth video mean, the same for all its pictures."""

    near: float  # input units, the warm end
    far: float  # input units, the dark end
    kind: str  # "z" along the camera's axis, or "range" along the ray (where a lens sees to the sides)

    @classmethod
    def over(cls, depths: np.ndarray, cameras: Iterable[Camera]) -> "DepthRange":
        """The 1st to 99th percentile of what is known of depths, any shape; their kind follows from the cameras' lenses."""
        known = depths[np.isfinite(depths) & (depths > 0)]
        near, far = np.percentile(known, [1, 99]) if len(known) else (1.0, 2.0)
        return cls(float(near), float(max(far, 1.001 * near)), depth_kind(cameras))

    def coloured(self, picture: "Picture") -> tuple[np.ndarray, np.ndarray]:
        """[H, W, 3] colours 0...1 of a picture's depths, [H, W] bool where they are known."""
        depth = depth_of(picture, self.kind)
        is_known = np.isfinite(depth) & (depth > 0)
        logs = np.log(np.where(is_known, depth, self.near))
        near, far = np.log(self.near), np.log(self.far)
        return depth_colours((logs - near) / (far - near)), is_known


@dataclass(frozen=True)
class Request:
    """What the pictures in a folder answer; it lies beside them."""

    fingerprint: str
    is_kept: bool  # somebody asked for the pictures: a video made from them later leaves them there
    depth: DepthRange | None  # fixed before the first picture


def render_path(run: "Run", path: CameraPath, out: Path, channels: Sequence[str], background: str, as_frames: bool,
                on_frame: Callable[[int, int], None]) -> list[Path]:
    """Render all of a path; returns the videos (`out`.mp4, `out`_depth.mp4, ...) or the folders of pictures, one a channel.

    Args:
        out: the video's name, with .mp4 or without.
        channels: some of CHANNELS, a video each, or several with commas between, side by side in one; those of PARTS only of a
            run with a reflective field.
        background: white, black, #rrggbb, a colour's name; or transparent, which gives pictures with straight alpha.
        on_frame: told (pictures done, of how many) after each.
    """
    films, paper = [tuple(film.split(",")) for film in dict.fromkeys(channels)], _paper(background)
    channels = _checked_channels([channel for film in films for channel in film], run)
    is_kept = as_frames or paper is None
    sizes = {(one.camera.width, one.camera.height) for one in path.cameras}
    if len(sizes) > 1 and not is_kept:
        raise UsageError(f"a video needs one size, this path has {len(sizes)}: give --size WIDTHxHEIGHT, or ask for frames")
    out = out / "view" if out.is_dir() else out
    if not out.name.removesuffix(".mp4"):
        raise UsageError(f"--out must name the film, such as orbit.mp4, got {shown(out)}")
    run = clear_view(run) if path.is_made_up else run
    base = out.with_name(out.name.removesuffix(".mp4"))
    folder = base.with_name(base.name + ".frames")
    request = _open_folder(run, path, folder, channels, background, is_kept)
    videos = [] if is_kept else [base.with_name("_".join([base.name, *(film if film != ("rgb",) else ())]) + ".mp4")
                                 for film in films]
    with ExitStack() as opened:
        adds = [opened.enter_context(open_video(video, path.fps)) for video in videos]
        for number, pictures in enumerate(_drawn(run, path, folder, request, channels, paper), 1):
            for film, add in zip(films, adds):
                add(np.concatenate([_coloured(pictures[channel]) for channel in film], axis=1))
            on_frame(number, len(path.cameras))
    if request.depth is not None:
        meaning = {**asdict(request.depth), "unit": "input units", "colours": "even steps of log(depth), near is bright"}
        _write_json(meaning, base.with_name(base.name + "_depth.json"))
    if not request.is_kept:
        _clear(folder)
    return videos or [folder / channel for channel in channels]


def survives(run: "Run", is_kept: bool) -> bool:
    """Whether an interrupted film's pictures are there for the next call: where they are slow to draw, or asked for."""
    return is_kept or run.backend.device.type == "cpu"


def _drawn(run: "Run", path: CameraPath, folder: Path, request: Request, channels: tuple[str, ...],
           paper: np.ndarray | None) -> Iterator[dict[str, np.ndarray]]:
    """Each camera's pictures by channel: those that are in the folder already, or drawn now."""
    colour = (0.0, 0.0, 0.0) if paper is None else tuple(float(part) for part in paper)
    is_stored = survives(run, request.is_kept)
    for i, one in enumerate(path.cameras):
        names = {channel: folder / channel / f"{i:05d}.png" for channel in channels}
        pictures = {channel: read_png(name) for channel, name in names.items()}
        if not all(_is_whole(pixels, one.camera) for pixels in pictures.values()):
            picture = run.render(one.camera, one.world_from_camera, colour, with_depths="depth" in channels,
                                 with_normals="normals" in channels)
            pictures = {channel: CHANNELS[channel](picture, paper, request.depth) for channel in channels}
            for channel, name in names.items() if is_stored else ():
                write_png(pictures[channel], name)
        yield pictures


def _checked_channels(channels: Sequence[str], run: "Run") -> tuple[str, ...]:
    unknown = [channel for channel in channels if channel not in CHANNELS]
    if unknown or not channels:
        raise UsageError(f"channels must be some of {', '.join(CHANNELS)}, got {', '.join(unknown) or 'none'}")
    for channel in channels:
        if channel in PARTS:
            require_parts(run, f"--channel {channel}")
    return tuple(dict.fromkeys(channels))


def _paper(background: str) -> np.ndarray | None:
    """[3] 0...1 of the background's colour; None where it is transparent."""
    if background == "transparent":
        return None
    try:
        return np.array(ImageColor.getrgb(background)[:3], np.float32) / 255.0
    except ValueError:
        raise UsageError("the background must be white, black, #rrggbb, a colour's name or transparent, "
                         f"got {shown(background)}") from None


# The folder of pictures and the request that it answers.

def _open_folder(run: "Run", path: CameraPath, folder: Path, channels: tuple[str, ...], background: str,
                 is_kept: bool) -> Request:
    """Make the folder, or find it with the pictures of this very request, and clear it of another's."""
    stored, fingerprint = _stored_request(folder), _fingerprint(run, path, channels, background)
    try:
        if stored is None or stored.fingerprint != fingerprint:
            if stored is not None and stored.is_kept and not is_kept:
                raise ResourceError(f"{shown(folder)} holds frames that were asked for with other flags: "
                                    "move them away or give another --out")
            _clear(folder)
            folder.mkdir(parents=True, exist_ok=True)
            stored = Request(fingerprint, is_kept, depth_range_of(run, path.cameras) if "depth" in channels else None)
        stored = replace(stored, is_kept=stored.is_kept or is_kept)
        _write_json(asdict(stored), folder / REQUEST)
        for channel in channels:
            (folder / channel).mkdir(exist_ok=True)
    except OSError as error:
        raise ResourceError(f"cannot make {shown(folder)}: {error.strerror}; give another --out") from error
    return stored


def _clear(folder: Path) -> None:
    """Takes our own pictures out of a folder, and the folder itself if nothing else is in it."""
    for channel in CHANNELS:
        for picture in (folder / channel).glob("[0-9]*.png"):
            picture.unlink()
        with suppress(OSError):
            (folder / channel).rmdir()
    (folder / REQUEST).unlink(missing_ok=True)
    with suppress(OSError):
        folder.rmdir()


def _stored_request(folder: Path) -> Request | None:
    """What the pictures in a folder answer; None of a new one. A folder that is not ours is never touched."""
    try:
        return msgspec.json.decode((folder / REQUEST).read_bytes(), type=Request)
    except (OSError, msgspec.MsgspecError):
        if folder.exists() and not (folder.is_dir() and all(entry.name == REQUEST + ".part" for entry in folder.iterdir())):
            raise ResourceError(f"{shown(folder)} holds other files than pictures of a path: "
                                "move them away or give another --out") from None
        return None


def _fingerprint(run: "Run", path: CameraPath, channels: tuple[str, ...], background: str) -> str:
    """A text that changes with everything that changes a picture: the cameras, what is drawn, and the run's state."""
    digest = hashlib.sha256(f"{channels} {background}".encode())
    for one in path.cameras:
        digest.update(repr(one.camera).encode() + np.asarray(one.world_from_camera, np.float64).tobytes())
    state = run.folder / CURRENT
    if state.exists():
        facts = state.stat()
        digest.update(f"{facts.st_size} {facts.st_mtime_ns}".encode())
    return digest.hexdigest()


def _write_json(content: dict, out: Path) -> None:
    write_bytes(json.dumps(content, indent=1).encode(), out)


def _is_whole(pixels: np.ndarray | None, camera: Camera) -> bool:
    return pixels is not None and pixels.shape[:2] == (camera.height, camera.width)


def _coloured(pixels: np.ndarray) -> np.ndarray:
    """[H, W, 3] or [H, W] grey -> [H, W, 3]."""
    return pixels if pixels.ndim == 3 else np.repeat(pixels[..., None], 3, axis=2)


# What is drawn: (picture, background [3] or None for transparent, range of depths) -> uint8 pixels.

def _rgb(picture: "Picture", paper: np.ndarray | None, _: DepthRange | None) -> np.ndarray:
    if paper is not None:
        return to_bytes(picture.rgb)
    straight = picture.rgb / np.maximum(picture.alpha, 1e-6)[..., None]
    return to_bytes(np.concatenate([straight, picture.alpha[..., None]], axis=2))


def _depth(picture: "Picture", paper: np.ndarray | None, depth_range: DepthRange) -> np.ndarray:
    colours, is_known = depth_range.coloured(picture)
    return _over(colours, np.where(is_known, picture.alpha, 0.0), paper)


def _normals(picture: "Picture", paper: np.ndarray | None, _: DepthRange | None) -> np.ndarray:
    is_known = np.any(picture.normals != 0, axis=2)
    return _over((picture.normals + 1.0) / 2.0, np.where(is_known, picture.alpha, 0.0), paper)


def _alpha(picture: "Picture", *_) -> np.ndarray:
    return to_bytes(picture.alpha)


def _diffuse(picture: "Picture", paper: np.ndarray | None, _: DepthRange | None) -> np.ndarray:
    return _over(picture.parts.diffuse, picture.alpha, paper)


def _specular(picture: "Picture", paper: np.ndarray | None, _: DepthRange | None) -> np.ndarray:
    return _over(picture.parts.specular, picture.alpha, paper)


def _roughness(picture: "Picture", paper: np.ndarray | None, _: DepthRange | None) -> np.ndarray:
    return _over(picture.parts.roughness[..., None].repeat(3, 2), picture.alpha, paper)


PARTS = {"diffuse": _diffuse, "specular": _specular, "roughness": _roughness}
CHANNELS = {"rgb": _rgb, "depth": _depth, "normals": _normals, "alpha": _alpha, **PARTS}


def _over(colours: np.ndarray, alpha: np.ndarray, paper: np.ndarray | None) -> np.ndarray:
    """[H, W, 3] and [H, W] -> uint8 in front of the background, or with straight alpha."""
    alpha = np.clip(alpha, 0.0, 1.0)[..., None]
    return to_bytes(np.concatenate([colours, alpha], axis=2) if paper is None else alpha * colours + (1.0 - alpha) * paper)


def depth_colours(t: np.ndarray) -> np.ndarray:
    """0 (near) ... 1 (far), any shape -> colours [..., 3]: pale yellow over rose and violet to dark blue, ever darker."""
    light = 1.0 - np.clip(t, 0.0, 1.0)
    return np.stack([light**0.7, 0.04 + 0.92 * light**1.8, 0.25 + 0.35 * np.sin(np.pi * light) + 0.4 * light**4], axis=-1)


def depth_kind(cameras: Iterable[Camera]) -> str:
    """Which depth is shown: "z", or "range" where a lens sees to the sides."""
    return "z" if all(camera.lens.family == "perspective" for camera in cameras) else "range"


def depth_of(picture: "Picture", kind: str) -> np.ndarray:
    """[H, W] input units."""
    return picture.z_depth if kind == "z" else picture.range


def depth_range_of(run: "Run", path: Sequence[PathCamera], box: "Box | None" = None) -> DepthRange:
    """The range of what a few small pictures along the path see (inside the box): pictures must not set it one by one."""
    cameras = [one.camera for one in path]
    seen, count = [np.empty(0)], PROBES if box is None else len(path)  # few of them may show the box
    for i in np.unique(np.linspace(0, len(path) - 1, count).round().astype(int)):
        small, pose = cameras[i].within(PROBE_SIDE), path[i].world_from_camera
        picture = run.render(small, pose, are_edges_smooth=False)
        picture = picture if box is None else clipped(picture, box, small, pose)
        seen.append(depth_of(picture, depth_kind(cameras)).ravel())
    if box is not None and np.isnan(np.concatenate(seen)).all():
        raise DataError(f"none of these pictures shows anything opaque in the crop {box}: move or widen --crop.")
    return DepthRange.over(np.concatenate(seen), cameras)
