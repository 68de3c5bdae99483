"""The program as people run it: from a folder of photos to a video, in processes that are interrupted, ended and killed."""

import dataclasses
import json
import os
import random
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import av
import numpy as np
import pytest
import torch
import trimesh
from PIL import Image

import nerf_app
from nerf_app import checkpoint
from nerf_app import run as runs
from nerf_app.checkpoint import CURRENT, PARTIAL
from nerf_app.config import Config, to_yaml, with_overrides
from nerf_app.scene.load import load_scene
from tests.sphere import CENTRE, DISTANCE, RADIUS, SHARP, SMALL, sphere_scene, write_blender

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parent.parent
KILLS = 15
LARGE = {"encoding.log2_entries": 16, "encoding.finest": 128, "training.samples_per_step": 256, "training.save_seconds": 0.0,
         "training.steps": 250}  # a state of megabytes, saved after every short step: about half of the time goes into saving


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    """A folder with a Blender set of the ball."""
    folder = tmp_path_factory.mktemp("ball [x]")
    write_blender(sphere_scene(n_views=24, size=48), folder)
    return folder


def flags(settings):
    return [part for name, value in settings.items() for part in ("--set", f"{name}={'null' if value is None else value}")]


def start(*arguments, **options):
    """`python -m nerf_app` in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([sys.executable, "-W", "error", "-m", "nerf_app", *map(str, arguments)], text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, **options)


def run(*arguments, code=0, **options):
    """The same to its end: stdout and stderr."""
    process = start(*arguments, **options)
    out, err = process.communicate(timeout=300)
    assert process.returncode == code, err
    return out, err


def test_photos_become_a_run_scores_and_a_video(tmp_path, photos):
    folder = tmp_path / "run"
    out, err = run("train", photos, "--out", folder, "--steps", 150, *flags(SMALL | SHARP))
    assert out == f"{folder}\n" and "test      PSNR" in err
    closing = json.loads((folder / "eval.json").read_text())
    out, _ = run("eval", folder, "--json")
    scores = json.loads(out)
    assert set(scores) == {"psnr", "ssim", "split", "part", "photos"}
    assert scores["psnr"] == pytest.approx(closing["psnr"], abs=0.01)
    assert scores["psnr"] > 20.0 and len(scores["photos"]) == 3

    video, _ = run("render", folder, "--path", "orbit", "--fps", 4, "--seconds", 1, "--size", "48x32")
    assert video == f"{folder / 'video/orbit.mp4'}\n"
    with av.open(video.strip()) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(frames) == 4 and frames[0].shape == (32, 48, 3)
    assert all(np.abs(frame.astype(int) - frames[0]).mean() > 1.0 for frame in frames[1:]), "the camera moves"

    out, _ = run("resume", folder, "--steps", 160, "--json")
    assert json.loads(out)["step"] == 160 and nerf_app.open_run(folder).header.step == 160
    assert [json.loads(line)["event"] for line in (folder / "metrics.jsonl").read_text().splitlines()][-1] == "finished"


def test_one_command_makes_everything_and_every_file_opens(tmp_path, photos):
    folder = tmp_path / "run"
    out, err = run("reconstruct", photos, "--out", folder, "--steps", 250, *flags(SMALL | SHARP | {"machine.backend": "auto"}))
    assert out == f"{folder}\n{folder / 'report.html'}\n" and "not made" not in err and "warning" not in err
    record = json.loads((folder / "jobs.json").read_text())["done"]
    assert list(record) == ["training", "score", "film", "depth", "mesh", "points", "cameras", "report"]
    assert all((folder / file).exists() for done in record.values() for file in done["files"])
    for name in ("depth", "mesh"):
        made = {path.relative_to(folder).as_posix() for path in (folder / name).rglob("*") if path.is_file()}
        assert set(record[name]["files"]) == made, "so whichever is deleted is made again"
    assert not list(folder.rglob("*.part")) and not list(folder.rglob("*.frames"))

    with av.open(str(folder / "video/orbit.mp4")) as container:
        assert len(list(container.decode(video=0))) == 120
    mesh = trimesh.load(folder / "mesh/mesh.glb", process=False).to_geometry()
    assert mesh.visual.material.baseColorTexture.size[0] >= 256 and len(mesh.faces) == record["mesh"]["facts"]["faces"]
    rim = np.linalg.norm(mesh.vertices - mesh.vertices.mean(0), axis=1)
    assert np.median(rim) == pytest.approx(RADIUS, rel=0.03), "the ball has its own size"
    assert record["mesh"]["facts"]["psnr"] > 12.0 and record["mesh"]["facts"]["silhouette_iou"] > 0.85
    cloud = trimesh.load(folder / "cloud/points.ply")
    assert np.median(np.linalg.norm(cloud.vertices - CENTRE, axis=1)) == pytest.approx(RADIUS, rel=0.03)
    maps = json.loads((folder / "depth/depth.json").read_text())["depths"]
    for name in maps:
        z = np.load(folder / f"depth/{name}.z.npy")
        assert z.shape == (48, 48) and np.nanmin(z) == pytest.approx(DISTANCE - RADIUS, rel=0.03)
        for picture in ("png", "confidence.png", "colour.png"):
            with Image.open(folder / f"depth/{name}.{picture}") as opened:
                assert opened.size == (48, 48)
    frames = json.loads((folder / "cameras/transforms.json").read_text())["frames"]
    assert len(maps) == 3 and len(frames) == 24 and all((photos / frame["file_path"]).exists() for frame in frames)

    page = (folder / "report.html").read_text()
    assert "No mesh was made" not in page and page.count("<section") == 7
    assert 'id="mesh-file"' in page and "data:video/mp4" in page
    out, err = run("reconstruct", folder)
    assert err.count("is there already") == 7 and (folder / "report.html").read_text() == page


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_training_with_a_saved_state(tmp_path, photos, number):
    folder = tmp_path / "run"
    process = start("train", photos, "--out", folder, "--steps", 100_000, *flags(SMALL))
    wait_for(lambda: (folder / "metrics.jsonl").exists() and (folder / "metrics.jsonl").stat().st_size > 2000)
    process.send_signal(number)
    out, err = process.communicate(timeout=10)
    assert process.returncode == 128 + number and out == f"{folder}\n" and "Traceback" not in err
    assert f"the state is saved: `nerf-app resume {folder}` goes on" in err
    _, header, note = checkpoint.load(folder)
    last = json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1])
    assert note is None and (last["event"], last["step"], last["reason"]) == ("finished", header.step, "interrupted")
    out, err = run("resume", folder, "--steps", header.step + 3)
    assert f"resuming at step {header.step}" in err and checkpoint.load(folder)[1].step == header.step + 3


def wait_for(condition, seconds=60.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


TRAINING = """
import sys
import nerf_app
from nerf_app import run
from nerf_app.training.events import Finished, Saved
folder, photos = sys.argv[1:3]
if photos:
    from nerf_app.config import from_yaml
    events = run.train_events(nerf_app.load_scene(photos), from_yaml(sys.argv[3]), folder)
else:
    events = run.resume(folder)
for event in events:
    if isinstance(event, (Saved, Finished)):
        print(type(event).__name__, event.step, flush=True)
"""


def train_and_kill(folder, photos, settings, after):
    """The last step that was announced as saved before the process was killed, `after` seconds behind its first save."""
    process = subprocess.Popen([sys.executable, "-c", TRAINING, str(folder), str(photos), settings], stdout=subprocess.PIPE,
                               env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"})
    assert select.select([process.stdout], [], [], 120)[0]
    time.sleep(after)
    process.kill()
    said = process.communicate()[0].decode().splitlines()
    assert process.returncode == -signal.SIGKILL and said[-1].startswith("Saved")
    return int(said[-1].split()[1])


def test_no_kill_loses_what_was_announced_and_the_end_is_that_of_an_undisturbed_run(tmp_path, photos):
    config = with_overrides(Config(), SMALL | LARGE)
    generator, folder = random.Random(0), tmp_path / "run"
    amid = 0
    for kill in range(KILLS):
        announced = train_and_kill(folder, "" if kill else photos, to_yaml(config), generator.uniform(0.0, 0.3))
        leftover, is_there = list(folder.glob(PARTIAL + "*")), (folder / CURRENT).exists()
        _, header, note = checkpoint.load(folder)
        assert header.step >= announced and note is None
        amid += bool(leftover) or not is_there or header.step > announced
    print(f"{KILLS} kills, {amid} of them in the midst of a save, the last at step {header.step}")
    assert amid >= 0.2 * KILLS, "the kills must meet saves, or they prove nothing"
    assert header.step < config.training.steps

    for _ in runs.resume(folder):
        pass
    for _ in runs.train_events(load_scene(photos), config, tmp_path / "truth"):
        pass
    disturbed, truth = (checkpoint.load(place) for place in (folder, tmp_path / "truth"))
    assert disturbed[0].keys() == truth[0].keys()
    for name, tensor in truth[0].items():
        assert torch.equal(disturbed[0][name], tensor), name
    assert dataclasses.replace(disturbed[1], seconds=0.0) == dataclasses.replace(truth[1], seconds=0.0)
    assert timeless(folder) == timeless(tmp_path / "truth")
    assert not list(folder.glob(PARTIAL + "*"))


def timeless(folder):
    """The records of metrics.jsonl without their seconds."""
    records = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return [{key: value for key, value in record.items() if not key.startswith("seconds")} for record in records]
