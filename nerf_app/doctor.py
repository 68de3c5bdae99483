"""What this machine brings: versions, who computes and why others do not, threads, memory, speed, video.

Two variables of the environment serve whoever doubts the C++ kernels: NERF_APP_TARGET names the instructions they use
(baseline, avx2, avx512; otherwise the best that the processor has), NERF_APP_KERNELS another library of them.
"""

import importlib.metadata
import platform
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

import nerf_app
from nerf_app.config import Config
from nerf_app.errors import BackendUnavailable, NerfAppError, ResourceError
from nerf_app.export.video import write_video
from nerf_app.model import RadianceModel
from nerf_app.ops import native
from nerf_app.ops.backend import NAMES, Backend, choose_backend
from nerf_app.ops.build import LIBRARY, build
from nerf_app.rays import Rays
from nerf_app.sampling.draws import Draws
from nerf_app.settings import MachineSettings

LIBRARIES = {  # by their names in the package index
    "torch": "the arithmetic", "numpy": "arrays", "opencv-python-headless": "resizing and lens tests", "Pillow": "photos",
    "imageio": "EXR photos", "pillow-heif": "HEIF photos of phones", "msgspec": "reading scenes", "PyYAML": "settings",
    "safetensors": "scene files", "scikit-image": "SSIM", "av": "video", "rich": "the live display",
    "fast-simplification": "meshes in fewer faces", "xatlas": "textures with few seams",
}
TIMED_SECONDS = 2.0
TIMED_RAYS = 64  # through an untrained model, whose every cell counts as occupied


def report(machine: MachineSettings) -> tuple[dict[str, Any], list[str]]:
    """The findings for a program and for a person."""
    findings = examine(machine)
    return findings, list(lines(findings))


def examine(machine: MachineSettings) -> dict[str, Any]:
    """The findings, ready for JSON; a backend or device that was asked for by name and cannot run is an error."""
    ops = choose_backend(machine.backend, machine.device, machine.threads)
    total, available = memory(Path("/"))
    return {
        "nerf_app": nerf_app.__version__, "python": platform.python_version(), "system": platform.platform(),
        "libraries": [{"name": name, "version": version_of(name), "brings": brings} for name, brings in LIBRARIES.items()],
        "threads": ops.threads, "memory_bytes": total, "memory_available_bytes": available,
        "device": device_name(ops.device), "backend": ops.why,
        "backends": [{"name": name, "obstacle": obstacle(name, machine)} for name in NAMES], "target": target(),
        "samples_per_second": round(samples_per_second(ops, TIMED_SECONDS)), "video": video(),
    }


def lines(findings: dict[str, Any]) -> Iterator[str]:
    """The findings for a person."""
    yield f"nerf_app  {findings['nerf_app']}, Python {findings['python']}, {findings['system']}"
    have = ", ".join(f"{library['name']} {library['version']}" for library in findings["libraries"] if library["version"])
    yield f"libraries {have}"
    for library in findings["libraries"]:
        if not library["version"]:
            yield f"missing   {library['name']}, which brings {library['brings']}: pip install {library['name']}"
    available, total = (f"{findings[key] / 2**30:.1f} GiB" for key in ("memory_available_bytes", "memory_bytes"))
    yield f"machine   {findings['device']}, {findings['threads']} threads, memory {available} free of {total}"
    yield f"backend   {findings['backend']}"
    for backend in findings["backends"]:
        works = f"works, compiled for {findings['target']}" if backend["name"] == "cpp" else "works"
        yield f"          {backend['name']}: {backend['obstacle'] or works}"
    yield f"speed     {findings['samples_per_second']:,} samples a second, forward and backward"
    yield f"video     {findings['video'] or 'H.264 works'}"


def build_kernels() -> tuple[dict[str, Any], list[str]]:
    """Compiles the C++ kernels into the installed package and opens them: what came of it, as `report` tells it."""
    start = time.monotonic()
    try:
        failure = build(native.FOLDER)
    except OSError as error:
        raise ResourceError(f"cannot write in {native.FOLDER} ({error.strerror}): run this as the user who installed "
                            "nerf_app.") from None
    if failure:
        raise BackendUnavailable(f"the C++ kernels were not built: {failure}; install a C++17 compiler, or name one as in "
                                 "CXX=g++ nerf-app doctor --build.")
    native.library.cache_clear()
    path, seconds = native.FOLDER / LIBRARY, round(time.monotonic() - start, 1)
    line = f"kernels   {path}, built in {seconds:.0f} s; this processor uses those for {native.target()}"
    return {"kernels": str(path), "target": native.target(), "seconds": seconds}, [line]


def target() -> str | None:
    """The instructions that the C++ kernels use here; None where there are no kernels."""
    try:
        return native.target()
    except BackendUnavailable:
        return None


def version_of(library: str) -> str | None:
    """The installed version; None where it is missing."""
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        return None


def memory(root: Path) -> tuple[int, int]:
    """(total, available) bytes, as the kernel says in `root`/proc; 0 where it does not say."""
    try:
        words = [line.split() for line in (root / "proc/meminfo").read_text().splitlines()]
    except OSError:
        return 0, 0
    kilobytes = {word[0]: int(word[1]) for word in words}
    return kilobytes["MemTotal:"] * 1024, kilobytes["MemAvailable:"] * 1024


def device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{platform.machine()} processor, {torch.backends.cpu.get_cpu_capability()}"


def obstacle(name: str, machine: MachineSettings) -> str | None:
    """Why a backend cannot run here; None where it can."""
    try:
        choose_backend(name, machine.device, machine.threads)
    except NerfAppError as error:
        return str(error)
    return None


def samples_per_second(ops: Backend, seconds: float) -> float:
    """Samples that the default model renders and pulls gradients back through, in a second."""
    model = RadianceModel(Config(), True, ops)
    rays = rays_through_the_cube(ops)
    made, step, start = 0, 0, 0.0
    while step < 2 or time.perf_counter() - start < seconds:
        if step == 1:  # the first step warms up
            made, start = 0, time.perf_counter()
        for rendering in model.passes(rays, Draws(ops, 0, step)):
            rendering.rgb.sum().backward()
            made += rendering.weights.shape[0]
        model.parameters.gradients.sum().item()  # waits for the device
        step += 1
    return made / (time.perf_counter() - start)


def rays_through_the_cube(ops: Backend) -> Rays:
    """Parallel rays along -z, spread over the cube's face."""
    side = int(TIMED_RAYS**0.5)
    across = (torch.arange(side, device=ops.device) + 0.5) / side * 2.0 - 1.0
    x, y = torch.meshgrid(across, across, indexing="ij")
    origins = torch.stack([x, y, torch.full_like(x, 3.0)], -1).reshape(-1, 3)
    directions = torch.tensor([0.0, 0.0, -1.0], device=ops.device).expand_as(origins).contiguous()
    n_rays = len(origins)
    ones = torch.ones(n_rays, device=ops.device)
    return Rays(origins, directions, ones, ones.long() * 0, ones.bool())


def video() -> str | None:
    """Why no video can be written here; None where one can."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            write_video([np.zeros((16, 16, 3), np.uint8)] * 2, Path(folder) / "test.mp4", fps=24)
        except NerfAppError as error:
            return str(error)
    return None
