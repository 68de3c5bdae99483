"""The run folder: what training leaves behind, and the way back to a model that can be looked at."""

import dataclasses
import datetime
import fcntl
import json
import math
import os
import re
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import nerf_app
from nerf_app import checkpoint
from nerf_app.checkpoint import Header
from nerf_app.config import Config, to_yaml, values, with_overrides
from nerf_app.errors import DataError, ResourceError, UsageError
from nerf_app.model import RadianceModel, saved_shapes
from nerf_app.ops.backend import Backend, choose_backend
from nerf_app.picture import Picture, render_picture, unseen_pixels
from nerf_app.scene.camera import Camera
from nerf_app.scene.load import load_scene
from nerf_app.scene.scene import Normalisation, Scene, View
from nerf_app.settings import MachineSettings
from nerf_app.training.batches import PixelBatches
from nerf_app.training.events import Event, Finished, Note, Saved, Stepped
from nerf_app.training.loop import OPTIMISER, Trainer
from nerf_app.training.loop import train as train_steps
from nerf_app.training.metrics import psnr, ssim
from nerf_app.training.schedule import Budget
from nerf_app.training.validation import Validation, on_white

COLOURS = {"white": (1.0, 1.0, 1.0), "black": (0.0, 0.0, 0.0), "transparent": (0.0, 0.0, 0.0)}
METRICS = "metrics.jsonl"
STEPPED = re.compile(rb'\{"event": "stepped", "step": (\d+),.*\}\n')
FEWEST_SCORED = 3  # photos, however short the time


@dataclass(frozen=True)
class Run:
    """A trained model in the user's coordinates."""

    folder: Path
    config: Config
    model: RadianceModel
    header: Header
    note: str | None  # said once, where the newest state was not whole

    @property
    def views(self) -> tuple[View, ...]:
        """The scene's cameras, input coordinates."""
        return self.header.scene_views()

    @property
    def normalisation(self) -> Normalisation:
        """The way between input and scene coordinates."""
        return self.header.normalisation()

    @property
    def up(self) -> np.ndarray:
        """[3] unit vector, input coordinates."""
        return np.array(self.header.up)

    @property
    def is_bounded(self) -> bool:
        """Whether nothing lies outside the scene's cube."""
        return self.header.is_bounded

    @property
    def backend(self) -> Backend:
        """Who computes."""
        return self.model.ops

    def render(self, camera: Camera, world_from_camera: np.ndarray, background: str | tuple[float, float, float] = "white",
               *, with_normals: bool = False) -> Picture:
        """What the camera sees from a pose [4, 4] in input coordinates (OpenGL camera axes); depths in input units."""
        colour = COLOURS[background] if isinstance(background, str) else background
        pose = self.normalisation.pose_to_scene(world_from_camera)
        return render_picture(self.model, camera, pose, background=colour,
                              scene_units_per_unit=self.normalisation.scale, with_normals=with_normals)


def open_run(folder: str | Path, machine: MachineSettings = MachineSettings()) -> Run:
    """The newest whole state of a run folder, ready to render on this machine."""
    folder = Path(folder)
    tensors, header, note = checkpoint.load(folder)
    config = _saved_config(folder, header)
    config = dataclasses.replace(config, machine=dataclasses.replace(machine, seed=config.machine.seed))
    _check_tensors(folder, tensors, config, is_resumed=False)
    model = RadianceModel(config, header.is_bounded, choose_backend(machine.backend, machine.device, machine.threads))
    model.load(tensors)
    return Run(folder, config, model, header, note)


def train(scene: Scene, config: Config, folder: str | Path, stop: threading.Event | None = None) -> Iterator[Event]:
    """Trains into a new run folder; yields what happens, and leaves a verified state there whatever happens."""
    folder = Path(folder)
    with _locked(folder):
        if (folder / checkpoint.CURRENT).exists() or (folder / checkpoint.PREVIOUS).exists():
            raise ResourceError(f"{folder} already holds a run: `nerf-app resume {folder}` goes on with it, "
                                "or give another --out.")
        checkpoint.remove_partial_files(folder)
        _write_text(folder / "config.yaml", to_yaml(config))
        ops = _backend(config)
        model = RadianceModel(config, scene.is_bounded, ops)
        trainer = _trainer(model, scene, config)
        yield Note(f"backend   {ops.why}")
        yield from _train_and_save(trainer, scene, config, folder, Budget(config.training, ops.threads), stop)


def resume(folder: str | Path, scene_path: str | Path | None = None, overrides: dict[str, Any] | None = None,
           stop: threading.Event | None = None) -> Iterator[Event]:
    """Goes on with a run exactly where its newest whole state is; `overrides` may give it a larger budget."""
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"{folder} is no run folder: give the folder that `nerf-app train` printed.")
    with _locked(folder):
        checkpoint.remove_partial_files(folder)
        tensors, header, note = checkpoint.load(folder)
        if note is not None:
            checkpoint.set_damaged_aside(folder)
        before = _saved_config(folder, header)
        config = with_overrides(before, overrides or {})
        _check_tensors(folder, tensors, config, is_resumed=True)
        scene = _same_scene(load_scene(_scene_path(folder, header, scene_path), config.scene), header)
        ops = _backend(config)
        trainer = _trainer(RadianceModel(config, header.is_bounded, ops), scene, config)
        trainer.load(tensors, header.progress, header.step)
        budget = Budget(config.training, ops.threads, header.seconds)
        if _limits(config) != _limits(before):
            trainer.reopen(budget.fraction(header.step))
        changes = _changes(scene, header)
        for text in filter(None, (note, f"resuming at step {header.step}", f"backend   {ops.why}", changes)):
            yield Note(text)
        yield from _train_and_save(trainer, scene, config, folder, budget, stop)


def evaluate(run: Run, scene: Scene, split: str = "test", limit_seconds: float | None = None,
             on_photo: Callable[[int, int], None] | None = None) -> dict[str, Any]:
    """PSNR and SSIM of one split's photos at full size, with their own lens, in front of white.

    With a limit, as many photos as fit, evenly spread, and at least three. `on_photo` hears (done, of how many).
    """
    indices = scene.indices(split)
    start, photos = time.monotonic(), []
    order = _spread(len(indices)) if limit_seconds is not None else range(len(indices))
    for done, place in enumerate(order):
        seconds = time.monotonic() - start
        if limit_seconds is not None and done >= FEWEST_SCORED and seconds * (done + 1) / done > limit_seconds:
            break
        view = scene.views[indices[place]]
        pixels, ignored = scene.photos.picture(indices[place])
        unseen = unseen_pixels(view.camera)
        ignored = unseen if ignored is None else ignored.numpy() | unseen
        photo, picture = on_white(pixels), run.render(view.camera, view.world_from_camera).rgb
        photos.append({"path": view.name, "psnr": psnr(picture, photo, ignored), "ssim": ssim(picture, photo, ignored)})
        if on_photo is not None:
            on_photo(done + 1, len(indices))
    photos.sort(key=lambda photo: photo["path"])
    means = {key: _mean([photo[key] for photo in photos]) for key in ("psnr", "ssim")}
    return {**means, "split": split, "photos": photos}


def write_evaluation(folder: Path, evaluation: dict[str, Any]) -> None:
    """eval.json of the run."""
    _write_text(folder / "eval.json", json.dumps(evaluation, indent=1) + "\n")


def load_scene_of(run: Run, scene_path: str | Path | None = None) -> Scene:
    """The scene that a run was trained on, with the run's own splits and coordinates."""
    return _same_scene(load_scene(_scene_path(run.folder, run.header, scene_path), run.config.scene), run.header)


def _train_and_save(trainer: Trainer, scene: Scene, config: Config, folder: Path, budget: Budget,
                    stop: threading.Event | None) -> Iterator[Event]:
    facts = checkpoint.scene_facts(scene)
    scene_path = os.path.relpath(scene.path, folder)

    def save(seconds: float) -> Saved:
        header = Header(format=checkpoint.FORMAT, app_version=nerf_app.__version__, step=trainer.steps_done, seconds=seconds,
                        backend=trainer.model.ops.why, config=values(config), progress=trainer.progress(),
                        scene_path=scene_path, **facts)
        checkpoint.save(folder, trainer.tensors(), header)
        return Saved(trainer.steps_done)

    saved_at = time.monotonic()
    _cut_metrics(folder / METRICS, trainer.steps_done)
    with open(folder / METRICS, "ab", buffering=0) as metrics:
        for event in train_steps(trainer, budget, stop):
            if isinstance(event, Finished):
                yield save(event.seconds)
            with suppress(OSError):  # a full disk costs lines here; that it is full shows when the state is saved
                metrics.write(_record(event))
            yield event
            if isinstance(event, Stepped) and time.monotonic() - saved_at > config.training.save_seconds:
                yield _saved_or_told(save, event.seconds)
                saved_at = time.monotonic()


def _saved_or_told(save: Callable[[float], Saved], seconds: float) -> Saved | Note:
    """A save on the way: where it fails, training goes on with the older state on disk, and the next save may succeed."""
    try:
        return save(seconds)
    except ResourceError as error:
        return Note(f"{error} Training goes on and will try again.")


def _record(event: Event) -> bytes:
    """The event's line in metrics.jsonl."""
    record = {"event": type(event).__name__.lower(), **dataclasses.asdict(event)}
    clean = {key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in record.items()}
    return (json.dumps(clean) + "\n").encode()


def _cut_metrics(path: Path, step: int) -> None:
    """Leaves what was logged up to a step: what a killed process did after its last saved state happens once more."""
    if not path.is_file():
        return
    end = position = 0
    for line in path.read_bytes().splitlines(keepends=True):
        position += len(line)
        found = STEPPED.match(line)
        if found and int(found[1]) <= step:
            end = position
    os.truncate(path, end)


def _saved_config(folder: Path, header: Header) -> Config:
    try:
        return with_overrides(Config(), header.config)
    except UsageError as error:
        raise DataError(f"{folder / checkpoint.CURRENT} holds settings that this program does not know: {error}") from error


def _limits(config: Config) -> tuple[float | None, int | None, str]:
    """What a fraction of the budget means."""
    return config.training.minutes, config.training.steps, config.training.clock


def _changes(scene: Scene, header: Header) -> str | None:
    """A sentence where the scene is not as it was when the run began."""
    facts = checkpoint.scene_facts(scene)
    what = [what for what, key in (("photos", "photos_fingerprint"), ("cameras", "views")) if facts[key] != getattr(header, key)]
    return f"the {' and '.join(what)} changed since this run began: going on with what is there now" if what else None


def _backend(config: Config) -> Backend:
    return choose_backend(config.machine.backend, config.machine.device, config.machine.threads)


def _trainer(model: RadianceModel, scene: Scene, config: Config) -> Trainer:
    validation = Validation(scene) if scene.indices("val") else None
    return Trainer(model, PixelBatches(scene, model.ops), validation, config.training, config.machine.seed)


def _scene_path(folder: Path, header: Header, scene_path: str | Path | None) -> Path:
    path = Path(scene_path) if scene_path is not None else Path(os.path.normpath(folder / header.scene_path))
    if not path.exists():
        raise DataError(f"{folder} was trained on photos in {header.scene_path} (seen from the run folder), which is not there "
                        "now: give their folder with --scene DIR.")
    return path


def _same_scene(scene: Scene, header: Header) -> Scene:
    """The scene in the run's own coordinates; its photos and splits must be those that the run was trained on."""
    known, found = ({view.name: view.split for view in views} for views in (header.views, scene.views))
    if known != found:
        name = sorted(known.items() ^ found.items())[0][0]
        raise DataError(f"{scene.root} is not what the run was trained on: {len(found)} photos now, {len(known)} then, and "
                        f"{name} is {found.get(name, 'not there')} now, {known.get(name, 'not there')} then. "
                        "Give the run's own photos with --scene DIR.")
    return dataclasses.replace(scene, normalisation=header.normalisation(), is_bounded=header.is_bounded)


def _check_tensors(folder: Path, tensors: dict[str, Tensor], config: Config, *, is_resumed: bool) -> None:
    """What a scene file holds must be what its settings ask for, neither less nor more; before any memory is taken for it."""
    allowed = saved_shapes(config)
    optimiser = dict.fromkeys(OPTIMISER, allowed["model.parameters"])
    file = folder / checkpoint.CURRENT
    for name in (allowed | optimiser if is_resumed else allowed):
        if name not in tensors:
            raise DataError(f"{file} lacks {name}, which its settings ask for: go back to a copy from before it was changed.")
    for name, tensor in tensors.items():
        shapes = (allowed | optimiser).get(name, set())
        if tuple(tensor.shape) not in shapes or tensor.dtype != torch.float32:
            asked = " or ".join(str(list(shape)) for shape in sorted(shapes)) or "absent"
            raise DataError(f"{file}: {name} must be {asked} by its settings, got {list(tensor.shape)} {tensor.dtype}. "
                            "A run keeps the field it began with; go back to a copy from before it was changed.")


def _spread(count: int) -> list[int]:
    """0 … count - 1 in an order whose every beginning is spread over the whole (van der Corput's)."""
    return sorted(range(count), key=lambda i: f"{i:016b}"[::-1])


def _mean(numbers: list[float]) -> float | None:
    finite = [number for number in numbers if math.isfinite(number)]
    return sum(finite) / len(finite) if finite else None


class _locked:
    """Holds a run folder against a second process; made if it is not there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __enter__(self) -> None:
        path = self.folder / "LOCK"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self.file = open(path, "a+", encoding="utf-8", errors="replace")
        except OSError as error:
            raise ResourceError(f"{self.folder} cannot be written ({error.strerror}): give another folder with --out.") from error
        try:
            fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.file.seek(0)
            holder = self.file.read(200).strip() or "another process"
            self.file.close()
            raise ResourceError(f"{self.folder} is in use by {holder}: wait for it, or give another --out.") from None
        except OSError as error:  # some network file systems have no locks
            warnings.warn(f"{self.folder} cannot be locked ({error.strerror}): see to it that nothing else trains there",
                          stacklevel=2)
        self.file.truncate(0)
        self.file.write(f"process {os.getpid()} since {datetime.datetime.now(datetime.UTC):%Y-%m-%d %H:%M:%S} UTC")
        self.file.flush()

    def __exit__(self, *_: object) -> None:
        self.file.close()


def _write_text(path: Path, text: str) -> None:
    partial = path.with_name(f".{path.name}.part")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)
