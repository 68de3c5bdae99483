"""Who computes: chosen once, out loud. What was asked for by name runs or stops with the cure."""

import os
from dataclasses import dataclass, replace
from importlib import import_module
from types import ModuleType

import torch

from nerf_app.errors import BackendUnavailable, UsageError
from nerf_app.ops import gpu_choice, native
from nerf_app.ops.machine import available_threads

OPS = ("hashgrid", "mlp", "spherical_harmonics", "directional", "march", "composite", "field_step", "adam", "occupancy", "random",
       "raster", "lens")
NAMES = ("triton", "tcnn", "cpp", "reference")  # the order in which `auto` tries them
BESIDE = {"tcnn": ("triton", "nerfacc")}  # whose ops stand in where a backend has none; else the reference's
VARIABLE = "NERF_APP_BACKEND"


@dataclass(frozen=True)
class Backend:
    """The implementation of every op, and where and why it runs."""

    name: str
    device: torch.device
    threads: int
    why: str  # the line that is printed
    hashgrid: ModuleType
    mlp: ModuleType
    spherical_harmonics: ModuleType
    directional: ModuleType
    march: ModuleType
    composite: ModuleType
    field_step: ModuleType
    adam: ModuleType
    occupancy: ModuleType
    random: ModuleType
    raster: ModuleType
    lens: ModuleType


def choose_backend(name: str = "auto", device: str = "auto", threads: int | None = None) -> Backend:
    """The backend asked for, or the first that runs here; sets the number of threads torch computes with.

    Args:
        name: auto or one of NAMES; NERF_APP_BACKEND stands in for auto.
        device: auto, cpu, cuda or cuda:N.
        threads: None for all that this process may use.
    """
    asked, by = (name, "asked for by name") if name != "auto" else (os.environ.get(VARIABLE) or "auto", VARIABLE)
    if asked not in ("auto", *NAMES):
        raise UsageError(f"a backend must be auto, {', '.join(NAMES)}; got {asked!r}"
                         + (f" from {VARIABLE}" if by == VARIABLE else ""))
    place = _find_device(device)
    considered = NAMES if asked == "auto" else (asked,)  # a self-test is not made for nothing
    obstacles = {other: obstacle for other in considered if (obstacle := _obstacle(other, place))}
    if asked in obstacles:
        raise BackendUnavailable(f"backend {asked} cannot run: {obstacles[asked]}; use --backend auto or reference"
                                 + (f", or unset {VARIABLE}" if by == VARIABLE else ""))
    able = [other for other in considered if other not in obstacles]
    chosen = _best(able, place)
    if place.type == "cuda" and (failed := gpu_choice.cannot_compute(place)):  # asked last: it takes hold of the GPU
        if device != "auto":
            raise BackendUnavailable(f"torch {torch.__version__} cannot compute on device {device} ({failed}): install one that "
                                     "is built for this GPU and driver, or use --device cpu")
        instead = choose_backend(name, "cpu", threads)
        return replace(instead, why=f"{instead.why}; no cuda: torch cannot compute there, {failed}")
    threads = threads or available_threads()
    torch.set_num_threads(1 if chosen == "cpp" else threads)  # beside the kernels torch has small things to do only
    if chosen == "cpp":
        native.set_threads(threads)
    if place.type == "cuda":
        torch.cuda.set_device(place.index or 0)  # where Triton launches
    missing = [f"no {other}: {obstacle}" for other, obstacle in obstacles.items()]
    reason = by if asked != "auto" else "; ".join(_times(able, place) + missing)
    why = f"{chosen} on {place}, {threads} thread{'s' if threads > 1 else ''}   ({reason})"
    return Backend(chosen, place, threads, why, **implementations(chosen))


def _obstacle(name: str, device: torch.device) -> str | None:
    """Why a backend cannot run here, or None."""
    if name in gpu_choice.LIBRARIES:
        return gpu_choice.cannot_load(name, device) or gpu_choice.examined(name, device)[0]
    if name != "cpp":
        return None
    if device.type != "cpu":
        return f"computes on the CPU, not on {device}"
    try:
        native.target()
    except BackendUnavailable as error:
        return str(error)
    return None


def _best(able: list[str], device: torch.device) -> str:
    """Of the backends that are able, in their order, the first; of those for GPUs the fastest."""
    for_gpus = [name for name in able if name in gpu_choice.LIBRARIES]
    return min(for_gpus, key=lambda name: gpu_choice.examined(name, device)[1]) if for_gpus else able[0]


def _times(able: list[str], device: torch.device) -> list[str]:
    """What decided between several for GPUs."""
    times = {name: 1e3 * gpu_choice.examined(name, device)[1] for name in able if name in gpu_choice.LIBRARIES}
    return ["a field step takes " + ", ".join(f"{name} {time:.2f} ms" for name, time in times.items())] if len(times) > 1 else []


def implementations(name: str) -> dict[str, ModuleType]:
    """Every op's module of a backend."""
    return {op: _implementation(op, name) for op in OPS}


def _implementation(op: str, name: str) -> ModuleType:
    """An op's module of this backend, or else of the next one that has one and runs in the same place."""
    table = _contract(op).IMPLEMENTATIONS
    beside = [other for other in BESIDE.get(name, ()) if gpu_choice.is_there(other)]
    return table[next(other for other in (name, *beside, "reference") if other in table)]()


def _contract(op: str) -> ModuleType:
    return import_module(f"nerf_app.ops.{op}")


def _find_device(asked: str) -> torch.device:
    """The device, known to be there."""
    kind, _, number = asked.partition(":")
    if asked not in ("auto", "cpu", "cuda") and not (kind == "cuda" and number.isdecimal()):
        raise UsageError(f"a device must be auto, cpu, cuda or cuda:N; got {asked!r}")
    if asked == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if kind == "cuda":
        _require_cuda(asked, int(number or 0))
    return torch.device(asked)


def _require_cuda(asked: str, number: int) -> None:
    if torch.version.cuda is None:
        raise BackendUnavailable(f"device {asked} needs a CUDA build of torch, this one is {torch.__version__}: "
                                 "install one, or use --device cpu")
    if not torch.cuda.is_available():
        raise BackendUnavailable(f"device {asked} needs an NVIDIA GPU and its driver, torch finds none: use --device cpu")
    if number >= torch.cuda.device_count():
        raise BackendUnavailable(f"device {asked} is not there, the last one is cuda:{torch.cuda.device_count() - 1}: use that")
