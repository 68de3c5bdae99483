import io
import os
import threading

import numpy as np
import pytest
from PIL import ExifTags, Image

from nerf_app.process import photos as photos_module
from nerf_app.process.photos import blurred, gather, photo_files, scene_names
from nerf_app.process.sharpness import sharpness
from nerf_app.scene.images import exif_of_place, read_header

RNG = np.random.default_rng(1)
SCENE = np.kron(RNG.integers(0, 256, (6, 8, 3)), np.ones((8, 8, 1))).astype(np.uint8)  # [48, 64, 3]
TURNS = {2: np.fliplr, 3: lambda a: np.rot90(a, 2), 4: np.flipud, 5: lambda a: np.swapaxes(a, 0, 1), 6: lambda a: np.rot90(a, 1),
         7: lambda a: np.rot90(np.swapaxes(a, 0, 1), 2), 8: lambda a: np.rot90(a, -1)}  # how a camera so held stores it


def silent(done: int, total: int) -> None:
    pass


def gathered(folder, out):
    (out / "work").mkdir(parents=True)
    return gather(photo_files(folder), folder, out, out / "work", silent)


def exif(**words) -> Image.Exif:
    entries = Image.Exif()
    for name, value in words.items():
        in_main = name in ("Orientation", "Make", "Model")
        (entries if in_main else entries.get_ifd(ExifTags.IFD.Exif))[getattr(ExifTags.Base, name)] = value
    return entries


@pytest.mark.parametrize("orientation", [1, *TURNS])
def test_turned_photos_lie_upright_and_need_no_turn_any_more(orientation, tmp_path):
    (tmp_path / "in").mkdir()
    stored = TURNS.get(orientation, np.array)(SCENE)
    Image.fromarray(np.ascontiguousarray(stored)).save(tmp_path / "in/a.png", exif=exif(Orientation=orientation))
    (photo,) = gathered(tmp_path / "in", tmp_path / "out").photos
    picture = Image.open(tmp_path / "out" / photo.name)
    np.testing.assert_array_equal(np.array(picture), SCENE)
    assert (photo.width, photo.height) == picture.size == (64, 48)
    assert picture.getexif().get(ExifTags.Base.Orientation, 1) == 1


@pytest.mark.parametrize("place", [(48.20849, 16.37208, 171.5), (-33.85678, -151.21530, -3.25)])
@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.tif", "a.heic"])
def test_where_a_photo_was_taken_stays_known_when_it_is_written_anew(name, place, tmp_path):
    (tmp_path / "in").mkdir()
    stored = Image.Exif()
    stored.load(exif_of_place(place))
    stored[ExifTags.Base.Orientation] = 6
    picture = Image.fromarray(SCENE)
    if name == "a.heic":
        picture = pytest.importorskip("pillow_heif").from_pillow(picture)
    picture.save(tmp_path / "in" / name, exif=stored.tobytes())
    (photo,) = gathered(tmp_path / "in", tmp_path / "out").photos
    for file in (tmp_path / "in" / name, tmp_path / "out" / photo.name):
        assert read_header(file).place == pytest.approx(place, abs=1e-7)


def test_upright_photos_are_the_same_files_and_heic_becomes_jpeg(tmp_path):
    pillow_heif = pytest.importorskip("pillow_heif")
    folder = tmp_path / "in"
    folder.mkdir()
    Image.fromarray(SCENE).save(folder / "a.jpg")
    pillow_heif.from_pillow(Image.fromarray(SCENE[::-1])).save(folder / "a.heic", quality=95)
    names = {photo.source: photo.name for photo in gathered(folder, tmp_path / "out").photos}
    assert names == {"a.heic": "images/a.jpg", "a.jpg": "images/a-2.jpg"}
    assert os.path.samefile(folder / "a.jpg", tmp_path / "out/images/a-2.jpg")
    written = np.array(Image.open(tmp_path / "out/images/a.jpg")).astype(float)
    assert np.abs(written - SCENE[::-1]).mean() < 8


def test_broken_photos_and_repeated_ones_are_refused_with_the_reason(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    stream = io.BytesIO()
    Image.fromarray(SCENE).save(stream, "JPEG", quality=95)
    whole = stream.getvalue()
    broken = {"cut.jpg": whole[:len(whole) // 2], "none.jpg": b"", "text.png": b"?" * 99}
    for name, content in {"a.jpg": whole, "b.jpg": whole, **broken}.items():
        (folder / name).write_bytes(content)
    found = gathered(folder, tmp_path / "out")
    reasons = {drop.name: drop.reason for drop in found.refused}
    assert [photo.source for photo in found.photos] == ["a.jpg"] and reasons.keys() == {"b.jpg", *broken}
    assert reasons["b.jpg"] == "the same photo as a.jpg" and "is broken" in reasons["cut.jpg"]
    assert os.listdir(tmp_path / "out/images") == ["a.jpg"] and len(os.listdir(tmp_path / "out/work")) == 1


def test_whoever_is_interrupted_does_not_wait_for_the_photos_at_hand(tmp_path, monkeypatch):
    folder, is_over, begun, ended = tmp_path / "in", threading.Event(), [], []
    folder.mkdir()
    for number in range(6):
        Image.fromarray(np.roll(SCENE, number, 0)).save(folder / f"{number}.png")

    def placed(out, file, name):
        begun.append(name)
        if not name.endswith("0.png"):
            is_over.wait(10)
            ended.append(name)
        return "no photo"

    def interrupt(*_):
        raise KeyboardInterrupt
    monkeypatch.setattr(photos_module, "_placed", placed)
    try:
        with pytest.raises(KeyboardInterrupt):
            gather(photo_files(folder), folder, tmp_path / "out", tmp_path / "work", interrupt)
        assert not ended
    finally:
        is_over.set()
    assert len(begun) <= 3


def test_photos_of_one_size_and_lens_share_a_camera(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    wide = {"Make": "Maker", "Model": "Two", "FocalLength": 4.2, "FocalLengthIn35mmFilm": 27}
    cases = {"1": wide, "2": wide, "3": wide | {"FocalLength": 8.4, "FocalLengthIn35mmFilm": 54}, "4": {},
             "5": wide | {"Orientation": 6}, "6": wide | {"FocalLengthIn35mmFilm": 54}}
    for number, (name, words) in enumerate(cases.items()):
        Image.fromarray(np.roll(SCENE, number, 0)).save(folder / f"{name}.jpg", exif=exif(**words))
    photos = {photo.source[0]: photo for photo in gathered(folder, tmp_path / "out").photos}
    assert photos["1"].camera == photos["2"].camera
    assert len({photos[name].camera for name in "13456"}) == 5
    assert photos["1"].focal_px == pytest.approx(27 * 80 / np.hypot(36, 24)) and photos["3"].focal_px == 2 * photos["1"].focal_px
    assert photos["4"].focal_px is None


@pytest.mark.parametrize("name", [b"a b.jpg", b"-rf.jpg", b"new\nline.jpg", b"\xff\xfe.jpg", b"[x].jpg", b"c:d.jpg",
                                  "ä漢.jpg".encode(), b"x" * 251 + b".jpg"])
def test_hostile_names_become_names_that_all_can_read(name, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    Image.fromarray(SCENE).save(os.fsdecode(os.path.join(os.fsencode(folder), name)), "JPEG")
    (photo,) = gathered(folder, tmp_path / "out").photos
    assert photo.name.encode() and photo.name.isprintable() and "\\" not in photo.name and photo.name.startswith("images/")
    assert photo.key.isascii() and not set(" \n") & set(photo.key)
    assert (tmp_path / "out" / photo.name).is_file() and (tmp_path / "out/work" / photo.key).is_file()


def test_names_stay_what_they_are_where_they_can_and_differ_always():
    given = ["a.jpg", "a.JPG", "a.heic", "b/a.jpg", "b/ä 1.png", "c\x01.jpg", "c\x02.jpg"]
    names = scene_names(given)
    assert names[0] == "images/a.jpg" and names[3:5] == ["images/b/a.jpg", "images/b/ä 1.png"]
    stems = {os.path.splitext(name)[0].lower() for name in names}
    assert len(stems) == len(given)


def test_what_is_blurred_is_less_sharp_and_what_is_larger_is_not(tmp_path):
    sharp = RNG.integers(0, 256, (200, 300, 3)).astype(np.uint8)
    soft = sum(np.roll(sharp.astype(float), (i, j), (0, 1)) for i in range(3) for j in range(3)) / 9
    assert sharpness(soft.astype(np.uint8)) < 0.1 * sharpness(sharp)
    assert sharpness(np.full((50, 50, 3), 99, np.uint8)) == sharpness(sharp[:2, :2]) == 0.0
    grey = RNG.integers(0, 256, (100, 160)).astype(float)
    inner = -4 * grey[1:-1, 1:-1] + grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:]
    assert sharpness(np.stack([grey] * 3, -1).astype(np.uint8)) == pytest.approx(inner.var(), rel=1e-5)


def test_blurred_ones_are_those_far_below_the_middle():
    from types import SimpleNamespace
    photos = [SimpleNamespace(key=key, sharpness=value) for key, value in {"a": 10.0, "b": 12.0, "c": 2.0, "d": 9.0}.items()]
    assert blurred(photos, 0.25) == {"c"} and blurred([], 0.25) == set()
