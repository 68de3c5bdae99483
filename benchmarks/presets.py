"""Samples a second of each preset and of each flag that changes what a sample costs: the rows of RESULTS.md.

    python benchmarks/presets.py [--seconds 20] [--threads N]

Each trains on a bundled scene; counted are the samples of the second half of the budget, when steps have grown.
"""

import argparse
from pathlib import Path

from common import ROOT, machine_line
from trained import trained

import nerf_app  # noqa: F401 (before torch: it tells torch's threads not to spin)
from nerf_app.config import Config, read_preset, with_overrides
from nerf_app.scene.load import load_scene

ROWS = [  # what is said, scene below data/, settings
    ("defaults, in a box", "object", {}),
    ("defaults, unbounded", "room", {}),
    ("--preset reflective", "shiny", read_preset("reflective")),
    ("--preset nerf", "object", read_preset("nerf")),
    ("--appearance diffuse", "object", {"field.appearance": "diffuse"}),
    ("--exposure affine", "room", {"photos.exposure": "affine"}),
    ("--exposure code", "room", {"photos.exposure": "code"}),
    ("photos.refine_poses=true", "room", {"photos.refine_poses": True}),
    ("losses.trimmed=0.1", "room", {"losses.trimmed": 0.1}),
    ("losses.distortion=0.001, in a box", "object", {"losses.distortion": 0.001}),
    ("--mirror mirror (masks)", "mirror", {"scene.mirror": "mirror"}),
    ("sampling.kind=coarse_to_fine, hash grid", "object", {"sampling.kind": "coarse_to_fine"}),
    ("field.hidden_width=64", "object", {"field.hidden_width": 64}),
    ("encoding.levels=16, features=2", "object", {"encoding.levels": 16, "encoding.features": 2}),
]
HEAD = "| preset or flag | scene | samples/s | machine |\n|---|---|---|---|"


def main() -> None:
    parser = argparse.ArgumentParser(description="What a sample costs with each preset and flag.")
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--threads", type=int)
    args = parser.parse_args()
    print(HEAD)
    for name, scene, changes in ROWS:
        config = with_overrides(Config(), {"machine.threads": args.threads, "training.clock": "cpu", "training.plateau": 1.0}
                                | changes | {"training.minutes": args.seconds / 60.0})
        print(row(name, ROOT / "data" / scene, config), flush=True)


def row(name: str, folder: Path, config: Config) -> str:
    """Trains, and tells the pace of the second half."""
    with trained(load_scene(folder, config.scene), config) as (run, steps, _):
        steps, threads = [step for step in steps if step.fraction >= 0.5], run.backend.threads
    seconds = steps[-1].seconds - steps[0].seconds
    pace = sum(step.samples for step in steps[1:]) / max(seconds, 1e-9)
    return f"| {name} | data/{folder.name} | {pace:,.0f} | {machine_line(threads)} |"


if __name__ == "__main__":
    main()
