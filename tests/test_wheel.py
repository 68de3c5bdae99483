"""The installed program is whole: built as a wheel, put into an empty environment, run outside the checkout."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

import nerf_app
from tests.requires import requires

ROOT = Path(__file__).resolve().parent.parent
pytestmark = pytest.mark.slow


def run(*command: str | Path, cwd: Path, **environment: str) -> str:
    """Output of a command that must succeed, run where the checkout cannot be seen."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "COVERAGE"))} | environment
    done = subprocess.run([str(part) for part in command], cwd=cwd, env=clean, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """As most people get it."""
    return build_wheel(tmp_path_factory)


@pytest.fixture(scope="module")
def wheel_without_compiler(tmp_path_factory) -> Path:
    """Built where the compiler fails."""
    return build_wheel(tmp_path_factory, CXX="/bin/false")


def build_wheel(tmp_path_factory, **environment: str) -> Path:
    """From a copy of what setup.py reads, with the setuptools that is here, so that no network is needed."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("nerf_app", "configs", "data"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__", "kernels.so", "build.log"))
    for name in ("setup.py", "pyproject.toml", "LICENSE", "README.md"):
        if (ROOT / name).exists():
            shutil.copy(ROOT / name, source)
    run(sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", out, source, cwd=out,
        **environment)
    return next(out.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    """The scripts folder of an environment with the wheel."""
    return install(wheel, tmp_path_factory)


def install(wheel: Path, tmp_path_factory) -> Path:
    """The scripts folder of an environment that holds the wheel and, behind it, sees the libraries of this one.

    A .pth file adds our site-packages as a mere folder: the .pth files in there, such as the one of an editable
    install that leads back to the checkout, stay asleep.
    """
    home = tmp_path_factory.mktemp("elsewhere")
    venv.create(home, with_pip=False, symlinks=True)
    python = home / "bin" / "python"
    packages = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=home).strip())
    (packages / "libraries.pth").write_text(f"{sysconfig.get_path('purelib')}\n{sysconfig.get_path('platlib')}\n")
    run(sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index", wheel, cwd=home)
    return home / "bin"


def test_the_wheel_holds_presets_scenes_and_licence_and_nothing_else(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names} == {"nerf_app", f"nerf_app-{nerf_app.__version__}.dist-info"}
    assert {f"nerf_app/configs/{path.name}" for path in (ROOT / "configs").glob("*.yaml")} <= set(names)
    scenes = {path for path in (ROOT / "data").rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    assert {f"nerf_app/data/{path.relative_to(ROOT / 'data').as_posix()}" for path in scenes} <= set(names)
    assert f"nerf_app-{nerf_app.__version__}.dist-info/licenses/LICENSE" in names


def test_it_runs_outside_the_checkout_as_a_program_and_as_a_module(installed, tmp_path):
    assert "train" in run(installed / "nerf-app", "--help", cwd=tmp_path)
    assert "train" in run(installed / "python", "-m", "nerf_app", "--help", cwd=tmp_path)
    where = run(installed / "python", "-c", "import nerf_app; print(nerf_app.__file__)", cwd=tmp_path)
    assert Path(where.strip()).is_relative_to(installed.parent)


def test_it_finds_its_presets(installed, tmp_path):
    settings = run(installed / "nerf-app", "doctor", "--settings", cwd=tmp_path)
    assert re.search(r"^training:", settings, re.MULTILINE)


def test_it_brings_the_scene_of_the_first_run(installed, tmp_path):
    lines = run(installed / "python", "-c", "import importlib.resources\n"
                "for entry in (importlib.resources.files('nerf_app.data') / 'object').iterdir(): print(entry.name)", cwd=tmp_path)
    assert "transforms_train.json" in lines.split()


BACKEND = "from nerf_app.ops.backend import choose_backend; print(choose_backend('auto', 'cpu', 1).why)"


def native_files(wheel: Path) -> set[str]:
    names = zipfile.ZipFile(wheel).namelist()
    return {name.removeprefix("nerf_app/ops/native/") for name in names if name.startswith("nerf_app/ops/native/")}


@requires("compiler")
def test_the_wheel_holds_the_kernels_and_what_they_are_made_of(wheel, installed, tmp_path):
    assert native_files(wheel) == {"__init__.py", "exponential.hpp", "native.hpp", "threads.cpp", "kernels.so"}
    kernels = {path.relative_to(ROOT).as_posix() for path in (ROOT / "nerf_app/ops").glob("*/kernel.cpp")}
    assert kernels <= set(zipfile.ZipFile(wheel).namelist())
    assert run(installed / "python", "-c", BACKEND, cwd=tmp_path).startswith("cpp on cpu")


@requires("compiler")
def test_a_wheel_built_without_a_compiler_computes_says_why_and_can_be_cured(wheel_without_compiler, tmp_path_factory, tmp_path):
    assert native_files(wheel_without_compiler) == {"__init__.py", "exponential.hpp", "native.hpp", "threads.cpp", "build.log"}
    installed = install(wheel_without_compiler, tmp_path_factory)
    why = run(installed / "python", "-c", BACKEND, cwd=tmp_path)
    assert why.startswith("reference on cpu") and "the compiler said: /bin/false ended with exit code 1" in why
    assert "cpp: not built" in run(installed / "nerf-app", "doctor", cwd=tmp_path)
    assert "this processor uses those for" in run(installed / "nerf-app", "doctor", "--build", cwd=tmp_path)
    assert run(installed / "python", "-c", BACKEND, cwd=tmp_path).startswith("cpp on cpu")
    assert not list((installed.parent).rglob("build.log"))
