import math
from pathlib import Path

import pytest
import torch

from nerf_app.errors import BackendUnavailable, UsageError
from nerf_app.ops import backend, machine, native
from nerf_app.ops.backend import choose_backend
from nerf_app.ops.machine import available_threads, cpu_quota
from tests.requires import requires


@pytest.fixture(autouse=True)
def no_traces(monkeypatch):
    """Outside any environment, and with torch's threads as they were."""
    monkeypatch.delenv(backend.VARIABLE, raising=False)
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def no_library(monkeypatch):
    """As on a machine that had no compiler when nerf_app was installed."""
    def missing():
        raise BackendUnavailable("not built; at installation the compiler said: there is no C++ compiler")
    monkeypatch.setattr(native, "library", missing)


@requires("compiler")
def test_auto_takes_the_kernels_where_they_were_built():
    ops = choose_backend("auto", "cpu", 2)
    assert ops.why.startswith("cpp on cpu, 2 threads   (no triton: ")
    for op in backend.OPS:
        assert getattr(ops, op).__name__ == f"nerf_app.ops.{op}.cpp"


def test_auto_says_who_computes_where_and_why(no_library):
    ops = choose_backend("auto", "cpu", 2)
    assert (ops.name, ops.device, ops.threads) == ("reference", torch.device("cpu"), 2)
    assert torch.get_num_threads() == 2
    assert ops.why.startswith("reference on cpu, 2 threads   (no ")
    assert "no cpp: not built; at installation the compiler said: there is no C++ compiler" in ops.why


def test_every_op_of_the_backend_is_a_module_that_computes():
    ops = choose_backend("reference", "cpu", 1)
    assert ops.why == "reference on cpu, 1 thread   (asked for by name)"
    for op in backend.OPS:
        assert getattr(ops, op).__name__ == f"nerf_app.ops.{op}.reference"


def test_every_folder_of_an_op_is_listed():
    folders = {folder.parent.name for folder in Path(backend.__file__).parent.glob("*/reference.py")}
    assert folders == set(backend.OPS)


def test_threads_are_all_that_may_be_used_if_nobody_says():
    assert choose_backend("reference", "cpu").threads == available_threads() >= 1


@pytest.mark.parametrize("name, reason", [("cpp", "not built"), ("triton", "computes on an NVIDIA GPU, not on cpu"),
                                          ("tcnn", "computes on an NVIDIA GPU, not on cpu")])
def test_a_backend_that_cannot_run_is_not_replaced_by_another(name, reason, no_library):
    with pytest.raises(BackendUnavailable, match=f"backend {name} cannot run: {reason}.*; use --backend auto"):
        choose_backend(name, "cpu")


def test_the_environment_stands_in_for_auto_alone(monkeypatch, no_library):
    monkeypatch.setenv(backend.VARIABLE, "cpp")
    with pytest.raises(BackendUnavailable, match="or unset NERF_APP_BACKEND"):
        choose_backend("auto", "cpu")
    assert choose_backend("reference", "cpu").name == "reference"
    monkeypatch.setenv(backend.VARIABLE, "reference")
    assert choose_backend("auto", "cpu", 1).why == "reference on cpu, 1 thread   (NERF_APP_BACKEND)"
    monkeypatch.setenv(backend.VARIABLE, "quick")
    with pytest.raises(UsageError, match="got 'quick' from NERF_APP_BACKEND"):
        choose_backend("auto", "cpu")


@pytest.mark.parametrize("name, device", [("fast", "cpu"), ("auto", "gpu"), ("auto", "cuda:x"), ("auto", "cuda:"), ("auto", "")])
def test_what_cannot_be_meant_is_a_usage_error(name, device):
    with pytest.raises(UsageError, match="must be auto"):
        choose_backend(name, device)


@pytest.mark.parametrize("built_for, gpus, device, message", [
    (None, 0, "cuda", "needs a CUDA build of torch"), ("12.8", 0, "cuda", "needs an NVIDIA GPU and its driver"),
    ("12.8", 2, "cuda:2", "the last one is cuda:1")])
def test_a_device_that_is_not_there_is_refused_with_the_cure(monkeypatch, built_for, gpus, device, message):
    monkeypatch.setattr(torch.version, "cuda", built_for)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    with pytest.raises(BackendUnavailable, match=message):
        choose_backend("auto", device)


def files(root, contents):
    for path, text in contents.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    return root


V1 = "sys/fs/cgroup/cpu/cpu.cfs_"


@pytest.mark.parametrize("contents, cores", [
    ({}, math.inf),
    ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "max 100000\n"}, math.inf),
    ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "250000 100000\n"}, 2.5),
    ({"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/b/cpu.max": "400000 100000\n",
      "sys/fs/cgroup/a/cpu.max": "300000 100000\n"}, 3),
    ({"proc/self/cgroup": "5:memory:/x\n4:cpu,cpuacct:/jail\n0::/\n",
      V1 + "quota_us": "150000\n", V1 + "period_us": "100000\n"}, 1.5),
    ({"proc/self/cgroup": "4:cpu:/\n", V1 + "quota_us": "-1\n", V1 + "period_us": "100000\n"}, math.inf)])
def test_a_containers_limit_is_found_wherever_its_group_keeps_it(tmp_path, contents, cores):
    assert cpu_quota(files(tmp_path, contents)) == cores


@pytest.mark.parametrize("quota, threads", [(0.5, 1), (1.9, 1), (math.inf, None)])
def test_threads_are_whole_and_at_least_one(monkeypatch, quota, threads):
    monkeypatch.setattr(machine, "cpu_quota", lambda root: quota)
    unlimited = available_threads()
    assert unlimited == threads if threads else unlimited >= 1


def on_a_gpu(monkeypatch, findings):
    """As on a machine with a GPU where the libraries load and the self-test finds this: name -> (what is wrong, seconds)."""
    monkeypatch.setattr(torch.version, "cuda", "12.8")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)
    monkeypatch.setattr(backend.gpu_choice, "_import_failure", lambda library, cure: None)
    monkeypatch.setattr(backend.gpu_choice, "examined", lambda name, device: findings[name])
    monkeypatch.setattr(backend.gpu_choice, "cannot_compute", lambda device: None)


@requires("triton")
@pytest.mark.parametrize("findings, chosen", [
    ({"triton": (None, 0.1), "tcnn": (None, 0.2)}, "triton"), ({"triton": (None, 0.2), "tcnn": (None, 0.1)}, "tcnn"),
    ({"triton": ("fails", 0.0), "tcnn": (None, 0.1)}, "tcnn"), ({"triton": ("fails", 0.0), "tcnn": ("fails", 0.0)}, "reference")])
def test_of_those_that_pass_the_self_test_the_fastest_computes_on_a_gpu(monkeypatch, findings, chosen):
    on_a_gpu(monkeypatch, findings)
    ops = choose_backend("auto", "auto", 1)
    assert ops.name == chosen and ops.why.startswith(f"{chosen} on cuda")
    assert all(f"no {name}: fails" in ops.why for name, (wrong, _) in findings.items() if wrong)
    is_close = not any(wrong for wrong, _ in findings.values())
    times = ", ".join(f"{name} {1e3 * seconds:.2f} ms" for name, (_, seconds) in findings.items())
    assert (f"(a field step takes {times}; no cpp" in ops.why) == is_close


@requires("triton")
def test_a_kernel_that_fails_its_self_test_is_refused_by_name(monkeypatch):
    on_a_gpu(monkeypatch, {"triton": ("fails its self-test: adam", 0.0), "tcnn": (None, 1.0)})
    with pytest.raises(BackendUnavailable, match="backend triton cannot run: fails its self-test: adam; use --backend auto"):
        choose_backend("triton", "cuda")


@requires("triton")
def test_a_gpu_on_which_torch_cannot_compute_is_left_alone_or_refused(monkeypatch):
    on_a_gpu(monkeypatch, {"triton": ("fails", 0.0), "tcnn": ("fails", 0.0)})
    monkeypatch.setattr(backend.gpu_choice, "cannot_compute", lambda device: "AcceleratorError: no kernel image")
    ops = choose_backend("auto", "auto", 1)
    assert ops.device.type == "cpu" and ops.why.endswith("no cuda: torch cannot compute there, AcceleratorError: no kernel image")
    with pytest.raises(BackendUnavailable, match=r"cannot compute on device cuda \(.*no kernel image\): install one that"):
        choose_backend("auto", "cuda", 1)


def test_without_a_gpu_no_library_for_one_is_touched(monkeypatch):
    monkeypatch.setattr(backend.gpu_choice, "import_module", lambda name: pytest.fail(f"{name} was imported"))
    choose_backend("auto", "cpu", 1)


@pytest.mark.parametrize("error", [ImportError("no module"), OSError("no device"), AttributeError("_C"), RuntimeError("nvcc")])
def test_a_library_that_cannot_be_loaded_is_a_reason_not_a_crash(monkeypatch, error):
    def broken(name):
        raise error
    monkeypatch.setattr(backend.gpu_choice, "import_module", broken)
    backend.gpu_choice._import_failure.cache_clear()
    reason = backend.gpu_choice.cannot_load("tcnn", torch.device("cuda"))
    backend.gpu_choice._import_failure.cache_clear()
    assert reason.startswith(f"tinycudann cannot be loaded ({type(error).__name__}: {error}): it needs nvcc")
