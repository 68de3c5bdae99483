"""A scene file is whole or refused, and a run folder holds a whole one at every moment."""

import dataclasses
import errno
import json
import os
import random
import signal
import stat
import struct
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import nerf_app
from nerf_app import checkpoint
from nerf_app.checkpoint import CURRENT, DAMAGED, PARTIAL, PREVIOUS, Header
from nerf_app.config import values
from nerf_app.errors import DataError, Diverged, ResourceError
from nerf_app.run import open_run
from nerf_app.scene.camera import Camera, Lens
from nerf_app.scene.scene import Normalisation, View
from tests.sphere import small_config, sphere_scene

LENS = Lens("fisheye", (0.1, -0.2, 1e-300, 1 / 3), (0.5, 0.0, -0.0), (1e-3, 2e-3), (0.0, 1.0, 2.0, 3.0), 0.9)


def a_scene():
    """A ball with odd names, odd numbers and a lens."""
    scene = sphere_scene(n_views=4, size=4)
    names = ["photos/[/x]\n.png", "photos/\udcff.png", "ü.png", "3.png"]
    camera = Camera(4, 5, 7.1, 1 / 3, 2.2, 1e-17, LENS)
    views = tuple(View(name, camera, view.world_from_camera + 0.1, view.split) for name, view in zip(names, scene.views))
    return dataclasses.replace(scene, views=views, normalisation=Normalisation(np.array([1e7 / 3, -4.0, 0.1]), 1e-3 / 3),
                               applied_transform=np.eye(4)[:3] / 3, notes=("a note",))


def a_header(step=7, **changes):
    facts = checkpoint.scene_facts(a_scene())
    header = dict(format=checkpoint.FORMAT, app_version=nerf_app.__version__, step=step, seconds=1.1, backend="reference",
                  config=values(small_config(30)), progress={"rays": 1 / 3, "best_psnr": None}, scene_path="../sphere")
    return Header(**(header | facts | changes))


def some_tensors(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {"model.parameters": torch.randn(40, generator=generator), "model.occupancy": torch.rand(2, 2, 2, generator=generator)}


def saved(folder, *steps):
    """A folder after saving these steps; the tensors are made from the step."""
    folder.mkdir(exist_ok=True)
    for step in steps:
        checkpoint.save(folder, some_tensors(step), a_header(step))
    return folder


def holds(folder, step):
    """Whether the folder gives back all of a step."""
    tensors, header, _ = checkpoint.load(folder)
    return header.step == step and all(torch.equal(tensors[name], tensor) for name, tensor in some_tensors(step).items())


def forge(path, tensors, text):
    """A file whose checksum is right, whatever it says."""
    save_file(tensors, path, {"nerf_app": text, "sha256": checkpoint._checksum(text, sorted(tensors.items()))})


def text_of(path):
    content = path.read_bytes()
    return json.loads(content[8:8 + struct.unpack("<Q", content[:8])[0]])["__metadata__"]["nerf_app"]


def test_everything_comes_back_bit_for_bit(tmp_path):
    header, scene = a_header(), a_scene()
    checkpoint.save(tmp_path, some_tensors(), header)
    tensors, again, note = checkpoint.load(tmp_path)
    assert note is None and again == header
    assert tensors.keys() == some_tensors().keys()
    for name, tensor in some_tensors().items():
        assert tensors[name].dtype == tensor.dtype and torch.equal(tensors[name], tensor)
    for view, truth in zip(again.scene_views(), scene.views, strict=True):
        assert (view.name, view.camera, view.split) == (truth.name, truth.camera, truth.split)
        assert view.world_from_camera.dtype == np.float64 and np.array_equal(view.world_from_camera, truth.world_from_camera)
    assert np.array_equal(again.normalisation().centre, scene.normalisation.centre)
    assert again.normalisation().scale == scene.normalisation.scale
    assert np.array_equal(again.up, scene.up) and np.array_equal(again.applied_transform, scene.applied_transform)


ODD = {
    "empty": torch.zeros(0), "no rows": torch.zeros(0, 5, dtype=torch.int64), "no columns": torch.zeros(3, 0, dtype=torch.uint8),
    "one byte": torch.tensor([7], dtype=torch.uint8), "a number": torch.tensor(1 / 3, dtype=torch.float64),
    "turned": torch.arange(12.0).reshape(3, 4).T, "every other": torch.arange(9)[::2], "repeated": torch.ones(1, 2).expand(3, 2),
    "a part": torch.arange(24.0).reshape(4, 6)[1:3, 2:5], "flags": torch.tensor([[True, False, True]]).T,
    "ü [/x]\n": torch.ones(1),
}


@pytest.mark.parametrize("names", [*([name] for name in ODD), list(ODD), list(reversed(ODD)), []], ids=ascii)
def test_a_file_says_the_same_to_the_library_whatever_the_tensors_look_like(tmp_path, names):
    tensors = {name: ODD[name] for name in names}
    checkpoint.save(tmp_path, tensors, a_header())
    theirs, ours = load_file(tmp_path / CURRENT), checkpoint.load(tmp_path)[0]
    assert theirs.keys() == ours.keys() == tensors.keys()
    for name, tensor in tensors.items():
        for again in (theirs[name], ours[name]):
            assert again.dtype == tensor.dtype and again.shape == tensor.shape and torch.equal(again, tensor), name
    with open(tmp_path / "direct", "wb") as file:  # without what `save` does to them before
        checkpoint._write(file, tensors, {"a": "b"})
    direct = load_file(tmp_path / "direct")
    assert direct.keys() == tensors.keys() and all(torch.equal(direct[name], tensor) for name, tensor in tensors.items())


def test_a_kind_of_number_that_no_state_holds_is_our_own_mistake(tmp_path):
    saved(tmp_path, 1)
    with pytest.raises(TypeError, match="model.half has torch.float16"):
        checkpoint.save(tmp_path, {"model.half": torch.zeros(2, dtype=torch.float16)}, a_header(2))
    assert sorted(path.name for path in tmp_path.iterdir()) == [CURRENT] and holds(tmp_path, 1)


def test_more_photos_than_a_header_holds_are_refused_and_what_is_written_can_be_read(tmp_path, monkeypatch):
    saved(tmp_path, 1)
    monkeypatch.setattr(checkpoint, "LARGEST_HEADER", len(text_of(tmp_path / CURRENT)))
    assert holds(saved(tmp_path, 2), 2)
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "LARGEST_HEADER", checkpoint.LARGEST_HEADER - 1)
        with pytest.raises(DataError, match=r"names and cameras of 4 photos take 0.0 MiB, .* at most 0.0: train on fewer photos"):
            checkpoint.save(tmp_path, some_tensors(3), a_header(3))
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([CURRENT, PREVIOUS]) and holds(tmp_path, 2)


def test_the_folders_name_may_be_anything_a_file_system_takes(tmp_path):
    for name in ("[x] *", "a\nb", os.fsdecode(b"\xff\xfe")):
        assert holds(saved(tmp_path / name, 1, 2), 2)


def test_every_flipped_bit_is_noticed(tmp_path):
    path = saved(tmp_path, 1) / CURRENT
    content = path.read_bytes()
    end_of_header = 8 + struct.unpack("<Q", content[:8])[0]
    bits = [(byte, random.randrange(8)) for byte in range(end_of_header)]
    bits += [(byte, bit) for byte in range(8) for bit in range(8)]  # the length of the header
    bits += [(byte, bit) for byte in range(end_of_header, len(content)) for bit in (0, random.randrange(1, 8))]
    with open(path, "r+b", buffering=0) as file:
        for byte, bit in bits:
            os.pwrite(file.fileno(), bytes([content[byte] ^ 1 << bit]), byte)
            with pytest.raises(DataError, match="damaged|its header is missing"):
                checkpoint.read(path)
            os.pwrite(file.fileno(), content[byte:byte + 1], byte)
    assert len(bits) > 1000 and holds(tmp_path, 1)


def test_every_cut_and_every_addition_is_noticed(tmp_path):
    path = saved(tmp_path, 1) / CURRENT
    content = path.read_bytes()
    with open(path, "r+b", buffering=0) as file:
        for more in (b"\0", b" ", content):
            os.pwrite(file.fileno(), more, len(content))
            with pytest.raises(DataError, match="damaged"):
                checkpoint.read(path)
        for length in reversed(range(len(content))):
            file.truncate(length)
            with pytest.raises(DataError, match="damaged"):
                checkpoint.read(path)


def test_a_damaged_state_gives_way_to_the_one_before_and_says_so(tmp_path):
    saved(tmp_path, 1, 2)
    content = bytearray((tmp_path / CURRENT).read_bytes())
    content[-1] ^= 1
    (tmp_path / CURRENT).write_bytes(content)
    assert holds(tmp_path, 1)
    note = checkpoint.load(tmp_path)[2]
    assert note == (f"{tmp_path / CURRENT} is damaged: its content does not match its checksum. "
                    f"Going on with {PREVIOUS}, step 1.")
    (tmp_path / PREVIOUS).write_bytes(b"")
    with pytest.raises(DataError, match="content does not match its checksum"):
        checkpoint.load(tmp_path)


def test_a_folder_without_a_state_says_what_to_give(tmp_path):
    with pytest.raises(DataError, match="is no run folder: give the folder that `nerf-app train` printed"):
        checkpoint.load(tmp_path / "nothing")
    with pytest.raises(DataError, match="has no scene.safetensors: give the folder"):
        checkpoint.load(tmp_path)


def test_a_pipe_or_a_folder_in_a_files_place_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / CURRENT)
    (tmp_path / PREVIOUS).mkdir()
    with pytest.raises(DataError, match="is not a regular file"):
        checkpoint.load(tmp_path)


def test_a_state_that_is_not_finite_is_never_written(tmp_path):
    saved(tmp_path, 1)
    for name in some_tensors():
        for value in (float("nan"), float("inf")):
            tensors = some_tensors(2)
            tensors[name].view(-1)[3] = value
            with pytest.raises(Diverged, match=f"{name} of step 2 is not finite.*learning_rate"):
                checkpoint.save(tmp_path, tensors, a_header(2))
    assert sorted(path.name for path in tmp_path.iterdir()) == [CURRENT] and holds(tmp_path, 1)


# A save that does not come to its end. Its stages, in order: bytes, fsync, read back, two renames, fsync of the folder.

class HalfWritten:
    """A file on a disk that ends in the middle of what is written."""

    def __init__(self, path, mode, end):
        self.file, self.end = open(path, mode, buffering=0), end

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.file.close()

    def write(self, content):
        self.file.write(content[:len(content) // 2])
        self.end()


def let_fail(patch, stage, end):
    """Lets `end` happen at one stage of the next save."""
    def at_call(owner, name, number):
        real, calls = getattr(owner, name), iter(range(10))

        def function(*args):
            if next(calls) == number:
                end()
            return real(*args)
        patch.setattr(owner, name, function)

    if stage == "write":
        patch.setattr(checkpoint, "open", lambda path, mode: HalfWritten(path, mode, end), raising=False)
    else:
        at_call(*{"flush": (os, "fsync", 0), "verify": (checkpoint, "_verify", 0), "first rename": (os, "replace", 0),
                  "second rename": (os, "replace", 1), "flush of the folder": (os, "fsync", 1)}[stage])


STAGES = ("write", "flush", "verify", "first rename", "second rename", "flush of the folder")
AFTER = STAGES[-1:]  # here the new state has its name already


def fail_with(number):
    def end():
        raise OSError(number, os.strerror(number))
    return end


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EACCES])
def test_a_save_that_fails_leaves_the_state_before_or_after(tmp_path, monkeypatch, stage, number):
    saved(tmp_path, 1, 2)
    with monkeypatch.context() as patch:
        let_fail(patch, stage, fail_with(number))
        with pytest.raises(ResourceError, match=f"step 3 could not be saved \\({os.strerror(number)}\\).*still there"):
            checkpoint.save(tmp_path, some_tensors(3), a_header(3))
    assert holds(tmp_path, 3 if stage in AFTER else 2)
    assert not list(tmp_path.glob(PARTIAL + "*")), "what could not be finished takes no room"
    assert holds(saved(tmp_path, 4), 4)


def test_where_nothing_was_saved_before_nothing_else_is_said(tmp_path, monkeypatch):
    let_fail(monkeypatch, "flush", fail_with(errno.ENOSPC))
    with pytest.raises(ResourceError, match="nothing was saved before"):
        checkpoint.save(tmp_path, some_tensors(1), a_header(1))


def test_a_state_that_reads_back_wrong_is_not_taken_for_saved(tmp_path, monkeypatch):
    saved(tmp_path, 1)
    real = checkpoint._write

    def spoilt(file, tensors, metadata):
        real(file, tensors, metadata)
        file.seek(-2, os.SEEK_END)
        file.write(b"?!")
    monkeypatch.setattr(checkpoint, "_write", spoilt)
    with pytest.raises(ResourceError, match="could not be saved .*checksum"):
        checkpoint.save(tmp_path, some_tensors(2), a_header(2))
    assert holds(tmp_path, 1) and not list(tmp_path.glob(PARTIAL + "*"))


@pytest.mark.parametrize("stage", STAGES)
def test_a_process_that_is_killed_while_saving_leaves_the_state_before_or_after(tmp_path, monkeypatch, stage):
    saved(tmp_path, 1, 2)
    with warnings.catch_warnings(action="ignore"):  # Python 3.12 warns of threads; the child starts none and waits for none
        child = os.fork()
    if child == 0:
        try:
            let_fail(monkeypatch, stage, lambda: os.kill(os.getpid(), signal.SIGKILL))
            checkpoint.save(tmp_path, some_tensors(3), a_header(3))
        finally:
            os._exit(0)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
    assert bool(list(tmp_path.glob(PARTIAL + "*"))) == (stage not in AFTER), "the kill came in the midst of the save"
    assert holds(tmp_path, 3 if stage in AFTER else 2)
    checkpoint.remove_partial_files(tmp_path)
    assert not list(tmp_path.glob(PARTIAL + "*")) and holds(tmp_path, 3 if stage in AFTER else 2)
    assert holds(saved(tmp_path, 4), 4)


def test_a_damaged_state_that_was_set_aside_cannot_take_the_whole_ones_place(tmp_path, monkeypatch):
    saved(tmp_path, 1, 2)
    (tmp_path / CURRENT).write_bytes(b"damaged")
    checkpoint.set_damaged_aside(tmp_path)
    checkpoint.set_damaged_aside(tmp_path)  # once more does no harm
    assert (tmp_path / DAMAGED).read_bytes() == b"damaged"
    let_fail(monkeypatch, "first rename", fail_with(errno.EIO))  # the only one now
    with pytest.raises(ResourceError):
        checkpoint.save(tmp_path, some_tensors(3), a_header(3))
    assert holds(tmp_path, 1)


def test_files_have_the_mode_that_the_umask_leaves(tmp_path):
    for mask, mode in ((0o022, 0o644), (0o077, 0o600), (0o002, 0o664)):
        before = os.umask(mask)
        try:
            saved(tmp_path, 1)
        finally:
            os.umask(before)
        assert stat.S_IMODE((tmp_path / CURRENT).stat().st_mode) == mode


# Files that somebody made by hand, their checksums right.

HOSTILE = {
    "no JSON": lambda plain: "{",
    "a list": lambda plain: "[]",
    "a deep list": lambda plain: "[" * 100_000,
    "deep settings": lambda plain: '{"format": 1, "config": {"a": ' + "[" * 100_000,
    "an endless number": lambda plain: '{"format": ' + "1" * 10_000 + "}",
    "another format": lambda plain: plain | {"format": 99},
    "text as a number": lambda plain: plain | {"step": "1"},
    "a step before the first": lambda plain: plain | {"step": -1},
    "no views": lambda plain: {key: value for key, value in plain.items() if key != "views"},
    "a pose of three rows": lambda plain: plain | {"views": [plain["views"][0] | {"world_from_camera": [[1, 0, 0, 0]] * 3}]},
    "a lens of nobody's": lambda plain: with_camera(plain, lens={"family": "../../x"}),
    "a camera without pixels": lambda plain: with_camera(plain, width=0),
    "a split of nobody's": lambda plain: plain | {"views": [plain["views"][0] | {"split": "x"}]},
    "a flat centre": lambda plain: plain | {"centre": [0.0, 0.0]},
    "no scale": lambda plain: plain | {"scale": 0.0},
    "a scale that is no number": lambda plain: plain | {"scale": float("nan")},
}


def with_camera(plain, **changes):
    view = plain["views"][0]
    return plain | {"views": [view | {"camera": view["camera"] | changes}]}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_header_that_cannot_be_is_refused_in_one_line(tmp_path, what):
    path = saved(tmp_path, 1) / CURRENT
    changed = HOSTILE[what](json.loads(text_of(path)))
    forge(path, some_tensors(1), changed if isinstance(changed, str) else json.dumps(changed))
    with pytest.raises(DataError) as caught:
        checkpoint.load(tmp_path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value) and len(str(caught.value)) < 600


def test_a_stranger_s_safetensors_file_is_no_scene(tmp_path):
    save_file(some_tensors(), tmp_path / CURRENT)
    with pytest.raises(DataError, match="is no scene file of nerf_app: its header is missing"):
        checkpoint.load(tmp_path)


@pytest.mark.parametrize("changes, message", [
    ({"encoding.log2_entries": 24, "encoding.levels": 32, "encoding.features": 8, "encoding.finest": 1 << 16},
     r"model.parameters must be \[\d{10}\] by its settings"),
    ({"frequency.width": 1024, "frequency.layers": 16, "field.kind": "frequency"}, "model.parameters must be"),
    ({"sampling.grid_resolution": 512}, r"model.occupancy must be \[128, 128, 128\] or"),
    ({"sampling.kind": "coarse_to_fine"}, "model.occupancy must be absent"),
    ({"encoding.levels": 99}, "holds settings that this program does not know: encoding.levels must be"),
    ({"encoding.lvels": 4}, "unknown setting encoding.lvels"),
])
def test_settings_that_the_tensors_do_not_fit_are_refused_before_memory_is_taken(trained, monkeypatch, changes, message):
    tensors, header, _ = checkpoint.load(trained)
    checkpoint.save(trained, tensors, dataclasses.replace(header, config=header.config | changes))
    monkeypatch.setattr(nerf_app.run, "RadianceModel", lambda *_: pytest.fail("memory was taken"))
    with pytest.raises(DataError, match=message):
        open_run(trained)


def test_foreign_missing_and_misshapen_tensors_are_refused(trained):
    tensors, header, _ = checkpoint.load(trained)
    tensors = {name: tensor.clone() for name, tensor in tensors.items()}
    parameters, grid = tensors["model.parameters"], tensors["model.occupancy"]
    for changed, message in (
        (tensors | {"evil": torch.zeros(3)}, r"evil must be absent by its settings, got \[3\]"),
        ({"model.parameters": parameters}, "lacks model.occupancy"),
        (tensors | {"model.parameters": torch.cat([parameters, parameters])}, "model.parameters must be"),
        (tensors | {"model.parameters": parameters.double()}, "float64"),
        (tensors | {"model.occupancy": torch.zeros(64, 64, 64)}, r"model.occupancy must be \[8, 8, 8\] or"),
        (tensors | {"model.occupancy": grid[:, :, :-1].clone()}, "model.occupancy must be"),
        (tensors | {"model.sharpened": torch.zeros(8, 8, 8, dtype=torch.bool)}, r"model.sharpened must be \[16, 16, 16\] or"),
        (tensors | {"model.sharpened": torch.zeros(64, 64, 64)}, "float32"),
        (tensors | {"optimiser.first": parameters[:-1].clone()}, "optimiser.first must be"),
    ):
        checkpoint.save(trained, changed, header)
        with pytest.raises(DataError, match=message):
            open_run(trained)


@pytest.fixture
def trained(tmp_path) -> Path:
    """A run of two steps."""
    folder = tmp_path / "run"
    nerf_app.train(sphere_scene(size=12, root=tmp_path / "sphere"), small_config(2), folder)
    return folder


def test_no_absolute_path_lies_in_the_run_folder(tmp_path, trained):
    assert checkpoint.load(trained)[1].scene_path == "../sphere"
    for path in trained.iterdir():
        for place in (os.getcwd(), tmp_path, Path.home()):
            assert os.fsencode(place) not in path.read_bytes(), path.name
