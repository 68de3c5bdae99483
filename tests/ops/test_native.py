"""The compiled library: every target, any number of threads, any memory, forked, broken or missing."""

import os
import re
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch

from nerf_app import checkpoint
from nerf_app import run as runs
from nerf_app.errors import BackendUnavailable
from nerf_app.ops import (
    adam,
    composite,
    directional,
    field_step,
    hashgrid,
    lens,
    march,
    mlp,
    native,
    occupancy,
    random,
    raster,
    spherical_harmonics,
)
from nerf_app.ops.backend import choose_backend
from nerf_app.ops.build import LIBRARY, LOG, build, compile_library, find_compiler, targets
from nerf_app.ops.hashgrid import level_table
from nerf_app.sampling.contraction import Space
from nerf_app.sampling.samples import Samples
from nerf_app.training.events import Note
from tests.ops.test_composite import random_samples
from tests.ops.test_field_step import random_field, random_rays, seen_by
from tests.ops.test_lens import some_pixels
from tests.ops.test_march import some_cells, some_rays
from tests.ops.test_mlp import a_net
from tests.ops.test_occupancy import some_visits
from tests.ops.test_raster import soup
from tests.ops.test_spherical_harmonics import some_directions
from tests.parity import assert_close, value_and_gradients
from tests.requires import requires
from tests.sphere import small_config, sphere_scene

pytestmark = requires("compiler")

ROOT = Path(__file__).resolve().parents[2]
LEVELS = {dimensions: level_table(4, 4, 60, 12, dimensions) for dimensions in (2, 3)}
_, FIELD_LEVELS = random_field()
MANY = 5000  # samples: enough for several tasks of every kernel


# Every kernel: which op it belongs to, what is called, and its inputs for about n samples.

def grid_inputs(n, dimensions, features):
    rows = LEVELS[dimensions][-1].first + LEVELS[dimensions][-1].entries
    return {"x": torch.rand(n, dimensions), "table": torch.randn(rows, features)}


def weighted(n, unused=3):
    samples = random_samples(n // 20 + 1, n, unused)
    return {"weights": torch.rand(n + unused) / 10, **samples}


def march_inputs(n):
    return some_rays(n // 10, torch.float32) | {"occupied": some_cells()}


def march_through(module, is_bounded, **rays):
    marched = module.march(**rays, step=0.03, space=Space(is_bounded), max_samples=MANY)
    return tuple(vars(marched).values())


def field_inputs(n):
    field, _ = random_field()
    origins, directions, samples = random_rays(n // 20 + 1, n)
    return field | {"rays": torch.cat([origins, directions], 1), "t": torch.stack([samples.t_starts, samples.t_ends])
                    } | {name: getattr(samples, name) for name in ("ray_indices", "ray_starts", "ray_counts")}


def seen_along(module, rays, t, ray_indices, ray_starts, ray_counts, **field):
    packed = Samples(*t.detach(), ray_indices, ray_starts, ray_counts, len(rays))
    return seen_by(module, (*rays.detach().split(3, 1), packed), Space(True), FIELD_LEVELS, True)(**field)


def drawn(module, **triangles):
    return tuple(vars(module.rasterise(**triangles, height=150, width=70)).values())


def refreshed(module, grid, cells, densities):
    grid = grid.detach().clone()
    module.refresh(grid, cells, densities)
    return grid


def moved(module, **state):
    state = {name: value.detach().clone() for name, value in state.items()}
    module.adam_step(**state, step=3, learning_rate=1e-2, table_size=len(state["parameters"]) // 2)
    return tuple(state.values())


def straightened(module, **given):
    return module.straighten(**{name: value.detach() for name, value in given.items()})


KERNELS = {
    "hash grid": (hashgrid, lambda module, **given: module.encode(**given, levels=LEVELS[3]), lambda n: grid_inputs(n, 3, 4)),
    "hash grid of a plane": (hashgrid, lambda module, **given: module.encode(**given, levels=LEVELS[2]),
                             lambda n: grid_inputs(n, 2, 2)),
    "its Jacobian": (hashgrid, lambda module, **given: module.encode_with_jacobian(**given, levels=LEVELS[3]),
                     lambda n: grid_inputs(n, 3, 4)),
    "pulled through the grid": (hashgrid, lambda module, x, **given: module.pull_back(x.detach(), **given, levels=LEVELS[3]),
                                lambda n: grid_inputs(n, 3, 4) | {"d_features": torch.randn(n, 16)}),
    "net": (mlp, lambda module, **given: module.mlp(**given, biases=None), lambda n: a_net(n, [32, 64, 64, 16])),
    "net with biases": (mlp, lambda module, **given: module.mlp(**given), lambda n: a_net(n, [33, 20, 3], has_biases=True)),
    "harmonics": (spherical_harmonics, lambda module, **given: module.spherical_harmonics(**given),
                  lambda n: {"directions": some_directions(n).float()}),
    "pulled back": (mlp, lambda module, **given: module.pull_back(**given, biases=None),
                    lambda n: a_net(n, [32, 64, 16]) | {"d_y": torch.randn(n, 16)}),
    "lobes": (directional, lambda module, **given: module.encode(**given),
              lambda n: {"directions": some_directions(n).float(), "spread": torch.rand(n) / 10}),
    "weights": (composite, lambda module, **given: module.render_weights(**given, n_rays=MANY),
                lambda n: random_samples(n // 20 + 1, n)),
    "sums": (composite, lambda module, **given: module.accumulate(**given, n_rays=MANY),
             lambda n: {"weights": torch.rand(n), "values": torch.randn(n, 3), "ray_indices": torch.arange(n) // 20}),
    "distances": (composite, lambda module, density, **given: module.distance_of_light(**given, n_rays=MANY, part=0.5), weighted),
    "distortion": (composite, lambda module, density, weights, t_starts, t_ends, ray_indices: module.distortion(
        weights, t_starts, t_ends, ray_indices, n_rays=MANY), partial(weighted, unused=0)),
    "field step": (field_step, seen_along, field_inputs),
    "march": (march, partial(march_through, is_bounded=True), march_inputs),
    "march without bounds": (march, partial(march_through, is_bounded=False), march_inputs),
    "refresh": (occupancy, refreshed, lambda n: dict(zip(("grid", "cells", "densities"), some_visits(n, size=48)))),
    "marks": (occupancy, lambda module, grid: module.mark(grid.detach(), 0.2), lambda n: {"grid": some_visits(n, size=48)[0]}),
    "adam": (adam, moved, lambda n: {name: torch.rand(20 * n) for name in ("parameters", "first", "second")}
             | {"gradients": torch.randn(20 * n) * (torch.rand(20 * n) < 0.3)}),
    "random words": (random, lambda module, indices: module.philox(3, 1, 77, indices), lambda n: {"indices": torch.arange(n)}),
    "random numbers": (random, lambda module, indices: module.uniform(3, 1, 77, indices), lambda n: {"indices": torch.arange(n)}),
    "lens": (lens, straightened, some_pixels),
    "raster": (raster, drawn, lambda n: dict(zip(("corners", "faces"), soup(n, size=100.0)))),
}
each_kernel = pytest.mark.parametrize("name", KERNELS)


def computed(name, inputs, backend="cpp", around=lambda value: value):
    """Outputs and gradients of a kernel; `around` is put around all inputs and outputs, inside of the differentiation."""
    op, fn, _ = KERNELS[name]

    def call(**given):
        given = {key: [around(part) for part in value] if isinstance(value, list) else around(value)
                 for key, value in given.items()}
        outputs = fn(op.IMPLEMENTATIONS[backend](), **given)
        return tuple(around(output) for output in (outputs if isinstance(outputs, tuple) else (outputs,)))
    return value_and_gradients(call, inputs)


def assert_same_bits(values, truth):
    assert values.keys() == truth.keys()
    for key, value in truth.items():
        assert value.contiguous().numpy().tobytes() == values[key].contiguous().numpy().tobytes(), key


@pytest.fixture(autouse=True)
def one_thread():
    library, threads = native.library(), torch.get_num_threads()
    library.nerf_set_threads(1)
    yield
    library.nerf_set_threads(1)
    torch.set_num_threads(threads)


def test_every_kernel_is_under_test():
    names = {re.match(r"KERNEL\((\w+)\)", line)[1] for path in (ROOT / "nerf_app/ops").glob("*/kernel.cpp")
             for line in path.read_text().splitlines() if line.startswith("KERNEL(")}
    asked = set()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(native, "_function", lambda kernel, known=native._function: asked.add(kernel) or known(kernel))
        for name, (_, _, inputs) in KERNELS.items():
            computed(name, inputs(40))
    assert asked == names


# Threads.

@each_kernel
def test_one_two_and_three_threads_give_the_same_bits(name):
    inputs = KERNELS[name][2](MANY)
    truth = computed(name, inputs)
    for threads in (2, 3, 3):
        native.set_threads(threads)
        assert_same_bits(computed(name, inputs), truth)


def test_a_training_gives_the_same_bits_with_one_two_and_three_threads(tmp_path):
    scene, found = sphere_scene(n_views=6, size=20), []
    for threads in (1, 2, 3):
        config = small_config(20, {"machine.threads": threads, "machine.backend": "cpp", "training.samples_per_step": 8192})
        for _ in runs.train_events(scene, config, tmp_path / str(threads)):
            pass
        found.append(checkpoint.load(tmp_path / str(threads))[0])
    for tensors in found[1:]:
        assert_same_bits(tensors, found[0])


FORK = """
import os, signal, sys, threading
import torch
from nerf_app.ops import native
from nerf_app.ops.random import cpp

torch.set_num_threads(1)
native.set_threads(3)
numbers = lambda: cpp.uniform(1, 2, 3, torch.arange(200_000)).numpy().tobytes()
truth, is_over = numbers(), threading.Event()

def compute():
    while not is_over.is_set():
        assert numbers() == truth

busy = threading.Thread(target=compute, daemon=True)
busy.start()
for _ in range(10):
    child = os.fork()  # in the midst of a kernel of the other thread, as a rule
    if child == 0:
        signal.alarm(20)
        native.set_threads(2)
        os._exit(numbers() != truth)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0, status
    assert numbers() == truth
is_over.set()
busy.join()
"""


def test_a_forked_child_computes_whatever_its_parent_was_doing():
    run_python("-W", "ignore::DeprecationWarning", "-c", FORK)


def run_python(*arguments, **environment):
    """A process of its own, which must succeed within ten minutes: its output."""
    done = subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=600,
                          env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **environment})
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-9000:]
    return done.stdout


# Memory.

def test_memory_that_nobody_wrote_is_nan_here():
    assert torch.empty(3).isnan().all() and torch.empty_like(torch.ones(3)).isnan().all()


def filling(make, number):
    def filled(*given, **more):
        made = make(*given, **more).detach()
        return made.fill_(number & 255 if made.dtype == torch.uint8 else number)
    return filled


@each_kernel
def test_results_do_not_depend_on_what_lay_in_the_buffers(name, monkeypatch):
    inputs, found = KERNELS[name][2](500), []
    for fill in (0, 85 - 2**31):
        with monkeypatch.context() as patch:
            for name_of_maker in ("empty", "empty_like"):
                patch.setattr(torch, name_of_maker, filling(getattr(torch, name_of_maker), fill))
            assert torch.empty(2, dtype=torch.int64).tolist() == [fill, fill]
            found.append(computed(name, inputs))
    assert_same_bits(*found)


def gapped(value):
    """The same numbers in every other place of a larger tensor."""
    return torch.stack([value, value], -1)[..., 0]


@each_kernel
def test_tensors_with_gaps_are_read_right(name):
    inputs = KERNELS[name][2](200)
    assert_same_bits(computed(name, inputs, around=gapped), computed(name, inputs))


@each_kernel
def test_nothing_at_all_gives_the_shapes_of_the_reference(name):
    inputs = KERNELS[name][2](0)
    truth = computed(name, inputs, "reference")
    for key, value in computed(name, inputs).items():
        assert_close(value, truth[key], key)


@each_kernel
@pytest.mark.parametrize("change, found", [
    (lambda value: value.half() if value.is_floating_point() else value.int(), "torch.(float16|int32) on cpu"),
    (lambda value: value.to("meta"), "torch.(float32|float64|int64) on meta")], ids=["other numbers", "another device"])
def test_what_the_kernels_cannot_read_is_refused(name, change, found):
    op, fn, inputs = KERNELS[name]
    changed = {key: [change(part) for part in value] if isinstance(value, list) else change(value)
               for key, value in inputs(20).items() if value is not None}
    with pytest.raises(TypeError, match=f"the C.. kernels take torch.(float32|float64|int64) on the CPU here, got {found}"):
        fn(op.IMPLEMENTATIONS["cpp"](), **changed)


def test_what_a_kernel_changes_must_lie_without_gaps():
    buffers = {name: gapped(torch.zeros(8)) for name in ("parameters", "gradients", "first", "second")}
    with pytest.raises(TypeError, match="without gaps"):
        adam.IMPLEMENTATIONS["cpp"]().adam_step(**buffers, step=1, learning_rate=1.0, table_size=0)
    with pytest.raises(TypeError, match="without gaps"):
        occupancy.IMPLEMENTATIONS["cpp"]().refresh(gapped(torch.zeros(2, 2, 2)), torch.tensor([0]), torch.ones(1))


# The table's gradient, which is added to in place.

@pytest.fixture
def grid():
    """Points and a table whose gradient holds sevens."""
    inputs = {name: value.requires_grad_() for name, value in grid_inputs(300, 3, 4).items()}
    inputs["table"].grad = torch.full_like(inputs["table"], 7.0)
    return inputs


def loss_of(grid, backend="cpp"):
    return hashgrid.IMPLEMENTATIONS[backend]().encode(**grid, levels=LEVELS[3]).square().sum()


def reference_gradients(grid):
    return torch.autograd.grad(loss_of(grid, "reference"), [grid["x"], grid["table"]])


def test_asking_for_the_positions_gradient_alone_leaves_the_tables_as_it_is(grid):
    (d_x,) = torch.autograd.grad(loss_of(grid), grid["x"])
    assert_close(d_x, reference_gradients(grid)[0], "d_x", tolerance=1e-5)
    assert torch.equal(grid["table"].grad, torch.full_like(grid["table"], 7.0))


@pytest.mark.parametrize("with_positions", [False, True])
def test_a_tables_gradient_is_added_to_what_is_there(grid, with_positions):
    _, d_table = reference_gradients(grid)
    before = grid["table"].grad.data_ptr()
    grid["x"].requires_grad_(with_positions)
    (loss_of(grid) + loss_of(grid)).backward()
    assert grid["table"].grad.data_ptr() == before
    assert_close(grid["table"].grad, 7.0 + 2.0 * d_table, "d_table", tolerance=1e-5)


# Targets.

PARITY = sorted(str(path) for path in Path(__file__).parent.glob("test_*.py") if path != Path(__file__))


def passed(*arguments, **environment):
    """How many tests passed, in a process of its own; all must, and whatever ends the process is to be read."""
    out = run_python("-m", "pytest", "-q", "-s", "-W", "error", "-p", "no:cacheprovider", "-m", "not slow", *arguments,
                     NERF_APP_REQUIRE="compiler", **environment)
    return int(re.search(r"(\d+) passed", out)[1])


def available():
    return list(targets())[:native.library().nerf_best_target() + 1]


@pytest.mark.parametrize("target", targets())
def test_every_target_agrees_with_the_reference_or_is_refused(target, monkeypatch):
    if target == available()[-1]:
        assert native.target() == target  # what all the other tests run on
    elif target in available():
        assert passed("-k", "cpp", *PARITY, NERF_APP_TARGET=target) > 30
    else:
        monkeypatch.setenv(native.TARGET_VARIABLE, target)
        with pytest.raises(BackendUnavailable, match="on this processor"):
            choose_backend("cpp", "cpu", 1)


@pytest.fixture
def anew():
    """Caches that forget what was found before and during the test."""
    for cached in (native.library, native._function):
        cached.cache_clear()
    yield
    for cached in (native.library, native._function):
        cached.cache_clear()


def test_the_target_that_is_asked_for_computes(monkeypatch, anew):
    monkeypatch.setenv(native.TARGET_VARIABLE, "baseline")
    assert native.target() == "baseline" and native._function("philox").__name__ == "philox_baseline"
    assert choose_backend("auto", "cpu", 1).name == "cpp"


def test_a_target_that_does_not_exist_is_refused_with_those_that_do(monkeypatch):
    monkeypatch.setenv(native.TARGET_VARIABLE, "avx1024")
    with pytest.raises(BackendUnavailable, match=r"NERF_APP_TARGET must be one of .*baseline.* got avx1024"):
        choose_backend("cpp", "cpu", 1)


# A library that is missing or broken.

@pytest.fixture
def elsewhere(monkeypatch, tmp_path, anew):
    """The folder in which the library is looked for."""
    monkeypatch.setattr(native, "FOLDER", tmp_path)
    monkeypatch.delenv(native.PATH_VARIABLE, raising=False)
    return tmp_path


def reason():
    with pytest.raises(BackendUnavailable) as caught:
        choose_backend("cpp", "cpu", 1)
    return str(caught.value)


def test_a_missing_library_is_told_with_the_compilers_words_and_the_cure(elsewhere):
    assert reason().startswith("backend cpp cannot run: not built; `nerf-app doctor --build` compiles the kernels")
    (elsewhere / LOG).write_text("x.cpp:1: error: boom\n")
    assert "not built; at installation the compiler said: x.cpp:1: error: boom; `nerf-app doctor" in reason()


@pytest.mark.parametrize("part", [0.0, 0.0001, 0.5, 0.999])
def test_a_library_that_was_cut_short_is_refused_rather_than_opened(elsewhere, part):
    whole = (ROOT / "nerf_app/ops/native" / LIBRARY).read_bytes()
    (elsewhere / LIBRARY).write_bytes(whole[:int(part * len(whole))])
    assert f"{elsewhere / LIBRARY} ends too early; `nerf-app doctor --build`" in reason()


def test_a_library_of_other_sources_is_refused_rather_than_called(elsewhere, monkeypatch):
    shutil.copy(ROOT / "nerf_app/ops/native" / LIBRARY, elsewhere)
    monkeypatch.setattr(native, "sources_digest", lambda: "0" * 16)
    assert f"{elsewhere / LIBRARY} was compiled from other sources than these; `nerf-app doctor --build`" in reason()


def test_a_library_that_is_none_is_refused(elsewhere):
    (elsewhere / LIBRARY).write_bytes(bytes(1000))
    assert "invalid ELF header" in reason()


def test_a_library_named_by_the_environment_is_the_one_that_is_opened(monkeypatch, elsewhere):
    monkeypatch.setenv(native.PATH_VARIABLE, str(ROOT / "nerf_app/ops/native" / LIBRARY))
    assert choose_backend("cpp", "cpu", 1).name == "cpp"
    native.library.cache_clear()
    monkeypatch.setenv(native.PATH_VARIABLE, str(elsewhere / "no.so"))
    assert "no.so: cannot open" in reason()


def test_without_a_library_a_training_runs_on_the_reference_and_says_so_once(elsewhere):
    (elsewhere / LOG).write_text("x.cpp:1: error: boom\n")
    config = small_config(2, {"machine.backend": "auto"})
    notes = [event.text for event in runs.train_events(sphere_scene(n_views=6, size=8), config, elsewhere / "run")
             if isinstance(event, Note)]
    assert sum(note.startswith("backend   reference on cpu") and "error: boom" in note for note in notes) == 1, notes


@pytest.mark.parametrize("compiler, words", [("/bin/false", "/bin/false ended with exit code 1"),
                                             ("/no/such/c++", "/no/such/c++"), ("{folder}/c++", "a.cpp:7:1: error: boom")])
def test_a_compiler_that_fails_leaves_its_words_and_a_program_that_computes(elsewhere, monkeypatch, compiler, words):
    script = elsewhere / "c++"
    script.write_text("#!/bin/sh\necho 'in file a.cpp:' >&2\necho 'a.cpp:7:1: error: boom' >&2\necho 'error: more' >&2\nexit 1\n")
    script.chmod(0o755)
    monkeypatch.setenv("CXX", compiler.format(folder=elsewhere))
    failure = build(elsewhere)
    assert words in failure and (elsewhere / LOG).read_text() == failure + "\n"
    assert not (elsewhere / LIBRARY).exists()
    ops = choose_backend("auto", "cpu", 1)
    assert ops.name == "reference" and words in ops.why
    assert ops.random.uniform(0, 0, 0, torch.arange(3)).shape == (3, 4)


def test_a_failed_build_keeps_the_library_that_was_there(elsewhere, monkeypatch):
    (elsewhere / LIBRARY).write_bytes(b"old")
    monkeypatch.setenv("CXX", "/bin/false")
    assert build(elsewhere) is not None and (elsewhere / LIBRARY).read_bytes() == b"old"


# Sanitizers.

@pytest.mark.slow
def test_the_kernels_touch_no_memory_but_their_own(tmp_path):
    compile_library(tmp_path / LIBRARY, ("-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"))
    runtime = subprocess.run([*find_compiler(), "-print-file-name=libasan.so"], capture_output=True, text=True, check=True).stdout
    environment = {"LD_PRELOAD": runtime.strip(), "ASAN_OPTIONS": "detect_leaks=0", "NERF_APP_KERNELS": str(tmp_path / LIBRARY)}
    for target in available():
        assert passed("-k", "cpp", *PARITY, NERF_APP_TARGET=target, **environment) > 30
        assert passed("-k", "nothing_at_all or same_bits", __file__, NERF_APP_TARGET=target, **environment) > 2 * len(KERNELS)
