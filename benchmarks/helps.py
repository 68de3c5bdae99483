"""Trains each set as it is by default, without each help, and with each that is off by default: a table for RESULTS.md.

    python benchmarks/helps.py SET... [--minutes 5 | --steps 2000] [--clock cpu] [--threads N] [--only NAME ...]

A help is a setting that real photos need; a row differs from the defaults in that one setting. Scores are of all test photos
at full size. A set that stays as it is under a change (culling in a scene with bounds, say) still gets its row: the noise.
On a machine that others use rows of equal steps compare better: of the same work in the same seconds it does half or all.
"""

import argparse
from pathlib import Path

from common import machine_line
from trained import trained

import nerf_app  # noqa: F401 (before torch: it tells torch's threads not to spin)
from nerf_app import run as runs
from nerf_app.config import Config, with_overrides
from nerf_app.scene.load import load_scene

HELPS = {
    "defaults": {},
    "no distortion loss": {"losses.distortion": 0.0},
    "light may stop close to lenses": {"losses.closeness": 0.0},
    "sparse points say nothing": {"losses.points": 0.0},
    "no culling": {"sampling.least_views": 0},
    "three photos must see a place": {"sampling.least_views": 3},
    "steps twice as long": {"sampling.steps": 384},
    "largest errors left out": {"losses.trimmed": 0.1},
    "exposures fitted": {"photos.exposure": "affine"},
    "codes fitted": {"photos.exposure": "code"},
    "poses refined": {"photos.refine_poses": True},
    "none of them": {"losses.distortion": 0.0, "losses.closeness": 0.0, "sampling.least_views": 0, "losses.points": 0.0},
}
HEAD = "| set | row | PSNR | SSIM | steps | rays a step | samples a ray | machine |\n|---|---|---|---|---|---|---|---|"


def main() -> None:
    parser = argparse.ArgumentParser(description="What each help brings on real photos.")
    parser.add_argument("sets", type=Path, nargs="+", metavar="SET")
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--steps", type=int, help="the same steps for each row, with 2^18 entries, instead of the same time")
    parser.add_argument("--clock", choices=("wall", "cpu"), default="cpu")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--only", nargs="+", choices=HELPS, default=list(HELPS), metavar="ROW")
    args = parser.parse_args()
    budget = {"training.clock": args.clock, "training.minutes": args.minutes} if args.steps is None else {
        "training.minutes": None, "training.steps": args.steps, "training.plateau": 1.0, "encoding.log2_entries": 18}
    print(HEAD)
    for folder in args.sets:
        for name in args.only:
            config = with_overrides(Config(), {"machine.threads": args.threads} | budget | HELPS[name])
            print(row(folder, name, config), flush=True)


def row(folder: Path, name: str, config: Config) -> str:
    """Trains, scores all test photos, and tells both."""
    scene = load_scene(folder, config.scene)
    with trained(scene, config) as (run, steps, finished):
        samples, rays = sum(step.samples for step in steps), sum(step.rays for step in steps)
        scores = runs.evaluate(run, scene)
    ended = "" if finished.reason == "budget" else f" ({finished.reason} after {finished.seconds:.0f} s)"
    return (f"| {folder.name} | {name}{ended} | {scores['psnr']:.2f} | {scores['ssim']:.4f} | {finished.step} | "
            f"{rays / finished.step:,.0f} | {samples / rays:.0f} | {machine_line(run.backend.threads)} |")


if __name__ == "__main__":
    main()
