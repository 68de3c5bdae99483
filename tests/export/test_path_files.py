import json

import numpy as np
import pytest

from nerf_app.errors import DataError
from nerf_app.export.path_files import fitted, rotations_from_quaternions
from nerf_app.export.paths import camera_path
from nerf_app.scene.camera import Camera, Lens
from tests.export.stand_in import CAMERA, ball_run, pose_looking, ring

POSES = np.stack([pose_looking((2.0 + i, -3.0, 1.0 + 0.2 * i), (0.1, 0.2, 0.3)) for i in range(6)])
APPLIED = np.array([[1.0, 0, 0, 0], [0, 0, 1.0, 0], [0, -1.0, 0, 0]])  # what nerfstudio does to COLMAP's world


def read(file, run, size=None, seconds=2.0, fps=10.0):
    return camera_path(str(file), run, size, seconds, fps)


def written(folder, content, name="path.json"):
    file = folder / name
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    return file


def nerfstudio(poses, **more) -> dict:
    cameras = [{"camera_to_world": pose.ravel().tolist(), "fov": 50.0, "aspect": 1.5} for pose in poses]
    return {"keyframes": [{"matrix": "[1]", "fov": "x"}], "camera_type": "perspective", "render_height": 200, "render_width": 300,
            "fps": 24, "seconds": 3.0, "camera_path": cameras, "crop": None, **more}


def nerfstudio_frame(poses, turn, shift, scale, applied=None):
    """The dataparser_transforms.json of a normalisation, and the poses as nerfstudio's viewer would write them."""
    transform = np.eye(4)
    transform[:3, :3], transform[:3, 3] = turn, shift  # from the coordinates before `applied`
    original_from_input = np.eye(4) if applied is None else np.linalg.inv(np.vstack([applied, [0, 0, 0, 1]]))
    normalised = transform @ original_from_input @ poses
    normalised[:, :3, 3] *= scale
    return {"transform": transform[:3].tolist(), "scale": scale}, normalised


def test_nerfstudio_paths_keep_their_poses_lens_size_and_speed(tmp_path):
    path = read(written(tmp_path, nerfstudio(POSES)), ball_run(tmp_path))
    assert path.fps == 2.0  # 6 pictures in 3 seconds, whatever "fps" says
    np.testing.assert_allclose([one.world_from_camera for one in path.cameras], POSES, atol=1e-12)
    focal = 100.0 / np.tan(np.radians(25.0))
    assert path.cameras[0].camera == Camera(300, 200, focal, focal, 150.0, 100.0)
    assert "dataparser_transforms.json" in path.notes[0]


@pytest.mark.parametrize("applied", [None, APPLIED])
def test_nerfstudio_paths_come_back_from_the_normalised_frame(tmp_path, applied):
    turn = rotations_from_quaternions(np.array([[0.1, -0.5, 0.3, 0.8]]))[0]
    frame, normalised = nerfstudio_frame(POSES, turn, [0.4, -0.5, 0.6], 0.21, applied)
    written(tmp_path, frame, "dataparser_transforms.json")
    run = ball_run(tmp_path, applied_transform=None if applied is None else applied.tolist())
    path = read(written(tmp_path, nerfstudio(normalised)), run)
    np.testing.assert_allclose([one.world_from_camera for one in path.cameras], POSES, atol=1e-9)


@pytest.mark.parametrize("kind", ["fisheye", "equirectangular"])
def test_nerfstudio_paths_may_be_fisheye_or_panorama(tmp_path, kind):
    camera = read(written(tmp_path, nerfstudio(POSES, camera_type=kind)), ball_run(tmp_path)).cameras[0].camera
    assert (camera.lens.family, camera.width, camera.height) == (kind, 300, 200)


def test_a_size_asked_for_keeps_the_vertical_field_of_view(tmp_path):
    camera = read(written(tmp_path, nerfstudio(POSES)), ball_run(tmp_path), size=(100, 400)).cameras[0].camera
    assert (camera.width, camera.height) == (100, 400)
    assert camera.focal_y_px == pytest.approx(200.0 / np.tan(np.radians(25.0)))


def ngp_keyframe(pose, scale, offset) -> dict:
    """A pose in instant-ngp's words, by the formula of its loader."""
    turned = pose[:3].copy()
    turned[:, 1:3] *= -1
    turned[:, 3] = turned[:, 3] * scale + offset
    turned = turned[[1, 2, 0]]
    w = np.sqrt(max(0.0, 1 + np.trace(turned[:, :3]))) / 2
    r = turned[:, :3]
    quaternion = [(r[2, 1] - r[1, 2]) / (4 * w), (r[0, 2] - r[2, 0]) / (4 * w), (r[1, 0] - r[0, 1]) / (4 * w), w]
    return {"R": quaternion, "T": turned[:, 3].tolist(), "slice": 0.0, "scale": 1.5, "fov": 40.0, "aperture_size": 0.0,
            "timestamp": 0.0}


def ngp(poses, scale=0.33, offset=(0.5, 0.5, 0.5), **more) -> dict:
    keys = [ngp_keyframe(pose, scale, np.array(offset)) for pose in poses]
    return {"loop": False, "time": 0.3, "path": keys, "duration_seconds": 1.0, "spline_order": 1, **more}


def test_instant_ngp_paths_pass_their_keyframes(tmp_path):
    path = read(written(tmp_path, ngp(POSES)), ball_run(tmp_path), seconds=5.0, fps=2.0)  # the end, frame 10, is not rendered
    assert len(path.cameras) == 10 and path.fps == 2.0
    np.testing.assert_allclose([one.world_from_camera for one in path.cameras[::2]], POSES[:5], atol=1e-6)
    camera = path.cameras[0].camera
    assert (camera.width, camera.height) == (CAMERA.width, CAMERA.height)
    assert camera.focal_y_px == pytest.approx(24.0 / np.tan(np.radians(20.0)))
    assert "0.33" in path.notes[0] and "defaults" in path.notes[0]


def test_instant_ngp_paths_use_the_scale_and_offset_of_the_scene_beside_them(tmp_path):
    written(tmp_path, {"scale": 0.1, "offset": [0.2, 0.3, 0.4], "frames": []}, "transforms.json")
    path = read(written(tmp_path, ngp(POSES, 0.1, (0.2, 0.3, 0.4))), ball_run(tmp_path), seconds=5.0, fps=1.0)
    np.testing.assert_allclose([one.world_from_camera for one in path.cameras], POSES[:5], atol=1e-6)
    written(tmp_path, {"offset": 0.25, "frames": []}, "transforms.json")  # one number for all axes
    path = read(written(tmp_path, ngp(POSES, 0.33, (0.25, 0.25, 0.25))), ball_run(tmp_path), seconds=5.0, fps=1.0)
    np.testing.assert_allclose([one.world_from_camera for one in path.cameras], POSES[:5], atol=1e-6)
    assert "offset 0.25, 0.25, 0.25" in path.notes[0]


def test_instant_ngp_timestamps_end_their_pieces(tmp_path):
    content = ngp(POSES[:3])
    for key, at in zip(content["path"], (1.0, 4.0, 5.0), strict=True):  # the first piece takes 1 of 4, the second 3
        key["timestamp"] = at
    path = read(written(tmp_path, content), ball_run(tmp_path), seconds=4.0, fps=1.0)
    np.testing.assert_allclose([path.cameras[i].world_from_camera for i in (0, 1)], POSES[:2], atol=1e-6)
    assert np.linalg.norm(path.cameras[3].world_from_camera[:3, 3] - POSES[1, :3, 3]) == pytest.approx(
        2 / 3 * np.linalg.norm(POSES[2, :3, 3] - POSES[1, :3, 3]), rel=1e-5)


@pytest.mark.parametrize("order", [0, 1, 2, 3])
@pytest.mark.parametrize("loop", [False, True])
def test_instant_ngp_splines_keep_a_camera_that_does_not_move(tmp_path, order, loop):
    content = ngp(np.repeat(POSES[:1], 4, axis=0), spline_order=order, loop=loop)
    content["path"][1]["R"] = [-number for number in content["path"][1]["R"]]  # the same rotation, spelled otherwise
    path = read(written(tmp_path, content), ball_run(tmp_path), seconds=1.0, fps=7.0)
    np.testing.assert_allclose([one.world_from_camera for one in path.cameras], np.repeat(POSES[:1], 7, axis=0), atol=1e-6)


@pytest.mark.parametrize("order", [1, 2, 3])
def test_instant_ngp_splines_of_a_loop_have_no_jump(tmp_path, order):
    path = read(written(tmp_path, ngp(ring(5), spline_order=order, loop=True)), ball_run(tmp_path), seconds=10.0, fps=10.0)
    places = np.stack([one.world_from_camera[:3, 3] for one in path.cameras])
    steps = np.linalg.norm(np.diff(np.append(places, places[:1], axis=0), axis=0), axis=1)
    assert steps.max() < 1.5 * steps.mean()


def test_any_transforms_file_is_a_path_in_the_order_of_its_frames(tmp_path):
    frames = [{"file_path": f"../photos/{9 - i}.png", "transform_matrix": pose.tolist()} for i, pose in enumerate(POSES)]
    frames[2] |= {"fl_x": 500.0}
    content = {"w": 640, "h": 480, "fl_x": 600.0, "cx": 321.0, "k1": 0.05, "camera_model": "OPENCV", "frames": frames}
    path = read(written(tmp_path, content, "views.json"), ball_run(tmp_path))
    np.testing.assert_allclose([one.world_from_camera for one in path.cameras], POSES, atol=1e-12)
    lens = Lens(radial=(0.05, 0.0, 0.0, 0.0))
    assert path.cameras[0].camera == Camera(640, 480, 600.0, 600.0, 321.0, 240.0, lens)
    assert path.cameras[2].camera.focal_x_px == 500.0
    assert path.fps == 10.0


def test_blenders_files_take_the_size_of_the_training_cameras(tmp_path):
    content = {"camera_angle_x": 0.8, "frames": [{"file_path": "./test/r_0", "transform_matrix": POSES[0].tolist()}]}
    camera = read(written(tmp_path, content), ball_run(tmp_path)).cameras[0].camera
    assert (camera.width, camera.height) == (CAMERA.width, CAMERA.height)
    assert camera.focal_x_px == pytest.approx(32.0 / np.tan(0.4))


def test_fitting_a_panorama_stretches_it_to_the_size():
    assert fitted(Camera(200, 100, 1.0, 1.0, 100.0, 50.0, Lens("equirectangular")), (400, 100)).width == 400


BROKEN = {
    "no JSON": "{",
    "deep": "[" * 100_000,
    "no known key": {"cameras": []},
    "a list": [1, 2],
    "empty nerfstudio": nerfstudio([]),
    "empty instant-ngp": ngp([]),
    "empty frames": {"frames": [], "transform_matrix": 0},
    "15 numbers": nerfstudio(POSES) | {"camera_path": [{"camera_to_world": [0.0] * 15, "fov": 50.0}]},
    "no rotation": nerfstudio(2.0 * POSES * [1.0, 0.2, 1.0, 0.5]),
    "transposed": nerfstudio(POSES.transpose(0, 2, 1)),
    "NaN": json.dumps(nerfstudio(POSES)).replace("50.0", "NaN"),
    "infinite": json.dumps(nerfstudio(POSES)).replace("-3.0", "1e999"),
    "field of view": json.dumps(nerfstudio(POSES)).replace("50.0", "180"),
    "camera type": nerfstudio(POSES, camera_type="vr180"),
    "size": nerfstudio(POSES, render_width=0),
    "seconds": nerfstudio(POSES, seconds=1e-9),
    "zero quaternion": ngp(POSES) | {"path": [{"R": [0, 0, 0, 0], "T": [0, 0, 0], "fov": 50}]},
    "spline": ngp(POSES, spline_order=7),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_file_is_named_in_one_line(tmp_path, what):
    with pytest.raises(DataError, match="odd") as error:
        read(written(tmp_path, BROKEN[what], "odd.json"), ball_run(tmp_path))
    assert "\n" not in str(error.value)


def test_a_folder_is_no_path(tmp_path):
    with pytest.raises(DataError, match="regular file|cannot be read"):
        read(tmp_path, ball_run(tmp_path))


def test_a_crop_box_is_said_to_be_left_out(tmp_path):
    path = read(written(tmp_path, nerfstudio(POSES, crop={"crop_scale": [1, 1, 1]})), ball_run(tmp_path))
    assert any("crop" in note for note in path.notes)


def test_an_applied_scale_does_not_bend_the_rotations(tmp_path):
    frame, normalised = nerfstudio_frame(POSES, np.eye(3), [0.0, 0.0, 0.0], 0.5, 3.0 * APPLIED)
    frame["scale"] = 0.5
    written(tmp_path, frame, "dataparser_transforms.json")
    normalised[:, :3, :3] *= 3.0  # nerfstudio's own matrices are rotations; only places carry the scale
    path = read(written(tmp_path, nerfstudio(normalised)), ball_run(tmp_path, applied_transform=(3.0 * APPLIED).tolist()))
    np.testing.assert_allclose([one.world_from_camera for one in path.cameras], POSES, atol=1e-9)
