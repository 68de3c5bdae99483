import numpy as np
import pytest

from nerf_app.check.conventions import CONVENTIONS, OF_FORMAT, Matches, agreement, shares
from nerf_app.scene.matching import choose_pairs
from nerf_app.scene.poses import opengl_from_opencv
from tests.export.stand_in import pose_looking

OPENGL = OF_FORMAT["blender"]


def ring(count=12, noise=0.3):
    """[V, 4, 4] poses around the origin, each a little off."""
    angles = 2 * np.pi * np.arange(count) / count
    places = np.stack([4 * np.cos(angles), 4 * np.sin(angles), 1 + np.sin(3 * angles)], 1)
    return np.stack([pose_looking(place, noise * np.random.randn(3)) for place in places])


def matched(poses, pairs, count=60):
    """What perfect eyes would find: points near the origin as both cameras see them."""
    found = []
    for first, second in pairs:
        points = np.random.uniform(-1.5, 1.5, (count, 3))
        local = [(points - pose[:3, 3]) @ pose[:3, :3] for pose in (poses[first], poses[second])]
        found.append(Matches(first, second, tuple(x / np.linalg.norm(x, axis=1, keepdims=True) for x in local), 500.0))
    return found


@pytest.mark.parametrize("convention", CONVENTIONS, ids=str)
def test_reading_undoes_storing(convention):
    poses = ring()
    np.testing.assert_allclose(convention.read(convention.stored(poses)), poses, atol=1e-12)
    assert np.linalg.det(convention.stored(poses)[:, :3, :3]) == pytest.approx(1.0)


def test_the_formats_conventions_are_those_of_their_readers():
    pose = ring()[:1]
    opencv = np.linalg.inv(OF_FORMAT["colmap"].stored(pose))
    np.testing.assert_allclose(opengl_from_opencv(opencv), pose, atol=1e-12)
    down, right, back, place = np.moveaxis(OF_FORMAT["llff"].stored(pose)[0, :3], 1, 0)
    np.testing.assert_allclose(np.stack([right, -down, back, place], 1), pose[0, :3], atol=1e-12)
    left, up, forward, _ = np.moveaxis(CONVENTIONS[3].stored(pose)[0, :3], 1, 0)
    np.testing.assert_allclose(np.stack([-left, up, -forward], 1), pose[0, :3, :3], atol=1e-12)


@pytest.mark.parametrize("truth", CONVENTIONS, ids=str)
def test_perfect_matches_agree_with_the_true_convention_alone(truth):
    poses = ring()
    found = matched(poses, choose_pairs(poses, 12))
    by_convention = {convention: values.mean() for convention, values in shares(found, truth.stored(poses), 2.0).items()}
    assert by_convention[truth] == 1.0
    assert max(share for convention, share in by_convention.items() if convention != truth) < 0.7
    assert max(by_convention, key=by_convention.get) == truth


def test_moving_turning_and_scaling_the_world_changes_nothing():
    poses = ring()
    found = matched(poses, [(0, 1), (3, 5)])
    world = 3.0 * pose_looking(np.array([50.0, 7.0, -9.0]), np.zeros(3))
    world[3] = [0.0, 0.0, 0.0, 1.0]
    moved = world @ poses
    moved[:, :3, :3] /= 3.0
    for matches in found:
        np.testing.assert_array_equal(agreement(matches, moved, 2.0), agreement(matches, poses, 2.0))


def test_rays_must_meet_in_front_of_both_cameras_and_on_the_same_line():
    poses = np.tile(np.eye(4), (2, 1, 1))
    poses[1, 0, 3] = 1.0  # a step to the right
    ahead = np.array([[0.2, 0.1, -2.0], [0.2, 0.1, -2.0], [0.2, 0.1, -2.0], [0.0, 0.0, -1.0], [0.0, 0.0, -1.0]])
    there = ahead - [1.0, 0.0, 0.0]
    there[1] = [-1.8, -0.1, 2.0]  # the same ray's other end
    there[2, 1] += 0.1  # 25 px beside its line
    there[3] = [0.0, 0.0, -1.0]  # parallel: as good as infinitely far
    there[4] = [0.0, 0.0, 1.0]  # the opposite way
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (ahead, there)]
    assert agreement(Matches(0, 1, tuple(unit), 500.0), poses, 2.0).tolist() == [True, False, False, True, False]


def test_a_miss_is_measured_in_pixels():
    poses = np.tile(np.eye(4), (2, 1, 1))
    poses[1, 0, 3] = 1.0
    ahead = np.tile([0.0, 0.0, -1.0], (3, 1))
    there = np.array([[-0.2, miss / 500.0, -1.0] for miss in (1.0, 2.5, 3.2)])  # both pictures share the miss: √2 less each
    unit = (ahead, there / np.linalg.norm(there, axis=1, keepdims=True))
    assert agreement(Matches(0, 1, unit, 500.0), poses, 2.0).tolist() == [True, True, False]


def test_pairs_are_the_same_in_every_convention_spread_over_the_set_and_no_more_than_asked_for():
    poses = ring(40)
    pairs = choose_pairs(poses, 18)
    assert len(pairs) <= 18 and len({first for pair in pairs for first in pair}) > 12
    assert all(first < second for first, second in pairs)
    for convention in CONVENTIONS:
        assert choose_pairs(convention.stored(poses), 18) == pairs
    assert choose_pairs(poses[:2], 18) == [(0, 1)] and choose_pairs(poses[:1], 18) == []
