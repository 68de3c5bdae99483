import os
from fractions import Fraction

import av
import numpy as np
import pytest

from nerf_app.errors import ResourceError, UsageError
from nerf_app.export.video import write_video

COLOURS = [(255, 0, 0), (0, 255, 0), (10, 20, 200), (128, 128, 128), (255, 255, 255)]


def plain_pictures(height: int, width: int):
    return (np.full((height, width, 3), colour, np.uint8) for colour in COLOURS)


def decoded(path) -> list[np.ndarray]:
    with av.open(str(path)) as file:
        return [frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)]


def test_a_video_is_what_players_want(tmp_path):
    write_video(plain_pictures(48, 64), tmp_path / "a.mp4", 29.97)
    with av.open(str(tmp_path / "a.mp4")) as file:
        stream = file.streams.video[0]
        assert (stream.codec_context.name, stream.pix_fmt, stream.frames) == ("h264", "yuv420p", 5)
        assert (stream.width, stream.height, stream.average_rate) == (64, 48, Fraction(2997, 100))
        coding = stream.codec_context
        assert (coding.colorspace, coding.color_primaries, coding.color_trc, coding.color_range) == (1, 1, 1, 1)


def test_colours_come_back(tmp_path):
    write_video(plain_pictures(48, 64), tmp_path / "a.mp4", 10)
    for picture, colour in zip(decoded(tmp_path / "a.mp4"), COLOURS, strict=True):
        assert np.abs(picture.astype(int) - colour).max() <= 3


def test_the_index_stands_before_the_pictures(tmp_path):
    write_video(plain_pictures(48, 64), tmp_path / "a.mp4", 10)
    content = (tmp_path / "a.mp4").read_bytes()
    assert 0 < content.index(b"moov") < content.index(b"mdat")


def test_odd_sides_get_one_more_row_and_column(tmp_path):
    write_video(plain_pictures(45, 63), tmp_path / "a.mp4", 10)
    assert decoded(tmp_path / "a.mp4")[0].shape == (46, 64, 3)
    assert np.abs(decoded(tmp_path / "a.mp4")[0][-1, -1].astype(int) - COLOURS[0]).max() <= 3


def test_odd_names_are_names(tmp_path):
    for name in ("a:b.mp4", "[x]\n %03d.mp4", os.fsdecode(b"\xff\xfe.mp4"), "-y.mp4"):
        write_video(plain_pictures(16, 16), tmp_path / name, 10)
        assert len(decoded(tmp_path / name)) == 5
    assert len(list(tmp_path.iterdir())) == 4


@pytest.mark.parametrize("broken", [RuntimeError, KeyboardInterrupt])
def test_a_failure_leaves_the_older_video_and_nothing_else(tmp_path, broken):
    def interrupted():
        yield from plain_pictures(48, 64)
        raise broken

    (tmp_path / "a.mp4").write_bytes(b"older")
    with pytest.raises(broken):
        write_video(interrupted(), tmp_path / "a.mp4", 10)
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]
    assert (tmp_path / "a.mp4").read_bytes() == b"older"


def test_pictures_of_two_sizes_or_none_are_refused(tmp_path):
    with pytest.raises(UsageError, match="one size: 64×48 at first, then 64×50"):
        write_video([*plain_pictures(48, 64), *plain_pictures(50, 64)], tmp_path / "a.mp4", 10)
    with pytest.raises(UsageError, match="at least one picture"):
        write_video([], tmp_path / "a.mp4", 10)
    assert not list(tmp_path.iterdir())


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    for place in ("nowhere", "file"):
        with pytest.raises(ResourceError, match=f"cannot write .*{place}/a.mp4"):
            write_video(plain_pictures(48, 64), tmp_path / place / "a.mp4", 10)
