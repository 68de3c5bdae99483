"""Which backend computes on a GPU: of those that can be loaded and pass the self-test, the faster.

Who passed is kept for each machine and version, so that a start costs no self-test but the first. Who failed is asked again: a
compiler may have been installed since, or memory was full.
"""

import functools
import hashlib
import json
import os
import subprocess
import sys
from contextlib import suppress
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from nerf_app.errors import first_line

PATIENCE = 300  # seconds for a self-test, which compiles all kernels: one that hangs must not keep anybody waiting
DRIVER = Path("/proc/driver/nvidia/version")
LIBRARIES = {"triton": ("triton",), "tcnn": ("tinycudann", "nerfacc")}  # whose versions matter
CURES = {"triton": "pip install triton", "tcnn": "it needs nvcc, at installation or at the first use"}


def cannot_load(name: str, device: torch.device) -> str | None:
    """Why a backend's library is of no use here, or None. Without a GPU it is not even touched: some then build, or crash."""
    if device.type != "cuda":
        return f"computes on an NVIDIA GPU, not on {device}"
    return next((failed for library in LIBRARIES[name] if (failed := _import_failure(library, CURES[name]))), None)


def is_there(name: str) -> bool:
    """Whether a backend's libraries, or one by its own name, can be loaded; asked only where there is a GPU."""
    return not any(_import_failure(library, CURES.get(name, "")) for library in LIBRARIES.get(name, (name,)))


@functools.cache
def cannot_compute(device: torch.device) -> str | None:
    """What torch says when it is to add two numbers on a device; it may be built for other GPUs, or this one be taken."""
    try:
        torch.ones(1, device=device).add_(1.0).item()
    except Exception as error:  # of the driver
        return first_line(error)
    return None


@functools.cache
def _import_failure(library: str, cure: str) -> str | None:
    try:
        import_module(library)
    except Exception as error:  # tinycudann raises OSError without a GPU, nerfacc AttributeError without nvcc
        return f"{library} cannot be loaded ({first_line(error)}): {cure}"
    return None


def examined(name: str, device: torch.device) -> tuple[str | None, float]:
    """What is wrong with a backend on this device, or None, and the seconds of a field step; as found before if it passed."""
    place, key = _cache_file(), _key(name, device)
    known = _read(place)
    if key in known:
        return None, known[key]
    wrong, seconds = _examined_apart(name, str(device))
    if wrong is None:
        _write(place, known | {key: seconds})
    return wrong, seconds


@functools.cache
def _examined_apart(name: str, device: str) -> tuple[str | None, float]:
    """The same by ops/selftest.py, in a process of its own."""
    root = str(Path(__file__).parents[2])  # from an unpacked checkout, too
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])}
    try:
        done = subprocess.run([sys.executable, "-m", "nerf_app.ops.selftest", name, device],  # noqa: S603 (ourselves, no shell)
                              capture_output=True, text=True, errors="replace", timeout=PATIENCE, env=environment, check=False)
    except subprocess.TimeoutExpired:
        return f"its self-test did not end in {PATIENCE} seconds", 0.0
    except OSError as error:
        return f"its self-test could not be started ({first_line(error)})", 0.0
    with suppress(ValueError, IndexError):
        wrong, seconds = json.loads(done.stdout.splitlines()[-1])
        return wrong, seconds
    said = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    return f"ended its self-test with code {done.returncode} ({said[-1] if said else 'without a word'})", 0.0


def _key(name: str, device: torch.device) -> str:
    """All that a finding depends on: GPU, driver's and libraries' versions, and our own texts."""
    sources = sorted(Path(__file__).parent.rglob("*.py"))
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()[:16]
    machine = str(device)
    if device.type == "cuda":
        machine = f"{torch.cuda.get_device_name(device)} {torch.cuda.get_device_capability(device)}"
    return " · ".join([name, machine, _driver(), f"torch {torch.__version__}", *map(_version, LIBRARIES[name]), digest])


def _driver() -> str:
    """What the GPU's driver says of its version."""
    try:
        return DRIVER.read_text(encoding="utf-8", errors="replace").splitlines()[0]
    except (OSError, IndexError):
        return "no driver that says its version"


def _version(library: str) -> str:
    try:
        return f"{library} {version(library)}"
    except PackageNotFoundError:
        return f"no {library}"


def _cache_file() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "nerf_app" / "backends.json"


def _read(place: Path) -> dict[str, float]:
    """Who passed before, and the seconds; what is not as we write it counts as nothing."""
    with suppress(OSError, ValueError):
        known = json.loads(place.read_text(encoding="utf-8"))
        if isinstance(known, dict):
            return {key: value for key, value in known.items() if isinstance(value, float)}
    return {}


def _write(place: Path, known: dict[str, float]) -> None:
    with suppress(OSError):  # without a place to keep it, it is found out again
        place.parent.mkdir(parents=True, exist_ok=True)
        partial = place.with_name(f".{place.name}.{os.getpid()}")
        partial.write_text(json.dumps(known, indent=1), encoding="utf-8")
        os.replace(partial, place)
