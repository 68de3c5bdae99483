"""The run folder: what training leaves behind, and the way back to a model that can be looked at."""

import dataclasses
import json
import os
import re
import secrets
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import nerf_app
from nerf_app import checkpoint, scoring
from nerf_app.checkpoint import Header
from nerf_app.config import Config, settled, to_yaml, values, with_overrides
from nerf_app.errors import DataError, Diverged, ResourceError, UsageError
from nerf_app.mirror import Mirror
from nerf_app.model import SHARPENED, RadianceModel, saved_shapes, sharpened_shapes
from nerf_app.ops.backend import Backend, choose_backend
from nerf_app.picture import Picture, Window, render_picture
from nerf_app.scene.camera import Camera
from nerf_app.scene.flat_mirror import FlatMirror
from nerf_app.scene.load import load_scene
from nerf_app.scene.mirror_search import search_mirror
from nerf_app.scene.mirrors import find_mirror, mirror_folder
from nerf_app.scene.paths import plain_name, shown
from nerf_app.scene.scene import Normalisation, Scene, View
from nerf_app.scene.settings import ANY_MIRROR, NO_MIRROR
from nerf_app.scene.writing import finite, locked, write_bytes
from nerf_app.scoring import FEWEST_SCORED
from nerf_app.settings import MachineSettings
from nerf_app.training.events import Event, Finished, Note, Saved, Stepped
from nerf_app.training.heads import Chosen, chosen_head
from nerf_app.training.loop import EMPTY, ERRORS, GOOD, OPTIMISER, Trainer, photos_of
from nerf_app.training.loop import train as train_steps
from nerf_app.training.metrics import mean_of_known
from nerf_app.training.schedule import Budget
from nerf_app.training.tiles import tile_count

COLOURS = {"white": (1.0, 1.0, 1.0), "black": (0.0, 0.0, 0.0), "transparent": (0.0, 0.0, 0.0)}
METRICS, DIVERGED = "metrics.jsonl", "diverged.json"
STEPPED = re.compile(rb'\{"event": "stepped", "step": (\d+),.*\}\n')
FIRST_SAVE_SECONDS = 5.0  # after the beginning; every further save waits twice as long, up to the setting
FIXED = ("field.", "encoding.", "frequency.", "sampling.kind", "sampling.grid_resolution",  # the parameters' shapes
         "photos.", "scene.test", "scene.space", "scene.mirror")  # settings that are decided when a run begins


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

    def render(self, camera: Camera | View, world_from_camera: np.ndarray | None = None,
               background: str | tuple[float, float, float] = "white", *, with_depths: bool = True, with_normals: bool = False,
               are_edges_smooth: bool = True, window: Window | None = None) -> Picture:
        """What the camera sees from a pose [4, 4] in input coordinates (OpenGL camera axes); depths in input units.

        A View (one of `run.views`, say) brings its own pose. Depths and normals that are not asked for are None. Smooth edges
        take up to twice as long. A window is the part of the picture that is made.
        """
        if isinstance(camera, View):
            camera, world_from_camera = camera.camera, camera.world_from_camera
        if world_from_camera is None:
            raise UsageError("a camera needs its pose world_from_camera [4, 4] beside it; a view, such as run.views[0], has one.")
        if isinstance(background, str) and background not in COLOURS:
            raise UsageError(f"background must be {', '.join(COLOURS)} or (red, green, blue) of 0...1, got {shown(background)}")
        colour = COLOURS[background] if isinstance(background, str) else background
        pose = self.normalisation.pose_to_scene(world_from_camera)
        return render_picture(self.model, camera, pose, background=colour,
                              scene_units_per_unit=self.normalisation.scale, with_depths=with_depths,
                              with_normals=with_normals, are_edges_smooth=are_edges_smooth, window=window)

    def mesh(self, plan: Any = None, out: str | Path | None = None, scene: Scene | None = None) -> Any:
        """The textured `Mesh` in input coordinates, written to `out` (.glb, .obj, .ply) as well where that is given.

        `nerf_app.MeshPlan(crop="auto", faces=20_000)` says what kind of mesh; `scene` has the photos, if they were moved.
        """
        return nerf_app.make_mesh(self, plan, out, scene)  # its lazy name: export stands below this module


def open_run(folder: str | Path, machine: MachineSettings = MachineSettings()) -> Run:
    """The newest whole state of a run folder, ready to render on this machine."""
    folder = Path(folder)
    tensors, header, note = checkpoint.load(folder)
    config = _saved_config(folder, header)
    config = dataclasses.replace(config, machine=dataclasses.replace(machine, seed=config.machine.seed))
    _check_tensors(folder, tensors, header, config, is_resumed=False)
    ops = choose_backend(machine.backend, machine.device, machine.threads)
    model = RadianceModel(config, header.is_bounded, ops, header.n_training)
    model.load(tensors, header.progress.get(EMPTY))
    return Run(folder, config, model, header, note)


def train(scene: Scene, config: Config | None = None, folder: str | Path | None = None,
          on_event: Callable[[Event], None] | None = None) -> Run:
    """Trains until the budget is used and gives back what was learned, as it was saved.

    Args:
        config: all settings; None: the defaults, with a budget of five minutes.
        folder: of the run, not one that holds a run already; without it a new one below runs/.
        on_event: hears what happens, step by step (training/events.py).
    """
    config, folder = config or Config(), new_folder(scene.path) if folder is None else Path(folder)
    for event in train_events(scene, config, folder):
        if on_event is not None:
            on_event(event)
    return open_run(folder, config.machine)


def train_events(scene: Scene, config: Config, folder: str | Path, stop: threading.Event | None = None) -> Iterator[Event]:
    """Trains into a new run folder; yields what happens, and leaves a verified state there whatever happens."""
    folder, mirror = Path(folder), _mirror(scene, config)
    with locked(folder):
        require_new(folder)
        checkpoint.remove_partial_files(folder)
        config, ops = settled(config), _backend(config)
        yield Note(f"run       {folder}")
        yield Note(f"backend   {ops.why}")
        if config.scene.mirror == ANY_MIRROR:
            config, mirror = yield from _searched(scene, config)
        if mirror is not None:
            yield Note(f"mirror    {mirror.words(scene.normalisation)}")

        batches, validation, is_open = photos_of(scene, config, ops)
        if is_open is not None:
            yield Note(f"culled    {1 - is_open.float().mean():.0%} of the space, which too few training photos have in sight")

        def make_trainer(config: Config) -> Trainer:
            model = RadianceModel(config, scene.is_bounded, ops, len(scene.indices("train")))
            model.mirror = None if mirror is None else Mirror.of(mirror, ops.device)
            return Trainer(model, batches, validation, config, is_open)
        if config.field.appearance == "auto":
            chosen = yield from chosen_head(config, make_trainer, ops.threads, stop)
        else:
            chosen = Chosen(config, make_trainer(config), 0.0)
        trainer, budget = chosen.trainer, Budget(chosen.config.training, ops.threads, chosen.seconds)
        if trainer.weight_of_points(0.0):
            yield Note(f"points    {len(batches.sparse.views):,} sightings of sparse points teach at first where light stops")
        yield from _train_and_save(trainer, scene, chosen.config, folder, budget, stop)


def resume(folder: str | Path, scene_path: str | Path | None = None, overrides: dict[str, Any] | None = None,
           stop: threading.Event | None = None) -> Iterator[Event]:
    """Goes on with a run exactly where its newest whole state is; `overrides` may give it a larger budget."""
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"{folder} is no run folder: give the folder that `nerf-app train` printed.")
    with locked(folder):
        checkpoint.remove_partial_files(folder)
        tensors, header, note = checkpoint.load(folder)
        before = _saved_config(folder, header)
        path = _scene_path(folder, header, scene_path)
        asked = portable(overrides or {}, folder, (path, *path.absolute().parents))  # a file has many spellings
        config = _changed(before, seen_from_here(asked, folder))
        if note is not None:
            checkpoint.set_damaged_aside(folder)
        _check_tensors(folder, tensors, header, config, is_resumed=True)
        scene = _known_scene(path, config, header)
        ops = _backend(config)
        batches, validation, is_open = photos_of(scene, config, ops)
        trainer = Trainer(RadianceModel(config, header.is_bounded, ops, header.n_training), batches, validation, config, is_open)
        is_new = config.sampling.grid_threshold != before.sampling.grid_threshold
        if is_new:  # what was left out by the old one
            tensors.pop(SHARPENED, None)
        trainer.load(tensors, header.progress | ({EMPTY: None} if is_new else {}), header.step)
        if config.training.learning_rate != before.training.learning_rate:
            trainer.returns = 0  # their halving was of the other rate
        budget = Budget(config.training, ops.threads, header.seconds)
        if _limits(config) != _limits(before):
            trainer.reopen(budget.fraction(header.step))
        changes = changes_since(header, scene)
        yield from map(Note, [*([note] if note else []), f"resuming at step {header.step}", f"backend   {ops.why}",
                              *([f"{changes}: going on with what is there now"] if changes else [])])
        yield from _train_and_save(trainer, scene, config, folder, budget, stop)


def evaluate(run: Run, scene: Scene, split: str = "test", limit_seconds: float | None = None,
             on_photo: Callable[[int, int], None] | None = None) -> dict[str, Any]:
    """PSNR and SSIM of one split's photos at full size, with their own lens, in front of white.

    With a limit, as many photos as fit, evenly spread, and at least three; where three would not fit, a "part" of
    their pixels. `on_photo` hears (done, of how many).
    """
    indices = scene.indices(split)
    start, photos, scored, of_all = time.monotonic(), [], 0, 0
    has_limit = limit_seconds is not None and len(indices) > 0
    order = _spread(len(indices)) if has_limit else range(len(indices))
    count = scoring.windows_each(run, [scene.views[index] for index in indices], limit_seconds) if has_limit else None
    for done, place in enumerate(order):
        seconds = time.monotonic() - start
        if has_limit and done >= FEWEST_SCORED and seconds * (done + 1) / done > limit_seconds:
            break
        view = scene.views[indices[place]]
        windows = scoring.windows_of(view.camera, count)
        scored += sum(window.width * window.height for window in windows)
        of_all += view.camera.width * view.camera.height
        photos.append({"path": view.name, **scoring.photo_scores(run, view, *scene.photos.picture(indices[place]), windows)})
        if on_photo is not None:
            on_photo(done + 1, len(indices))
    photos.sort(key=lambda photo: photo["path"])
    means = {key: mean_of_known(photo[key] for photo in photos) for key in ("psnr", "ssim")}
    return {**means, "split": split, "part": scored / of_all if of_all else None, "photos": photos}


def write_evaluation(folder: Path, evaluation: dict[str, Any]) -> None:
    """eval.json of the run."""
    write_bytes((json.dumps(finite(evaluation), indent=1) + "\n").encode(), folder / "eval.json")


def load_scene_of(run: Run, scene_path: str | Path | None = None) -> Scene:
    """The scene that a run was trained on, with the run's own splits and coordinates."""
    return as_refined(run, _known_scene(_scene_path(run.folder, run.header, scene_path), run.config, run.header))


def as_refined(run: Run, scene: Scene) -> Scene:
    """The scene with the poses that training refined."""
    poses = {view.name: view.world_from_camera for view in run.header.refined}
    views = (dataclasses.replace(view, world_from_camera=np.array(poses.get(view.name, view.world_from_camera)))
             for view in scene.views)
    return dataclasses.replace(scene, views=tuple(views))


def changes_since(header: Header, scene: Scene) -> str | None:
    """A sentence where a run's scene is not as it was when the run was saved."""
    facts = checkpoint.scene_facts(scene)
    are_views_known = facts["views"] in (header.views, checkpoint.view_records(header.scene_views()))  # given, or refined
    are_known = {"photos": facts["photos_fingerprint"] == header.photos_fingerprint, "cameras": are_views_known}
    what = [name for name, is_known in are_known.items() if not is_known]
    return f"the {' and '.join(what)} changed since this run was trained" if what else None


def require_new(folder: Path) -> None:
    """ResourceError where a folder holds a run already."""
    if checkpoint.has_state(folder):
        raise ResourceError(f"{shown(folder)} already holds a run: `nerf-app resume {shown(folder)}` goes on with it, "
                            "or give another --out.")


def new_folder(scene: Path) -> Path:
    """runs/<scene>-<UTC time>-<four random digits>, free of odd characters."""
    name = plain_name(scene.parent if scene.is_file() else scene)
    return Path("runs") / f"{name}-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{secrets.token_hex(2)}"


def _train_and_save(trainer: Trainer, scene: Scene, config: Config, folder: Path, budget: Budget,
                    stop: threading.Event | None) -> Iterator[Event]:
    facts = checkpoint.scene_facts(scene)
    saved_config = with_overrides(config, portable(values(config), folder, [scene.root]))  # lists may lie there too
    scene_path = os.path.relpath(scene.path, folder)

    def save(seconds: float, is_over: bool = False) -> Saved:
        header = Header(format=checkpoint.FORMAT, app_version=nerf_app.__version__, step=trainer.steps_done, seconds=seconds,
                        backend=trainer.model.ops.why, config=values(saved_config), progress=trainer.progress(),
                        scene_path=scene_path, refined=_refined(trainer, scene), **facts)
        checkpoint.save(folder, trainer.tensors(is_over), header)
        return Saved(trainer.steps_done)

    checkpoint.require_room(folder, trainer.tensors().values())
    write_bytes(to_yaml(saved_config).encode(), folder / "config.yaml")
    (folder / DIVERGED).unlink(missing_ok=True)  # of an earlier sitting
    saved_at, pause = time.monotonic(), min(FIRST_SAVE_SECONDS, config.training.save_seconds)
    _cut_metrics(folder / METRICS, trainer.steps_done)
    with _told_if_diverged(folder, trainer), open(folder / METRICS, "ab", buffering=0) as metrics:
        for event in train_steps(trainer, budget, stop):
            if isinstance(event, Finished):
                yield save(event.seconds, is_over=event.reason != "interrupted")
            with suppress(OSError):  # a full disk costs lines here; that it is full shows when the state is saved
                metrics.write(_record(event))
            yield event
            if isinstance(event, Stepped) and time.monotonic() - saved_at > pause:
                yield _saved_or_told(save, event.seconds)
                saved_at, pause = time.monotonic(), min(2.0 * pause, config.training.save_seconds)


def _refined(trainer: Trainer, scene: Scene) -> tuple[checkpoint.ViewRecord, ...]:
    """The training photos' views with their poses as training moved them, input coordinates; empty where it does not."""
    poses = trainer.refined_poses()
    if poses is None:
        return ()
    return checkpoint.view_records(
        dataclasses.replace(scene.views[index], world_from_camera=scene.normalisation.pose_to_input(pose))
        for index, pose in zip(scene.indices("train"), poses, strict=True))


def _saved_or_told(save: Callable[[float], Saved], seconds: float) -> Saved | Note:
    """A save on the way: where it fails, training goes on with the older state on disk, and the next save may succeed."""
    try:
        return save(seconds)
    except (ResourceError, Diverged) as error:
        return Note(f"{error} Training goes on and will try again.")


@contextmanager
def _told_if_diverged(folder: Path, trainer: Trainer) -> Iterator[None]:
    """Leaves diverged.json in the run folder, for whoever looks why."""
    try:
        yield
    except Diverged as error:
        lower = trainer.settings.learning_rate / 10
        advice = [f"nerf-app resume RUN --set training.learning_rate={lower:g}", "look for photos with wrong poses or exposures"]
        facts = {"what": str(error), **finite(trainer.facts()), "try": advice}  # null: not a finite number
        with suppress(ResourceError):
            write_bytes((json.dumps(facts, indent=1) + "\n").encode(), folder / DIVERGED)
        raise


def _record(event: Event) -> bytes:
    """The event's line in metrics.jsonl."""
    return (json.dumps({"event": type(event).__name__.lower(), **finite(dataclasses.asdict(event))}) + "\n").encode()


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


def portable(settings: Mapping[str, Any], folder: Path, places: Iterable[Path]) -> dict[str, Any]:
    """Settings by full name with their paths relative to a run folder; these lie here, or else in one of the places."""
    roots = (Path(), *places)

    def relative(path: str) -> str:
        return os.path.relpath(next((root / path for root in roots if (root / path).exists()), path), folder)
    return _with_paths(settings, relative)


def seen_from_here(settings: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """What `portable` gave, with paths that can be opened."""
    return _with_paths(settings, lambda path: os.path.normpath(folder / path))


def _with_paths(settings: Mapping[str, Any], moved: Callable[[str], str]) -> dict[str, Any]:
    """The settings with other spellings of the paths among them."""
    return {name: moved(value) if _is_path(name, value) else value for name, value in settings.items()}


def _is_path(name: str, value: Any) -> bool:
    if name == "scene.test" and isinstance(value, str):
        return value not in ("auto", "none") and not value.startswith("every:")
    if name == "scene.mirror":
        return value not in (NO_MIRROR, ANY_MIRROR)
    return name == "scene.outside_root" and isinstance(value, str)


def _saved_config(folder: Path, header: Header) -> Config:
    """The settings of a saved state, paths as they are seen from here."""
    try:
        return with_overrides(Config(), seen_from_here(header.config, folder))
    except UsageError as error:
        raise DataError(f"{folder / checkpoint.CURRENT} holds settings that this program does not know: {error}") from error


def _changed(before: Config, overrides: dict[str, Any]) -> Config:
    """The config of a run that goes on; UsageError for settings that a run keeps from its beginning."""
    config, was = with_overrides(before, overrides), values(before)
    chosen = {name: was[name] for name in overrides if name.startswith(FIXED) and values(config)[name] is None}
    config = with_overrides(config, chosen)  # null leaves them to the program, which chose when the run began
    now = values(config)
    for name in overrides:
        if name.startswith(FIXED) and now[name] != was[name]:
            raise UsageError(f"{name} cannot be changed once a run has begun: it was {was[name]}, got {now[name]}; leave it out, "
                             "or train a new run.")
    return config


def _limits(config: Config) -> tuple[float | None, int | None, str]:
    """What a fraction of the budget means."""
    return config.training.minutes, config.training.steps, config.training.clock


def _backend(config: Config) -> Backend:
    return choose_backend(config.machine.backend, config.machine.device, config.machine.threads)


def _mirror(scene: Scene, config: Config) -> FlatMirror | None:
    """Where the mirror hangs of which there are masks."""
    if config.scene.mirror in (NO_MIRROR, ANY_MIRROR):
        return None
    return find_mirror(scene, mirror_folder(config.scene.mirror, (scene.root,)))


def _searched(scene: Scene, config: Config) -> Generator[Event, None, tuple[Config, FlatMirror | None]]:
    """The mirror that photos show, and the settings: a run that has none goes on as one that was asked for none."""
    yield Note("mirror    is looked for in what the photos show")
    mirror, why = search_mirror(scene)
    if mirror is None:
        yield Note(f"mirror    none was found: {why}; goes on without (where there is one, mark it: --mirror MASKS)")
        config = with_overrides(config, {"scene.mirror": NO_MIRROR})
    return config, mirror


def _scene_path(folder: Path, header: Header, scene_path: str | Path | None) -> Path:
    path = Path(scene_path) if scene_path is not None else Path(os.path.normpath(folder / header.scene_path))
    if not path.exists():
        raise DataError(f"the photos that {folder} was trained on are not in {shown(path)}: give their folder with --scene DIR "
                        f"(the whole job: `nerf-app reconstruct DIR --out {folder}`).")
    return path


def _known_scene(path: Path, config: Config, header: Header) -> Scene:
    """The scene with the run's own splits and coordinates; its photos must be those that the run was trained on."""
    known = {view.name: view.split for view in header.views}
    scene = load_scene(path, config.scene, known)
    found = {view.name for view in scene.views}
    if known.keys() != found:
        name = min(known.keys() ^ found)
        raise DataError(f"{shown(scene.root)} is not what the run was trained on: {len(found)} photos now, {len(known)} then, "
                        f"and {shown(name)} is {'not there' if name in known else 'new'}. "
                        "Give the run's own photos with --scene DIR.")
    return dataclasses.replace(scene, normalisation=header.normalisation(), is_bounded=header.is_bounded, notes=header.notes)


def _check_tensors(folder: Path, tensors: dict[str, Tensor], header: Header, config: Config, *, is_resumed: bool) -> None:
    """What a scene file holds must be what its settings ask for, neither less nor more; before any memory is taken for it."""
    allowed = saved_shapes(config, header.n_training)
    optimiser = dict.fromkeys(OPTIMISER, allowed["model.parameters"])
    known = allowed | optimiser | {GOOD: allowed["model.parameters"], ERRORS: {(_tiles_of(header),)},
                                   SHARPENED: sharpened_shapes(config)}
    file = folder / checkpoint.CURRENT
    for name in (allowed | optimiser if is_resumed else allowed):
        if name not in tensors:
            raise DataError(f"{file} lacks {name}, which its settings ask for: go back to a copy from before it was changed.")
    for name, tensor in tensors.items():
        shapes, dtype = known.get(name, set()), torch.bool if name == SHARPENED else torch.float32
        if tuple(tensor.shape) not in shapes or tensor.dtype != dtype:
            asked = " or ".join(str(list(shape)) for shape in sorted(shapes)) or "absent"
            raise DataError(f"{file}: {name} must be {asked} by its settings, got {list(tensor.shape)} {tensor.dtype}. "
                            "A run keeps the field it began with; go back to a copy from before it was changed.")


def _tiles_of(header: Header) -> int:
    """How many tiles the photos are cut into that train."""
    sizes = [(view.camera.width, view.camera.height) for view in header.views if view.split == "train"]
    return tile_count(torch.tensor(sizes).reshape(-1, 2))


def _spread(count: int) -> list[int]:
    """0 … count - 1 in an order whose every beginning is spread over the whole (van der Corput's)."""
    return sorted(range(count), key=lambda i: f"{i:016b}"[::-1])
