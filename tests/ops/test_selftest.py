"""The self-test passes right kernels, here in the interpreter, and tells which op of a wrong backend is wrong."""

import json
import subprocess
import sys
import types

import pytest
import torch

from nerf_app.config import Config
from nerf_app.model import RadianceModel
from nerf_app.ops import backend, gpu_choice, selftest
from nerf_app.ops.backend import choose_backend
from tests.requires import requires

CPU = torch.device("cpu")


def modules(name):
    return backend.implementations(name)


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(selftest, "SIZE", 70)
    monkeypatch.setattr(selftest, "TIMED_SIZE", 70)


@requires("triton")
def test_the_triton_kernels_pass():
    assert selftest.failure("triton", modules("triton"), modules("reference"), CPU) is None


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


def test_whatever_a_kernel_raises_is_a_failure():
    def broken(_):
        raise OSError("no ptxas\nand more")
    assert selftest.failure("other", changed("adam", "adam_step", broken), modules("reference"), CPU) == (
        "fails its self-test (OSError: no ptxas)")


def test_whoever_passed_is_remembered_and_whoever_failed_is_asked_again(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    kept, answers = tmp_path / "nerf_app/backends.json", iter([("no room", 0.0), (None, 0.25), ("asked again", 0.0)])
    monkeypatch.setattr(gpu_choice, "_examined_apart", lambda name, device: next(answers))
    assert gpu_choice.examined("tcnn", CPU) == ("no room", 0.0) and not kept.exists()
    assert gpu_choice.examined("tcnn", CPU) == gpu_choice.examined("tcnn", CPU) == (None, 0.25)
    assert list(json.loads(kept.read_text()).values()) == [0.25]
    kept.write_text('{"a": [1]')
    assert gpu_choice.examined("tcnn", CPU)[0] == "asked again"


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


def test_its_field_has_the_default_widths():
    """What is compiled for the self-test is what a run with the defaults needs: its budget is not spent on compiling."""
    field = selftest.Numbers(CPU).field()
    nets = RadianceModel(Config(), True, choose_backend("reference", "cpu", 1)).fields[-1].nets
    for name in ("density", "colour"):
        assert [matrix.shape for matrix in getattr(field, name)] == [matrix.shape for matrix in getattr(nets, name)]
    assert len(field.levels) == len(nets.levels) and field.table.shape[1] == nets.table.shape[1]
