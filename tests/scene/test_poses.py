from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from nerf_app.errors import DataError
from nerf_app.scene.listing import Frame, StatedCamera
from nerf_app.scene.poses import checked_pose, opengl_from_opencv, summed_up, without_repeats


def pose(rotation=None, place=(1.0, -2.0, 3.0)):
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.random(random_state=0).as_matrix() if rotation is None else rotation
    matrix[:3, 3] = place
    return matrix


def frame(name, matrix, split=None):
    return Frame(name, Path(name), matrix, StatedCamera(), split)


@given(st.integers(0, 1000), st.floats(0.0, 4e-4))
def test_a_rotation_is_left_as_it_is_down_to_the_last_bit(seed, noise):
    generator = np.random.default_rng(seed)
    matrix = pose(Rotation.random(random_state=seed).as_matrix() + noise * generator.uniform(-0.25, 0.25, (3, 3)))
    checked, note = checked_pose(matrix.tolist(), "here")
    assert note is None and checked.dtype == np.float64
    np.testing.assert_array_equal(checked, matrix)


def test_three_rows_are_completed():
    checked, _ = checked_pose(pose()[:3], "here")
    np.testing.assert_array_equal(checked, pose())


@given(st.integers(0, 1000), st.floats(-12, 12).map(lambda power: 10.0**power))
def test_a_uniform_scale_is_divided_out_and_the_place_stays(seed, scale):
    rotation = Rotation.random(random_state=seed).as_matrix()
    checked, note = checked_pose(pose(rotation * scale), "here")
    np.testing.assert_allclose(checked, pose(rotation), atol=1e-3 if note is None else 1e-9)
    assert note is None or f"{scale:.6g}" in note
    assert note or abs(scale - 1) < 1e-3


def test_a_small_shear_is_replaced_by_the_nearest_rotation():
    truth = pose()[:3, :3]
    stretch = np.diag([1.02, 1.0, 0.98])  # symmetric: the polar decomposition of truth @ stretch is these two
    checked, note = checked_pose(pose(truth @ stretch), "frame 7")
    np.testing.assert_allclose(checked[:3, :3], truth, atol=1e-12)
    assert note.startswith("frame 7: ")


@pytest.mark.parametrize("matrix, complaint", [
    (pose(np.diag([1.0, 1.0, -1.0])), "mirrors"),
    (pose(-2 * np.eye(3)), "mirrors"),
    (pose(np.diag([1.0, 1.0, 0.0])), "flat"),
    (pose(np.zeros((3, 3))), "flat"),
    (pose(np.diag([1.0, 1.0, 1.3])), "at most 0.1"),
    (pose([[1.0, 0.5, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]), "at most 0.1"),
    (pose(np.diag([1e300, 1e-300, 1.0])), "rotation"),
    (pose(place=(np.nan, 0, 0)), "NaN or infinity"),
    (pose(np.diag([1.0, np.inf, 1.0])), "NaN or infinity"),
    (pose().T, "0 0 0 1"),
    (pose()[:3, :3], "3×3"),
    (np.stack([pose(), pose()]), "2×4×4"),
    ([[1.0, 0.0], [1.0]], "rows differ"),
    ([["a"] * 4] * 4, "rows differ"),
    ([], "4×4"),
    (None, "4×4"),
])
def test_what_is_no_pose_is_refused_with_the_name_of_the_frame(matrix, complaint):
    with pytest.raises(DataError, match=complaint) as error:
        checked_pose(matrix, "transforms.json: frames[3]")
    assert str(error.value).startswith("transforms.json: frames[3]: ") and "\n" not in str(error.value)


def test_opencv_axes_become_opengl_axes():
    converted = opengl_from_opencv(pose())
    right, up, backward, place = converted[:3].T
    np.testing.assert_array_equal((right, up, backward, place),
                                  (pose()[:3, 0], -pose()[:3, 1], -pose()[:3, 2], pose()[:3, 3]))
    np.testing.assert_array_equal(opengl_from_opencv(converted), pose())


def test_a_photo_listed_twice_counts_once_and_is_mentioned():
    frames, notes = without_repeats([frame("a/1", pose()), frame("b/1", pose()), frame("a/1", pose() + 1e-9)])
    assert [one.name for one in frames] == ["a/1", "b/1"]
    assert len(notes) == 1 and "a/1" in notes[0]


def test_a_photo_listed_with_two_poses_is_refused():
    with pytest.raises(DataError, match="a/1 is listed twice with different poses"):
        without_repeats([frame("a/1", pose()), frame("a/1", pose(place=(0, 0, 0)))])


def test_a_photo_in_two_splits_stays_held_out():
    frames, _ = without_repeats([frame("1", pose(), "train"), frame("2", pose(), "val"),
                                 frame("1", pose(), "test"), frame("2", pose(), "train")])
    assert [one.split for one in frames] == ["test", "val"]


def test_many_like_notes_become_one():
    assert summed_up([None, None]) == ()
    assert summed_up([None, "first"]) == ("first",)
    assert summed_up(["first", None, "second", "third"]) == ("first (so with 2 more)",)
