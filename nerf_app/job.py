"""SCENE → EVERYTHING: training, and then all that can be made of the run, one stage after the other.

What is done stands in jobs.json of the run folder, with a fingerprint of what it was made from: the same job, asked for
again, goes on where it was and leaves alone what is still right. A stage that fails costs no other.
"""

import dataclasses
import hashlib
import itertools
import json
import os
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

import nerf_app
from nerf_app import checkpoint
from nerf_app import run as runs
from nerf_app.config import Config, with_overrides
from nerf_app.console import BUG, explain, say_where
from nerf_app.errors import UsageError
from nerf_app.ops.backend import choose_backend
from nerf_app.process.solve import FRAMES, Asked, closing_lines, is_unposed, process
from nerf_app.process.solve import MINUTES as MINUTES_OF_PROCESS
from nerf_app.process.solve import expected_seconds as process_seconds
from nerf_app.progress import Counter, Display, PlainDisplay, Whole, duration, scene_lines, show_training
from nerf_app.run import Run
from nerf_app.scene.load import load_scene
from nerf_app.scene.paths import shown
from nerf_app.scene.scene import Scene
from nerf_app.scene.writing import finite, locked, made_folder, write_bytes
from nerf_app.stages import STAGES, TRAINING, Given, expected_seconds
from nerf_app.training.events import Event

RECORD, REPORT, MINUTES, MACHINE = "jobs.json", "report", "training.minutes", "machine."
POSES, SCENE = "poses", "scene"  # the stage that photos without poses need first; the folder for what comes of it
TRAINING_PART = 0.5  # of the job's minutes, at least


@dataclass(frozen=True)
class Done:
    """A stage that is over and what came of it."""

    fingerprint: str  # of what it was made from
    seconds: float
    files: tuple[str, ...]  # relative to the run folder
    facts: dict[str, Any]


@dataclass(frozen=True)
class Failure:
    """Why a stage made nothing."""

    error: Exception
    exit_code: int
    words: str


@dataclass(frozen=True)
class Record:
    """What jobs.json holds."""

    scene: str  # relative to the run folder
    asked: dict[str, Any]  # settings by full name but the machine's; paths relative to the run folder, minutes of the whole job
    training_minutes: float | None  # what training gets of them; None: steps alone decide
    done: dict[str, Done] = field(default_factory=dict)


def reconstruct(scene_path: str | Path, minutes: float = 5.0, out: str | Path | None = None) -> Run:
    """The whole job in about so many minutes; the run, in whose folder everything lies, report.html first of all.

    Args:
        out: folder of the run; None: a new one below runs/. A job that was begun there goes on.
    """
    job = Job(Path(scene_path), None if out is None else Path(out), {MINUTES: minutes})
    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        job.plan(PlainDisplay(nowhere))
        job.train()
        run = job.make()
    for failure in job.failures.values():
        raise failure.error
    return run


class Job:
    """One run folder and what is asked of it: `plan`, then `train`, then `make`."""

    def __init__(self, path: Path, out: Path | None, overrides: Mapping[str, Any]) -> None:
        """`path` is a scene, or the folder of a run or of a job that was begun; `overrides` are settings by full name."""
        is_run = is_begun(path)
        if is_run and out is not None and out.absolute() != path.absolute():
            raise UsageError(f"{shown(path)} is a run, and all that is made of it goes into its own folder: leave out --out, "
                             "or name the scene instead.")
        self.folder = path if is_run else out or runs.new_folder(path)
        self.machine = {name: value for name, value in overrides.items() if name.startswith(MACHINE)}
        self.before = read_record(self.folder)
        known = self.before or Record("" if is_run else os.path.relpath(path, self.folder), {}, None)
        self.scene_path = path if not is_run else Path(os.path.normpath(self.folder / known.scene)) if known.scene else None
        asked = {name: value for name, value in overrides.items() if not name.startswith(MACHINE)}
        places = (self.scene_path, *self.scene_path.absolute().parents) if self.scene_path else ()
        asked = runs.portable(asked, self.folder, places)
        self.is_new_wish = self.before is None or known.asked | asked != known.asked
        self.record = dataclasses.replace(known, asked=known.asked | asked)
        self.photos_path = self.scene_path  # as it was given; what is found of its poses is the scene
        if POSES in known.done:
            self.scene_path = self.folder / SCENE
        self.scene: Scene | None = None
        self.whole: Whole | None = None
        self.failures: dict[str, Failure] = {}  # by stage

    @property
    def config(self) -> Config:
        """All settings, before the minutes are shared out."""
        return with_overrides(Config(), runs.seen_from_here(self.record.asked, self.folder) | self.machine)

    @property
    def is_trained(self) -> bool:
        return TRAINING in self.record.done and not self.is_new_wish and checkpoint.has_state(self.folder)

    def plan(self, display: Display) -> None:
        """Loads the scene where no state tells of it, shares out the minutes, and says so."""
        config, self.whole, spent = self.config, Whole(display, {}), 0.0
        ops = choose_backend(config.machine.backend, config.machine.device, config.machine.threads)
        if checkpoint.has_state(self.folder):
            header = checkpoint.load(self.folder)[1]
            views, is_bounded, spent = header.scene_views(), header.is_bounded, header.seconds
            if self.before is None and not self.record.asked:  # a run of `nerf-app train` keeps its own budget
                self.is_new_wish = False
                self.record = dataclasses.replace(self.record, training_minutes=header.config[MINUTES])
        else:
            self._find_poses(ops.threads)
            self.scene = load_scene(self.scene_path, config.scene)
            for line in scene_lines(self.scene):
                display.line(line)
            views, is_bounded = self.scene.views, self.scene.is_bounded
        minutes = config.training.minutes
        expected = expected_seconds(views, is_bounded, minutes, ops.threads, ops.name == "reference")
        if self.is_new_wish:
            others = sum(expected.values()) + (self.record.done[POSES].seconds if POSES in self.record.done else 0.0)
            share = None if minutes is None else max(TRAINING_PART * minutes, minutes - others / 60.0)
            self.record = dataclasses.replace(self.record, training_minutes=share)
        waiting = {name: seconds for name, seconds in expected.items() if not (self.is_trained and name in self.record.done)}
        training = 0.0 if self.is_trained else max(0.0, 60.0 * (self.record.training_minutes or 0.0) - spent)
        is_over = self.is_trained or self.record.training_minutes is not None and not training
        self.whole.expect({TRAINING: training, **waiting})
        if waiting:
            lasts = "" if is_over else f"{duration(training)} of training, then " if training else "training, then "
            display.line(f"plan      {lasts}about {duration(sum(waiting.values()))} for {', '.join(waiting)}")

    def _find_poses(self, threads: int) -> None:
        """Photos without poses, or a video, become a scene in the job's folder, which is the scene from then on."""
        if self.photos_path is None or not is_unposed(self.photos_path):
            return
        config = self.config
        minutes = MINUTES_OF_PROCESS if config.training.minutes is None else TRAINING_PART * config.training.minutes
        asked = Asked(self.photos_path, self.folder / SCENE, minutes, FRAMES, threads, config.machine.seed)
        training = 60.0 * TRAINING_PART * (config.training.minutes or 0.0)
        self.whole.expect({POSES: sum(process_seconds(asked).values()), TRAINING: training})
        self.whole.begin(POSES)
        made_folder(self.folder)
        self._save()  # the folder is known as that of a job that was begun
        found = process(asked, self.whole)
        for line in closing_lines(found):
            self.whole.line(line)
        self.whole.end(POSES)
        facts = {"photos": found.photos, "placed": found.placed, "failed": [drop.name for drop in found.failed]}
        self._keep(POSES, Done("", found.seconds, (SCENE,), facts))
        self.scene_path = self.folder / SCENE

    def train(self, stop: threading.Event | None = None) -> None:
        """Trains, or goes on with it; `stop` ends it with the state saved."""
        if self.is_trained:
            return
        self.whole.begin(TRAINING)
        events = self._events(stop)
        first = next(events)  # what is refused is refused before it, and from now on the folder is ours
        self._forget(TRAINING)
        self._save()
        finished = show_training(itertools.chain([first], events), self.whole)
        self.whole.end(TRAINING)
        if finished.reason != "interrupted":
            facts = {"step": finished.step, "reason": finished.reason}
            self._keep(TRAINING, Done("", finished.seconds, (checkpoint.CURRENT,), facts))

    def _events(self, stop: threading.Event | None) -> Iterator[Event]:
        asked = self.record.asked | {MINUTES: self.record.training_minutes}
        if not checkpoint.has_state(self.folder):
            config = with_overrides(Config(), runs.seen_from_here(asked, self.folder) | self.machine)
            return runs.train_events(self.scene, config, self.folder, stop)
        old = {} if self.before is None else self.before.asked
        news = {name: value for name, value in asked.items() if name == MINUTES or name not in old or old[name] != value}
        return runs.resume(self.folder, self.scene_path, runs.seen_from_here(news, self.folder) | self.machine, stop)

    def make(self) -> Run:
        """Everything after training; what is there and right is left alone."""
        run = runs.open_run(self.folder, self.config.machine)
        scene = runs.as_refined(run, self.scene) if self.scene else runs.load_scene_of(run, self.scene_path)
        for note in (run.note, runs.changes_since(run.header, scene)):
            if note:
                self.whole.line(note)
        is_whole = all(self._is_done(name, self._fingerprint(name, run, scene)) for name in STAGES)
        with nullcontext() if is_whole else locked(self.folder):
            for name in STAGES:
                fingerprint = self._fingerprint(name, run, scene)
                if self._is_done(name, fingerprint):
                    self.whole.line(f"{name:9} is there already")
                else:
                    self._make_one(name, fingerprint, run, scene)
                self.whole.end(name)
        return run

    def _make_one(self, name: str, fingerprint: str, run: Run, scene: Scene) -> None:
        self._forget(name)
        self.whole.begin(name)
        began = time.monotonic()
        try:
            made = STAGES[name].work(self._given(run, scene), Counter(self.whole, STAGES[name].unit))
        except Exception as error:  # also a fault of ours costs no other stage
            self.failures[name] = failure = Failure(error, *explain(error))
            if failure.exit_code == BUG:
                say_where(error)
            self.whole.line(f"{name:9} not made: {failure.words}")
            self._save()
            return
        seconds = time.monotonic() - began
        self.whole.line(f"{name:9} {made.words} ({duration(seconds)})")
        files = tuple(path.relative_to(self.folder).as_posix() for path in made.files)
        self._keep(name, Done(fingerprint, seconds, files, dict(made.facts)))

    def _given(self, run: Run, scene: Scene) -> Given:
        done = self.record.done
        seconds = {name: done[name].seconds for name in (POSES, TRAINING, *STAGES) if name in done}
        seconds |= {f"{name}, not made ({failure.words})": 0.0 for name, failure in self.failures.items()}
        return Given(run, scene, self.config.training.minutes, {name: one.facts for name, one in done.items()}, seconds)

    def _fingerprint(self, name: str, run: Run, scene: Scene) -> str:
        """A text that changes with everything that changes what the stage makes."""
        facts = [nerf_app.__version__, scene.photos.fingerprint, msgspec.to_builtins(run.header)]
        if name == REPORT:
            facts += [{stage: failure.words for stage, failure in self.failures.items()},
                      {stage: msgspec.to_builtins(done) for stage, done in self.record.done.items() if stage != name}]
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()

    def _is_done(self, name: str, fingerprint: str) -> bool:
        done = self.record.done.get(name)
        return done is not None and done.fingerprint == fingerprint and all((self.folder / file).exists() for file in done.files)

    # What is told, and what is kept in jobs.json.

    def result(self) -> dict[str, Any]:
        """The job in plain numbers and paths."""
        stages = {name: {**done.facts, "seconds": done.seconds, "files": [str(self.folder / file) for file in done.files]}
                  for name, done in self.record.done.items()}
        failed = {name: {"error": failure.words, "exit_code": failure.exit_code} for name, failure in self.failures.items()}
        report = stages[REPORT]["files"][0] if REPORT in stages else None
        return {"run": str(self.folder), "report": report, "stages": stages, "failed": failed}

    def interruption(self) -> str:
        """A line for somebody who stopped it: what is kept, and how it goes on."""
        where = f" in {self.whole.stage}" if self.whole and self.whole.stage else ""
        if not is_begun(self.folder):
            return f"interrupted{where}; nothing was made yet"
        saved = [] if TRAINING in self.record.done or not checkpoint.has_state(self.folder) else ["the training so far"]
        kept = [*saved, *(name for name in (POSES, TRAINING, *STAGES) if name in self.record.done)]
        if self.whole and self.whole.stage == POSES:
            kept.append("what is known of the poses")
        return f"interrupted{where}; kept: {', '.join(kept) or 'nothing'}. `nerf-app reconstruct {self.folder}` goes on"

    def _keep(self, name: str, done: Done) -> None:
        self.record = dataclasses.replace(self.record, done=self.record.done | {name: done})
        self._save()

    def _forget(self, name: str) -> None:
        self.record = dataclasses.replace(self.record, done={key: done for key, done in self.record.done.items() if key != name})

    def _save(self) -> None:
        plain = finite(msgspec.to_builtins(self.record))
        write_bytes((json.dumps(plain, indent=1) + "\n").encode(), self.folder / RECORD)


def read_record(folder: Path) -> Record | None:
    """What is known of an earlier job in the folder; None of none, or where the file is not whole."""
    try:
        plain = json.loads((folder / RECORD).read_bytes())
        return msgspec.convert(plain, Record)
    except (OSError, ValueError, RecursionError):
        return None


def is_begun(path: Path) -> bool:
    """Whether a path is the folder of a run, or of a job that was begun, rather than a scene."""
    return checkpoint.has_state(path) or (path / RECORD).exists()
