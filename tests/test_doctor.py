"""`doctor` tells what is here, what is missing and what it would bring, and never guesses."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from nerf_app import cli, doctor
from nerf_app.errors import BackendUnavailable, ResourceError
from nerf_app.ops import native
from nerf_app.ops.backend import NAMES, choose_backend
from nerf_app.ops.build import LIBRARY, LOG
from nerf_app.settings import MachineSettings
from tests.requires import requires

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def quickly(monkeypatch):
    monkeypatch.setattr(doctor, "TIMED_SECONDS", 0.02)
    monkeypatch.setattr(doctor, "TIMED_RAYS", 4)


@pytest.fixture
def findings(quickly) -> dict:
    return doctor.examine(MachineSettings(threads=1, device="cpu", backend="reference"))


def test_the_findings_name_every_backend_and_why_it_does_not_run(findings):
    obstacles = {backend["name"]: backend["obstacle"] for backend in findings["backends"]}
    assert obstacles.keys() == set(NAMES) and obstacles["reference"] is None
    assert findings["backend"].startswith("reference on cpu, 1 thread")
    for name, obstacle in obstacles.items():
        if obstacle is not None:
            with pytest.raises(BackendUnavailable):
                choose_backend(name, "cpu", 1)


def test_the_findings_are_measured(findings):
    assert findings["samples_per_second"] > 0
    assert 0 < findings["memory_available_bytes"] <= findings["memory_bytes"]
    assert findings["video"] is None


def test_every_library_is_there_or_is_named_with_what_it_brings(findings, monkeypatch):
    assert all(library["version"] for library in findings["libraries"])
    monkeypatch.setitem(doctor.LIBRARIES, "no-such-library", "magic")
    again = doctor.examine(MachineSettings(threads=1, device="cpu"))
    assert again["libraries"][-1] == {"name": "no-such-library", "version": None, "brings": "magic"}
    assert "missing   no-such-library, which brings magic: pip install no-such-library" in doctor.lines(again)


def test_a_video_that_cannot_be_written_is_told_and_not_raised(monkeypatch):
    def refuse(*_, **__):
        raise ResourceError("the disk is full")
    monkeypatch.setattr(doctor, "write_video", refuse)
    assert doctor.video() == "the disk is full"


def test_a_system_that_tells_nothing_about_memory_is_no_fault(tmp_path):
    assert doctor.memory(tmp_path) == (0, 0)


def test_the_command_prints_lines_or_one_object(capsys):
    flags = ["--backend", "reference", "--device", "cpu", "--threads", "1"]
    assert cli.main(["doctor", *flags]) == 0
    words = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert {"nerf_app", "libraries", "machine", "backend", "speed", "video"} <= set(words)
    assert cli.main(["doctor", "--json", *flags]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["threads"] == 1 and err == ""


def test_a_backend_asked_for_by_name_that_cannot_run_ends_with_exit_code_5(capsys):
    assert cli.main(["doctor", "--device", "cuda:99"]) == 5
    assert capsys.readouterr().err.count("\n") == 1


# The C++ kernels.

@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """Where the kernels are looked for and built."""
    whole = native.FOLDER / LIBRARY
    monkeypatch.setattr(native, "FOLDER", tmp_path)
    for cached in (native.library, native._function):
        cached.cache_clear()
    yield tmp_path, whole
    for cached in (native.library, native._function):
        cached.cache_clear()


@requires("compiler")
def test_the_findings_say_what_the_kernels_were_compiled_for(findings):
    assert findings["target"] == native.target()
    assert f"          cpp: works, compiled for {native.target()}" in doctor.lines(findings)


def test_without_kernels_the_findings_say_why(elsewhere):
    (elsewhere[0] / LOG).write_text("a.cpp:7:1: error: boom\n")
    findings, lines = doctor.report(MachineSettings(threads=1, device="cpu"))
    assert findings["target"] is None
    (line,) = [line for line in lines if line.startswith("          cpp: ")]
    assert "error: boom" in line and "nerf-app doctor --build" in line


def test_a_build_that_fails_ends_with_exit_code_5_and_the_compilers_words(elsewhere, monkeypatch, capsys):
    monkeypatch.setenv("CXX", "/bin/false")
    assert cli.main(["doctor", "--build"]) == 5
    err = capsys.readouterr().err
    assert "the C++ kernels were not built: /bin/false ended with exit code 1; install a C++17 compiler" in err
    assert err.count("\n") == 1 and (elsewhere[0] / LOG).exists()


def test_a_build_into_a_folder_that_cannot_be_written_ends_with_exit_code_4(elsewhere, monkeypatch, capsys):
    def refuse(folder):
        raise PermissionError(13, "Permission denied")
    monkeypatch.setattr(doctor, "build", refuse)
    assert cli.main(["doctor", "--build"]) == 4
    assert f"cannot write in {elsewhere[0]} (Permission denied)" in capsys.readouterr().err


@requires("compiler")
def test_a_build_tells_where_the_kernels_are_and_what_computes_now(elsewhere, monkeypatch):
    folder, whole = elsewhere
    with pytest.raises(BackendUnavailable):
        native.library()
    monkeypatch.setattr(doctor, "build", lambda place: shutil.copy(whole, place) and None)  # tests/test_wheel.py compiles
    result, (line,) = doctor.build_kernels()
    assert (result["kernels"], result["target"]) == (str(folder / LIBRARY), native.target())
    assert line.startswith(f"kernels   {folder / LIBRARY}, built in ")


def test_building_and_writing_settings_do_not_go_together(capsys):
    assert cli.main(["doctor", "--build", "--settings"]) == 2
    assert "not allowed with" in capsys.readouterr().err


TRAP = "from pathlib import Path; Path(__file__).with_name({name!r} + '.touched').touch(); raise AttributeError('no device')"


def test_libraries_for_gpus_and_their_compiler_are_left_alone_without_a_gpu(tmp_path):
    """As with nvcc and nerfacc on a machine that has no GPU: one would build for minutes, another raise what it likes."""
    for name in ("nerfacc", "tinycudann"):
        (tmp_path / f"{name}.py").write_text(TRAP.format(name=name))
    nvcc = tmp_path / "nvcc"
    nvcc.write_text(f"#!/bin/sh\ntouch {tmp_path}/nvcc.touched\n")
    nvcc.chmod(0o755)
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}:{ROOT}", "PATH": f"{tmp_path}:{os.environ['PATH']}",
                                "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-m", "nerf_app", "doctor", "--json", "--threads", "1"], capture_output=True,
                          text=True, env=environment, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert {backend["name"] for backend in json.loads(done.stdout)["backends"] if backend["obstacle"]} >= {"triton", "tcnn"}
    assert not list(tmp_path.glob("*.touched"))
