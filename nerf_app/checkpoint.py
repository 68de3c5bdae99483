"""The one file format we own: a scene file that any machine can open, move and trust.

`scene.safetensors` holds the newest state of a run, `scene.previous.safetensors` the one before. A state is written
beside them, flushed, read back and compared before it takes the name, so that whatever happens in between, one of the
two is whole. Nothing in the file is code: tensors, and one JSON header under a checksum.
"""

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor

from nerf_app.errors import DataError, ResourceError
from nerf_app.scene.camera import Camera
from nerf_app.scene.scene import Normalisation, Scene, View

FORMAT = 1
CURRENT, PREVIOUS, PARTIAL = "scene.safetensors", "scene.previous.safetensors", ".partial-"
LARGEST_HEADER = 64 << 20  # bytes


@dataclass(frozen=True)
class ViewRecord:
    """A View in plain numbers."""

    name: str
    camera: Camera
    world_from_camera: list[list[float]]
    split: str


@dataclass(frozen=True)
class Header:
    """Everything a scene file says beside its tensors."""

    format: int
    app_version: str
    step: int
    seconds: float  # of training
    backend: str  # the line that said who computed, and why
    config: dict[str, Any]  # every setting by its full name
    progress: dict[str, float | None]  # what training adapted on the way
    scene_path: str  # relative to the run folder
    photos_fingerprint: str
    views: list[ViewRecord]
    centre: list[float]
    scale: float
    is_bounded: bool
    up: list[float]
    applied_transform: list[list[float]] | None
    notes: list[str]

    def scene_views(self) -> tuple[View, ...]:
        """The views in input coordinates."""
        return tuple(View(v.name, v.camera, np.array(v.world_from_camera, np.float64), v.split) for v in self.views)

    def normalisation(self) -> Normalisation:
        """The way between input and scene coordinates."""
        return Normalisation(np.array(self.centre, np.float64), self.scale)


def scene_facts(scene: Scene) -> dict[str, Any]:
    """The header's part that comes from the scene and never changes in a run."""
    return dict(
        photos_fingerprint=scene.photos.fingerprint,
        views=[ViewRecord(v.name, v.camera, v.world_from_camera.tolist(), v.split) for v in scene.views],
        centre=scene.normalisation.centre.tolist(), scale=float(scene.normalisation.scale), is_bounded=scene.is_bounded,
        up=scene.up.tolist(), notes=list(scene.notes),
        applied_transform=None if scene.applied_transform is None else scene.applied_transform.tolist())


def save(folder: Path, tensors: dict[str, Tensor], header: Header) -> None:
    """Makes this the run's newest state; the folder's older states stay readable at every moment."""
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise ValueError(f"{name} is not finite: such a state is never written")
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    text = msgspec.json.encode(header).decode()
    metadata = {"nerf_app": text, "sha256": _checksum(text, tensors)}
    partial = folder / f"{PARTIAL}{os.getpid()}"
    try:
        with open(partial, "wb") as file:
            file.write(to_bytes(tensors, metadata))
            file.flush()
            os.fsync(file.fileno())
        read(partial)
        if (folder / CURRENT).exists():
            os.replace(folder / CURRENT, folder / PREVIOUS)
        os.replace(partial, folder / CURRENT)
        _flush_folder(folder)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise ResourceError(f"{folder}: the state of step {header.step} could not be saved ({error.strerror}); "
                            "the one before is still there. Free some space or permissions and `nerf-app resume` it.") from error


def load(folder: Path) -> tuple[dict[str, Tensor], Header, str | None]:
    """The newest state of a run folder that is whole, and a sentence if it is not the newest one."""
    if not folder.is_dir():
        raise DataError(f"{folder} is no run folder: give the folder that `nerf-app train` printed.")
    failures = []
    for name in (CURRENT, PREVIOUS):
        path = folder / name
        if not path.exists():
            continue
        try:
            tensors, header = read(path)
        except DataError as error:
            failures.append(str(error))
            continue
        return tensors, header, f"{failures[0]} Going on with {name}, step {header.step}." if failures else None
    raise DataError(failures[0] if failures else
                    f"{folder} has no {CURRENT}: give the folder that `nerf-app train` printed, with a saved state in it.")


def read(path: Path) -> tuple[dict[str, Tensor], Header]:
    """One scene file, verified: tensors on the CPU and the header."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            text = metadata.get("nerf_app", "")
            if not 0 < len(text) <= LARGEST_HEADER:
                raise DataError(f"{path} is no scene file of nerf_app: its header is missing.")
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except (SafetensorError, OSError) as error:
        raise DataError(f"{path} is damaged or no scene file ({_one_line(error)}).") from error
    if metadata.get("sha256") != _checksum(text, tensors):
        raise DataError(f"{path} is damaged: its content does not match its checksum.")
    version = json.loads(text).get("format")
    if version != FORMAT:
        raise DataError(f"{path} has format {version}, this program reads format {FORMAT}: open it with the version that wrote it.")
    try:
        return tensors, msgspec.json.decode(text, type=Header)
    except msgspec.ValidationError as error:
        raise DataError(f"{path} is no valid scene file: {error}.") from error


def remove_partial_files(folder: Path) -> None:
    """What a killed process left behind; call it with the folder's lock held."""
    for path in folder.glob(f"{PARTIAL}*"):
        path.unlink(missing_ok=True)


def _checksum(text: str, tensors: dict[str, Tensor]) -> str:
    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        tensor = tensors[name].contiguous()
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def _flush_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
