"""How well `nerf-app process` finds the cameras of a posed set from its photos alone, and what it takes.

    python benchmarks/process_sets.py SET… [--threads 2]

Each set is processed into a folder of its own that is removed afterwards. The poses that were found are laid over the
given ones by the similarity that fits best (Umeyama 1991). Prints a table row per set for benchmarks/RESULTS.md.
"""

import argparse
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from common import commit, processor

from nerf_app.export.scale import similarity
from nerf_app.process.solve import FRAMES, MINUTES, Asked, process
from nerf_app.progress import PlainDisplay
from nerf_app.scene.load import read_listing
from nerf_app.scene.settings import SceneSettings


def trimmed_similarity(source: np.ndarray, target: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    """`similarity` by the better half alone, found again and again: a few cameras at a wrong place move nothing."""
    kept = np.arange(len(source))
    for _ in range(20):
        scale, rotation, shift = similarity(source[kept], target[kept], np.ones(len(kept)))
        kept = np.argsort(np.linalg.norm(scale * source @ rotation.T + shift - target, axis=1))[:max(4, len(source) // 2)]
    return scale, rotation, shift


def differences(found: np.ndarray, given: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """[V, 4, 4] poses of the same photos, twice -> distances of the centres as parts of the given ones' median distance
    from their middle [V], and angles [V] in degrees."""
    scale, rotation, shift = trimmed_similarity(found[:, :3, 3], given[:, :3, 3])
    centres = scale * found[:, :3, 3] @ rotation.T + shift
    size = np.median(np.linalg.norm(given[:, :3, 3] - given[:, :3, 3].mean(0), axis=1))
    turns = np.swapaxes(rotation @ found[:, :3, :3], 1, 2) @ given[:, :3, :3]
    cosines = np.clip((np.trace(turns, axis1=1, axis2=2) - 1.0) / 2.0, -1.0, 1.0)
    return np.linalg.norm(centres - given[:, :3, 3], axis=1) / size, np.degrees(np.arccos(cosines))


def poses_by_name(scene: Path) -> dict[str, np.ndarray]:
    listing, _ = read_listing(scene, SceneSettings())
    return {frame.path.stem: frame.world_from_camera for frame in listing.frames}


def row(path: Path, threads: int) -> str:
    """The set as a line of a table."""
    with tempfile.TemporaryDirectory() as place:
        began, before = time.monotonic(), used()
        photos = next((folder for folder in sorted(path.iterdir()) if folder.is_dir() and folder.name != "sparse"), path)
        found = process(Asked(photos, Path(place) / "scene", MINUTES, FRAMES, threads, 0), PlainDisplay(sys.stderr))
        wall, cpu = time.monotonic() - began, used() - before
        ours, given = poses_by_name(Path(place) / "scene"), poses_by_name(path)
    common = sorted(ours.keys() & given.keys())
    distances, angles = differences(np.stack([ours[name] for name in common]), np.stack([given[name] for name in common]))
    peak = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)) / 1e6
    where = f"{processor()}, {threads} threads, {commit()}"
    return (f"| {path.name} | {found.placed} of {found.photos} | {len(common)} | {100 * np.median(distances):.2f} % | "
            f"{np.median(angles):.3f}° | {cpu:.0f} s | {wall:.0f} s | {peak:.2f} GB | {where} |")


def used() -> float:
    """CPU seconds of this process and of those that it started."""
    both = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in both)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sets", nargs="+", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    print("| set | placed | compared | centres, median | rotation, median | CPU | wall | peak | machine |\n|" + "---|" * 9)
    for path in args.sets:
        print(row(path, args.threads), flush=True)
