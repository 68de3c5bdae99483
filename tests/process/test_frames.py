import struct
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from nerf_app.errors import DataError
from nerf_app.export.video import write_video
from nerf_app.process.frames import is_video, upright, write_frames

SHARP = {2, 7, 8, 14, 19, 20, 27}  # frames of 30, at most two in each stretch of five


def silent(done: int, total: int) -> None:
    pass


def frames():
    """A square that tells a frame's number by its brightness, before a pattern; most frames are blurred, the 20th a little."""
    rng = np.random.default_rng(0)
    pattern = np.kron(rng.integers(60, 200, (16, 24)), np.ones((6, 6))).astype(float)
    soft = sum(np.roll(pattern, (i, j), (0, 1)) for i in range(7) for j in range(7)) / 49
    for number in range(30):
        picture = (pattern if number in SHARP else soft).copy()
        if number == 20:
            picture = 0.7 * soft + 0.3 * pattern
        picture[:32, :32] = 8 * number
        yield np.stack([picture] * 3, -1).astype(np.uint8)


def test_each_stretch_of_a_video_gives_its_sharpest_frame(tmp_path):
    write_video(frames(), tmp_path / "a:b [x].mp4", 10.0)
    told = []
    files = write_frames(tmp_path / "a:b [x].mp4", tmp_path, 6, lambda *state: told.append(state))
    numbers = [round(float(np.array(Image.open(file))[8:24, 8:24].mean()) / 8) for file in files]
    assert numbers == [2, numbers[1], 14, 19, 20, 27] and numbers[1] in (7, 8)
    assert [file.name for file in files] == [f"{number:05}.jpg" for number in range(1, 7)]
    assert told[-1] == (30, 30)


def test_a_video_of_fewer_frames_than_are_asked_for_gives_them_all(tmp_path):
    write_video(frames(), tmp_path / "a.mp4", 10.0)
    assert len(write_frames(tmp_path / "a.mp4", tmp_path, 100, silent)) == 30


@pytest.mark.parametrize("degrees, turns", [(0, 0), (90, 1), (-90, 3), (180, 2), (-180, 2)])
def test_frames_are_turned_as_the_phone_noted(degrees, turns):
    stored = np.arange(2 * 4 * 3, dtype=np.uint8).reshape(2, 4, 3)
    frame = SimpleNamespace(rotation=degrees, to_ndarray=lambda format: stored)
    np.testing.assert_array_equal(upright(frame), np.rot90(stored, turns))


@pytest.mark.parametrize("turns, matrix", [(1, (0, -1, 1, 0)), (2, (-1, 0, 0, -1)), (3, (0, 1, -1, 0))])
def test_a_phone_s_video_is_turned_by_what_its_file_says(turns, matrix, tmp_path):
    """ISO 14496-12, 8.3.2: a track's header ends with a matrix of nine numbers, width and height."""
    write_video(frames(), tmp_path / "a.mp4", 10.0)
    content = bytearray((tmp_path / "a.mp4").read_bytes())
    place = content.index(b"tkhd") + 4 + 40
    a, b, c, d = (number << 16 for number in matrix)
    content[place:place + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    (tmp_path / "turned.mp4").write_bytes(content)
    (plain,), (turned,) = (write_frames(tmp_path / name, tmp_path, 1, silent) and [np.array(Image.open(tmp_path / "00001.jpg"))]
                           for name in ("a.mp4", "turned.mp4"))
    assert np.abs(np.rot90(plain, turns).astype(float) - turned).mean() < 4.0


@pytest.mark.parametrize("content", [b"", b"no video", b"\0\0\0\x18ftypmp42" + bytes(99)])
def test_what_is_no_video_is_one_line_about_the_file(content, tmp_path):
    (tmp_path / "a.mp4").write_bytes(content)
    assert is_video(tmp_path / "a.mp4") and not is_video(tmp_path / "none.mp4") and not is_video(tmp_path)
    with pytest.raises(DataError, match=r"a\.mp4 (cannot be read as a video|holds no)"):
        write_frames(tmp_path / "a.mp4", tmp_path, 5, silent)


def test_of_a_video_that_breaks_off_the_frames_before_are_used(tmp_path):
    write_video(frames(), tmp_path / "a.mp4", 10.0)
    whole = (tmp_path / "a.mp4").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(whole[:len(whole) * 2 // 3])
    assert 1 <= len(write_frames(tmp_path / "cut.mp4", tmp_path, 6, silent)) < 6
