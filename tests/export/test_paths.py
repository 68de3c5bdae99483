import itertools
from dataclasses import replace

import numpy as np
import pytest

from nerf_app.errors import DataError, UsageError
from nerf_app.export.path_files import rotations_from_quaternions
from nerf_app.export.paths import camera_path, look, made_up_camera, quaternions_from_rotations, smooth_poses, visiting_order
from nerf_app.scene.camera import Camera, Lens
from tests.export.stand_in import CAMERA, FISHEYE, BallRun, ball_run, pose_looking, ring, views_at

CENTRE = np.array([10.0, -20.0, 5.0])


def poses_of(path) -> np.ndarray:
    return np.stack([one.world_from_camera for one in path.cameras])


def length_of(places, order) -> float:
    return np.linalg.norm(np.diff(places[list(order)], axis=0), axis=1).sum()


def random_rotations(count: int) -> np.ndarray:
    return rotations_from_quaternions(np.random.default_rng(0).normal(size=(count, 4)))


def test_orbit_looks_at_the_focus_from_the_cameras_height_and_distance_with_a_level_horizon(tmp_path):
    poses = poses_of(camera_path("orbit", ball_run(tmp_path, CENTRE), None, 2.0, 10.0))
    offsets = CENTRE - poses[:, :3, 3]
    assert len(poses) == 20
    np.testing.assert_allclose(np.linalg.norm(offsets, axis=1), 4.0, rtol=1e-3)
    np.testing.assert_allclose(-poses[:, :3, 2], offsets / 4.0, atol=1e-3)
    np.testing.assert_allclose(-offsets[:, 2], 4.0 * np.sin(0.4), rtol=1e-3)
    np.testing.assert_allclose(poses[:, 2, 0], 0.0, atol=1e-12)  # x axes are level
    assert (poses[:, 2, 1] > 0).all()  # and nobody hangs upside down


def test_orbit_where_space_has_no_end_stands_on_each_side_as_the_photos_of_that_side_do(tmp_path):
    """One half of the photos is near and high, the other far and low; far behind the near ones nothing was seen."""
    angles = np.arange(0.0, 2 * np.pi, 0.1)
    near = np.cos(angles) > 0.0
    distances, elevations = np.where(near, 2.0, 5.0), np.where(near, 0.9, 0.2)
    places = CENTRE + distances[:, None] * np.stack([np.cos(elevations) * np.cos(angles), np.cos(elevations) * np.sin(angles),
                                                     np.sin(elevations)], 1)
    run = BallRun(tmp_path, views_at([pose_looking(place, CENTRE) for place in places]), CENTRE)
    run.is_bounded = False
    poses = poses_of(camera_path("orbit", run, None, 4.0, 10.0))
    offsets = poses[:, :3, 3] - CENTRE
    reach, height = np.linalg.norm(offsets, axis=1), np.arcsin(offsets[:, 2] / np.linalg.norm(offsets, axis=1))
    for side, distance, elevation in ((1.0, 2.0, 0.9), (-1.0, 5.0, 0.2)):
        is_side = side * offsets[:, 0] > 0.85 * np.linalg.norm(offsets[:, :2], axis=1)
        np.testing.assert_allclose(reach[is_side], 0.95 * distance, rtol=0.15)
        np.testing.assert_allclose(height[is_side], elevation, atol=0.1)
    steps = np.linalg.norm(np.diff(np.append(offsets, offsets[:1], axis=0), axis=0), axis=1)
    assert steps.max() < 1.5  # it closes, and nowhere leaps
    np.testing.assert_allclose(-poses[:, :3, 2], -offsets / reach[:, None], atol=0.1)


def test_orbit_is_one_even_turn_that_closes(tmp_path):
    places = poses_of(camera_path("orbit", ball_run(tmp_path, CENTRE), None, 2.0, 10.0))[:, :3, 3]
    steps = np.linalg.norm(np.diff(np.append(places, places[:1], axis=0), axis=0), axis=1)
    np.testing.assert_allclose(steps, 2 * np.linalg.norm(places[0, :2] - CENTRE[:2]) * np.sin(np.pi / 20), rtol=1e-6)


def test_orbit_turns_about_any_up_axis(tmp_path):
    run = ball_run(tmp_path)
    turn = random_rotations(1)[0]
    world = np.eye(4)
    world[:3, :3] = turn
    run.views = tuple(replace(view, world_from_camera=world @ view.world_from_camera) for view in run.views)
    run.up = turn[:, 2]
    poses = poses_of(camera_path("orbit", run, None, 1.0, 8.0))
    np.testing.assert_allclose(poses[:, :3, 0] @ run.up, 0.0, atol=1e-9)
    np.testing.assert_allclose(poses[:, :3, 3] @ run.up, 4.0 * np.sin(0.4), rtol=1e-3)


def test_orbit_in_a_room_stays_among_the_cameras_and_looks_outwards(tmp_path):
    angles = np.arange(0, 2 * np.pi, 0.3)
    poses = [pose_looking(p, 3 * p) for p in np.stack([np.cos(angles), np.sin(angles), 0 * angles + 0.1], 1)]
    path = poses_of(camera_path("orbit", BallRun(tmp_path, views_at(poses)), None, 2.0, 10.0))
    places = path[:, :3, 3]
    assert np.linalg.norm(places[:, :2], axis=1).max() <= 1.0 + 1e-9
    assert (np.sum(-path[:, :2, 2] * places[:, :2], axis=1) > 0).all()


def test_orbit_in_a_room_photographed_from_one_point_turns_on_the_spot(tmp_path):
    poses = [pose_looking((1.0, 2.0, 3.0), (1.0 + np.cos(a), 2.0 + np.sin(a), 3.2)) for a in np.arange(0, 6, 0.5)]
    path = poses_of(camera_path("orbit", BallRun(tmp_path, views_at(poses)), None, 1.0, 8.0))
    np.testing.assert_allclose(path[:, :3, 3], np.tile([1.0, 2.0, 3.0], (8, 1)), atol=1e-9)
    assert np.isfinite(path).all()


def test_orbit_says_that_photos_from_one_side_show_no_back(tmp_path):
    poses = [pose_looking((x, -4.0, z), (0, 0, 0)) for x in (-0.5, 0.0, 0.5) for z in (-0.3, 0.3)]
    path = camera_path("orbit", BallRun(tmp_path, views_at(poses)), None, 1.0, 8.0)
    assert "far from every photo" in path.notes[0] and "spiral" in path.notes[0]
    assert not camera_path("orbit", ball_run(tmp_path), None, 1.0, 8.0).notes


def test_spiral_stays_in_the_spread_of_the_cameras_and_looks_at_one_point(tmp_path):
    poses = [pose_looking((x, -4.0, z), (0, 0, 0)) for x in (-0.5, 0.0, 0.5) for z in (-0.3, 0.0, 0.3)]
    path = poses_of(camera_path("spiral", BallRun(tmp_path, views_at(poses)), None, 2.0, 20.0))
    assert np.abs(path[:, 0, 3]).max() <= 0.5 and np.abs(path[:, 2, 3]).max() <= 0.31
    assert np.ptp(path[:, 0, 3]) > 0.5
    to_focus = -path[:, :3, 3] / np.linalg.norm(path[:, :3, 3], axis=1, keepdims=True)
    np.testing.assert_allclose(np.sum(-path[:, :3, 2] * to_focus, axis=1), 1.0, atol=1e-3)


def test_spiral_closes_also_in_depth(tmp_path):
    poses = [pose_looking((0.0, y, z), (0, 0, 0)) for y in (-5.0, -4.0, -3.0) for z in (-0.1, 0.1)]
    places = poses_of(camera_path("spiral", BallRun(tmp_path, views_at(poses)), None, 4.0, 20.0))[:, :3, 3]
    assert np.ptp(places[:, 1]) > 1.0
    steps = np.linalg.norm(np.diff(np.append(places, places[:1], axis=0), axis=0), axis=1)
    assert steps[-1] <= steps[:-1].max()


def test_spiral_of_cameras_all_round_stays_near_one_of_them(tmp_path):
    run = ball_run(tmp_path)
    path = poses_of(camera_path("spiral", run, None, 1.0, 20.0))
    assert min(np.linalg.norm(path[:, :3, 3] - view.world_from_camera[:3, 3], axis=1).max() for view in run.views) < 0.6 * 4.0


def test_interpolate_passes_its_cameras_exactly_and_in_a_short_order(tmp_path):
    run = ball_run(tmp_path)
    run.views = tuple(run.views[i] for i in (0, 5, 1, 9, 2, 7, 3, 11, 4, 10, 6, 8))
    path = poses_of(camera_path("interpolate", run, None, 20.0, 20.0))
    for view in run.views:
        gaps = np.linalg.norm(path[:, :3, 3] - view.world_from_camera[:3, 3], axis=1)
        assert gaps.min() < 0.05
        np.testing.assert_allclose(path[gaps.argmin(), :3, :3], view.world_from_camera[:3, :3], atol=0.02)
    assert np.linalg.norm(np.diff(path[:, :3, 3], axis=0), axis=1).sum() < 2 * np.pi * 4.0  # once round, not to and fro


@pytest.mark.parametrize("turns", [0, 1, 3])
def test_films_of_photos_that_lie_on_their_side_are_upright(tmp_path, turns):
    """A phone was held upright and nobody noted it: up is to the left or to the right in all photos."""
    quarter = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    run = ball_run(tmp_path)
    straight = poses_of(camera_path("interpolate", run, None, 2.0, 10.0))
    turned = [view.world_from_camera.copy() for view in run.views]
    for pose in turned:
        pose[:3, :3] = pose[:3, :3] @ np.linalg.matrix_power(quarter, turns)
    run.views = tuple(replace(view, world_from_camera=pose) for view, pose in zip(run.views, turned, strict=True))
    path = camera_path("interpolate", run, None, 2.0, 10.0)
    np.testing.assert_allclose(poses_of(path), straight, atol=1e-9)
    camera = path.cameras[0].camera
    sides = (CAMERA.width, CAMERA.height)
    assert (camera.width, camera.height) == (sides[::-1] if turns % 2 else sides)


def test_interpolate_has_steady_speed_and_true_rotations(tmp_path):
    path = poses_of(camera_path("interpolate", ball_run(tmp_path), None, 6.0, 10.0))
    speed = np.linalg.norm(np.diff(path[:, :3, 3], axis=0), axis=1)
    np.testing.assert_allclose(speed, speed.mean(), rtol=0.03)  # chords of a circle that a spline follows
    np.testing.assert_allclose(path[:, :3, :3] @ path[:, :3, :3].transpose(0, 2, 1), np.tile(np.eye(3), (60, 1, 1)), atol=1e-12)


def test_interpolate_leaves_cameras_out_where_the_time_is_short_and_says_so(tmp_path):
    path = camera_path("interpolate", ball_run(tmp_path), None, 2.0, 10.0)
    assert path.notes == ("the path passes 4 of 12 training cameras",)


def test_a_smooth_way_goes_through_its_keys_and_keeps_to_a_line_where_they_do():
    keys = np.tile(np.eye(4), (5, 1, 1))
    keys[:, 0, 3] = [0.0, 1.0, 1.5, 4.0, 4.1]
    way = smooth_poses(keys, 1.0, 42)
    np.testing.assert_allclose(way[:, 0, 3], np.linspace(0.0, 4.1, 42), atol=1e-3)
    np.testing.assert_allclose(way[:, :3, :3], np.tile(np.eye(3), (42, 1, 1)), atol=1e-12)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_smooth_way_survives_few_keys_and_repeated_ones(count):
    key = pose_looking((1.0, 2.0, 3.0), (0.0, 0.0, 0.0))
    way = smooth_poses(np.tile(key, (count, 1, 1)), 1.0, 7)
    np.testing.assert_allclose(way, np.tile(key, (7, 1, 1)), atol=1e-12)


def test_quaternions_give_their_rotation_back_also_at_half_turns():
    half_turns = np.stack([np.diag(d) for d in ([1.0, -1, -1], [-1.0, 1, -1], [-1.0, -1, 1], [1.0, 1, 1])])
    rotations = np.concatenate([random_rotations(50), half_turns])
    np.testing.assert_allclose(rotations_from_quaternions(quaternions_from_rotations(rotations)), rotations, atol=1e-12)


def test_visiting_order_is_nearly_the_best_of_all():
    places = np.random.default_rng(1).normal(size=(7, 3)) * [100.0, 1.0, 1.0]  # far from a way as listed
    best = min(length_of(places, (0, *rest)) for rest in itertools.permutations(range(1, 7)))
    order = visiting_order(places)
    assert sorted(order) == list(range(7))
    assert length_of(places, order) <= 1.1 * best


def test_no_piece_of_the_visiting_order_is_better_turned_round():
    places = np.random.default_rng(3).normal(size=(60, 2))
    order = list(visiting_order(places))
    for i, j in itertools.combinations(range(1, 60), 2):
        turned = order[:i] + order[i:j + 1][::-1] + order[j + 1:]
        assert length_of(places, turned) > length_of(places, order) - 1e-6


def test_visiting_order_keeps_the_order_of_a_walk():
    walk = np.cumsum(np.random.default_rng(2).uniform(0.1, 1.0, size=(30, 1)), axis=0) * np.ones(3)
    assert list(visiting_order(walk)) == list(range(30))


def test_train_is_the_training_cameras_with_their_own_lens_and_size(tmp_path):
    run = ball_run(tmp_path)
    run.views = (replace(run.views[0], camera=FISHEYE), replace(run.views[1], split="test"), *run.views[2:])
    path = camera_path("train", run, None, 3.0, 10.0)
    assert [one.camera for one in path.cameras] == [FISHEYE] + [CAMERA] * 10
    np.testing.assert_array_equal(path.cameras[1].world_from_camera, run.views[2].world_from_camera)


def test_train_fits_all_cameras_into_a_size_that_is_asked_for(tmp_path):
    fitted = camera_path("train", ball_run(tmp_path), (200, 96), 3.0, 10.0).cameras[0].camera
    assert (fitted.width, fitted.height) == (200, 96)
    assert (fitted.focal_x_px, fitted.focal_y_px) == (120.0, 120.0)  # twice as large, by height
    assert (fitted.centre_x_px, fitted.centre_y_px) == (100.0, 48.0)


@pytest.mark.parametrize("kind", ["orbit", "spiral", "interpolate"])
def test_made_up_paths_work_with_a_single_camera(tmp_path, kind):
    path = camera_path(kind, BallRun(tmp_path, views_at(ring(1))), None, 1.0, 5.0)
    assert len(path.cameras) == 5 and np.isfinite(poses_of(path)).all()


def test_made_up_cameras_are_pinholes_of_even_size_with_the_training_field_of_view(tmp_path):
    run = ball_run(tmp_path)
    large = Camera(4001, 3001, 3000.0, 3000.0, 2000.0, 1500.0, Lens(radial=(0.1, 0.0, 0.0, 0.0)))
    run.views = views_at(ring(), large)
    camera = made_up_camera(run)
    assert (camera.width, camera.height, camera.lens) == (1280, 960, Lens())
    assert camera.height / camera.focal_y_px == pytest.approx(3001 / 3000)
    tall = made_up_camera(run, (300, 900))
    assert tall.width / tall.focal_x_px == pytest.approx(3001 / 3000)  # the short side keeps its field


def test_a_fisheye_becomes_a_pinhole_that_does_not_stretch(tmp_path):
    run = ball_run(tmp_path)
    run.views = views_at(ring(), FISHEYE)
    camera = made_up_camera(run)
    assert camera.lens == Lens()
    assert 2 * np.arctan(camera.height / 2 / camera.focal_y_px) <= np.radians(75.0) + 1e-9


@pytest.mark.parametrize("up", [(0.0, 0.0, 1.0), (1.0, 1.0, 1.0)])
def test_looking_straight_down_is_a_pose_too(up):
    up = np.array(up) / np.linalg.norm(up)
    pose = look(np.zeros(3), -up, up)
    np.testing.assert_allclose(pose[:3, :3] @ pose[:3, :3].T, np.eye(3), atol=1e-12)
    np.testing.assert_allclose(pose[:3, 2], up, atol=1e-12)


def test_an_unknown_path_names_what_there_is(tmp_path):
    with pytest.raises(DataError, match="no camera path orbti: --path takes orbit, spiral, interpolate, train, or a JSON file"):
        camera_path("orbti", ball_run(tmp_path), None, 1.0, 5.0)
    for odd in ("a\0b.json", "x" * 5000):
        with pytest.raises(DataError, match="no camera path"):
            camera_path(odd, ball_run(tmp_path), None, 1.0, 5.0)


@pytest.mark.parametrize("size, seconds, fps", [(None, 0.0, 10.0), (None, 1.0, float("nan")), (None, 1e9, 10.0),
                                                ((0, 10), 1.0, 10.0), ((10, 10_000), 1.0, 10.0)])
def test_impossible_videos_are_refused(tmp_path, size, seconds, fps):
    with pytest.raises(UsageError, match="--s"):
        camera_path("orbit", ball_run(tmp_path), size, seconds, fps)
