"""The one file format we own: a scene file that any machine can open, move and trust.

`scene.safetensors` holds the newest state of a run, `scene.previous.safetensors` the one before. A state is written
beside them, flushed, read back and compared before it takes the name, so that whatever happens in between, one of the
two is whole. Nothing in the file is code: tensors, and one JSON header under a checksum.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Literal

import msgspec
import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from nerf_app.errors import DataError, Diverged, ResourceError
from nerf_app.scene.camera import LENS_FAMILIES, Camera
from nerf_app.scene.scene import Normalisation, Scene, View

FORMAT = 1
CURRENT, PREVIOUS, PARTIAL = "scene.safetensors", "scene.previous.safetensors", ".partial-"
DAMAGED = "scene.damaged.safetensors"
LARGEST_HEADER = 64 << 20  # bytes
ROOM = 1.2  # of the tensors' size: what a state takes on the disk, and a little else
STATES = 3  # that lie there at a time: the newest, the one before, and one that is being written
DTYPES = {torch.float32: "F32", torch.float64: "F64", torch.int64: "I64", torch.uint8: "U8", torch.bool: "BOOL"}

Vector = tuple[float, float, float]
Row = tuple[float, float, float, float]


@dataclass(frozen=True)
class ViewRecord:
    """A View in plain numbers."""

    name: str
    camera: Camera
    world_from_camera: tuple[Row, Row, Row, Row]
    split: Literal["train", "val", "test"]

    def __post_init__(self) -> None:
        camera = self.camera
        if camera.lens.family not in LENS_FAMILIES:
            raise ValueError(f"a lens must be one of {', '.join(LENS_FAMILIES)}, got {camera.lens.family!r}")
        if min(camera.width, camera.height, camera.focal_x_px, camera.focal_y_px) <= 0:
            raise ValueError(f"a camera's size and focal lengths must be above 0, got {camera}")


@dataclass(frozen=True)
class Header:
    """Everything a scene file says beside its tensors."""

    format: int
    app_version: str
    step: Annotated[int, msgspec.Meta(ge=0)]
    seconds: Annotated[float, msgspec.Meta(ge=0)]  # of training
    backend: str  # the line that said who computed, and why
    config: dict[str, Any]  # every setting by its full name
    progress: dict[str, float | None]  # what training adapted on the way
    scene_path: str  # relative to the run folder
    photos_fingerprint: str
    views: tuple[ViewRecord, ...]
    centre: Vector
    scale: Annotated[float, msgspec.Meta(gt=0)]
    is_bounded: bool
    up: Vector
    applied_transform: tuple[Row, Row, Row] | None
    notes: tuple[str, ...]
    refined: tuple[ViewRecord, ...] = ()  # the photos that train, with refined poses; empty where the given ones were kept

    @property
    def n_training(self) -> int:
        """How many photos train."""
        return sum(view.split == "train" for view in self.views)

    def scene_views(self) -> tuple[View, ...]:
        """The views in input coordinates, as training left them."""
        refined = {view.name: view for view in self.refined}
        return tuple(View(v.name, v.camera, np.array(refined.get(v.name, v).world_from_camera, np.float64), v.split)
                     for v in self.views)

    def normalisation(self) -> Normalisation:
        """The way between input and scene coordinates."""
        return Normalisation(np.array(self.centre, np.float64), self.scale)


def scene_facts(scene: Scene) -> dict[str, Any]:
    """The header's part that comes from the scene and never changes in a run."""
    return dict(
        photos_fingerprint=scene.photos.fingerprint,
        views=view_records(scene.views),
        centre=tuple(scene.normalisation.centre.tolist()), scale=float(scene.normalisation.scale),
        is_bounded=scene.is_bounded, up=tuple(scene.up.tolist()), notes=scene.notes,
        applied_transform=None if scene.applied_transform is None else _rows(scene.applied_transform))


def view_records(views: Iterable[View]) -> tuple[ViewRecord, ...]:
    """Views in plain numbers."""
    return tuple(ViewRecord(v.name, v.camera, _rows(v.world_from_camera), v.split) for v in views)


def save(folder: Path, tensors: dict[str, Tensor], header: Header) -> None:
    """Makes this the run's newest state; the folder's older states stay readable at every moment."""
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise Diverged(f"{name} of step {header.step} is not finite, and such a state is never written: what was saved "
                           "before is whole. Try a lower --set training.learning_rate.")
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    text = json.dumps(msgspec.to_builtins(header))  # ASCII: names of photos may hold bytes that are no UTF-8
    if len(text) > LARGEST_HEADER:
        raise DataError(f"{folder}: names and cameras of {len(header.views):,} photos take {len(text) / 2**20:.1f} MiB, and a "
                        f"scene file has room for at most {LARGEST_HEADER / 2**20:.1f}: train on fewer photos.")
    metadata = {"nerf_app": text, "sha256": _checksum(text, sorted(tensors.items()))}
    partial = folder / f"{PARTIAL}{os.getpid()}"
    try:
        with open(partial, "wb") as file:
            _write(file, tensors, metadata)
            file.flush()
            os.fsync(file.fileno())
        _verify(partial)
        if (folder / CURRENT).exists():
            os.replace(folder / CURRENT, folder / PREVIOUS)
        os.replace(partial, folder / CURRENT)
        _flush_folder(folder)
    except (OSError, SafetensorError, DataError) as error:
        raise ResourceError(f"{folder}: the state of step {header.step} could not be saved ({_one_line(error)}); " + (
            "what was saved before is still there. Free some space or permit writing, then resume the run." if has_state(folder)
            else "nothing was saved before. Free some space or permit writing, or give another --out.")) from error
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


def require_room(folder: Path, tensors: Iterable[Tensor]) -> None:
    """ResourceError, before training rather than after it, where the disk cannot take the states of these tensors."""
    missing = STATES - sum((folder / name).exists() for name in (CURRENT, PREVIOUS))
    need, free = missing * ROOM * sum(tensor.nbytes for tensor in tensors), shutil.disk_usage(folder).free
    if free < need:
        raise ResourceError(f"{folder}: saving needs {need / 1e6:.0f} MB, and its disk has {free / 1e6:.0f} MB left: free some "
                            "space, or give another --out.")


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


def has_state(folder: Path) -> bool:
    """Whether a training left something in a run folder to go on from."""
    return (folder / CURRENT).exists() or (folder / PREVIOUS).exists()


def read(path: Path) -> tuple[dict[str, Tensor], Header]:
    """One scene file, verified: tensors on the CPU and the header."""
    if path.exists() and not path.is_file():  # a pipe would be waited for
        raise DataError(f"{path} is not a regular file: put the scene file itself there.")
    try:
        with open(path, "rb") as handle, safe_open(_in_utf8(path, handle.fileno()), framework="pt") as file:
            metadata = file.metadata() or {}
            text = metadata.get("nerf_app", "")
            if not 0 < len(text) <= LARGEST_HEADER:
                raise DataError(f"{path} is no scene file of nerf_app: its header is missing.")
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except (SafetensorError, OSError) as error:
        raise DataError(f"{path} is damaged or no scene file ({_one_line(error)}): copy it again, or train anew.") from error
    _check(path, metadata, _checksum(text, sorted(tensors.items())))
    return tensors, _header(path, text)


def _write(file: BinaryIO, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """A safetensors file, straight from where the numbers lie: the library would copy them all first."""
    header, end = {"__metadata__": metadata}, 0
    for name, tensor in tensors.items():
        if tensor.dtype not in DTYPES:
            raise TypeError(f"{name} has {tensor.dtype}, which no scene file holds")
        begin, end = end, end + tensor.nbytes
        header[name] = {"dtype": DTYPES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    file.write(len(text).to_bytes(8, "little") + text)
    for tensor in tensors.values():
        file.write(_bytes(tensor))


def _verify(path: Path) -> None:
    """Reads a file back, one tensor at a time; DataError where it does not hold what was written."""
    with open(path, "rb") as handle, safe_open(_in_utf8(path, handle.fileno()), framework="pt") as file:
        metadata = file.metadata()
        _check(path, metadata, _checksum(metadata["nerf_app"], ((name, file.get_tensor(name)) for name in sorted(file.keys()))))


def _check(path: Path, metadata: dict[str, str], checksum: str) -> None:
    if metadata.get("sha256") != checksum:
        raise DataError(f"{path} is damaged: its content does not match its checksum.")


def _header(path: Path, text: str) -> Header:
    try:
        plain = json.loads(text)
        version = plain.get("format") if isinstance(plain, dict) else None
        if version != FORMAT:
            raise DataError(f"{path} has format {version}, this program reads format {FORMAT}: "
                            "open it with the version that wrote it.")
        return msgspec.convert(plain, Header)
    except (ValueError, RecursionError) as error:  # msgspec's are ValueErrors too
        raise DataError(f"{path} is no valid scene file: {_one_line(error)}.") from error


def remove_partial_files(folder: Path) -> None:
    """What a killed process left behind; call it with the folder's lock held."""
    for path in folder.glob(f"{PARTIAL}*"):
        path.unlink(missing_ok=True)


def set_damaged_aside(folder: Path) -> None:
    """Moves a newest state that is not whole out of the way: the next save would put it in the place of the whole one."""
    with suppress(FileNotFoundError):
        os.replace(folder / CURRENT, folder / DAMAGED)


def _rows(matrix: np.ndarray) -> tuple[tuple[float, ...], ...]:
    return tuple(map(tuple, matrix.tolist()))


def _checksum(text: str, tensors: Iterable[tuple[str, Tensor]]) -> str:
    """Of the header's text and all tensors, which come in the order of their names."""
    digest = hashlib.sha256(text.encode())
    for name, tensor in tensors:
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(_bytes(tensor))
    return digest.hexdigest()


def _bytes(tensor: Tensor) -> np.ndarray:
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy()


def _flush_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _in_utf8(path: Path, descriptor: int) -> str:
    """A name for safetensors, which takes no other: the path, or the number under which the file is open."""
    name = os.fsdecode(path)
    return name if name.encode(errors="ignore").decode() == name else f"/dev/fd/{descriptor}"


def _one_line(error: Exception) -> str:
    return " ".join(str(getattr(error, "strerror", None) or error).split())
