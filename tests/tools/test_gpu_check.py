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
        if name.split(".")[0] in {"yaml", "msgspec", "cv2", "av", "imageio", "skimage", "scipy", "pillow_heif", "trimesh",
                                  "xatlas", "fast_simplification", "pycolmap", "open3d"}:
            raise ImportError(f"{name} is not on a bare machine")
sys.meta_path.insert(0, Absent())
"""  # as sitecustomize, which every Python of the check loads


@pytest.mark.slow
@requires("triton")
def test_all_parts_go_through_on_a_bare_machine_without_a_gpu(tmp_path):
    write_blender(sphere_scene(size=16), tmp_path / "ball")
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare/sitecustomize.py").write_text(BARE)
    done = subprocess.run(["bash", str(ROOT / "tools/gpu_check.sh"), "ball", "out", "--dry"], cwd=tmp_path, capture_output=True,
                          text=True, env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(tmp_path / "bare"),
                                                       "PYTHON": sys.executable})
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "out/RESULTS.md").read_text()
    assert "FAILED" not in text, done.stderr
    assert all(f"## {name}" in text for name in gpu_check.PARTS)
    assert "| triton | 70 | agrees |" in text
    assert "| ball | triton |" in text and "| ball | triton, no bounds |" in text


@pytest.mark.parametrize("program, seconds, said", [
    ("import os; os.abort()", 9, "ended with code -6"), ("raise ValueError('gone')", 9, "ValueError: gone"),
    ("import time; time.sleep(60)", 1, "not done in 1 s"), ("", 0, "no time left"), ("print('row')", 9, None)])
def test_a_part_that_fails_hangs_or_crashes_is_a_row_and_no_more(program, seconds, said):
    assert gpu_check.outcome([sys.executable, "-c", program], dict(os.environ), seconds) == said


def test_the_parts_fit_into_their_time_without_the_libraries_that_are_built():
    ours = [longest for name, (_, longest) in gpu_check.PARTS.items() if name != "libraries" and "tcnn" not in name]
    assert sum(ours[:-1]) < gpu_check.WHOLE_SECONDS < 600


def test_its_settings_have_every_stage_of_a_config():
    stages = {stage.name: stage.type for stage in dataclasses.fields(Config)}
    for dry in (False, True):
        assert {name: type(stage) for name, stage in vars(gpu_check.settings(5, dry)).items()} == stages


def test_without_a_gpu_it_says_so_and_how_to_go_on(tmp_path):
    done = subprocess.run([sys.executable, "tools/gpu_check.py", str(tmp_path), str(tmp_path / "out")], cwd=ROOT,
                          capture_output=True, text=True, env=os.environ | {"CUDA_VISIBLE_DEVICES": ""})
    assert done.returncode == 1 and "needs an NVIDIA GPU" in done.stderr and "--dry" in done.stderr
