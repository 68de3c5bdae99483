"""Small files are whole or not there."""

from pathlib import Path

import pytest

from nerf_app.console import Interrupted
from nerf_app.errors import ResourceError
from nerf_app.scene.writing import write_bytes


def test_a_signal_in_the_middle_of_a_file_leaves_what_was_there(tmp_path, monkeypatch):
    (tmp_path / "a.json").write_text("older")
    opened = Path.write_bytes

    def is_interrupted(self: Path, content: bytes) -> None:
        opened(self, content[:1])
        raise Interrupted(130)
    monkeypatch.setattr(Path, "write_bytes", is_interrupted)
    with pytest.raises(Interrupted):
        write_bytes(b"newer", tmp_path / "a.json")
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"] and (tmp_path / "a.json").read_text() == "older"


@pytest.mark.parametrize("out", ["file/a.json", "file/deep/a.json", "missing/a.json", "n" * 255])
def test_a_place_where_no_file_can_be_is_said_in_a_line(tmp_path, out):
    (tmp_path / "file").write_text("")
    with pytest.raises(ResourceError, match="cannot write .*; make room or give another --out") as caught:
        write_bytes(b"new", tmp_path / out)
    assert "\n" not in str(caught.value) and [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_file_takes_the_place_of_an_older_one(tmp_path):
    for content in (b"old", b"new"):
        write_bytes(content, tmp_path / "a")
    assert [path.name for path in tmp_path.iterdir()] == ["a"] and (tmp_path / "a").read_bytes() == b"new"
