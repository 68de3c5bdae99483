"""RUN, PHOTOS → each of the things that a whole job leaves beside the trained field: what it takes, and how it is made."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from nerf_app import run as runs
from nerf_app.export.cameras import write_cameras
from nerf_app.export.depth import shots_of_split, write_depth
from nerf_app.export.extract import MeshPlan
from nerf_app.export.frames import render_path
from nerf_app.export.full_mesh import check_words, export_mesh
from nerf_app.export.paths import camera_path, made_up_camera, survey
from nerf_app.export.pointcloud import RAYS_PER_POINT, write_point_cloud
from nerf_app.progress import closing_line, counted
from nerf_app.report.page import write_report
from nerf_app.report.pictures import LONGEST_SIDE
from nerf_app.run import Run
from nerf_app.scene.scene import Scene, View

TRAINING, SCORE, MESH = "training", "score", "mesh/mesh.glb"
LEAST_SCORING, SCORE_PART = 10.0, 0.1  # seconds, and a part of the job's minutes, for as many test photos as fit
FILM_SECONDS, FILM_FPS = 5.0, (24.0, 12.0)  # length; frames a second, fewer where time is short
FILM_PART = 0.15  # of the job's minutes that making a film may take
LEAST_SIDE = 160  # pixels of the shorter side of films and depth maps, however short the time
ONE_WAY = 0.9  # length of the mean viewing direction from which on the cameras look one way

DEPTH_PART, FEWEST_DEPTHS = 0.1, 3  # the same of depth maps; photos that get one all the same
POINTS_PART, POINTS = 0.1, (50_000, 300_000)  # the same of the points; how many there are at least and at most

# Measured on two cores of an AMD EPYC with the C++ kernels.
PIXELS_A_SECOND = {True: 0.37e6, False: 0.075e6}  # rendered and scored: in a bounded scene, in one without an end
FILM_FASTER = 1.5  # nothing is scored
REFERENCE_SLOWER = 15.0
REPORT_PICTURES = 5


@dataclass(frozen=True)
class Given:
    """What a stage works from."""

    run: Run
    scene: Scene
    minutes: float | None  # of the whole job
    facts: Mapping[str, Mapping[str, Any]]  # stage -> what is known of it; what failed is not there
    seconds: Mapping[str, float]  # what was done, or why not -> how long it took

    def affordable_pixels(self, part: float) -> float:
        """How many can be rendered in a part of the job's minutes, at the pace of the score; inf where nobody knows."""
        scores, seconds = self.facts.get(SCORE, {}), self.seconds.get(SCORE, 0.0)
        names = {photo["path"] for photo in scores.get("photos", ())}
        scored = pixels([view for view in self.run.views if view.name in names], "test") * (scores.get("part") or 1.0)
        return math.inf if self.minutes is None or not seconds or not scored else 60.0 * self.minutes * part * scored / seconds


@dataclass(frozen=True)
class Made:
    """What a stage leaves."""

    files: Sequence[Path]  # in the run folder
    facts: Mapping[str, Any]  # plain numbers and words
    words: str  # the same for people


@dataclass(frozen=True)
class Stage:
    """What it counts, and the work."""

    unit: str
    work: Callable[[Given, Callable[[int, int], None]], Made]


def score(given: Given, on_progress: Callable[[int, int], None]) -> Made:
    limit = None if given.minutes is None else LEAST_SCORING + SCORE_PART * 60.0 * given.minutes
    scores = runs.evaluate(given.run, given.scene, "test", limit, on_progress)
    runs.write_evaluation(given.run.folder, scores)
    n_photos = len(given.scene.indices("test"))
    return Made([given.run.folder / "eval.json"], scores, closing_line(scores, n_photos).split(maxsplit=1)[1])


def film(given: Given, on_progress: Callable[[int, int], None]) -> Made:
    run, kind = given.run, film_path(given.run)
    camera = made_up_camera(run)
    size, fps = film_plan((camera.width, camera.height), given.affordable_pixels(FILM_PART) * FILM_FASTER)
    path = camera_path(kind, run, size, FILM_SECONDS, fps)
    files = render_path(run, path, run.folder / "video" / kind, ["rgb"], "white", False, on_progress)
    facts = {"path": kind, "frames": len(path.cameras), "width": size[0], "height": size[1]}
    return Made(files, facts, f"{kind}, {counted(len(path.cameras), 'frame')} of {size[0]}×{size[1]}")


def film_path(run: Run) -> str:
    """Round a thing that was cut out; through a place as the photos went, or a little to and fro where they look one way."""
    if run.is_bounded:
        return "orbit"
    return "spiral" if np.linalg.norm(survey(run).forwards.mean(0)) > ONE_WAY else "interpolate"


def film_plan(size: tuple[int, int], most: float) -> tuple[tuple[int, int], float]:
    """Even (width, height), never larger than `size` and never tiny, and frames a second, of a film of at most so many pixels."""
    least = LEAST_SIDE / min(size)
    for fps in FILM_FPS:
        shrink = math.sqrt(most / (FILM_SECONDS * fps * size[0] * size[1]))
        if shrink >= least:
            break
    shrink = min(1.0, max(shrink, least))
    return (2 * max(1, round(size[0] * shrink / 2)), 2 * max(1, round(size[1] * shrink / 2))), fps


def depth(given: Given, on_progress: Callable[[int, int], None]) -> Made:
    split = next(split for split in ("test", "val", "train") if any(view.split == split for view in given.run.views))
    shots = shots_of_split(given.run, split)
    names = list(shots)
    fitting = given.affordable_pixels(DEPTH_PART) * len(names) / pixels(given.run.views, split)
    wanted = min(max(FEWEST_DEPTHS, int(min(fitting, len(names)))), len(names))
    chosen = np.unique(np.linspace(0, len(names) - 1, wanted).round().astype(int))
    least = LEAST_SIDE / min(min(shot.camera.width, shot.camera.height) for shot in shots.values())
    shrink = min(1.0, max(math.sqrt(fitting / wanted), least))
    shots = {names[i]: replace(shots[names[i]], camera=shots[names[i]].camera.shrunk(shrink)) for i in chosen}
    files = write_depth(given.run, shots, given.run.folder / "depth", on_progress)
    smaller = f", {100 * shrink:.0f} % of their size" if shrink < 1 else ""
    is_all = len(shots) == len(given.run.views) and not smaller
    some = "" if is_all else f"; `nerf-app export {given.run.folder} depth` makes all"
    facts = {"split": split, "photos": len(shots), "size": shrink}
    return Made(files, facts, f"maps of {counted(len(shots), f'{split} photo')}{smaller}{some}")


def mesh(given: Given, on_progress: Callable[[int, int], None]) -> Made:
    out = given.run.folder / MESH
    files, facts = export_mesh(given.run, given.scene, MeshPlan(), out, on_progress)
    return Made(files, facts, check_words(facts))


def points(given: Given, on_progress: Callable[[int, int], None]) -> Made:
    out = given.run.folder / "cloud/points.ply"
    count = int(np.clip(given.affordable_pixels(POINTS_PART) / RAYS_PER_POINT, *POINTS))
    cloud = write_point_cloud(given.run, out, on_progress, count=count)
    return Made([out], {"points": len(cloud.points)}, counted(len(cloud.points), "point"))


def cameras(given: Given, on_progress: Callable[[int, int], None]) -> Made:
    folder = given.run.folder / "cameras"
    files, notes = write_cameras(given.run, folder)
    names = " and ".join(file.relative_to(folder).as_posix() for file in files)
    return Made(files, {"notes": notes}, "; ".join([names, *notes]))


def report(given: Given, on_progress: Callable[[int, int], None]) -> Made:
    folder, facts = given.run.folder, given.facts
    out, glb = folder / "report.html", folder / MESH if "mesh" in facts else None
    write_report(given.run, given.scene, out, evaluation=facts.get(SCORE), mesh=glb, mesh_check=mesh_check(facts),
                 stage_seconds=given.seconds, on_progress=on_progress)
    return Made([out], {}, f"{out.stat().st_size / 1e6:.1f} MB")


def mesh_check(facts: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """What the mesh stage found about held-out photos, if there were some."""
    return facts["mesh"] if "mesh" in facts and facts["mesh"]["psnr"] is not None else None


def pixels(views: Sequence[View], split: str) -> int:
    """Of all photos of a split."""
    return sum(view.camera.width * view.camera.height for view in views if view.split == split)


STAGES = {SCORE: Stage("photo", score), "film": Stage("frame", film), "depth": Stage("photo", depth),
          "mesh": Stage("%", mesh), "points": Stage("view", points), "cameras": Stage("file", cameras),
          "report": Stage("picture", report)}


def expected_seconds(views: Sequence[View], is_bounded: bool, minutes: float | None, threads: int,
                     is_reference: bool) -> dict[str, float]:
    """How long each stage should take; rough, and good enough to share out minutes."""
    slower = 2.0 / threads * (REFERENCE_SLOWER if is_reference else 1.0)
    pace = slower / PIXELS_A_SECOND[is_bounded]  # seconds a pixel
    room = math.inf if minutes is None else 60.0 * minutes
    n_photos, scored = sum(view.split == "train" for view in views), pace * pixels(views, "test")
    size = max(((view.camera.width, view.camera.height) for view in views), key=math.prod)
    shown = min(1.0, LONGEST_SIDE / max(size)) ** 2 * math.prod(size)  # pixels of a picture in the report
    (width, height), fps = film_plan(size, FILM_PART * room * FILM_FASTER / pace)
    return {SCORE: min(scored, LEAST_SCORING + SCORE_PART * room),
            "film": pace / FILM_FASTER * FILM_SECONDS * fps * width * height,
            "depth": min(1.2 * scored, DEPTH_PART * room),
            "mesh": slower * (12.0 + 0.25 * n_photos + pixels(views, "train") / 1.2e6),
            "points": min(pace * POINTS[1] * RAYS_PER_POINT, POINTS_PART * room), "cameras": 0.1,
            "report": 3.0 * slower + pace * REPORT_PICTURES * shown}
