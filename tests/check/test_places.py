import numpy as np
import pytest

from nerf_app.check.places import find_gaps, find_odd_scale, find_tilt, looks_inward, seen_share, widest_gap
from nerf_app.scene.camera import Camera
from tests.check.test_conventions import ring
from tests.export.stand_in import pose_looking

UP = np.array([0.0, 0.0, 1.0])
CAMERA = Camera(60, 40, 60.0, 60.0, 30.0, 20.0)


def arc(degrees, count=20):
    angles = np.radians(np.linspace(0, degrees, count))
    return np.stack([pose_looking(np.array([4 * np.cos(a), 4 * np.sin(a), 1.0]), np.zeros(3)) for a in angles])


def outward(count=20):
    poses = arc(350, count)
    poses[:, :3, 0] *= -1
    poses[:, :3, 2] *= -1
    poses[:, :3, 3] *= 0.1
    return poses


@pytest.mark.parametrize("turn", [np.eye(3), np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])])
def test_the_widest_gap_is_what_the_arc_leaves_whichever_way_is_up(turn):
    poses = arc(200)
    poses[:, :3] = turn @ poses[:, :3]
    assert widest_gap(poses, turn @ UP) == pytest.approx(np.radians(160), abs=1e-2)


def test_a_side_without_photos_is_told_and_a_full_ring_or_a_room_is_not():
    findings, facts = find_gaps(arc(200), [CAMERA] * 20, None, UP)
    assert [finding.what for finding in findings] == ["one side was not photographed"] and "160°" in findings[0].evidence
    assert facts["widest_gap_degrees"] == pytest.approx(160, abs=0.5)
    assert find_gaps(ring(), [CAMERA] * 12, None, UP)[0] == []
    assert find_gaps(outward(), [CAMERA] * 20, None, UP) == ([], {"widest_gap_degrees": None, "seen_by_3": None})


def test_cameras_around_a_thing_look_inward_and_those_in_a_row_or_a_room_do_not():
    assert looks_inward(ring()) and not looks_inward(outward()) and not looks_inward(arc(10))


def test_the_part_seen_by_three_is_counted_point_by_point():
    poses = ring(8)
    points = np.random.uniform(-3, 3, (400, 3))
    count = np.zeros(400, int)
    for pose in poses:
        x, y, z = ((points - pose[:3, 3]) @ pose[:3, :3]).T
        count += (z < 0) & (abs(x / -z) <= 0.5) & (abs(y / -z) <= 1 / 3)
    assert 0.1 < (count >= 3).mean() < 0.9
    assert seen_share(poses, [CAMERA] * 8, points) == (count >= 3).mean()


def test_places_that_one_photo_sees_are_told():
    poses = np.stack([pose_looking(np.array([100.0 * i, 0.0, 0.0]), np.array([100.0 * i, 10.0, 0.0])) for i in range(8)])
    points = np.concatenate([pose[:3, 3] + [0.0, 5.0, 0.0] + 0.1 * np.random.randn(50, 3) for pose in poses])
    findings, facts = find_gaps(poses, [CAMERA] * 8, points, UP)
    assert facts["seen_by_3"] == 0.0 and "in one or two photos only" in findings[0].what


def test_a_scene_far_away_or_of_an_odd_size_is_noted_and_the_usual_one_is_not():
    poses = ring()
    assert find_odd_scale(poses) == []
    far, tiny = poses.copy(), poses.copy()
    far[:, :3, 3] += 1e6
    tiny[:, :3, 3] *= 1e-6
    assert "far from the origin" in find_odd_scale(far)[0].what and "size is unusual" in find_odd_scale(tiny)[0].what
    assert not any(finding.is_fault for finding in find_odd_scale(far) + find_odd_scale(tiny))


def test_a_world_on_its_side_is_noted_where_the_format_says_where_up_is():
    assert find_tilt(ring(), UP) == []
    (finding,) = find_tilt(ring(), np.array([0.0, 1.0, 0.0]))
    assert not finding.is_fault and "the file says (0.00, 1.00, 0.00)" in finding.evidence
    assert find_tilt(ring(), None) == []
