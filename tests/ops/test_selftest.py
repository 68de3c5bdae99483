"""The self-test passes right kernels, here in the interpreter, and tells which op of a wrong backend is wrong."""

import json
import types

import pytest
import torch

from nerf_app.ops import backend, gpu_choice, selftest
from tests.requires import requires

CPU = torch.device("cpu")


def modules(name):
    return {op: backend._implementation(op, name) for op in backend.OPS}


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


def test_what_was_found_is_kept_and_a_damaged_file_counts_as_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    ops = modules("reference")
    wrong, seconds = gpu_choice.examined("tcnn", ops, ops, CPU)
    assert wrong is None and seconds > 0
    assert list(json.loads((tmp_path / "nerf_app/backends.json").read_text()).values()) == [[None, seconds]]
    monkeypatch.setattr(selftest, "failure", lambda *_: "asked again")
    assert gpu_choice.examined("tcnn", ops, ops, CPU) == (None, seconds)
    (tmp_path / "nerf_app/backends.json").write_text('{"a": [1]')
    assert gpu_choice.examined("tcnn", ops, ops, CPU)[0] == "asked again"
