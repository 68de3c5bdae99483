"""What a test needs beyond the installed package, by name. The only way to skip a test.

`@requires("compiler")` skips where there is none and says so; where NERF_APP_REQUIRE lists the name
("compiler,pycolmap"), the same test fails instead, so that a machine that should have it cannot pass without it.
"""

import importlib
import os
import shutil
import subprocess
import sys
import warnings

import pytest


def _program(*names: str) -> str | None:
    """None when one of the programs is on the PATH, else what is missing."""
    return None if any(shutil.which(name) for name in names) else f"no {' or '.join(names)} on the PATH"


def _module(name: str) -> str | None:
    """None when the module can really be imported (a library without its own libraries cannot), else why not."""
    try:
        with warnings.catch_warnings(action="ignore"):  # somebody else's; they are no reason to skip
            importlib.import_module(name)
    except Exception as error:  # tinycudann raises OSError without a GPU, nerfacc AttributeError
        return f"cannot import {name}: {error}"
    return None


def _package(name: str) -> str | None:
    """None when node finds the package of npm beside this Python, else how to get it there."""
    found = subprocess.run(["node", "-e", f"require('{name}')"], cwd=sys.prefix, capture_output=True)
    return None if found.returncode == 0 else f"no {name} for node: npm install --no-save --prefix {sys.prefix} {name}"


def _cuda() -> str | None:
    import torch
    return None if torch.cuda.is_available() else "torch sees no CUDA device"


def _on_cuda(module: str) -> str | None:
    return _cuda() or _module(module)


NEEDS = {
    "compiler": lambda: _program("c++", "g++", "clang++"),
    "chromium": lambda: _program("chromium", "chromium-browser", "google-chrome"),
    "node": lambda: _program("node"),
    "gltf-validator": lambda: _program("node") or _package("gltf-validator"),
    "pycolmap": lambda: _module("pycolmap"),
    "open3d": lambda: _module("open3d"),
    "triton": lambda: _module("triton"),
    "cuda": _cuda,
    "tinycudann": lambda: _on_cuda("tinycudann"),
    "nerfacc": lambda: _on_cuda("nerfacc"),
}


def missing(*names: str) -> dict[str, str]:
    """Of the names, those that are not here, each with the reason."""
    reasons = {name: NEEDS[name]() for name in names}
    return {name: reason for name, reason in reasons.items() if reason}


def requires(*names: str) -> pytest.MarkDecorator:
    """A mark for a test (or a module's `pytestmark`): all the names must be here; see tests/conftest.py for the rest."""
    unknown = set(names) - NEEDS.keys()
    if unknown:
        raise ValueError(f"requires() knows {', '.join(NEEDS)}; not {', '.join(sorted(unknown))}")
    return pytest.mark.requires(*names)


def demanded() -> set[str]:
    """The names in NERF_APP_REQUIRE."""
    return {name.strip() for name in os.environ.get("NERF_APP_REQUIRE", "").split(",")} - {""}


def skip_or_fail(names: tuple[str, ...]) -> None:
    """Ends the running test unless everything is here: skipped, or failed where NERF_APP_REQUIRE lists a missing name."""
    lacking = missing(*names)
    for name, reason in lacking.items():
        if name in demanded():
            pytest.fail(f"{name} is required here (NERF_APP_REQUIRE): {reason}", pytrace=False)
    if lacking:
        pytest.skip("; ".join(f"needs {name}: {reason}" for name, reason in lacking.items()))
