import numpy as np
import pytest
import torch

from nerf_app.errors import DataError
from nerf_app.scene.camera import Camera, Lens
from nerf_app.scene.lenses import CameraBatch
from nerf_app.scene.normalise import choose_normalisation, estimate_up, focus_point

CAMERA = Camera(64, 48, 60.0, 60.0, 32.0, 24.0)


def looking(centre, target, up=(0.0, 0.0, 1.0)) -> np.ndarray:
    """[4, 4] the pose of a camera that stands and looks there."""
    backwards = np.subtract(centre, target) / np.linalg.norm(np.subtract(centre, target))
    right = np.cross(up, backwards)
    right /= np.linalg.norm(right)
    pose = np.eye(4)
    pose[:3] = np.stack([right, np.cross(backwards, right), backwards, centre], 1)
    return pose


def dome(count=24, radius=4.0, target=(0.0, 0.0, 0.0), lowest=0.1) -> np.ndarray:
    """[count, 4, 4] cameras all round and above, all looking at the target."""
    i = np.arange(count)
    z = lowest + (0.85 - lowest) * (i + 0.5) / count
    angle = 2.399963 * i
    around = np.stack([np.sqrt(1 - z**2) * np.cos(angle), np.sqrt(1 - z**2) * np.sin(angle), z], 1)
    return np.stack([looking(np.add(target, radius * direction), target) for direction in around])


def batch_of(poses, camera=CAMERA) -> CameraBatch:
    return CameraBatch.from_cameras([camera] * len(poses))


def silhouettes_of(solid: np.ndarray, poses: np.ndarray, camera=CAMERA, shape=(48, 64)) -> list[tuple[int, np.ndarray]]:
    """Reduced pictures of a cloud of points [M, 3] that is dense enough to leave no holes."""
    batch, found = batch_of(poses, camera), []
    for view, pose in enumerate(poses):
        points = torch.from_numpy((solid - pose[:3, 3]) @ pose[:3, :3])
        x, y, is_visible = batch.project(torch.full((len(points),), view), points)
        opaque = np.zeros(shape, bool)
        opaque[(y[is_visible] * shape[0] / camera.height).long().clamp(max=shape[0] - 1),
               (x[is_visible] * shape[1] / camera.width).long().clamp(max=shape[1] - 1)] = True
        found.append((view, opaque))
    return found


def brick(low, high, count=30_000) -> np.ndarray:
    return np.random.default_rng(0).uniform(low, high, (count, 3))


def test_the_cube_holds_the_object_and_little_more():
    low, high = np.array([-0.6, -1.1, -0.5]), np.array([0.6, 1.1, 0.9])
    solid, poses = brick(low, high), dome(radius=5)
    normalisation, is_bounded, notes = choose_normalisation(poses, batch_of(poses), None, silhouettes_of(solid, poses), "auto")
    assert is_bounded
    assert np.abs(normalisation.to_scene(solid)).max() <= 1
    assert 1.1 < 1 / normalisation.scale < 1.1 * 1.25  # half an edge against the longest half extent
    assert "carved from 24 silhouettes" in notes[0]


def test_a_pole_thinner_than_a_cell_is_not_carved_off():
    pole = brick((-0.005, -0.005, -0.5), (0.005, 0.005, 1.2), 3000)
    foot = brick((-0.4, -0.4, -0.5), (0.4, 0.4, -0.3))
    solid, poses = np.concatenate([pole, foot]), dome(radius=5)
    normalisation, _, _ = choose_normalisation(poses, batch_of(poses), None, silhouettes_of(solid, poses), "auto")
    assert np.abs(normalisation.to_scene(solid)).max() <= 1


def test_an_object_that_is_small_among_far_cameras_is_found():
    solid, poses = brick((0.1, 0.0, 0.0), (0.3, 0.1, 0.1)), dome(radius=20)
    silhouettes = silhouettes_of(solid, poses, Camera(64, 48, 2000.0, 2000.0, 32.0, 24.0))
    camera = Camera(64, 48, 2000.0, 2000.0, 32.0, 24.0)
    normalisation, _, _ = choose_normalisation(poses, batch_of(poses, camera), None, silhouettes, "auto")
    assert np.abs(normalisation.to_scene(solid)).max() <= 1
    assert 1 / normalisation.scale < 0.1 * 1.5


def test_a_close_object_that_photos_cut_off_is_kept_whole():
    solid, poses = brick((-1.5, -1.5, -0.3), (1.5, 1.5, 0.3), 200_000), dome(count=40, radius=3.0)
    silhouettes = silhouettes_of(solid, poses)
    assert any(opaque[:, 0].any() or opaque[:, -1].any() for _, opaque in silhouettes)
    normalisation, _, _ = choose_normalisation(poses, batch_of(poses), None, silhouettes, "auto")
    assert np.abs(normalisation.to_scene(solid)).max() <= 1


def test_a_wrong_silhouette_among_many_neither_cuts_nor_swells_the_cube():
    solid, poses = brick((-0.5, -0.5, -0.5), (0.5, 0.5, 0.5)), dome(count=30, radius=5)
    right = silhouettes_of(solid, poses)
    truth, _, _ = choose_normalisation(poses, batch_of(poses), None, right, "auto")
    for wrong in (np.zeros((48, 64), bool), np.arange(64)[None].repeat(48, 0) < 20):
        mixed = [(view, wrong if view in (3, 17) else opaque) for view, opaque in right]
        normalisation, _, _ = choose_normalisation(poses, batch_of(poses), None, mixed, "auto")
        assert np.abs(normalisation.to_scene(solid)).max() <= 1
        assert normalisation.scale == pytest.approx(truth.scale, rel=0.15)


def test_photos_that_look_elsewhere_do_not_deny_the_object():
    solid, poses = brick((-0.5, -0.5, -0.5), (0.5, 0.5, 0.5)), dome(count=20, radius=5)
    for i in range(0, 20, 3):
        poses[i] = looking(poses[i, :3, 3], poses[i, :3, 3] * 2 + (0.0, 1.0, 0.0))
    silhouettes = silhouettes_of(solid, poses)
    assert sum(not opaque.any() for _, opaque in silhouettes) == 7
    normalisation, _, _ = choose_normalisation(poses, batch_of(poses), None, silhouettes, "auto")
    assert np.abs(normalisation.to_scene(solid)).max() <= 1
    assert 1 / normalisation.scale < 0.5 * 1.6  # thirteen views from above, ten pixels each


def test_fisheye_silhouettes_carve_as_well():
    camera = Camera(64, 48, 30.0, 30.0, 32.0, 24.0, Lens("fisheye", radial=(0.02, 0.0, 0.0, 0.0)))
    solid, poses = brick((-0.5, -0.7, -0.5), (0.5, 0.7, 0.5)), dome(radius=3)
    silhouettes = silhouettes_of(solid, poses, camera)
    normalisation, is_bounded, _ = choose_normalisation(poses, batch_of(poses, camera), None, silhouettes, "auto")
    assert is_bounded
    assert np.abs(normalisation.to_scene(solid)).max() <= 1
    assert 1 / normalisation.scale < 0.7 * 1.4


def test_silhouettes_without_a_common_place_leave_what_the_cameras_look_at():
    poses = dome()
    nothing = [(view, np.zeros((48, 64), bool)) for view in range(len(poses))]
    normalisation, is_bounded, notes = choose_normalisation(poses, batch_of(poses), None, nothing, "auto")
    assert is_bounded
    np.testing.assert_allclose(normalisation.centre, 0, atol=1e-6)
    assert "no place in common" in notes[0]


def test_auto_is_bounded_only_where_nearly_every_photo_has_a_silhouette():
    solid, poses = brick((-0.5, -0.5, -0.5), (0.5, 0.5, 0.5)), dome(count=20, radius=5)
    silhouettes = silhouettes_of(solid, poses)
    full = [(view, np.ones((48, 64), bool)) for view in range(20)]
    for some, truth in ((silhouettes[:18], True), (silhouettes[:17], False), (silhouettes[:10] + full[10:], False),
                        (full, False), ([], False), (None, False)):
        assert choose_normalisation(poses, batch_of(poses), None, some, "auto")[1] is truth
    assert choose_normalisation(poses, batch_of(poses), None, silhouettes, "unbounded")[1] is False
    assert "carved from 3" in choose_normalisation(poses, batch_of(poses), None, silhouettes[::7], "box")[2][0]


def test_a_box_without_silhouettes_lies_around_the_points_or_what_the_cameras_see():
    poses = dome()
    points = np.random.default_rng(0).uniform((1, 1, 1), (2, 3, 2), (5000, 3))
    points[::500] = 1e6
    points[1] = np.nan
    normalisation, is_bounded, _ = choose_normalisation(poses, batch_of(poses), points, None, "box")
    assert is_bounded
    np.testing.assert_allclose(normalisation.centre, (1.5, 2, 1.5), atol=0.05)
    assert 1 / normalisation.scale == pytest.approx(1.0, abs=0.06)
    normalisation, _, _ = choose_normalisation(poses, batch_of(poses), None, None, "box")
    np.testing.assert_allclose(normalisation.centre, 0, atol=1e-6)
    assert 1 / normalisation.scale == pytest.approx(4 * (32 + 24) / 2 / 60, rel=0.05)


def test_cameras_around_a_place_stand_at_the_cubes_sides():
    poses = dome(radius=30.0, target=(5.0, -7.0, 2.0))
    normalisation, is_bounded, notes = choose_normalisation(poses, batch_of(poses), None, None, "auto")
    assert not is_bounded
    np.testing.assert_allclose(normalisation.centre, (5, -7, 2), atol=1e-5)
    assert 1 / normalisation.scale == pytest.approx(30)
    assert "look at one place" in notes[0]


def test_no_camera_but_a_stray_one_is_far_outside_the_cube():
    poses = dome(count=40)
    poses[::20, :3, 3] *= 1.8  # within the limits: all must stay near
    normalisation, _, _ = choose_normalisation(poses, batch_of(poses), None, None, "auto")
    assert np.abs(normalisation.to_scene(poses[:, :3, 3])).max() <= 1.5 + 1e-9
    poses[0, :3, 3] *= 1000
    normalisation, _, _ = choose_normalisation(poses, batch_of(poses), None, None, "auto")
    assert 1 / normalisation.scale < 2.01 * 4 * 1.8


def forward_facing(parallel=False) -> np.ndarray:
    random = np.random.default_rng(1)
    centres = random.uniform((-1, -1, -0.1), (1, 1, 0.1), (20, 3))
    return np.stack([looking(c, c + (0, 0, -20) if parallel else (0, 0, -20), up=(0, 1, 0)) for c in centres])


@pytest.mark.parametrize("parallel", [False, True])
def test_cameras_that_look_the_same_way_have_the_content_in_the_cube(parallel):
    poses = forward_facing(parallel)
    points = np.random.default_rng(0).uniform((-8, -6, -25), (8, 6, -8), (3000, 3))
    for known, depth_range in ((points, None), (None, (8.0, 25.0))):
        normalisation, is_bounded, notes = choose_normalisation(poses, batch_of(poses), known, None, "auto", depth_range)
        assert not is_bounded
        assert "look the same way" in notes[0]
        assert (np.abs(normalisation.to_scene(points)).max(1) <= 1).mean() > 0.85
        assert np.abs(normalisation.to_scene(poses[:, :3, 3])).max() <= 1.5 + 1e-9
    normalisation, _, _ = choose_normalisation(poses, batch_of(poses), None, None, "auto")
    assert normalisation.centre[2] < -2  # ahead
    assert np.abs(normalisation.to_scene(poses[:, :3, 3])).max() <= 1.5 + 1e-9


def test_a_horizon_far_behind_does_not_blow_up_the_cube():
    poses = forward_facing()
    points = np.random.default_rng(0).uniform((-8, -6, -25), (8, 6, -8), (3000, 3))
    points[::2] *= 400
    normalisation, _, _ = choose_normalisation(poses, batch_of(poses), points, None, "auto")
    assert 1 / normalisation.scale < 40


def test_cameras_that_look_around_stand_in_the_middle():
    random = np.random.default_rng(3)
    centres = random.uniform(-0.5, 0.5, (40, 3)) + (10, 20, 1)
    angles = np.linspace(0, 2 * np.pi, 40)
    poses = np.stack([looking(c, c + (np.cos(a), np.sin(a), 0.1)) for c, a in zip(centres, angles)])
    points = random.uniform(-3, 3, (2000, 3)) + (10, 20, 1)
    normalisation, is_bounded, notes = choose_normalisation(poses, batch_of(poses), points, None, "auto")
    assert not is_bounded
    assert "look around" in notes[0]
    np.testing.assert_allclose(normalisation.centre, (10, 20, 1), atol=0.3)
    assert 2.5 < 1 / normalisation.scale < 3.1
    assert 1.0 < 1 / choose_normalisation(poses, batch_of(poses), None, None, "auto")[0].scale < 4.0


@pytest.mark.parametrize("scale, offset, tolerance", [(1e-6, (0.0, 0.0, 0.0), 1e-6), (1e6, (3e6, 1e6, -1e6), 1e-6),
                                                      (1.0, (500_000.0, 5_400_000.0, 250.0), 1e-6)])
def test_scaling_and_moving_the_input_changes_only_the_normalisation(scale, offset, tolerance):
    solid = brick((-0.6, -1.1, -0.5), (0.6, 1.1, 0.9))
    rooms = np.random.default_rng(3).uniform(-3, 3, (500, 3))
    around, ahead = dome(radius=5), forward_facing()
    outwards = np.stack([looking(pose[:3, 3] / 10, pose[:3, 3]) for pose in around])
    cases = [(around, None, silhouettes_of(solid, around), "auto"), (around, rooms, None, "box"), (around, None, None, "auto"),
             (ahead, rooms - (0, 0, 15), None, "auto"), (ahead, None, None, "auto"), (outwards, rooms, None, "auto")]
    for poses, points, silhouettes, space in cases:
        plain, plain_bounded, _ = choose_normalisation(poses, batch_of(poses), points, silhouettes, space)
        moved = poses.copy()
        moved[:, :3, 3] = moved[:, :3, 3] * scale + offset
        moved_points = None if points is None else points * scale + offset
        normalisation, is_bounded, _ = choose_normalisation(moved, batch_of(poses), moved_points, silhouettes, space)
        assert is_bounded == plain_bounded
        np.testing.assert_allclose(normalisation.pose_to_scene(moved), plain.pose_to_scene(poses), atol=tolerance)
        assert normalisation.scale * scale == pytest.approx(plain.scale, rel=tolerance)


def test_the_focus_is_where_the_axes_meet_whatever_a_few_strays_do():
    poses = dome(count=30, radius=3.0, target=(1.0, 2.0, 3.0))
    np.testing.assert_allclose(focus_point(poses), (1, 2, 3), atol=1e-5)
    for i in (0, 7, 19):
        poses[i] = looking(poses[i, :3, 3], poses[i, :3, 3] + (1.0, 3.0, i))
    np.testing.assert_allclose(focus_point(poses), (1, 2, 3), atol=0.01)


def test_parallel_axes_have_a_finite_focus():
    focus = focus_point(forward_facing(parallel=True))
    assert np.isfinite(focus).all()
    assert np.linalg.norm(focus) < 2


def test_up_is_what_the_cameras_hold_up():
    poses = dome(count=40)
    tilt, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))
    tilt *= np.sign(np.linalg.det(tilt))
    turned = poses.copy()
    turned[:, :3] = tilt @ poses[:, :3]
    up = estimate_up(poses)
    assert up @ (0, 0, 1) > 0.99
    assert np.linalg.norm(up) == pytest.approx(1)
    np.testing.assert_allclose(estimate_up(turned), tilt @ up, atol=1e-6)
    poses[::10, :3, :2] *= -1  # a few held upside down
    assert estimate_up(poses) @ (0, 0, 1) > 0.98


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
def test_cameras_on_one_side_that_look_down_have_the_true_up_however_all_photos_are_turned(turns):
    """The middle of their own ups leans by 20 degrees, and by 90 where a phone was held upright and its photos lie."""
    rng, quarter = np.random.default_rng(3), np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    angles, heights = np.linspace(0.0, np.pi, 40), rng.uniform(0.5, 2.0, 40)
    poses = np.stack([looking((2 * np.cos(a), 2 * np.sin(a), z), (0, 0, 0)) for a, z in zip(angles, heights, strict=True)])
    poses[:, :3, :3] = poses[:, :3, :3] @ np.linalg.matrix_power(quarter, turns)
    up = estimate_up(poses)
    if turns == 2:
        up = -up  # so they would be held
    assert up @ (0, 0, 1) > 0.999


def test_cameras_straight_above_look_down():
    angles = np.linspace(0.0, 5.0, 20)
    poses = np.tile(np.eye(4), (20, 1, 1))
    poses[:, :2, :2] = np.array([[np.cos(angles), -np.sin(angles)], [np.sin(angles), np.cos(angles)]]).transpose(2, 0, 1)
    assert estimate_up(poses) @ (0, 0, 1) == pytest.approx(1.0)


def test_cameras_rolled_all_over_have_the_normal_of_their_plane_as_up():
    angles = np.linspace(0, 2 * np.pi, 36, endpoint=False)
    poses = np.stack([looking((np.cos(a), np.sin(a), 0), (0, 0, 0)) for a in angles])
    for pose, roll in zip(poses, angles * 5):
        c, s = np.cos(roll), np.sin(roll)
        pose[:3, :2] = pose[:3, :2] @ np.array([[c, -s], [s, c]])
    assert abs(estimate_up(poses)[2]) == pytest.approx(1)


def nan_pose(poses):
    poses[4, 1, 2] = np.nan
    return poses


def one_place(poses):
    poses[:, :3, 3] = (500_000.0, 5_400_000.0, 250.0)
    return poses


def repeated(poses):
    poses[:] = poses[np.arange(len(poses)) % 2]
    return poses


@pytest.mark.parametrize("spoil, text", [
    (nan_pose, "photo number 5"),
    (one_place, r"all 24 that train are at \(5e\+05, 5.4e\+06, 250\)"),
    (repeated, "only 2 different"),
    (lambda poses: poses * [1.0, 1.0, 1.0, 1e200], "below 1e\\+100: 24 of 24 are not"),
    (lambda poses: poses[:2], "3 distinct views, 2 are left"),
    (lambda poses: poses[:0], "3 distinct views, 0 are left"),
])
def test_poses_that_show_no_depth_are_refused(spoil, text):
    poses = spoil(dome())
    with pytest.raises(DataError, match=text):
        choose_normalisation(poses, batch_of(dome()), None, None, "auto")


@pytest.mark.parametrize("count", [6, 10, 11, 30])
@pytest.mark.parametrize("stand", [dome, lambda count: np.stack([looking(p[:3, 3] / 9, p[:3, 3]) for p in dome(count)])])
def test_one_camera_that_stands_far_off_does_not_shrink_the_scene(count, stand):
    poses = stand(count)
    plain, _, _ = choose_normalisation(poses, batch_of(poses), None, None, "unbounded")
    poses[2, :3, 3] *= 1e5
    strayed, _, _ = choose_normalisation(poses, batch_of(poses), None, None, "unbounded")
    assert 0.3 < strayed.scale / plain.scale < 3.0


def test_three_views_from_two_places_are_enough():
    poses = dome()[:2]
    poses = np.concatenate([poses, [looking(poses[0, :3, 3], (0.0, 0.0, 1.0))]])
    normalisation, _, _ = choose_normalisation(poses, batch_of(poses), None, None, "auto")
    assert np.isfinite(normalisation.scale) and normalisation.scale > 0
