"""What gpu_check.sh runs: parity, micro-benchmarks, training and rendering, each part for itself, so that one that fails costs
nothing else. Rows for benchmarks/RESULTS.md go to OUT/RESULTS.md as they come.
"""

import argparse
import datetime
import os
import subprocess
import sys
import time
import traceback
import types
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
if "--dry" in sys.argv:
    os.environ["TRITON_INTERPRET"] = "1"  # before any kernel is imported

import torch

BUDGETS = (5.0, 20.0, 60.0)  # seconds of training
SCORED = 25  # test photos at most
BUILD_SECONDS = 150  # for tinycudann, which has to be compiled


def main() -> None:
    args = arguments()
    args.out.mkdir(parents=True, exist_ok=True)
    sys.path[:0] = [str(place) for place in libraries(args)]
    from gpu_measure import measurements
    parts = [("facts", facts), ("parity", parity), ("kernels", lambda args: measurements(args.device, args.dry)),
             ("golden files", golden), ("training", training)]
    with open(args.out / "RESULTS.md", "a", encoding="utf-8") as file:
        for name, part in parts:
            for row in attempted(name, part, args):
                print(row, flush=True)
                file.write(row + "\n")
                file.flush()


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Everything to be known on a machine with an NVIDIA GPU.")
    parser.add_argument("data", type=Path, help="a Blender set")
    parser.add_argument("out", type=Path, help="for RESULTS.md and golden files")
    parser.add_argument("--nerfacc", type=Path, metavar="WHEEL")
    parser.add_argument("--tinycudann", type=Path, metavar="SOURCE")
    parser.add_argument("--dry", action="store_true", help="on a CPU, very small")
    args = parser.parse_args()
    if not args.dry and not torch.cuda.is_available():
        sys.exit("gpu_check needs an NVIDIA GPU and its driver, torch finds none: --dry goes through it on a CPU.")
    args.device = torch.device("cpu" if args.dry else "cuda")
    return args


def attempted(name: str, part: Callable[[argparse.Namespace], Iterator[str]], args: argparse.Namespace) -> Iterator[str]:
    """The part's rows, and a row for how it failed or how long it took."""
    start = time.monotonic()
    yield f"\n## {name}\n"
    try:
        yield from part(args)
    except Exception as error:  # whatever it is: the other parts want to be known as well
        traceback.print_exc()
        yield f"| {name} | FAILED | {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''} |"
    yield f"\n{name}: {time.monotonic() - start:.0f} s"


def libraries(args: argparse.Namespace) -> Iterator[Path]:
    """Folders from which nerfacc and tinycudann can be imported; nothing is installed."""
    wanted = {"nerfacc": (args.nerfacc, 30),
              "tinycudann": (args.tinycudann and args.tinycudann / "bindings/torch", BUILD_SECONDS)}
    for name, (source, seconds) in wanted.items():
        if source is None:
            continue
        place = args.out / name
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--no-build-isolation",
                   "--target", str(place), str(source)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=seconds)  # noqa: S603 (the person's own)
            said = done.stderr.strip().splitlines()[-1:] if done.returncode else []
        except subprocess.TimeoutExpired:
            said = [f"not built in {seconds} s"]
        print(f"{name}: {said[0] if said else f'from {place}'}", flush=True)
        yield place


def facts(args: argparse.Namespace) -> Iterator[str]:
    """Machine, versions, commit."""
    import triton
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True)  # noqa: S607
    gpu = "no GPU (--dry)" if args.dry else f"{torch.cuda.get_device_name()}, capability {torch.cuda.get_device_capability()}"
    yield (f"{datetime.date.today()}, {gpu}, torch {torch.__version__}, Triton {triton.__version__}, "
           f"Python {sys.version.split()[0]}, commit {commit.stdout.strip() or 'unknown'}")


def backends(device: torch.device) -> dict[str, str | None]:
    """The backends there are for a GPU, each with what is wrong with it."""
    from nerf_app.ops import gpu_choice, selftest
    from nerf_app.ops.backend import OPS, _implementation
    found = {}
    for name in gpu_choice.LIBRARIES:
        wrong = gpu_choice.cannot_load(name, device) if device.type == "cuda" or name == "tcnn" else None
        modules = [{op: _implementation(op, which) for op in OPS} for which in (name, "reference")] if wrong is None else []
        found[name] = wrong or selftest.failure(name, *modules, device)
    return found


def parity(args: argparse.Namespace) -> Iterator[str]:
    """Outputs and gradients of every op of every backend against the references, at three odd sizes."""
    from nerf_app.ops import selftest
    yield "| backend | samples | parity |\n|---|---|---|"
    for size in (35, 70) if args.dry else (7, 777, 100_003):
        selftest.SIZE = size
        for name, wrong in backends(args.device).items():
            yield f"| {name} | {size} | {wrong or 'agrees'} |"


def golden(args: argparse.Namespace) -> Iterator[str]:
    """Files of numbers made by the real libraries."""
    from make_golden import write_golden
    yield from write_golden(args.out / "golden", args.device)


def settings(seconds: float, dry: bool) -> types.SimpleNamespace:
    """Settings by stage, as a Config has them: config.py reads YAML, for which a bare machine has no library."""
    from nerf_app.fields.settings import FieldSettings, FrequencySettings, HashGridSettings
    from nerf_app.sampling.settings import SamplingSettings
    from nerf_app.scene.settings import SceneSettings
    from nerf_app.settings import MachineSettings
    from nerf_app.training.settings import LossSettings, PhotoSettings, TrainingSettings
    stages = {"scene": SceneSettings(), "machine": MachineSettings(), "frequency": FrequencySettings(), "photos": PhotoSettings(),
              "losses": LossSettings()}
    if dry:
        return types.SimpleNamespace(
            **stages, field=FieldSettings(hidden_width=16), sampling=SamplingSettings(steps=32, grid_resolution=8),
            encoding=HashGridSettings(levels=2, finest=24, log2_entries=12),
            training=TrainingSettings(minutes=None, steps=2, samples_per_step=1024))
    return types.SimpleNamespace(
        **stages, field=FieldSettings(), sampling=SamplingSettings(steps=1024),
        encoding=HashGridSettings(log2_entries=19, finest=2048),
        training=TrainingSettings(minutes=seconds / 60, samples_per_step=1 << 16))


def training(args: argparse.Namespace) -> Iterator[str]:
    """PSNR after each budget, milliseconds a step, and frames a second."""
    from gpu_scene import read_blender
    from nerf_app.model import RadianceModel
    from nerf_app.ops import backend
    from nerf_app.training.batches import PixelBatches
    from nerf_app.training.loop import Trainer, train
    from nerf_app.training.schedule import Budget
    scene = read_blender(args.data, 16 if args.dry else None)
    yield "| set | backend | seconds | PSNR | steps | ms a step | samples a step | frames/s, size |"
    yield "|---|---|---|---|---|---|---|---|"
    for name in [name for name, wrong in backends(args.device).items() if wrong is None]:
        modules = {op: backend._implementation(op, name) for op in backend.OPS}
        ops = backend.Backend(name, args.device, 1, name, **modules)
        for seconds in BUDGETS[:1] if args.dry or name != "triton" else BUDGETS:
            config = settings(seconds, args.dry)
            trainer = Trainer(RadianceModel(config, True, ops), PixelBatches(scene, ops), None, config)
            *_, before, last = train(trainer, Budget(config.training, 1))
            psnr, frames = scored(trainer.model, scene, 1 if args.dry else SCORED)
            view = scene.views[0].camera
            yield (f"| {args.data.name} | {name} | {last.seconds:.1f} | {psnr:.2f} | {last.step} "
                   f"| {1e3 * last.seconds / last.step:.2f} | {before.samples} | {frames:.1f}, {view.width}×{view.height} |")


def scored(model, scene, most: int) -> tuple[float, float]:
    """Mean PSNR in front of white over some test photos, and pictures a second."""
    import numpy as np

    from nerf_app.picture import render_picture
    from nerf_app.training.metrics import psnr
    from nerf_app.training.validation import on_white
    indices = scene.indices("test")
    scores, spent = [], 0.0
    for index in indices[::max(len(indices) // most, 1)][:most]:
        view = scene.views[index]
        start = time.perf_counter()
        picture = render_picture(model, view.camera, scene.normalisation.pose_to_scene(view.world_from_camera))
        spent += time.perf_counter() - start
        scores.append(psnr(picture.rgb, on_white(scene.photos.picture(index)[0])))
    return float(np.mean(scores)), len(scores) / spent


if __name__ == "__main__":
    main()
