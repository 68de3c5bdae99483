"""Trains a scene within each budget and scores every test photo: a row of RESULTS.md for each.

    python benchmarks/end_to_end.py SCENE --budgets 20 60 300 [--clock cpu] [--threads N] [--set key=value ...]

A budget is seconds of training from the first step to the last; loading and scoring come on top.
"""

import argparse
from pathlib import Path

from common import machine_line
from trained import trained

import nerf_app  # noqa: F401 (before torch: it tells torch's threads not to spin)
from nerf_app import run as runs
from nerf_app.config import Config, checked, with_overrides
from nerf_app.errors import UsageError
from nerf_app.scene.load import load_scene
from nerf_app.scene.scene import Scene

HEAD = "| set | budget | PSNR | SSIM | steps | samples/s | machine | settings |\n|---|---|---|---|---|---|---|---|"


def main() -> None:
    parser = argparse.ArgumentParser(description="PSNR against seconds on a scene.")
    parser.add_argument("scene", type=Path)
    parser.add_argument("--budgets", type=float, nargs="+", default=[20.0, 60.0, 300.0], metavar="SECONDS")
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    args = parser.parse_args()
    changes = dict(setting(text) for text in args.set)
    print(HEAD)
    for seconds in args.budgets:
        config = with_overrides(Config(), {"machine.threads": args.threads, "training.clock": args.clock} | changes
                                | {"training.minutes": seconds / 60.0})
        said = ", ".join(args.set) or "defaults"
        print(row(load_scene(args.scene, config.scene), config, args.scene.name, said), flush=True)


def setting(text: str) -> tuple[str, object]:
    """"training.steps=9" -> its name and its value, checked."""
    name, sign, value = text.partition("=")
    if not sign:
        raise UsageError(f"--set takes key=value, such as --set encoding.log2_entries=19, got {text}")
    return name, checked(name, value)


def row(scene: Scene, config: Config, name: str, said: str) -> str:
    """Trains, scores all test photos, and tells both."""
    with trained(scene, config) as (run, steps, finished):
        samples, scores = sum(step.samples for step in steps), runs.evaluate(run, scene)
    budget = f"{60.0 * config.training.minutes:g} s {config.training.clock}"
    if finished.reason != "budget":
        budget += f" ({finished.reason} after {finished.seconds:.0f} s)"
    return (f"| {name} | {budget} | {scores['psnr']:.2f} | {scores['ssim']:.4f} | {finished.step} | "
            f"{samples / finished.seconds:,.0f} | {machine_line(run.backend.threads)} | {said} |")


if __name__ == "__main__":
    main()
