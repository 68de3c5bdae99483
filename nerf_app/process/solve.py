"""PHOTOS, VIDEO → SCENE: cameras and sparse points by pycolmap, beside the photos, as our loader and others read them.

Everything unfinished lies in the folder "work" of the result: the same call, made again, goes on from there. At the end
it is gone, and process.json tells what was found.
"""

import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from nerf_app.errors import DataError, UsageError
from nerf_app.process import child
from nerf_app.process.failures import reasons
from nerf_app.process.frames import is_video, write_frames
from nerf_app.process.pairs import EXHAUSTIVE, find_pairs
from nerf_app.process.photos import IMAGES, Gathered, Photo, gather, photo_files, photo_folder
from nerf_app.progress import Counter, Display, Whole, counted, duration
from nerf_app.scene import colmap, transforms
from nerf_app.scene.colmap_files import read_images, world_from_camera
from nerf_app.scene.load import is_scene
from nerf_app.scene.normalise import estimate_up
from nerf_app.scene.paths import shown
from nerf_app.scene.poses import opengl_from_opencv
from nerf_app.scene.scene import Dropped
from nerf_app.scene.settings import SceneSettings
from nerf_app.scene.writing import locked, made_folder, write_bytes

WORK, PROGRESS, RECORD = "work", "progress.json", "process.json"
SPARSE = "sparse/0"
TRIES = {"model": False, "relaxed": True}  # folder -> whether less is asked for
LONGEST_PATH = 4096
MOST_NAMED = 20  # photos without a place that are named one by one
FEWEST = 3  # photos
MINUTES, FRAMES = 10.0, 150  # unless something else is asked for
FEATURE_SIDE, MOST_FEATURES = 1600, 8192  # pixels of the longer side that features are looked for at, and of them per photo
ENOUGH = 0.9  # of the photos: with fewer a second try is made that asks for less

# Measured on two cores of an AMD EPYC: seconds of one core.
PHOTO_SECONDS, FEATURE_SECONDS, PAIR_SECONDS, PLACE_SECONDS = 0.05, 0.5, 0.02, 1.0


@dataclass(frozen=True)
class Asked:
    """What is to be done, and with what."""

    source: Path  # a folder of photos, or a video
    out: Path  # the scene's folder
    minutes: float  # half of them may go into comparing photos where there are many
    frames: int  # of a video
    threads: int
    seed: int

    @property
    def work(self) -> Path:
        return self.out / WORK

    @property
    def source_from_out(self) -> str:
        return shown(os.path.relpath(self.source, self.out), LONGEST_PATH)

    def fingerprint(self, files: Sequence[Path]) -> str:
        """Changes with the files that were given and with what is asked of them."""
        facts = [[os.path.relpath(file, self.source), file.stat().st_size, file.stat().st_mtime_ns] for file in files]
        return hashlib.sha256(json.dumps([facts, self.frames, self.seed]).encode()).hexdigest()


@dataclass(frozen=True)
class Progress:
    """What work/progress.json holds: which steps are over."""

    source: str  # relative to the scene's folder
    fingerprint: str
    gathered: Gathered | None = None
    is_paired: bool = False
    placed: dict[str, int] = field(default_factory=dict)  # try -> how many photos found a place


@dataclass(frozen=True)
class Found:
    """What process.json holds, and what the command says."""

    source: str  # relative to the scene's folder
    fingerprint: str
    photos: int  # that were given
    placed: int
    failed: tuple[Dropped, ...]
    points: int
    error_px: float  # mean distance of points from where the photos show them
    seconds: float  # of the last call


def is_unposed(path: Path) -> bool:
    """Whether a path is a video, or a folder with photos and nothing that would tell where they were taken."""
    return is_video(path) or path.is_dir() and not is_scene(path) and bool(photo_files(path))


def process(asked: Asked, display: Display) -> Found:
    """The scene in `asked.out`; DataError where too few photos find a place."""
    child.require_pycolmap()
    began, files = time.monotonic(), given_files(asked)
    fingerprint = asked.fingerprint(files)
    found = read_as(Found, asked.out / RECORD)
    if found is not None and found.fingerprint == fingerprint:
        return found
    with locked(asked.work):
        made_folder(asked.work / "photos")
        (asked.out / RECORD).unlink(missing_ok=True)
        progress = read_as(Progress, asked.work / PROGRESS)
        if progress is None or progress.fingerprint != fingerprint:
            progress = Progress(asked.source_from_out, fingerprint)
            write_as(progress, asked.work / PROGRESS)  # from now on the folder is known as ours
        steps = Steps(asked, Whole(display, expected_seconds(asked)), progress)
        photos = steps.gather(files)
        steps.pair(photos)
        return steps.finish(steps.focus(steps.place(photos)), began)


def closing_lines(found: Found) -> Iterator[str]:
    """What was found, and which photos have no place, a line each."""
    yield (f"scene     {found.placed} of {counted(found.photos, 'photo')} have a place, {counted(found.points, 'point')}, "
           f"mean error {found.error_px:.2f} px ({duration(found.seconds)})")
    yield from (f"no place  {photo.name}: {photo.reason}" for photo in found.failed[:MOST_NAMED])
    if len(found.failed) > MOST_NAMED:
        yield f"no place  … and {len(found.failed) - MOST_NAMED} more; {RECORD} names all"


def given_files(asked: Asked) -> list[Path]:
    """The photos, or the video alone. Raises where there are none, and where the result would lie among foreign files."""
    if not asked.source.exists():
        raise DataError(f"{shown(asked.source)} does not exist: give a folder of photos, or a video.")
    out = asked.out.resolve()
    before = read_as(Found, asked.out / RECORD) or read_as(Progress, asked.work / PROGRESS)
    if before is None and asked.out.exists() and any(asked.out.iterdir()):
        raise UsageError(f"{shown(asked.out)} is not empty, and the scene needs a folder of its own: give another --out.")
    if before is not None and before.source != asked.source_from_out:
        raise UsageError(f"{shown(asked.out)} holds the scene of {before.source}: give another --out, or remove it first.")
    if is_video(asked.source):
        return [asked.source]
    files = [file for file in photo_files(asked.source) if out not in file.resolve().parents]
    if not files:
        raise DataError(f"{shown(asked.source)} holds no photos: give a folder with JPEG, PNG or HEIC files, or a video.")
    return files


def expected_seconds(asked: Asked) -> dict[str, float]:
    """How long each step should take; rough, and good enough for a bar."""
    count = asked.frames if is_video(asked.source) else len(photo_files(asked.source))
    pairs = min(count * (count - 1) / 2 * PAIR_SECONDS, max(30.0 * asked.minutes, EXHAUSTIVE**2 / 2 * PAIR_SECONDS))
    return {"photos": PHOTO_SECONDS * count / 2, "features": FEATURE_SECONDS * count / asked.threads,
            "pairs": pairs / asked.threads, "poses": PLACE_SECONDS * count}


class Steps:
    """The way from photos to a scene; each step that is over is noted, and is not made again."""

    def __init__(self, asked: Asked, whole: Whole, progress: Progress) -> None:
        self.asked, self.whole, self.progress = asked, whole, progress
        self.common = {"database": str(asked.work / "database.db"), "threads": asked.threads, "seed": asked.seed}

    def note(self, **changes: Any) -> None:
        self.progress = replace(self.progress, **changes)
        write_as(self.progress, self.asked.work / PROGRESS)

    def gather(self, files: Sequence[Path]) -> tuple[Photo, ...]:
        """The photos, or the sharpest frames, where they belong."""
        asked = self.asked
        self.whole.begin("photos")
        if self.progress.gathered is None:
            shutil.rmtree(asked.out / IMAGES, ignore_errors=True)
            root = photo_folder(asked.source)
            if is_video(asked.source):
                root = asked.work / "frames"
                shutil.rmtree(root, ignore_errors=True)
                files = write_frames(asked.source, made_folder(root), asked.frames, Counter(self.whole, "frame"))
            gathered = gather(files, root, asked.out, asked.work / "photos", Counter(self.whole, "photo"))
            self.note(gathered=gathered)
        self.whole.end("photos")
        photos, refused = self.progress.gathered.photos, self.progress.gathered.refused
        self.whole.line(f"photos    {counted(len(photos), 'photo')}, {counted(len(groups(photos)), 'camera')}"
                        + (f"; {len(refused)} cannot be used" if refused else ""))
        if len(photos) < FEWEST:
            why = f", first: {refused[0].name}: {refused[0].reason}" if refused else ""
            raise DataError(f"{shown(asked.source)} has {counted(len(photos), 'photo')} that can be used, and a scene needs "
                            f"{FEWEST}{why}")
        return photos

    def pair(self, photos: Sequence[Photo]) -> None:
        """Features of all photos, and what they have in common, in the database."""
        if self.progress.is_paired:
            self.whole.end("features")
            self.whole.end("pairs")
            return
        began = time.monotonic()
        self.whole.begin("features")
        child.run("features", Counter(self.whole, "photo"), photos=str(self.asked.work / "photos"), groups=groups(photos),
                  size=FEATURE_SIDE, most=MOST_FEATURES, **self.common)
        self.whole.end("features")
        self.whole.begin("pairs")
        keys = [photo.key for photo in photos]
        place = {key: number for number, key in enumerate(keys)}
        database = self.common["database"]

        def match(pairs: list[tuple[int, int]]) -> float | None:
            before = time.monotonic()
            n_matched = child.run("match", Counter(self.whole, "pair"), pairs=[(keys[a], keys[b]) for a, b in pairs],
                                  list_file=str(self.asked.work / "pairs.txt"), **self.common)
            return (time.monotonic() - before) / n_matched if n_matched else None

        def links() -> list[tuple[int, int]]:
            known = child.run("links", silent, database=database)["pairs"]
            return [(place[first], place[second]) for first, second, _ in known if first in place and second in place]
        find_pairs(len(keys), is_video(self.asked.source), 30.0 * self.asked.minutes - (time.monotonic() - began),
                   lambda count: child.run("nearest", silent, names=keys, count=count, database=database, seed=self.asked.seed),
                   match, links)
        self.whole.end("pairs")
        self.note(is_paired=True)

    def place(self, photos: Sequence[Photo]) -> Path:
        """The folder of the better of at most two models."""
        self.whole.begin("poses")
        for name, is_relaxed in TRIES.items():
            if max(self.progress.placed.values(), default=0) >= ENOUGH * len(photos):
                break
            if name not in self.progress.placed:
                if is_relaxed:
                    self.whole.line(f"poses     {max(self.progress.placed.values())} of {counted(len(photos), 'photo')} found a "
                                    "place; a second try asks for less")
                placed = child.run("reconstruct", Counter(self.whole, "photo"), photos=str(self.asked.work / "photos"),
                                   out=str(self.asked.work / name), total=len(photos), is_relaxed=is_relaxed, **self.common)
                self.note(placed=self.progress.placed | {name: placed})
        best = max(self.progress.placed, key=self.progress.placed.get)  # the first of equals
        if self.progress.placed[best] < FEWEST:
            known = reasons(photos, set(), child.run("links", silent, database=self.common["database"]))
            raise DataError(f"{shown(self.asked.source)}: no {FEWEST} of {len(photos)} photos could be placed together; first, "
                            f"{known[0].name}: {known[0].reason}")
        return self.asked.work / best

    def focus(self, model: Path) -> Path:
        """The folder of the model, or of one with the focal lengths that EXIF states, or one for each photo."""
        own = self.asked.work / "focused"
        better = child.run("focal_lengths", silent, model=str(model), out=str(own), groups=groups(self.progress.gathered.photos),
                           threads=self.asked.threads, seed=self.asked.seed)
        if better is None:
            return model
        lengths = " to ".join(dict.fromkeys(f"{better[end]:.0f}" for end in ("least", "most"))) + " px"
        words = {"stated": f"{lengths}, as EXIF states: {better['before']:.0f} px would fit these photos only "
                           f"{better['left'] - 1:.1%} better",
                 "each": f"a focal length for each photo, {lengths}: {better['left']:.0%} of the error on features that were "
                         "held back is left"}[better["kind"]]
        self.whole.line(f"lens      {words}")
        return own

    def finish(self, model: Path, began: float) -> Found:
        """The scene's files from a model, upright and about as large as 1."""
        asked, gathered, database = self.asked, self.progress.gathered, self.common["database"]
        names = {photo.key: photo.name.removeprefix(f"{IMAGES}/") for photo in gathered.photos}
        rows = read_images(model)
        poses = np.stack([opengl_from_opencv(world_from_camera(row, shown(model))) for row in rows])
        facts = child.run("finish", silent, model=str(model), out=str(asked.work / "finished"), names=names,
                          new_from_old=upright(poses).tolist())
        failed = reasons(gathered.photos, {row.name for row in rows}, child.run("links", silent, database=database))
        self.whole.end("poses")
        shutil.rmtree(asked.out / SPARSE, ignore_errors=True)
        made_folder((asked.out / SPARSE).parent)
        os.replace(asked.work / "finished", asked.out / SPARSE)
        transforms.write(replace(colmap.read(asked.out, SceneSettings()), up=np.array([0.0, 0.0, 1.0])), asked.out)
        found = Found(self.progress.source, self.progress.fingerprint, len(gathered.photos) + len(gathered.refused), len(rows),
                      (*gathered.refused, *failed), facts["points"], facts["error_px"], time.monotonic() - began)
        write_as(found, asked.out / RECORD)
        shutil.rmtree(asked.work, ignore_errors=True)
        return found


def silent(done: int, total: int) -> None:
    """Nobody is told."""


def groups(photos: Sequence[Photo]) -> list[dict[str, Any]]:
    """Photos that share a camera, as `process.colmap.features` takes them."""
    by_camera: dict[str, list[Photo]] = {}
    for photo in photos:
        by_camera.setdefault(photo.camera, []).append(photo)
    return [{"names": [photo.key for photo in some], "focal": some[0].focal_px, "width": some[0].width, "height": some[0].height}
            for some in by_camera.values()]


def upright(poses: np.ndarray) -> np.ndarray:
    """[3, 4] similarity that turns the cameras' up to +Z, puts their middle to 0 and their median distance from it to 1.

    Args:
        poses: [V, 4, 4] camera-to-world, OpenGL camera axes.
    """
    up, middle = estimate_up(poses), poses[:, :3, 3].mean(0)
    size = float(np.median(np.linalg.norm(poses[:, :3, 3] - middle, axis=1)))
    side = np.eye(3)[np.argmin(np.abs(up))]
    right = np.cross(side, up)
    right /= np.linalg.norm(right)
    linear = np.stack([right, np.cross(up, right), up]) / (size or 1.0)
    return np.concatenate([linear, -(linear @ middle)[:, None]], 1)


def read_as(kind: type, path: Path) -> Any:
    """A record; None where there is none, or where the file is not whole."""
    try:
        return msgspec.convert(json.loads(path.read_bytes()), kind)
    except (OSError, ValueError, RecursionError):
        return None


def write_as(record: Any, path: Path) -> None:
    write_bytes((json.dumps(msgspec.to_builtins(record), indent=1) + "\n").encode(), path)
