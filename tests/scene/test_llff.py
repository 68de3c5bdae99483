import io

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from nerf_app.errors import DataError
from nerf_app.scene import llff
from nerf_app.scene.listing import StatedCamera
from nerf_app.scene.settings import SceneSettings

SETTINGS = SceneSettings()


def rows(count, width=17):
    """[count, width] random rows as LLFF writes them."""
    generator = np.random.default_rng(0)
    rotations = Rotation.random(count, random_state=0).as_matrix()
    places = generator.normal(size=(count, 3, 1))
    sizes = np.broadcast_to([[3024.0], [4032.0], [3260.5]], (count, 3, 1))  # height, width, focal length
    return np.hstack([np.concatenate([rotations, places, sizes], 2).reshape(count, 15), np.ones((count, 2))])[:, :width]


def write(folder, poses, **photos):
    """poses_bounds.npy and folders of empty photos, by the folders' names."""
    np.save(folder / "poses_bounds.npy", poses)
    for name, files in photos.items():
        (folder / name).mkdir()
        for file in files:
            (folder / name / file).touch()


def test_axes_down_right_backward_become_right_up_backward(tmp_path):
    write(tmp_path, rows(3), images=["b.jpg", "a.jpg", "c.JPG"])
    listing = llff.read(tmp_path, SETTINGS)
    assert [frame.name for frame in listing.frames] == ["images/a.jpg", "images/b.jpg", "images/c.JPG"]
    for frame, row in zip(listing.frames, rows(3)[:, :15].reshape(3, 3, 5), strict=True):
        down, right, backward, place, _ = row.T
        np.testing.assert_array_equal(frame.world_from_camera[:3].T, (right, -down, backward, place))
        assert np.linalg.det(frame.world_from_camera[:3, :3]) == pytest.approx(1.0)
    assert (listing.root, listing.format, listing.up, listing.points) == (tmp_path, "llff", None, None)


def test_size_and_focal_length_are_those_of_the_full_photo_also_for_reduced_ones(tmp_path):
    write(tmp_path, rows(2), images_8=["1.png", "2.png"])
    listing = llff.read(tmp_path, SETTINGS)
    assert [frame.name for frame in listing.frames] == ["images_8/1.png", "images_8/2.png"]
    assert all(frame.camera == StatedCamera(4032, 3024, 3260.5) for frame in listing.frames)


def test_the_largest_folder_with_the_right_number_of_photos_is_taken(tmp_path):
    write(tmp_path, rows(2), images_10=["1.png", "2.png"], images_4=["1.png", "2.png", ".hidden.png", "notes.txt"],
          images=["1.png"])
    assert [frame.name for frame in llff.read(tmp_path, SETTINGS).frames] == ["images_4/1.png", "images_4/2.png"]


def test_arrays_are_read_as_numpy_reads_them_in_any_order_and_version(tmp_path):
    path = tmp_path / "poses_bounds.npy"
    for array in (np.asfortranarray(rows(3)), rows(3).astype(">f8"), rows(3).astype("<f2"), np.arange(34).reshape(2, 17)):
        write(tmp_path, array)
        np.testing.assert_array_equal(llff.read_rows(path)[:, :15], array[:, :15].astype(np.float64))
    for version in ((2, 0), (3, 0)):
        with open(path, "wb") as file:
            np.lib.format.write_array(file, rows(3), version=version)
        np.testing.assert_array_equal(llff.read_rows(path)[:, :15], rows(3)[:, :15])
    path.write_bytes(saved(rows(3)).replace(b"(3, 17), }  ", b"(3L, 17L), }"))  # Python 2
    assert llff.read_rows(path).shape == (3, 17)


def test_the_file_itself_may_be_named_and_rows_may_lack_the_two_depths(tmp_path):
    write(tmp_path, rows(2, 15).astype(np.float32), images=["1.png", "2.png"])
    for path in (tmp_path, tmp_path / "poses_bounds.npy"):
        assert llff.recognises(path) and len(llff.read(path, SETTINGS).frames) == 2


def test_numbers_of_poses_and_photos_must_agree_and_both_are_named(tmp_path):
    write(tmp_path, rows(3), images=["1.png", "2.png"])
    with pytest.raises(DataError, match="has 3 poses but images/ holds 2 photos"):
        llff.read(tmp_path, SETTINGS)


def test_poses_without_photos_are_not_recognised_and_explained(tmp_path):
    write(tmp_path, rows(3), images=[])
    assert not llff.recognises(tmp_path)
    assert llff.missing(tmp_path) == ("poses_bounds.npy is there but no images folder with photos "
                                      "(JPEG, PNG, WEBP, TIFF, HEIF, AVIF, EXR) in it")
    with pytest.raises(DataError, match="no images folder"):
        llff.read(tmp_path, SETTINGS)
    assert llff.missing(tmp_path / "images") is None and not llff.recognises(tmp_path / "nowhere")


def changed(row, column, value):
    poses = rows(2)
    poses[row, column] = value
    return poses


@pytest.mark.parametrize("poses, complaint", [
    (rows(2, 16), "shape is 2×16"),
    (rows(2)[0], "shape is 17"),
    (np.zeros((0, 17)), "shape is 0×17"),
    (rows(2).astype(str), "no array of numbers"),
    (rows(2).astype(complex), "no array of numbers"),
    (np.array([[{}] * 17] * 2), "no array of numbers"),
    (changed(1, 3, np.nan), r"row 1 \(2.png\): the pose holds NaN"),
    (changed(1, 0, 7.0), r"row 1 \(2.png\): .*rotation"),
    (changed(0, 4, 0.0), r"row 0 \(1.png\): height, width and focal length"),
    (changed(0, 9, 1e30), r"row 0 \(1.png\): height, width and focal length"),
    (changed(0, 14, np.nan), r"row 0 \(1.png\): height, width and focal length"),
    (changed(0, 14, -1.0), r"row 0 \(1.png\): height, width and focal length"),
])
def test_rows_that_cannot_be_cameras_are_refused_in_one_line(tmp_path, poses, complaint):
    write(tmp_path, poses, images=["1.png", "2.png"])
    with pytest.raises(DataError, match=complaint) as error:
        llff.read(tmp_path, SETTINGS)
    assert "poses_bounds.npy" in str(error.value) and "\n" not in str(error.value)


def saved(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def test_a_header_that_promises_more_than_the_file_holds_is_refused_before_memory_is_taken(tmp_path):
    write(tmp_path, rows(2), images=["1.png", "2.png"])
    data = saved(rows(2))
    for shape in (b"(9, 17), }", b"(9999999999, 17), }", b"(99999999999999999999, 17), }", b"(-2, 17), }", b"(2, 17), }}"):
        header = data[:128].replace(b"(2, 17), }", shape)  # numpy pads it with blanks to 128 bytes
        (tmp_path / "poses_bounds.npy").write_bytes(header[:127] + b"\n" + data[128:])
        with pytest.raises(DataError, match="must be an array of N rows"):
            llff.read(tmp_path, SETTINGS)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=100, deadline=None)
@given(st.data())
def test_mutated_bytes_are_read_or_refused_but_nothing_else_happens(tmp_path, data):
    content = bytearray(saved(rows(2)))
    for _ in range(data.draw(st.integers(0, 3))):
        content[data.draw(st.one_of(st.integers(0, 127), st.integers(0, len(content) - 1)))] = data.draw(st.integers(0, 255))
    (tmp_path / "poses_bounds.npy").write_bytes(content[:data.draw(st.one_of(st.just(None), st.integers(0, len(content))))])
    (tmp_path / "images").mkdir(exist_ok=True)
    for name in ("1.png", "2.png"):
        (tmp_path / "images" / name).touch()
    try:
        assert len(llff.read(tmp_path, SETTINGS).frames) == 2
    except DataError as error:
        assert "\n" not in str(error)
