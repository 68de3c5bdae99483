"""For every test: what it needs is here or it is skipped by name, seeds are fixed, and memory nobody wrote holds NaN."""

import os
import random
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

import nerf_app  # noqa: F401  (before any test imports torch: it keeps OpenMP threads from spinning on a busy machine)
from tests.requires import NEEDS, demanded, skip_or_fail

if TYPE_CHECKING:
    from nerf_app.scene.scene import Scene

os.environ["TRITON_INTERPRET"] = "1"  # read when kernels are imported: here they run on the CPU, GPU or not


def pytest_configure(config: pytest.Config) -> None:
    unknown = demanded() - NEEDS.keys()
    if unknown:
        raise pytest.UsageError(f"NERF_APP_REQUIRE may list {', '.join(NEEDS)}; not {', '.join(sorted(unknown))}")


def pytest_runtest_setup(item: pytest.Item) -> None:
    for mark in item.iter_markers("requires"):
        skip_or_fail(mark.args)


@pytest.fixture(autouse=True)
def seeds() -> None:
    """The same random numbers in every run and in any order of tests."""
    random.seed(0)
    np.random.seed(0)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)


@pytest.fixture(autouse=True)
def empty_is_nan(monkeypatch: pytest.MonkeyPatch) -> None:
    """`torch.empty` and its kin hand out NaN instead of whatever lay there, so that reading too early shows."""
    torch = sys.modules.get("torch")
    if torch is None:
        return
    for owner, name in ((torch, "empty"), (torch, "empty_like"), (torch.Tensor, "new_empty")):
        monkeypatch.setattr(owner, name, _filled_with_nan(getattr(owner, name)))


def _filled_with_nan(make):
    def make_filled(*args, **kwargs):
        tensor = make(*args, **kwargs)
        if not (tensor.is_floating_point() or tensor.is_complex()) or tensor.device.type == "meta":
            return tensor
        return tensor.detach().fill_(float("nan")).requires_grad_(tensor.requires_grad)
    return make_filled


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small Blender set."""
    from tests.sphere import sphere_scene, write_blender
    folder = tmp_path_factory.mktemp("photos")
    write_blender(sphere_scene(size=12), folder)
    return folder


@pytest.fixture(scope="module")
def scene(photos: Path) -> "Scene":
    """The same, loaded."""
    from nerf_app.scene.load import load_scene
    return load_scene(photos)
