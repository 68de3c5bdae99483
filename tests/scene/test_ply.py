import re
import struct

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nerf_app.errors import DataError
from nerf_app.scene import transforms
from nerf_app.scene.ply import read_ply_points, write_ply_points
from nerf_app.scene.settings import SceneSettings
from tests.scene.test_transforms import entry, write


def header(form, *properties, count=2, more=""):
    lines = ["ply", f"format {form} 1.0", "comment element vertex 9", f"element vertex {count}",
             *(f"property {word}" for word in properties), more, "end_header", ""]
    return "\n".join(line for line in lines if line or line == lines[-1]).encode()


def test_written_points_come_back_to_the_last_digit(tmp_path):
    points = 1e6 * np.random.randn(100, 3)
    write_ply_points(points, tmp_path / "a.ply")
    np.testing.assert_array_equal(read_ply_points(tmp_path / "a.ply"), points)


@pytest.mark.parametrize("content", [
    header("ascii", "float x", "float y", "float z", "uchar red") + b"1 2 3 255\n4 5 6 0\n",
    header("ascii", "double z", "double x", "double y", more="element face 1\nproperty list uchar int i")
    + b"3 1 2\n6 4 5\n3 0 1 0\n",
    header("binary_little_endian", "float32 x", "uchar red", "float y", "double z")
    + struct.pack("<fBfdfBfd", 1, 9, 2, 3, 4, 9, 5, 6),
    header("binary_big_endian", "int x", "short y", "float z") + struct.pack(">ihfihf", 1, 2, 3, 4, 5, 6),
    header("ascii", "float x", "float y", "float z").replace(b"\n", b"\r\n") + b"1 2 3\r\n4 5 6\r\n"])
def test_vertices_are_read_from_every_form_of_file(tmp_path, content):
    (tmp_path / "a.ply").write_bytes(content)
    np.testing.assert_array_equal(read_ply_points(tmp_path / "a.ply"), [[1, 2, 3], [4, 5, 6]])


def test_points_that_are_not_finite_are_left_out(tmp_path):
    (tmp_path / "a.ply").write_bytes(header("ascii", "float x", "float y", "float z") + b"1 2 nan\n4 5 6\n")
    np.testing.assert_array_equal(read_ply_points(tmp_path / "a.ply"), [[4, 5, 6]])


@pytest.mark.parametrize("content, words", [
    (b"solid", "names no vertices"),
    (header("zip", "float x", "float y", "float z"), "names no vertices"),
    (header("ascii", "float x", "float y"), "with x, y and z"),
    (header("ascii", "float x", "float y", "list uchar int z"), "plain numbers"),
    (header("ascii", "float x", "float y", "float z") + b"1 2 3\n", "ends before"),
    (header("ascii", "float x", "float y", "float z") + b"1 2 3\n4 5 six\n", "ends before"),
    (header("binary_little_endian", "float x", "float y", "float z", count=10**15) + bytes(64), "ends before"),
    (header("ascii", "float x", "float y", "float z", count=-1), "ends before")])
def test_what_holds_no_points_is_refused_in_one_line(tmp_path, content, words):
    (tmp_path / "a.ply").write_bytes(content)
    with pytest.raises(DataError, match=words) as caught:
        read_ply_points(tmp_path / "a.ply")
    assert "\n" not in str(caught.value)


def test_the_ply_that_transforms_json_names_gives_the_scenes_points_and_a_bad_one_is_noted(tmp_path):
    write(tmp_path, entry("1.png"), ply_file_path="sparse_pc.ply")
    listing = transforms.read(tmp_path, SceneSettings())
    assert listing.points is None and re.search("without sparse points: .*sparse_pc.ply cannot be read", listing.notes[0])
    write_ply_points(np.eye(3), tmp_path / "sparse_pc.ply")
    np.testing.assert_array_equal(transforms.read(tmp_path, SceneSettings()).points, np.eye(3))
    write(tmp_path, entry("1.png"), ply_file_path="../sparse_pc.ply")
    listing = transforms.read(tmp_path, SceneSettings())
    assert listing.points is None and "leads out of the scene's folder" in listing.notes[0]


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_mutated_bytes_are_read_or_refused_but_nothing_else_happens(tmp_path, data):
    content = bytearray(header("binary_little_endian", "float x", "float y", "float z") + bytes(24))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    (tmp_path / "a.ply").write_bytes(content)
    try:
        assert read_ply_points(tmp_path / "a.ply").shape[1] == 3
    except DataError as error:
        assert "\n" not in str(error)
