"""`doctor` tells what is here, what is missing and what it would bring, and never guesses."""

import json

import pytest

from nerf_app import cli, doctor
from nerf_app.errors import BackendUnavailable, ResourceError
from nerf_app.ops.backend import NAMES, choose_backend
from nerf_app.settings import MachineSettings


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
