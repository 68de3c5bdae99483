"""Focal lengths: what EXIF states holds where photos cannot tell, and not where they can."""

import subprocess
import sys

import numpy as np
import pytest

from nerf_app.process import child
from nerf_app.process.solve import silent
from tests.requires import requires
from tests.sphere import look_at

pytestmark = requires("pycolmap")
FOCAL_PX, WIDTH, HEIGHT = 600.0, 640, 480
WRITE = """
import sys
import numpy as np
import pycolmap
given = np.load(sys.argv[1])
model = pycolmap.Reconstruction()
focal, width, height = given["camera"]
size = int(width), int(height)
model.add_camera_with_trivial_rig(pycolmap.Camera(camera_id=1, model="OPENCV", width=size[0], height=size[1],
    params=[focal, focal, size[0] / 2, size[1] / 2, 0, 0, 0, 0]))
tracks = [pycolmap.Track() for _ in given["points"]]
for number, (pose, places) in enumerate(zip(given["poses"], given["places"]), 1):
    seen = np.flatnonzero((places >= 0).all(1) & (places < size).all(1))
    image = pycolmap.Image(image_id=number, name=f"{number}.jpg", camera_id=1)
    image.points2D = pycolmap.Point2DList([pycolmap.Point2D(place) for place in places[seen]])
    model.add_image_with_trivial_frame(image, pycolmap.Rigid3d(pose[:3]))
    for feature, point in enumerate(seen):
        tracks[point].add_element(number, feature)
for number, (point, track) in enumerate(zip(given["points"], tracks), 1):
    if track.length() >= 2:
        model.add_point3D_with_id(number, pycolmap.Point3D(xyz=point, color=np.zeros(3, np.uint8), track=track))
model.write_binary(sys.argv[2])
"""


def opencv_poses(eyes, targets):
    """[V, 4, 4] world-to-camera, x right, y down, z forward."""
    poses = np.array([look_at(eye, target) for eye, target in zip(eyes, targets, strict=True)])
    return np.linalg.inv(poses @ np.diag([1.0, -1.0, -1.0, 1.0]))


def projected(poses, points, focal_px):
    """[V, N, 2] pixels, far outside where a point lies behind."""
    inside = points @ poses[:, :3, :3].swapaxes(1, 2) + poses[:, None, :3, 3]
    flat = focal_px * inside[..., :2] / np.maximum(inside[..., 2:], 1e-6) + [WIDTH / 2, HEIGHT / 2]
    return np.where(inside[..., 2:] > 0.1, flat, -1e6)


def written(folder, eyes, targets, points, scale_up, found_px):
    """A model that was found with another focal length; its cameras stand `scale_up` times as high. Returns the photos' names."""
    rng = np.random.default_rng(1)
    places = projected(opencv_poses(eyes, targets), points, FOCAL_PX) + rng.normal(0.0, 0.5, (len(eyes), len(points), 2))
    found = opencv_poses(eyes * [1.0, 1.0, scale_up], targets * [1.0, 1.0, scale_up])
    (folder / "model").mkdir()
    np.savez(folder / "given.npz", camera=[found_px, WIDTH, HEIGHT], poses=found, points=points, places=places)
    subprocess.run([sys.executable, "-c", WRITE, str(folder / "given.npz"), str(folder / "model")], check=True)
    return [f"{number}.jpg" for number in range(1, len(eyes) + 1)]


def judged(folder, names, stated_px):
    return child.run("focal_lengths", silent, model=str(folder / "model"), out=str(folder / "own"), threads=1, seed=0,
                     groups=[{"names": names, "focal": stated_px, "width": WIDTH, "height": HEIGHT}])


def test_straight_down_on_level_ground_exif_is_believed(tmp_path):
    rng = np.random.default_rng(0)
    points = np.column_stack([rng.uniform(-20, 20, (900, 2)), rng.normal(0.0, 0.05, 900)])
    eyes = np.array([[x, y, 15.0] for x in np.linspace(-9, 9, 4) for y in np.linspace(-9, 9, 4)])
    names = written(tmp_path, eyes, eyes * [1.0, 1.0, 0.0] + rng.normal(0.0, 0.05, (16, 3)), points, 1.25, 1.25 * FOCAL_PX)
    kept = judged(tmp_path, names, FOCAL_PX)
    assert kept["kind"] == "stated" and kept["least"] == kept["most"] == FOCAL_PX
    assert kept["before"] == pytest.approx(1.25 * FOCAL_PX) and (tmp_path / "own/points3D.bin").exists()


def test_a_length_that_exif_confirms_stays_as_it_was_found(tmp_path):
    rng = np.random.default_rng(0)
    points = np.column_stack([rng.uniform(-20, 20, (900, 2)), rng.normal(0.0, 0.05, 900)])
    eyes = np.array([[x, y, 15.0] for x in np.linspace(-9, 9, 4) for y in np.linspace(-9, 9, 4)])
    names = written(tmp_path, eyes, eyes * [1.0, 1.0, 0.0] + rng.normal(0.0, 0.05, (16, 3)), points, 1.0, FOCAL_PX)
    assert judged(tmp_path, names, 1.04 * FOCAL_PX) is None
    assert judged(tmp_path, names[1:], 1.25 * FOCAL_PX) is not None and judged(tmp_path, [], FOCAL_PX) is None


@pytest.mark.parametrize("stated", [0.93, 1.07, None])
def test_round_a_thing_photos_tell_their_focal_length_themselves(stated, tmp_path):
    rng = np.random.default_rng(0)
    points = rng.uniform(-2, 2, (900, 3))
    turns = np.linspace(0.0, 5.0, 16)
    eyes = 6.0 * np.column_stack([np.cos(turns), np.sin(turns), 0.3 + 0.2 * np.sin(3 * turns)])
    names = written(tmp_path, eyes, np.zeros((16, 3)), points, 1.0, FOCAL_PX)
    assert judged(tmp_path, names, stated and stated * FOCAL_PX) is None
