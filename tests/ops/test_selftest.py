"""The self-test passes right kernels, here in the interpreter, and tells which op of a wrong backend is wrong."""

import json
import os
import subprocess
import sys
import types
from pathlib import Path

import pytest
import torch

from nerf_app.ops import backend, gpu_choice, selftest
from nerf_app.sampling.contraction import Space
from tests.requires import requires

CPU = torch.device("cpu")
ROOT = Path(__file__).resolve().parent.parent.parent


def modules(name):
    return backend.implementations(name)


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(selftest, "SIZE", 70)
    monkeypatch.setattr(selftest, "TIMED_SIZE", 70)


@requires("triton")
def test_the_triton_kernels_pass():
    assert selftest.failure("triton", modules("triton"), modules("reference"), CPU) is None


def test_its_spaces_are_those_of_scenes():
    points = 3.0 * torch.randn(300, 3)
    t = torch.linspace(0.0, 300.0, 500)
    for mine, space in ((selftest.Box(), Space(True)), (selftest.Everywhere(), Space(False))):
        s = space.lattice_at(t)
        assert torch.equal(mine.to_unit(points), space.to_unit(points)) and mine.is_bounded == space.is_bounded
        assert torch.equal(mine.lattice_at(t), s) and torch.equal(mine.distance_at(s), space.distance_at(s))
    assert selftest.Everywhere().lattice_length == Space(False).lattice_length


def changed(op, name, change):
    """The references but for one function, whose result is changed."""
    ops = modules("reference")
    right = getattr(ops[op], name)
    ops[op] = types.SimpleNamespace(**vars(ops[op]) | {name: lambda *args: change(right(*args))})
    return ops


class WrongGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, d_x):
        return 1.01 * d_x


@pytest.mark.parametrize("op, name, change", [
    ("hashgrid", "encode", lambda out: 1.01 * out), ("mlp", "mlp", WrongGradient.apply),
    ("composite", "render_weights", WrongGradient.apply), ("random", "philox", lambda words: words ^ 1),
    ("field_step", "see", lambda out: (WrongGradient.apply(out[0]), out[1]))])
def test_a_wrong_output_or_gradient_is_found_and_named(op, name, change):
    wrong = selftest.failure("other", changed(op, name, change), modules("reference"), CPU)
    assert wrong.startswith(f"fails its self-test: {op}, result ")


def test_half_numbers_are_judged_together():
    """A unit that float16 switches on or off shows in one number and is no fault of a kernel; a row that is missing is one."""
    truth = torch.randn(32, 32)
    flipped, missing = truth.clone(), truth.clone()
    flipped[3, 5] += 0.1 * truth.abs().max()
    missing[3] = 0.0
    judged = [selftest._apart("a", [found], [truth], selftest.HALF_TOLERANCE, selftest._norm) for found in (flipped, missing)]
    assert judged[0] is None and judged[1].startswith("a, result 0, is ")
    assert selftest._apart("a", [flipped], [truth], selftest.HALF_TOLERANCE) is not None


def test_whatever_a_kernel_raises_is_a_failure():
    def broken(_):
        raise OSError("no ptxas\nand more")
    assert selftest.failure("other", changed("adam", "adam_step", broken), modules("reference"), CPU) == (
        "fails its self-test (OSError: no ptxas)")


@pytest.mark.parametrize("error", [RuntimeError("Failed to find C compiler. Please specify"),
                                   subprocess.CalledProcessError(1, ["gcc"])])
def test_where_triton_cannot_launch_for_want_of_a_compiler_the_cure_is_named(error):
    def broken(_):
        raise error
    wrong = selftest.failure("other", changed("adam", "adam_step", broken), modules("reference"), CPU)
    assert type(error).__name__ in wrong and wrong.endswith("Python's headers, such as gcc and python3-dev")


def test_whoever_passed_is_remembered_and_whoever_failed_is_asked_again(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    kept, answers = tmp_path / "nerf_app/backends.json", iter([("no room", 0.0), (None, 0.25), ("asked again", 0.0)])
    monkeypatch.setattr(gpu_choice, "_examined_apart", lambda name, device: next(answers))
    assert gpu_choice.examined("tcnn", CPU) == ("no room", 0.0) and not kept.exists()
    assert gpu_choice.examined("tcnn", CPU) == gpu_choice.examined("tcnn", CPU) == (None, 0.25)
    assert list(json.loads(kept.read_text()).values()) == [0.25]
    kept.write_text('{"a": [1]')
    assert gpu_choice.examined("tcnn", CPU)[0] == "asked again"


def test_another_driver_or_library_is_asked_again(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(gpu_choice, "DRIVER", tmp_path / "version")
    answers = iter([(None, 0.25), (None, 0.5), (None, 0.75)])
    monkeypatch.setattr(gpu_choice, "_examined_apart", lambda name, device: next(answers))
    assert gpu_choice.examined("tcnn", CPU) == gpu_choice.examined("tcnn", CPU) == (None, 0.25)
    (tmp_path / "version").write_text("NVRM version: 580.1\nGCC version: 13")
    assert gpu_choice.examined("tcnn", CPU) == gpu_choice.examined("tcnn", CPU) == (None, 0.5)
    monkeypatch.setattr(gpu_choice, "_version", lambda library: f"{library} 2")
    assert gpu_choice.examined("tcnn", CPU) == (None, 0.75)


@requires("compiler")
def test_a_self_test_is_made_in_a_process_of_its_own():
    wrong, seconds = gpu_choice._examined_apart("cpp", "cpu")
    assert wrong is None and 0.0 < seconds < 10.0


@pytest.mark.parametrize("program, said", [
    ("import os; os.abort()", "ended its self-test with code -6 (without a word)"),
    ("import time; time.sleep(60)", "its self-test did not end in 2 seconds"),
    ("raise OSError('no driver')", "ended its self-test with code 1 (OSError: no driver)")])
def test_a_self_test_that_crashes_or_hangs_takes_nothing_with_it(monkeypatch, program, said):
    run = subprocess.run
    monkeypatch.setattr(gpu_choice, "PATIENCE", 2)
    monkeypatch.setattr(subprocess, "run", lambda command, **options: run([sys.executable, "-c", program], **options))
    gpu_choice._examined_apart.cache_clear()
    assert gpu_choice._examined_apart("triton", "cuda") == (said, 0.0)
    gpu_choice._examined_apart.cache_clear()


COMPILED = """
from nerf_app.ops import backend, selftest
from nerf_app.training.captured import CapturedStep
from tests.ops import assembly
assembly.JITFunction.run = assembly.record
ops, cpu, launched = backend.implementations("triton"), assembly.torch.device("cpu"), assembly.LAUNCHES
selftest.findings(ops, cpu)
selftest.half_findings(cpu, True)
before = set(launched)
launched.clear()
for is_bounded in (True, False):
    CapturedStep(assembly.default_trainer(is_bounded)).launch(0.1)
print(len(launched), [key for key in launched if key not in before])
"""


@pytest.mark.slow
@requires("triton")
def test_what_a_run_with_the_defaults_launches_was_compiled_for_the_self_test():
    """A budget is not spent on compiling: types, constants and alignments are the same."""
    done = subprocess.run([sys.executable, "-c", COMPILED], cwd=ROOT, capture_output=True, text=True,
                          env=os.environ | {"TRITON_INTERPRET": "0", "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    count, rest = done.stdout.split(maxsplit=1)
    assert int(count) > 12 and rest.strip() == "[]"
