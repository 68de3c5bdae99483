import numpy as np
import pytest
from PIL import Image

from nerf_app.check.masks import find_inverted, find_inverted_alpha
from nerf_app.scene.camera import Camera
from nerf_app.scene.images import MaskFile, PhotoFile
from nerf_app.scene.sizes import PhotoHeader
from tests.check.test_conventions import ring

CAMERA = Camera(60, 40, 60.0, 60.0, 30.0, 20.0)
Y, X = np.mgrid[:40, :60]
BALL = np.hypot(X - 30, Y - 20) < 14
LOW = (np.hypot(X - 30, Y - 36) < 10)  # a tripod at the lower edge
FEW = np.hypot(X - 12, Y - 8) < 4  # somebody passing by
CROWD = (np.hypot(X - 30, Y - 20) < 6) | (np.hypot(X - 12, Y - 10) < 5) | (np.hypot(X - 48, Y - 30) < 5)
SPOTS = (X % 10 < 3) & (Y % 10 < 3)
NOTHING = np.zeros((40, 60), bool)


def findings(folder, black, is_inverted=False, count=12):
    poses = ring(count, noise=0.02)
    found, files = {}, []
    for i in range(count):
        Image.fromarray(np.where(black ^ is_inverted, 0, 255).astype(np.uint8)).save(folder / f"{i}.png")
        files.append(PhotoFile(f"{i}.jpg", folder / f"{i}.jpg", PhotoHeader(60, 40)))
        found[i] = (MaskFile(folder / f"{i}.png", "ignore", is_inverted),)
    return find_inverted(found, files, [CAMERA] * count, poses)


@pytest.mark.parametrize("is_inverted", [False, True])
def test_masks_that_hide_the_thing_in_the_middle_are_found(tmp_path, is_inverted):
    (finding,) = findings(tmp_path, BALL, is_inverted)
    assert finding.is_fault and finding.is_mended and "0.jpg: 25% of its mask is black" in finding.evidence


@pytest.mark.parametrize("black", [~BALL, LOW, FEW, CROWD, SPOTS, NOTHING, ~NOTHING],
                         ids=["object", "tripod", "passer-by", "crowd", "spots", "nothing", "all"])
@pytest.mark.parametrize("is_inverted", [False, True])
def test_masks_that_mean_what_they_say_are_not(tmp_path, black, is_inverted):
    assert findings(tmp_path, black, is_inverted) == []


def test_transparent_middles_are_found_and_transparent_surroundings_are_not():
    names, poses = [str(i) for i in range(12)], ring(12, noise=0.02)
    for silhouette, count in ((~BALL, 1), (BALL, 0), (None, 0)):
        assert len(find_inverted_alpha(names, [silhouette] * 12, [CAMERA] * 12, poses)) == count
