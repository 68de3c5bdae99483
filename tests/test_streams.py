"""Whoever reads what a command says: pipes that are closed early, streams that never were open, full disks, locales, Ctrl-C."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def test_a_reader_that_closes_the_pipe_early_is_no_fault():
    process = subprocess.Popen([sys.executable, "-m", "nerf_app", "doctor", "--settings"], cwd=ROOT, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE)
    process.stdout.close()
    assert (process.stderr.read(), process.wait(60)) == (b"", 0)
    process.stderr.close()


@pytest.mark.parametrize("closed", ["1", "2"])
def test_a_stream_that_was_closed_from_the_start_is_no_fault(closed):
    script = f"exec {closed}>&-; exec '{sys.executable}' -m nerf_app doctor --settings"
    done = subprocess.run(["sh", "-c", script], cwd=ROOT, capture_output=True, timeout=60)
    assert done.returncode == 0 and done.stderr == b"" and (closed == "1") == (done.stdout == b"")


def test_a_full_disk_behind_stdout_is_told_with_exit_code_4():
    with open("/dev/full", "w") as full_disk:
        done = subprocess.run([sys.executable, "-m", "nerf_app", "doctor", "--settings"], cwd=ROOT, stdout=full_disk,
                              stderr=subprocess.PIPE, timeout=60)
    assert done.returncode == 4 and b"disk is full" in done.stderr and done.stderr.count(b"\n") == 1


@pytest.mark.parametrize("env", [{"LANG": "C", "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
                                 {"PYTHONIOENCODING": "latin-1"}])
def test_any_name_can_be_told_in_any_locale(env):
    said = [sys.executable, "-W", "error", "-m", "nerf_app", "train", "x", "--preset", os.fsdecode(b"\xff \xe2\x80\xa6.yaml")]
    done = subprocess.run(said, cwd=ROOT, capture_output=True, text=True, env=os.environ | env, timeout=60)
    assert done.returncode == 2 and done.stdout == "" and done.stderr.count("\n") == 1


def test_an_interrupted_program_does_not_wait_for_its_threads():
    """Nor for Python to take everything apart, which took more than a second on a busy machine."""
    program = ("import os, signal, threading, time\nfrom nerf_app import cli\n"
               "threading.Thread(target=time.sleep, args=(60,)).start()\n"
               "cli.parse = lambda given: os.kill(os.getpid(), signal.SIGINT) or time.sleep(5)\ncli.main()")
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, cwd=ROOT)
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, "", "nerf-app: interrupted\n")
