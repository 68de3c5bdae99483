"""The check for GPU machines goes through without one, and without the libraries that such a machine may lack."""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import pytest

from nerf_app.config import Config
from tests.requires import requires
from tests.sphere import sphere_scene, write_blender
from tools import gpu_check

ROOT = Path(__file__).resolve().parent.parent.parent
BARE = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"yaml", "msgspec", "cv2", "av", "imageio", "skimage", "scipy", "pillow_heif", "trimesh"}:
            raise ImportError(f"{name} is not on a bare machine")
sys.meta_path.insert(0, Absent())
sys.argv = ["gpu_check.py", *sys.argv[1:]]
sys.path.insert(0, "tools")
import gpu_check
gpu_check.main()
"""


@pytest.mark.slow
@requires("triton")
def test_all_parts_go_through_on_a_bare_machine_without_a_gpu(tmp_path):
    write_blender(sphere_scene(size=16), tmp_path / "ball")
    done = subprocess.run([sys.executable, "-c", BARE, str(tmp_path / "ball"), str(tmp_path / "out"), "--dry"], cwd=ROOT,
                          capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "out/RESULTS.md").read_text()
    assert "FAILED" not in text, done.stderr
    assert "| triton | 70 | agrees |" in text and "| ball | triton |" in text


def test_its_settings_have_every_stage_of_a_config():
    stages = {stage.name: stage.type for stage in dataclasses.fields(Config)}
    for dry in (False, True):
        assert {name: type(stage) for name, stage in vars(gpu_check.settings(5, dry)).items()} == stages


def test_without_a_gpu_it_says_so_and_how_to_go_on(tmp_path):
    done = subprocess.run([sys.executable, "tools/gpu_check.py", str(tmp_path), str(tmp_path / "out")], cwd=ROOT,
                          capture_output=True, text=True, env=os.environ | {"CUDA_VISIBLE_DEVICES": ""})
    assert done.returncode == 1 and "needs an NVIDIA GPU" in done.stderr and "--dry" in done.stderr
