import os
import unicodedata

import pytest

from nerf_app.errors import DataError
from nerf_app.scene.paths import image_folders, inside, name_of, photo, photos_below, read_file, shown
from nerf_app.scene.settings import SceneSettings

PLAIN = SceneSettings()


@pytest.fixture
def root(tmp_path):
    (tmp_path / "scene/images").mkdir(parents=True)
    (tmp_path / "scene/images/1.jpg").write_bytes(b"photo")
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared/2.jpg").write_bytes(b"photo")
    return tmp_path / "scene"


@pytest.mark.parametrize("relative", ["images/1.jpg", "./images/1.jpg", "images/../images/1.jpg", "images/not there.jpg",
                                      "images/[/x]\n.jpg", "images/-rf.jpg", os.fsdecode(b"images/\xff.jpg")])
def test_a_path_inside_the_scene_passes_whether_or_not_it_exists(root, relative):
    assert inside(root, relative, PLAIN, "here") == root / relative


@pytest.mark.parametrize("relative, complaint", [
    ("/etc/passwd", "absolute"), ("../shared/2.jpg", "leads out"), ("images/../../shared/2.jpg", "leads out"),
    (r"..\shared\2.jpg", "Windows"), (r"C:\2.jpg", "Windows"), ("C:/2.jpg", "Windows"), (r"\\server\2.jpg", "Windows"),
    ("//server/2.jpg", "absolute"), ("images/1.jpg\0.png", "NUL"), ("", "empty"), (".", "empty"), ("images", "folder"),
    ("images/", "folder"), ("images/\ud800.jpg", "no possible"), ("images/" + "x" * 300, "cannot be looked at"),
])
def test_a_path_that_leaves_the_scene_or_is_no_file_is_refused_in_one_line(root, relative, complaint):
    with pytest.raises(DataError, match=complaint) as error:
        inside(root, relative, PLAIN, "transforms.json: frames[3]")
    assert str(error.value).startswith("transforms.json: frames[3]: ")
    assert "\n" not in str(error.value) and len(str(error.value)) < 800


def test_a_link_out_of_the_scene_is_refused_and_a_link_within_it_passes(root):
    (root / "images/out.jpg").symlink_to(root.parent / "shared/2.jpg")
    (root / "images/in.jpg").symlink_to(root / "images/1.jpg")
    (root / "elsewhere").symlink_to(root.parent / "shared")
    assert inside(root, "images/in.jpg", PLAIN, "here").is_file()
    for relative in ("images/out.jpg", "elsewhere/2.jpg"):
        with pytest.raises(DataError, match="--allow-outside-root DIR"):
            inside(root, relative, PLAIN, "here")


def test_a_loop_of_links_is_a_missing_file(root):
    (root / "images/loop.jpg").symlink_to(root / "images/loop.jpg")
    assert not inside(root, "images/loop.jpg", PLAIN, "here").is_file()


def test_a_pipe_is_neither_accepted_nor_waited_for(root):
    os.mkfifo(root / "images/pipe.jpg")
    with pytest.raises(DataError, match="not a regular file"):
        inside(root, "images/pipe.jpg", PLAIN, "here")
    with pytest.raises(DataError, match="not a regular file"):
        read_file(root / "images/pipe.jpg", 100)


def test_a_folder_outside_is_open_to_who_allows_it_and_no_other_one(root):
    allowed = SceneSettings(outside_root=str(root.parent / "shared"))
    assert inside(root, "../shared/2.jpg", allowed, "here").is_file()
    assert inside(root, str(root.parent / "shared/2.jpg"), allowed, "here").is_file()
    assert name_of(root, inside(root, "../shared/2.jpg", allowed, "here")) == "../shared/2.jpg"
    for relative in ("../other/2.jpg", "/etc/passwd"):
        with pytest.raises(DataError, match="leads out"):
            inside(root, relative, allowed, "here")


def test_a_file_is_read_whole_or_refused(root):
    assert read_file(root / "images/1.jpg", 5) == b"photo"
    with pytest.raises(DataError, match="5 bytes, at most 4"):
        read_file(root / "images/1.jpg", 4)
    for path in (root / "images", root / "none"):
        with pytest.raises(DataError, match="cannot be read"):
            read_file(path, 100)


def test_a_photo_named_without_suffix_is_found_with_the_one_it_has(root):
    (root / "images/2.webp").touch()
    (root / "images/3").mkdir()
    (root / "images/3.tif").touch()
    (root / "images/shot.5.png").touch()
    stems = ("1", "2", "3", "shot.5", "4", "1.jpg", "7.JPG")
    found = [photo(root, f"images/{stem}", PLAIN, "here", ".png").name for stem in stems]
    assert found == ["1.jpg", "2.webp", "3.tif", "shot.5.png", "4.png", "1.jpg", "7.JPG"]


@pytest.mark.parametrize("stated, on_disk", [("NFC", "NFD"), ("NFD", "NFC")])
def test_a_photo_is_found_however_its_accents_are_spelled(root, stated, on_disk):
    (root / "images" / unicodedata.normalize(on_disk, "Tür é.jpg")).touch()
    found = photo(root, "images/" + unicodedata.normalize(stated, "Tür é"), PLAIN, "here")
    assert found.name == unicodedata.normalize(on_disk, "Tür é.jpg") and found.exists()


def test_photo_folders_are_those_that_hold_photos_the_largest_first(root):
    for name in ("images_8/a.png", "images_4/sub/a.png", "images_2/notes.txt", "imagesque/a.png", "images_x/a.png"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    (root / "images/._1.jpg").touch()
    (root / "images/front").mkdir()
    (root / "images/front/1.JPG").touch()
    assert [folder.name for folder in image_folders(root)] == ["images", "images_4", "images_8"]
    assert photos_below(root / "images") == ["1.jpg", "front/1.JPG"]
    assert image_folders(root / "nowhere") == []


def test_foreign_text_is_shown_on_one_printable_line():
    assert shown("a[/b]\nc\x1b.jpg") == "a[/b]\\nc\\x1b.jpg"
    assert shown(os.fsdecode(b"\xff")) == "\\udcff"
    assert shown("é" * 300, 10) == "é" * 10 + "…"
