"""What gpu_check.sh runs: parity, training and rendering, micro-benchmarks, each part in a process of its own, so that one that
fails, hangs or takes the GPU down with it costs nothing else. What matters most comes first: our own kernels, then those of
libraries that have to be built. Rows for benchmarks/RESULTS.md go to OUT/RESULTS.md as they come.
"""

import argparse
import datetime
import functools
import os
import subprocess
import sys
import time
import types
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
if "--dry" in sys.argv:
    os.environ["TRITON_INTERPRET"] = "1"  # before any kernel is imported

import torch

ROOT = Path(__file__).resolve().parent.parent
BUDGETS = (5.0, 20.0, 60.0)  # seconds of training
WARM_UP_STEPS = 40  # of a first run: all kernels are compiled then, and the time is the training's
SCORED = 25  # test photos at most
BUILD_SECONDS = 150  # for tinycudann, which has to be compiled
NERFACC_SECONDS = 100  # for nerfacc, which compiles itself when it is imported first
WHOLE_SECONDS = 580.0  # for everything


def main() -> None:
    args = arguments()
    args.out.mkdir(parents=True, exist_ok=True)
    if args.part is None:
        everything(args)
        return
    with open(args.out / "RESULTS.md", "a", encoding="utf-8") as file:
        for row in PARTS[args.part][0](args):
            tell(row, file)


def everything(args: argparse.Namespace) -> None:
    """All parts, one after the other; a row for each that failed, and how long it took."""
    end = time.monotonic() + WHOLE_SECONDS
    places = [str(ROOT), str(args.out / "nerfacc"), str(args.out / "tinycudann"), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(places)}
    with open(args.out / "RESULTS.md", "a", encoding="utf-8") as file:
        for name, (_, longest) in PARTS.items():
            tell(f"\n## {name}\n", file)
            start, allowed = time.monotonic(), min(longest, end - time.monotonic())
            failed = outcome([sys.executable, __file__, *sys.argv[1:], "--part", name], environment, allowed)
            if failed:
                tell(f"| {name} | FAILED | {failed} |", file)
            tell(f"\n{name}: {time.monotonic() - start:.0f} s", file)


def outcome(command: list[str], environment: dict[str, str], seconds: float) -> str | None:
    """What went wrong with a part, if anything did; what it says of errors goes on to stderr."""
    if seconds <= 0:
        return "no time left"
    try:
        done = subprocess.run(command, env=environment, timeout=seconds, stderr=subprocess.PIPE, text=True,  # noqa: S603 (ourselves)
                              errors="replace")
    except subprocess.TimeoutExpired:
        return f"not done in {seconds:.0f} s"
    sys.stderr.write(done.stderr)
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    return (lines[-1] if lines else f"ended with code {done.returncode}") if done.returncode else None


def tell(row: str, file: TextIO) -> None:
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
    parser.add_argument("--part", choices=PARTS, help="one part alone, in this process")
    args = parser.parse_args()
    if not args.dry and not torch.cuda.is_available():
        sys.exit("gpu_check needs an NVIDIA GPU and its driver, torch finds none: --dry goes through it on a CPU.")
    args.device, args.out = torch.device("cpu" if args.dry else "cuda"), args.out.resolve()
    return args


def libraries(args: argparse.Namespace) -> Iterator[str]:
    """Puts nerfacc and tinycudann into folders from which they can be imported; nothing is installed."""
    wanted = {"nerfacc": (args.nerfacc, NERFACC_SECONDS),
              "tinycudann": (args.tinycudann and args.tinycudann / "bindings/torch", BUILD_SECONDS)}
    yield "| library | |\n|---|---|"
    for name, (source, seconds) in wanted.items():
        if source is None:
            yield f"| {name} | not given |"
            continue
        place = str(args.out / name)
        put = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--no-build-isolation", "--target",
               place, str(source.resolve())]
        environment = dict(os.environ)
        failed = outcome(put, environment, seconds) or outcome([sys.executable, "-c", f"import {name}"], environment, seconds)
        yield f"| {name} | {failed or f'from {place}'} |"


def facts(args: argparse.Namespace) -> Iterator[str]:
    """Machine, versions, commit."""
    import triton
    try:
        commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout  # noqa: S607
    except OSError:  # a bare machine may lack git
        commit = ""
    gpu = "no GPU (--dry)" if args.dry else f"{torch.cuda.get_device_name()}, capability {torch.cuda.get_device_capability()}"
    yield (f"{datetime.date.today()}, {gpu}, torch {torch.__version__}, Triton {triton.__version__}, "
           f"Python {sys.version.split()[0]}, commit {commit.strip() or 'unknown'}")


def parity(name: str, args: argparse.Namespace) -> Iterator[str]:
    """Outputs and gradients of every op of a backend against the references, at odd sizes."""
    from nerf_app.ops import selftest
    yield "| backend | samples | parity |\n|---|---|---|"
    for size in (35, 70) if args.dry else (7, 777, 100_003):
        selftest.SIZE = size
        yield f"| {name} | {size} | {obstacle(name, args) or 'agrees'} |"


def obstacle(name: str, args: argparse.Namespace) -> str | None:
    """What is wrong with a backend here."""
    from nerf_app.ops import gpu_choice, selftest
    from nerf_app.ops.backend import implementations
    wrong = gpu_choice.cannot_load(name, args.device) if args.device.type == "cuda" or name == "tcnn" else None
    return wrong or selftest.failure(name, implementations(name), implementations("reference"), args.device)


def kernels(args: argparse.Namespace) -> Iterator[str]:
    """What memory does, and what the stages of a step take."""
    from gpu_measure import measurements
    yield from measurements(args.device, args.dry)


def golden(args: argparse.Namespace) -> Iterator[str]:
    """Files of numbers made by the real libraries."""
    from make_golden import write_golden
    yield from write_golden(args.out / "golden", args.device)


def settings(seconds: float | None, dry: bool) -> types.SimpleNamespace:
    """Settings by stage, as a Config has them: config.py reads YAML, for which a bare machine has no library. None: few steps."""
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
        training=TrainingSettings(minutes=seconds and seconds / 60, steps=None if seconds else WARM_UP_STEPS,
                                  samples_per_step=1 << 16))


def training(name: str, args: argparse.Namespace) -> Iterator[str]:
    """PSNR after each budget, milliseconds a step, and frames a second."""
    from gpu_scene import read_blender
    from nerf_app.ops import selftest
    from nerf_app.ops.backend import Backend, implementations
    selftest.SIZE = 35 if args.dry else selftest.SIZE
    if wrong := obstacle(name, args):
        yield f"{name}: {wrong}"
        return
    scene, ops = read_blender(args.data, 16 if args.dry else None), Backend(name, args.device, 1, name, **implementations(name))
    yield "| set | backend | seconds | PSNR | steps | ms a step | samples a step | frames/s of colour, whole pictures/s, size |"
    yield "|---|---|---|---|---|---|---|---|"
    most = 1 if args.dry else SCORED
    ways = [(seconds, True, True) for seconds in BUDGETS]
    comparisons = [(BUDGETS[0], False, True), (BUDGETS[0], True, False)]  # without graphs, and in space without bounds
    if args.dry or name != "triton":
        ways, comparisons = ways[:1], comparisons[1:] if name == "triton" else []
    ways += comparisons
    for is_bounded in () if args.dry else {bounded for _, _, bounded in ways}:
        trained(ops, scene, settings(None, False), is_bounded=is_bounded)
    for seconds, has_graphs, is_bounded in ways:
        model, last, samples, notes = trained(ops, scene, settings(seconds, args.dry), has_graphs, is_bounded)
        (psnr, pictures), colours, view = scored(model, scene, most), frames(model, scene, most), scene.views[0].camera
        yield (f"| {args.data.name} | {name}{'' if has_graphs else ', no graphs'}{'' if is_bounded else ', no bounds'} "
               f"| {last.seconds:.1f} | {psnr:.2f} | {last.step} | {1e3 * last.seconds / last.step:.2f} | {samples} "
               f"| {colours:.1f}, {pictures:.1f}, {view.width}×{view.height} |")
        yield from (f"\n{note}\n" for note in notes)


def trained(ops, scene, config, has_graphs: bool = True, is_bounded: bool = True) -> tuple:
    """A model, the event that ended its training, samples of the last step, and what was said on the way."""
    from nerf_app.model import RadianceModel
    from nerf_app.training.batches import PixelBatches
    from nerf_app.training.events import Note, Stepped
    from nerf_app.training.loop import Trainer, train
    from nerf_app.training.schedule import Budget
    trainer = Trainer(RadianceModel(config, is_bounded, ops), PixelBatches(scene, ops), None, config)
    trainer.has_graphs, samples, notes = has_graphs, 0, []
    for event in train(trainer, Budget(config.training, 1)):
        samples = event.samples if isinstance(event, Stepped) else samples
        notes += [event.text] if isinstance(event, Note) else []
    return trainer.model, event, samples, notes


def frames(model, scene, most: int) -> float:
    """Pictures a second of which colours alone come back, a byte each, as a video's encoder takes them."""
    from nerf_app.picture import GPU_CHUNK
    from nerf_app.rays import cast_rays
    from nerf_app.render import over
    from nerf_app.scene.lenses import CameraBatch
    device, spent = model.ops.device, []
    for view in scene.views[:most + 1]:
        start = time.perf_counter()
        cameras = CameraBatch.from_cameras([view.camera], device)
        pose = torch.tensor(scene.normalisation.pose_to_scene(view.world_from_camera)[None], device=device)
        pixels = torch.arange(view.camera.width * view.camera.height, device=device)
        with torch.no_grad():
            for chunk in pixels.split(GPU_CHUNK):
                x, y = chunk % view.camera.width + 0.5, chunk // view.camera.width + 0.5
                seen = model.render(cast_rays(cameras, pose, torch.zeros_like(chunk), x, y))
                (255.0 * over(seen, torch.ones(3, device=device)).clamp(0.0, 1.0) + 0.5).to(torch.uint8).cpu()
        spent.append(time.perf_counter() - start)
    return len(spent[1:]) / sum(spent[1:])  # the first one warms up


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


PARTS = {  # by name: what is done, and the seconds that it may take; what matters most comes first
    "facts": (facts, 60.0),
    "parity of triton": (functools.partial(parity, "triton"), 150.0),
    "training with triton": (functools.partial(training, "triton"), 270.0),
    "kernels": (kernels, 90.0),
    "libraries": (libraries, 2.0 * BUILD_SECONDS),
    "parity of tcnn": (functools.partial(parity, "tcnn"), 60.0),
    "golden files": (golden, 60.0),
    "training with tcnn": (functools.partial(training, "tcnn"), 90.0),
}

if __name__ == "__main__":
    main()
