"""The door to pycolmap: a program of its own that does one task and ends (`process.child` starts it).

It computes in C++ for minutes without looking up, and what it cannot bear it ends with an abort: in a process of its
own it can be stopped at once, and its end is a message. What it found so far is in its database, row by row.

Photos have plain names here, which its text lists can hold: letters and digits, no spaces.
"""

import json
import os
import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import pycolmap

from nerf_app.process.agreement import held_together
from nerf_app.process.retrieval import neighbours

Tell = Callable[[int, int], None]  # how many are done, of how many
Observation = tuple[int, int]  # a photo's number, and that of the feature in it
Fit = Callable[[pycolmap.Reconstruction, set[Observation], int], pycolmap.Reconstruction]  # without what is held back; threads

EVERY_SECONDS = 0.5  # progress is told
MODELS = {False: ("SIMPLE_RADIAL", 1, 1), True: ("OPENCV", 2, 4)}  # whether photos are many -> focal lengths, lens coefficients
MANY = 12  # photos through one camera: fewer do not tell eight numbers of it
PHONE = 0.85  # focal length by the longer side, where EXIF says none
LONGEST = (60, 10)  # seconds of one try, and for each photo: some sets would never end
ENOUGH_COMMON = 20  # points of a photo that two others in the model see too, where less was asked for
BLOCK = 50  # photos: the features of two blocks are kept in memory while their pairs are matched
WORD_FEATURES = 1000  # of a photo, the largest ones, that its visual words are counted over
FEWEST_SEEN = 50  # points in a photo: fewer do not tell its focal length
TELLING_TRACK, HELD_BACK = 4, 0.5  # photos that a point must be in to lose one of them, and how many of those points do
MOST_ERROR = 4.0  # pixels: a worse point counts as one with this error
ROUNDED = 0.05  # of a focal length: EXIF has whole millimetres, and pictures are cut
BETTER = 0.97  # what is left of the error on what was held back, for more numbers to be believed
ITERATIONS = 50  # of bundle adjustment, where the poses are nearly right already


def features(tell: Tell, *, database: str, photos: str, groups: Sequence[dict[str, Any]], size: int, most: int,
             threads: int, seed: int) -> None:
    """SIFT of every photo that has none yet; a group's photos share one camera: {"names", "focal": pixels or None}."""
    names = [name for group in groups for name in group["names"]]
    with opened(database) as base:
        known = {image.name for image in base.read_all_images()}
    for group in groups:
        fresh = [name for name in group["names"] if name not in known]
        if fresh:
            model, n_focals, n_bends = MODELS[len(group["names"]) >= MANY]
            options = pycolmap.ImageReaderOptions(camera_model=model, default_focal_length_factor=PHONE)
            if group["focal"]:
                centre = group["width"] / 2, group["height"] / 2
                options.camera_params = ",".join(map(str, (*[group["focal"]] * n_focals, *centre, *[0] * n_bends)))
            pycolmap.import_images(database, photos, pycolmap.CameraMode.SINGLE, fresh, options)
    options = pycolmap.FeatureExtractionOptions(max_image_size=size, num_threads=threads)
    options.sift.max_num_features = most
    with opened(database) as base, watched(tell, lambda: count_features(base, names), len(names)):
        pycolmap.extract_features(database, photos, names, extraction_options=options, device=pycolmap.Device.cpu)


def count_features(base: pycolmap.Database, names: Sequence[str]) -> int:
    """How many of the photos have theirs."""
    wanted = set(names)
    return sum(base.exists_keypoints(image.image_id) for image in base.read_all_images() if image.name in wanted)


def match(tell: Tell, *, database: str, pairs: Sequence[tuple[str, str]], list_file: str, threads: int,
          seed: int) -> int:
    """Matches and verifies the pairs of names that are not matched yet; how many these were."""
    with opened(database) as base:
        ids = {image.name: image.image_id for image in base.read_all_images()}
        waiting = [pair for pair in pairs if not base.exists_matches(ids[pair[0]], ids[pair[1]])]
        place = {name: number // BLOCK for number, name in enumerate(sorted(ids))}
        waiting.sort(key=lambda pair: (*sorted(place[name] for name in pair), pair))
        Path(list_file).write_text("".join(f"{first} {second}\n" for first, second in waiting))
        options = pycolmap.FeatureMatchingOptions(num_threads=threads)
        pairing = pycolmap.ImportedPairingOptions(match_list_path=list_file)
        before = base.num_matched_image_pairs()
        with watched(tell, lambda: base.num_matched_image_pairs() - before, len(waiting)):
            pycolmap.match_image_pairs(database, options, pairing, geometry_options(seed), pycolmap.Device.cpu)
    return len(waiting)


def geometry_options(seed: int) -> pycolmap.TwoViewGeometryOptions:
    options = pycolmap.TwoViewGeometryOptions()
    options.ransac.random_seed = seed
    return options


def nearest(tell: Tell, *, database: str, names: Sequence[str], count: int, seed: int) -> list[list[int]]:
    """For each photo the positions of those that look most like it, most alike first (`process.retrieval`)."""
    with opened(database) as base:
        ids = {image.name: image.image_id for image in base.read_all_images()}
        descriptors = []
        for number, name in enumerate(names):
            shapes = base.read_keypoints(ids[name])[:, 2:].reshape(-1, 2, 2)  # [N, 2, 2] from the feature to the photo
            chosen = np.argsort(-np.abs(np.linalg.det(shapes)), kind="stable")[:WORD_FEATURES]
            descriptors.append(base.read_descriptors(ids[name]).data[chosen])
            tell(number, len(names))
    return neighbours(descriptors, count, seed).tolist()


def links(tell: Tell, *, database: str) -> dict[str, Any]:
    """What the database knows: photo -> how many features, and [photo, photo, how many matches fit one motion]."""
    with opened(database) as base:
        images = base.read_all_images()
        counts = {image.name: base.num_keypoints_for_image(image.image_id) for image in images}
        name_of = {image.image_id: image.name for image in images}
        pairs, inliers = base.read_two_view_geometry_num_inliers()
        both = [(*pycolmap.pair_id_to_image_pair(pair), inlier) for pair, inlier in zip(pairs, inliers, strict=True) if inlier]
        return {"features": counts, "pairs": [[name_of[first], name_of[second], inlier] for first, second, inlier in both]}


def reconstruct(tell: Tell, *, database: str, photos: str, out: str, total: int, is_relaxed: bool, threads: int,
                seed: int) -> int:
    """The largest model that comes of the matches, written to `out`; how many photos it holds, 0 where there is none."""
    options = pycolmap.IncrementalPipelineOptions(num_threads=threads, random_seed=seed, min_model_size=3)
    options.mapper.random_seed = options.triangulation.random_seed = seed
    options.max_runtime_seconds = LONGEST[0] + LONGEST[1] * total
    if is_relaxed:
        options.mapper.init_min_num_inliers = 50
        options.mapper.init_min_tri_angle = 6.0
        options.mapper.abs_pose_min_num_inliers = 15
        options.mapper.abs_pose_min_inlier_ratio = 0.15
        options.mapper.abs_pose_max_error = 16.0
    placed = 0

    def one_more() -> None:
        nonlocal placed
        placed += 1
        tell(min(placed, total), total)
    os.makedirs(out, exist_ok=True)
    models = pycolmap.incremental_mapping(database, photos, out, options, initial_image_pair_callback=one_more,
                                          next_image_callback=one_more)
    best = max(models.values(), key=lambda model: model.num_reg_images(), default=None)
    if best is None:
        return 0
    if is_relaxed:
        tracks = [[one.image_id for one in point.track.elements] for point in best.points3D.values()]
        for photo in set(best.reg_image_ids()) - held_together(tracks, ENOUGH_COMMON):
            best.deregister_frame(best.images[photo].frame_id)
    best.write_binary(out)
    return best.num_reg_images()


def focal_lengths(tell: Tell, *, model: str, out: str, groups: Sequence[dict[str, Any]], threads: int,
                  seed: int) -> dict[str, Any] | None:
    """A model with other focal lengths, written to `out`, and what they are; None where those found with the poses are best.

    "stated": those that EXIF states for all cameras, where others were found and the photos cannot tell: straight down on level
    ground a longer lens looks like a higher camera. "each": one for each photo, where that explains them better: autofocus
    changes it, and no EXIF says so. More numbers always fit better, so they are judged by observations that no fit was shown.
    """
    given, held = pycolmap.Reconstruction(model), []
    rng = np.random.default_rng(seed)
    for _, point in sorted(given.points3D.items()):
        seen = point.track.elements
        if len(seen) >= TELLING_TRACK and rng.random() < HELD_BACK:
            one = seen[rng.integers(len(seen))]
            held.append((one.image_id, one.point2D_idx))
    told = {name: group["focal"] for group in groups if group["focal"] for name in group["names"]}
    placed = [image for image in given.images.values() if image.has_pose]
    stated = {image.camera_id: told[image.name] for image in placed if image.name in told}
    found = {image.camera_id: given.cameras[image.camera_id].mean_focal_length() for image in placed}
    is_denied = stated.keys() == found.keys() and any(abs(found[number] / stated[number] - 1.0) > ROUNDED for number in found)
    are_many = given.num_reg_images() >= MANY
    if not held or not (is_denied or are_many):
        return None

    def error(fit: Fit) -> float:
        return held_back_error(given, fit(given, set(held), threads), held)
    kind, best, left = "found", with_one_lens, error(with_one_lens)
    before = left
    if is_denied and left > BETTER * (other := error(as_stated := partial(with_stated_focals, stated))):
        kind, best, left = "stated", as_stated, other
    if are_many and (other := error(with_focal_lengths)) <= BETTER * left:
        kind, best, left = "each", with_focal_lengths, other
    if kind == "found":
        return None
    made = best(given, set(), threads)
    os.makedirs(out, exist_ok=True)
    made.write_binary(out)
    focals = [camera.mean_focal_length() for camera in made.cameras.values()]
    return {"kind": kind, "left": left / before, "before": float(np.mean([*found.values()])), "least": min(focals),
            "most": max(focals)}


def with_stated_focals(focals: dict[int, float], given: pycolmap.Reconstruction, held: set[Observation],
                       threads: int) -> pycolmap.Reconstruction:
    """The model fitted anew without what is held back, with the focal lengths in pixels that are stated, by a camera's number."""
    model = copied(given, held, given.cameras.values(), lambda image: image.camera_id)
    for number, focal in focals.items():
        camera = model.cameras[number]
        params = camera.params.copy()
        params[list(camera.focal_length_idxs())] = focal
        camera.params = params
    return adjusted(model, threads, are_focals_fixed=True)


def with_one_lens(given: pycolmap.Reconstruction, held: set[Observation], threads: int) -> pycolmap.Reconstruction:
    """The model fitted anew without what is held back, its cameras as they are."""
    return adjusted(copied(given, held, given.cameras.values(), lambda image: image.camera_id), threads)


def with_focal_lengths(given: pycolmap.Reconstruction, held: set[Observation], threads: int) -> pycolmap.Reconstruction:
    """The same with a focal length for each photo, but one distortion for all that shared a camera: each photo alone could
    trade the one for the other."""
    cameras, camera_of = {}, {}
    for number, image in sorted(given.images.items()):
        if not image.has_pose:
            continue
        own = number if image.num_points3D >= FEWEST_SEEN else max(given.images) + image.camera_id
        shared = given.cameras[image.camera_id]
        cameras[own] = pycolmap.Camera.create_from_model_name(own, "SIMPLE_RADIAL", shared.mean_focal_length(), shared.width,
                                                              shared.height)
        camera_of[number] = own
    model = adjusted(copied(given, held, cameras.values(), lambda image: camera_of[image.image_id]), threads)
    for shared in given.cameras:
        members = [number for number in camera_of if given.images[number].camera_id == shared]
        bends = [np.full(given.images[number].num_points3D, model.cameras[camera_of[number]].params[3]) for number in members]
        for number in members:
            camera = model.cameras[camera_of[number]]
            camera.params = [*camera.params[:3], np.median(np.concatenate(bends))]
    return adjusted(model, threads, is_bend_fixed=True)


def copied(given: pycolmap.Reconstruction, held: set[Observation], cameras: Iterable[pycolmap.Camera],
           camera_of: Callable[[pycolmap.Image], int]) -> pycolmap.Reconstruction:
    """The model with other cameras and without the observations that are held back; points keep their numbers."""
    model = pycolmap.Reconstruction()
    for camera in cameras:
        model.add_camera_with_trivial_rig(pycolmap.Camera(camera.todict()))
    for number, image in given.images.items():
        if image.has_pose:
            copy = pycolmap.Image(image_id=number, name=image.name, camera_id=camera_of(image))
            copy.points2D = pycolmap.Point2DList([pycolmap.Point2D(point.xy) for point in image.points2D])
            model.add_image_with_trivial_frame(copy, image.cam_from_world())
    for number, point in given.points3D.items():
        track = [(one.image_id, one.point2D_idx) for one in point.track.elements]
        kept = pycolmap.Track([pycolmap.TrackElement(*one) for one in track if one not in held])
        model.add_point3D_with_id(number, pycolmap.Point3D(xyz=point.xyz, color=point.color, track=kept))
    return model


def adjusted(model: pycolmap.Reconstruction, threads: int, *, is_bend_fixed: bool = False,
             are_focals_fixed: bool = False) -> pycolmap.Reconstruction:
    """The model itself, after bundle adjustment; far observations count less than their square."""
    options = pycolmap.BundleAdjustmentOptions(refine_extra_params=not is_bend_fixed, refine_focal_length=not are_focals_fixed)
    options.ceres.loss_function_type = pycolmap.LossFunctionType.SOFT_L1
    options.ceres.solver_options.max_num_iterations = ITERATIONS
    options.ceres.solver_options.num_threads = threads
    pycolmap.bundle_adjustment(model, options)
    return model


def held_back_error(given: pycolmap.Reconstruction, model: pycolmap.Reconstruction, held: Sequence[Observation]) -> float:
    """Mean pixels from what was held back to where the model has it."""
    errors = []
    for number, feature in held:
        seen = given.images[number].points2D[feature]
        place = model.images[number].project_point(model.points3D[seen.point3D_id].xyz)
        errors.append(MOST_ERROR if place is None else min(float(np.linalg.norm(place - seen.xy)), MOST_ERROR))
    return float(np.mean(errors))


def finish(tell: Tell, *, model: str, out: str, new_from_old: Sequence[Sequence[float]],
           names: dict[str, str]) -> dict[str, float]:
    """Writes the model moved by a similarity [3, 4], its photos under their names in `names`."""
    best = pycolmap.Reconstruction(model)
    best.transform(pycolmap.Sim3d(np.array(new_from_old)))
    for image in best.images.values():
        image.name = names[image.name]
    os.makedirs(out, exist_ok=True)
    best.write_binary(out)
    return {"photos": best.num_reg_images(), "points": best.num_points3D(), "error_px": best.compute_mean_reprojection_error()}


TASKS = {task.__name__: task for task in (features, match, nearest, links, reconstruct, focal_lengths, finish)}


@contextmanager
def opened(path: str):
    base = pycolmap.Database.open(path)
    try:
        yield base
    finally:
        base.close()


@contextmanager
def watched(tell: Tell, count: Callable[[], int], total: int):
    """Within it the count is told again and again: C++ itself says nothing."""
    is_over = threading.Event()

    def watch() -> None:
        while not is_over.wait(EVERY_SECONDS):
            tell(count(), total)
    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        is_over.set()
        watcher.join()
    tell(total, total)


def serve(lines: Iterable[str], answers: TextIO) -> None:
    """The first line is {"task", "arguments"}; answers are lines [done, total], and at last {"result"}."""
    told = threading.Lock()

    def say(answer: Any) -> None:
        with told:
            print(json.dumps(answer), file=answers, flush=True)
    lines = iter(lines)
    asked = json.loads(next(lines))
    threading.Thread(target=end_with_parent, args=(lines,), daemon=True).start()
    pycolmap.logging.minloglevel = pycolmap.logging.Level.ERROR.value
    pycolmap.set_random_seed(asked["arguments"].get("seed", 0))
    say({"result": TASKS[asked["task"]](lambda done, total: say([done, total]), **asked["arguments"])})


def end_with_parent(lines: Iterable[str]) -> None:
    """Nobody is left to hear the answer when the questions end."""
    for _ in lines:
        pass
    os._exit(1)


if __name__ == "__main__":
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what C++ prints is no answer
    serve(sys.stdin, answers)
    answers.close()
    os._exit(0)  # without waiting for the thread that listens
