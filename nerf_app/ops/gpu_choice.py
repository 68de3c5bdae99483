"""Which backend computes on a GPU: of those that can be loaded and pass the self-test, the faster.

What was found is kept for each machine and version, so that a start costs no self-test but the first.
"""

import functools
import hashlib
import json
import os
from contextlib import suppress
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import ModuleType

import torch

LIBRARIES = {"triton": ("triton",), "tcnn": ("tinycudann", "nerfacc")}  # whose versions matter
CURES = {"triton": "pip install triton", "tcnn": "it needs nvcc, at installation or at the first use"}


def cannot_load(name: str, device: torch.device) -> str | None:
    """Why a backend's library is of no use here, or None. Without a GPU it is not even touched: some then build, or crash."""
    if device.type != "cuda":
        return f"computes on an NVIDIA GPU, not on {device}"
    return next((failed for library in LIBRARIES[name] if (failed := _import_failure(library, CURES[name]))), None)


def is_there(name: str) -> bool:
    """Whether a backend's library can be loaded; asked only where there is a GPU."""
    return not any(_import_failure(library, CURES[name]) for library in LIBRARIES[name])


@functools.cache
def _import_failure(library: str, cure: str) -> str | None:
    try:
        import_module(library)
    except Exception as error:  # tinycudann raises OSError without a GPU, nerfacc AttributeError without nvcc
        return f"{library} cannot be loaded ({type(error).__name__}: {error}): {cure}"
    return None


def examined(name: str, ops: dict[str, ModuleType], references: dict[str, ModuleType],
             device: torch.device) -> tuple[str | None, float]:
    """What is wrong with a backend on this device, or None, and the seconds of a field step; from the cache if it is there."""
    from nerf_app.ops.selftest import failure, seconds
    place, key = _cache_file(), _key(name, device)
    known = _read(place)
    if key not in known:
        wrong = failure(name, ops, references, device)
        known[key] = [wrong, 0.0 if wrong else seconds(ops, device)]
        _write(place, known)
    wrong, time = known[key]
    return wrong, time


def _key(name: str, device: torch.device) -> str:
    """All that a finding depends on: GPU, driver's and libraries' versions, and our own texts."""
    sources = sorted(Path(__file__).parent.rglob("*.py"))
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()[:16]
    machine = str(device)
    if device.type == "cuda":
        machine = f"{torch.cuda.get_device_name(device)} {torch.cuda.get_device_capability(device)}"
    return " · ".join([name, machine, f"torch {torch.__version__}", *map(_version, LIBRARIES[name]), digest])


def _version(library: str) -> str:
    try:
        return f"{library} {version(library)}"
    except PackageNotFoundError:
        return f"no {library}"


def _cache_file() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "nerf_app" / "backends.json"


def _read(place: Path) -> dict[str, list]:
    """What was found before; what is not as we write it counts as nothing."""
    with suppress(OSError, ValueError):
        known = json.loads(place.read_text(encoding="utf-8"))
        if isinstance(known, dict):
            return {key: value for key, value in known.items() if _is_finding(value)}
    return {}


def _is_finding(value: object) -> bool:
    return (isinstance(value, list) and len(value) == 2 and isinstance(value[0], str | None)
            and isinstance(value[1], int | float))


def _write(place: Path, known: dict[str, list]) -> None:
    with suppress(OSError):  # without a place to keep it, it is found out again
        place.parent.mkdir(parents=True, exist_ok=True)
        partial = place.with_name(f".{place.name}.{os.getpid()}")
        partial.write_text(json.dumps(known, indent=1), encoding="utf-8")
        os.replace(partial, place)
