import json
import math
import os
import struct

import numpy as np
import pytest
from PIL import ExifTags, Image

from nerf_app.errors import DataError, UsageError
from nerf_app.scene.load import load_scene
from nerf_app.scene.settings import SceneSettings

SIDE = 16


def pose(index, count):
    """[4, 4] camera-to-world of the index-th camera on a circle, looking at the origin, z up."""
    angle = 2 * math.pi * index / count
    back = np.array([math.cos(angle), math.sin(angle), 0.3])
    right = np.cross([0.0, 0.0, 1.0], back)
    back, right = back / np.linalg.norm(back), right / np.linalg.norm(right)
    matrix = np.eye(4)
    matrix[:3] = np.stack([right, np.cross(back, right), back, 4.0 * back], 1)
    return matrix


def picture(index, channels=3, size=(SIDE, SIDE)):
    """[H, W, C] noise; with alpha a disc in the middle."""
    pixels = np.random.default_rng(index).integers(0, 256, (size[1], size[0], channels), dtype=np.uint8)
    if channels == 4:
        y, x = np.mgrid[:size[1], :size[0]]
        pixels[..., 3] = 255 * (np.hypot(x - size[0] / 2 + 0.5, y - size[1] / 2 + 0.5) < size[0] / 4)
    return pixels


def save(path, pixels, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)


class Writer:
    """A set of photos on a circle, as transforms.json; tests change `frames` or the files before they load it."""

    def __init__(self, root, count=20, channels=3, size=(SIDE, SIDE), **keys):
        self.root = root
        self.keys = {"fl_x": 20.0, "w": size[0], "h": size[1], **keys}
        self.names = [f"images/{i:03d}.png" for i in range(count)]
        self.frames = [{"file_path": name, "transform_matrix": pose(i, count).tolist()} for i, name in enumerate(self.names)]
        for i, name in enumerate(self.names):
            save(root / name, picture(i, channels, size))

    def load(self, **settings):
        (self.root / "transforms.json").write_text(json.dumps({**self.keys, "frames": self.frames}))
        return load_scene(self.root, SceneSettings(**settings))

    def refusal(self, **settings):
        """The one line that loading ends with."""
        with pytest.raises(DataError) as caught:
            self.load(**settings)
        assert "\n" not in str(caught.value) and caught.value.exit_code == 3
        return str(caught.value)


def test_views_photos_and_cameras_go_together(tmp_path):
    scene = Writer(tmp_path).load()
    assert scene.format == "transforms" and [view.name for view in scene.views] == [f"images/{i:03d}.png" for i in range(20)]
    assert scene.indices("test") == [0, 8, 16] and len(scene.indices("val")) == 1 and len(scene.indices("train")) == 16
    for i, view in enumerate(scene.views):
        np.testing.assert_array_equal(scene.photos.picture(i)[0], picture(i))
        np.testing.assert_allclose(view.world_from_camera, pose(i, 20))
        assert (view.camera.width, view.camera.height, view.camera.focal_x_px) == (SIDE, SIDE, 20.0)
    assert scene.notes[0] == "20 photos 16×16, 16 train, 1 val, 3 test (every 8th)"
    assert scene.dropped == () and not scene.is_bounded and scene.up.tolist() == [0.0, 0.0, 1.0]


def test_alpha_everywhere_makes_the_scene_bounded_by_the_object(tmp_path):
    scene = Writer(tmp_path, channels=4).load()
    assert scene.is_bounded and scene.photos.has_alpha
    np.testing.assert_allclose(scene.normalisation.centre, 0.0, atol=0.15)
    assert 0.5 < scene.normalisation.scale < 1.6  # the disc has a radius of 4 pixels: 0.8 units at the centre


def test_object_masks_beside_the_photos_bound_the_scene_as_alpha_does(tmp_path):
    writer = Writer(tmp_path)
    for name in writer.names:
        save(tmp_path / name.replace("images", "masks"), picture(0, 4)[..., 3])
    scene = writer.load()
    assert scene.is_bounded and scene.photos.has_alpha and any("nothing is" in note for note in scene.notes)


def test_training_photos_are_reduced_and_test_photos_are_not(tmp_path):
    scene = Writer(tmp_path, size=(64, 48)).load(longest_side=16)
    for i, view in enumerate(scene.views):
        pixels, _ = scene.photos.picture(i)
        is_test = view.split == "test"
        assert pixels.shape[:2] == ((48, 64) if is_test else (12, 16)) == (view.camera.height, view.camera.width)
        assert view.camera.focal_x_px == (20.0 if is_test else 5.0)
        means = picture(i, 3, (64, 48)).reshape(12, 4, 16, 4, 3).mean((1, 3))
        assert is_test or np.abs(pixels.numpy() - means).max() <= 1
    assert "17 photos reduced to 16 pixels for training" in scene.notes


def test_sizes_may_differ_from_photo_to_photo_and_from_what_is_stated(tmp_path):
    writer = Writer(tmp_path)
    save(tmp_path / writer.names[3], picture(3, 3, (32, 32)))
    scene = writer.load()
    assert scene.views[3].camera.focal_x_px == 40.0 and scene.views[4].camera.focal_x_px == 20.0
    np.testing.assert_array_equal(scene.photos.picture(3)[0], picture(3, 3, (32, 32)))
    assert "1 of 20 photos: intrinsics scaled from 16×16 to 32×32" in scene.notes


def test_a_size_that_does_not_fit_names_both(tmp_path):
    writer = Writer(tmp_path)
    save(tmp_path / writer.names[3], picture(3, 3, (16, 12)))
    assert "images/003.png is 16×12 but its camera says 16×16" in writer.refusal()


def test_a_photo_that_exif_turns_is_turned_with_its_mask(tmp_path):
    writer = Writer(tmp_path, size=(12, 16))
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 8
    stored = picture(3, 3, (16, 12))
    save(tmp_path / writer.names[3], stored, exif=exif)
    mask = (stored[..., 0] > 99).astype(np.uint8) * 255
    save(tmp_path / "key.png", mask)
    writer.frames[3]["mask_path"] = "key.png"
    pixels, ignored = writer.load().photos.picture(3)
    np.testing.assert_array_equal(pixels, np.rot90(stored))
    np.testing.assert_array_equal(ignored, np.rot90(mask) == 0)


def test_listed_but_missing_photos_are_normal(tmp_path):
    writer = Writer(tmp_path)
    for i in range(0, 8, 2):
        (tmp_path / writer.names[i]).unlink()
    scene = writer.load()
    assert len(scene.views) == 16 and [drop.name for drop in scene.dropped] == [writer.names[i] for i in range(0, 8, 2)]
    assert "4 photos left out, listed but not there: images/000.png, images/002.png, images/004.png, …" in scene.notes
    message = writer.refusal(is_strict=True)
    assert "images/000.png" in message and "or leave out --strict" in message


def test_fewer_than_half_of_the_photos_is_said_loudly(tmp_path):
    writer = Writer(tmp_path)
    for name in writer.names[:13]:
        (tmp_path / name).unlink()
    assert any(note.startswith("FEWER THAN HALF") for note in writer.load().notes)


def test_a_few_broken_photos_are_left_out_and_listed(tmp_path):
    writer = Writer(tmp_path)
    (tmp_path / writer.names[4]).write_bytes((tmp_path / writer.names[4]).read_bytes()[:200])
    (tmp_path / writer.names[8]).write_bytes(b"hello")
    scene = writer.load()
    assert len(scene.views) == 18 and {drop.name for drop in scene.dropped} == {writer.names[4], writer.names[8]}
    assert any(note.startswith("2 photos broken and left out of 20") for note in scene.notes)
    for i, view in enumerate(scene.views):
        np.testing.assert_array_equal(scene.photos.picture(i)[0], picture(int(view.name[7:10])))
    assert "cannot be used" in writer.refusal(is_strict=True)


def test_more_than_a_tenth_broken_ends_the_program(tmp_path):
    writer = Writer(tmp_path)
    for i in (1, 3, 5):
        (tmp_path / writer.names[i]).write_bytes((tmp_path / writer.names[i]).read_bytes()[:200])
    assert "3 of 20 photos cannot be used" in writer.refusal()


def test_photos_that_are_all_broken_end_the_program(tmp_path):
    writer = Writer(tmp_path)
    for name in writer.names:
        (tmp_path / name).write_bytes(b"")
    assert "none of 20 photos can be opened" in writer.refusal()


def test_photos_that_are_all_missing_end_the_program(tmp_path):
    writer = Writer(tmp_path)
    for name in writer.names:
        (tmp_path / name).unlink()
    assert "20 photos left out, listed but not there" in writer.refusal()


@pytest.mark.parametrize("remaining", [1, 2])
def test_fewer_than_three_views_name_the_scene_and_what_became_of_the_others(tmp_path, remaining):
    writer = Writer(tmp_path / "my scene")
    for name in writer.names[remaining:]:
        (writer.root / name).unlink()
    message = writer.refusal()
    assert f"{writer.root}: a scene needs 3 distinct views, but of its 20 photos {remaining} can be used (" in message
    assert f"{20 - remaining} photos left out, listed but not there: {writer.names[remaining]}, " in message


def test_repeats_that_leave_too_few_views_are_said(tmp_path):
    writer = Writer(tmp_path, count=2)
    writer.frames += writer.frames
    assert "of its 2 photos 2 can be used (images/000.png and 1 more listed more than once" in writer.refusal()


def test_a_file_that_lists_two_photos_says_that_it_lists_no_more(tmp_path):
    assert "of its 2 photos 2 can be used (its files list no more" in Writer(tmp_path, count=2).refusal()


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_camera_so_far_off_that_no_number_tells_what_it_sees_is_refused_by_name(tmp_path, split):
    writer = Writer(tmp_path)
    (tmp_path / "list").write_text("images/003.png\n" if split == "test" else "images/000.png\n")
    writer.frames[3]["transform_matrix"][0][3] = 1e60
    assert "1 of 20 cameras stand more than 500,000 times as far away" in (message := writer.refusal(test="list"))
    assert "first that of images/003.png" in message


def test_a_test_that_leaves_two_training_photos_is_blamed_itself(tmp_path):
    writer = Writer(tmp_path)
    (tmp_path / "list").write_text("\n".join(writer.names[2:]))
    message = writer.refusal(test="list")
    assert str(tmp_path) in message and "20 photos 16×16, 2 train" in message and "keep fewer for the test" in message


def test_a_test_that_leaves_only_broken_training_photos_ends_the_program(tmp_path):
    writer = Writer(tmp_path)
    (tmp_path / "list").write_text("\n".join(writer.names[1:]))
    (tmp_path / writer.names[0]).write_bytes((tmp_path / writer.names[0]).read_bytes()[:200])
    assert "no training photo is left" in writer.refusal(test="list")


def test_three_views_are_enough(tmp_path):
    assert len(Writer(tmp_path, count=3).load().views) == 3


def test_cameras_at_one_point_end_the_program(tmp_path):
    writer = Writer(tmp_path)
    for frame in writer.frames:
        for row, value in zip(frame["transform_matrix"], (1.0, 2.0, 3.0)):
            row[3] = value
    message = writer.refusal()
    assert str(tmp_path) in message and "20 photos 16×16, 16 train" in message
    assert "apart from each other, but all 16 that train are at (1, 2, 3)" in message


def test_photos_of_one_name_in_two_folders_are_both_kept(tmp_path):
    writer = Writer(tmp_path, count=6)
    for i, name in enumerate(writer.names):
        writer.frames[i]["file_path"] = f"{'front' if i % 2 else 'back'}/{i // 2}.png"
        (tmp_path / writer.frames[i]["file_path"]).parent.mkdir(exist_ok=True)
        (tmp_path / name).rename(tmp_path / writer.frames[i]["file_path"])
    scene = writer.load()
    assert sorted(view.name for view in scene.views) == [f"{side}/{i}.png" for side in ("back", "front") for i in range(3)]
    for i, view in enumerate(scene.views):
        index = 2 * int(view.name[-5]) + view.name.startswith("front")
        np.testing.assert_array_equal(scene.photos.picture(i)[0], picture(index))


@pytest.mark.parametrize("change, words", [
    (lambda frame: frame.update(file_path="../outside.png"), "frames[1]"),
    (lambda frame: frame.update(file_path="/etc/hostname"), "absolute"),
    (lambda frame: frame["transform_matrix"][0].__setitem__(0, 7.5), "rotation"),
    (lambda frame: frame["transform_matrix"][0].__setitem__(0, "1"), "frames[1]"),
    (lambda frame: frame["transform_matrix"][2].pop(), "frames[1]"),
    (lambda frame: frame.update(transform_matrix=(np.array(frame["transform_matrix"]) * [-1, 1, 1, 1]).tolist()), "mirrors"),
])
def test_frames_that_cannot_be_used_are_named(tmp_path, change, words):
    writer = Writer(tmp_path / "set")
    save(tmp_path / "outside.png", picture(0))
    change(writer.frames[1])
    assert words in writer.refusal()


def test_nan_in_a_matrix_is_refused(tmp_path):
    writer = Writer(tmp_path)
    writer.frames[1]["transform_matrix"][0][3] = math.nan
    assert "transforms.json" in writer.refusal()


def test_empty_frames_are_refused(tmp_path):
    writer = Writer(tmp_path)
    writer.frames = []
    assert 'transforms.json lists no photos: its "frames" are empty' in writer.refusal()


def test_photos_that_no_entry_names_are_listed_and_said(tmp_path):
    writer = Writer(tmp_path)
    del writer.frames[5], writer.frames[9]
    scene = writer.load()
    assert [(drop.name, drop.reason) for drop in scene.dropped] == [
        (f"images/{i:03d}.png", "no entry in transforms.json") for i in (5, 10)]
    assert "2 photos left out, no entry in transforms.json: images/005.png, images/010.png" in scene.notes
    writer.frames = writer.frames[:8]
    assert writer.load().notes[1] == "FEWER THAN HALF OF THE PHOTOS CAN BE USED: 8 of 20"
    assert "images/005.png" in writer.refusal(is_strict=True)


def test_photos_of_a_kind_that_is_not_read_are_named_with_the_cure(tmp_path):
    writer = Writer(tmp_path)
    for i, name in enumerate(writer.names):
        Image.fromarray(picture(i)).save((tmp_path / name).with_suffix(".bmp"))
        (tmp_path / name).unlink()
        writer.frames[i]["file_path"] = name.removesuffix(".png")
    assert "images/000.bmp is none of JPEG, PNG, WEBP, TIFF, AVIF, HEIF, EXR" in writer.refusal()


def test_a_blender_set_whose_training_file_is_empty_says_how_else_to_split(tmp_path):
    writer = Writer(tmp_path, count=4)
    (tmp_path / "transforms_test.json").write_text(json.dumps({**writer.keys, "frames": writer.frames}))
    (tmp_path / "transforms_train.json").write_text('{"frames": []}')
    with pytest.raises(UsageError, match="all 4 photos that are there for the test: .* --test every:8"):
        load_scene(tmp_path)
    assert load_scene(tmp_path, SceneSettings(test="none")).indices("train") == [0, 1, 2, 3]


def test_no_focal_length_hints_at_colmap(tmp_path):
    writer = Writer(tmp_path)
    del writer.keys["fl_x"]
    assert "find the cameras with COLMAP" in writer.refusal()


def test_masks_that_are_black_everywhere_end_the_program(tmp_path):
    writer = Writer(tmp_path)
    save(tmp_path / "black.png", np.zeros((SIDE, SIDE), np.uint8))
    for frame in writer.frames:
        frame["mask_path"] = "black.png"
    assert "all 20 masks are black" in writer.refusal()


def test_photos_that_are_transparent_everywhere_end_the_program(tmp_path):
    writer = Writer(tmp_path, channels=4)
    for name in writer.names:
        save(tmp_path / name, np.zeros((SIDE, SIDE, 4), np.uint8))
    assert "every training photo is transparent everywhere, so there is nothing to learn from" in writer.refusal()


def test_one_black_mask_is_said(tmp_path):
    writer = Writer(tmp_path)
    save(tmp_path / "black.png", np.zeros((SIDE, SIDE), np.uint8))
    save(tmp_path / "half.png", np.triu(np.full((SIDE, SIDE), 255, np.uint8)))
    for frame in writer.frames:
        frame["mask_path"] = "half.png"
    writer.frames[5]["mask_path"] = "black.png"
    scene = writer.load()
    assert any(note == "1 photo with a mask that leaves nothing to look at: images/005.png" for note in scene.notes)
    assert scene.photos.picture(5)[1].all() and not scene.photos.picture(6)[1].all() and not scene.photos.has_alpha


def test_a_mask_of_another_shape_ends_the_program(tmp_path):
    writer = Writer(tmp_path)
    save(tmp_path / "m.png", np.zeros((SIDE, 2 * SIDE), np.uint8))
    writer.frames[0]["mask_path"] = "m.png"
    assert "m.png is 32×16 but its photo images/000.png is 16×16" in writer.refusal()


def test_a_lens_that_says_nothing_of_any_pixel_ends_the_program(tmp_path):
    message = Writer(tmp_path, k1=-1e9).refusal()
    assert str(tmp_path) in message and "correct its distortion coefficients" in message


@pytest.mark.parametrize("pixels, words", [(np.full((SIDE, SIDE), 0.5, np.float32), "floating point values: convert"),
                                           (np.full((SIDE, SIDE), 1 << 30, np.int32), "more than 16 bits: convert")])
def test_pictures_that_are_no_photos_are_said_to_be_so_and_not_broken(tmp_path, pixels, words):
    writer = Writer(tmp_path)
    save(tmp_path / "images/x.tif", pixels)
    writer.frames[0]["file_path"] = "images/x.tif"
    del writer.frames[3:]
    message = writer.refusal()
    assert words in message and "broken" not in message


@pytest.mark.parametrize("make, words", [
    (lambda root: None, "found nothing; there must be transforms.json"),
    (lambda root: save(root / "a.png", picture(0)), "found 1 photo; "),
    (lambda root: (root / "transforms.json").write_text("{}"), "is no scene: transforms.json is there but has no frames"),
    (lambda root: (root / "odd\n[name]").write_text(""), "found odd\\n[name]"),
])
def test_a_folder_of_no_known_format_is_described(tmp_path, make, words):
    make(tmp_path)
    with pytest.raises(DataError) as caught:
        load_scene(tmp_path)
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_a_path_that_does_not_exist_is_said(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        load_scene(tmp_path / "no\nwhere")


def test_where_several_formats_fit_the_first_counts_and_the_others_are_named(tmp_path):
    writer = Writer(tmp_path, count=6)
    row = np.concatenate([np.array([[0, 1, 0, 0, SIDE], [-1, 0, 0, 0, SIDE], [0, 0, 1, 0, 20]], float).ravel(), [1.0, 9.0]])
    np.save(tmp_path / "poses_bounds.npy", np.tile(row, (6, 1)))
    scene = writer.load()
    assert scene.format == "transforms" and "read as transforms; llff would fit as well" in scene.notes


def test_a_blender_set_keeps_its_own_splits(tmp_path):
    for split, count in (("train", 9), ("val", 2), ("test", 4)):
        frames = []
        for i in range(count):
            save(tmp_path / f"{split}/r_{i}.png", picture(i, 4))
            frames.append({"file_path": f"./{split}/r_{i}", "rotation": 0.1, "transform_matrix": pose(i, count + 1).tolist()})
        (tmp_path / f"transforms_{split}.json").write_text(json.dumps({"camera_angle_x": 0.8, "frames": frames}))
    scene = load_scene(str(tmp_path))
    assert [len(scene.indices(split)) for split in ("train", "val", "test")] == [9, 2, 4]
    assert scene.notes[0].endswith("(the set's own)") and scene.is_bounded
    assert scene.views[0].camera.focal_x_px == pytest.approx(SIDE / 2 / math.tan(0.4))


@pytest.mark.parametrize("test, count", [("none", 0), ("every:5", 4), ("list.txt", 2)])
def test_the_setting_says_who_is_tested(tmp_path, test, count):
    (tmp_path / "list.txt").write_text("003.png\nimages/009.png\n")
    assert len(Writer(tmp_path).load(test=test).indices("test")) == count


def test_a_split_that_cannot_be_meant_is_a_usage_error(tmp_path):
    with pytest.raises(UsageError):
        Writer(tmp_path).load(test="every:one")


def test_names_made_of_anything_are_loaded(tmp_path):
    writer = Writer(tmp_path, count=4)
    for i, name in enumerate(("-rf.png", "a[b].png", "line\nbreak.png", "ü 木.png")):
        (tmp_path / writer.names[i]).rename(tmp_path / "images" / name)
        writer.frames[i]["file_path"] = f"images/{name}"
    scene = writer.load()
    assert "images/line\nbreak.png" in {view.name for view in scene.views}
    assert all("\n" not in note for note in scene.notes)


def test_a_colmap_name_that_is_no_utf8_is_loaded(tmp_path):
    (tmp_path / "sparse/0").mkdir(parents=True)
    names = [f"photo\udcff{i}.png" for i in range(4)]
    cameras = struct.pack("<QIiQQ4d", 1, 1, 1, SIDE, SIDE, 20.0, 20.0, 8.0, 8.0)
    pictures = struct.pack("<Q", len(names))
    for i, name in enumerate(names):
        save(tmp_path / "images" / "plain.png", picture(i))
        os.rename(tmp_path / "images" / "plain.png", tmp_path / "images" / name)
        pictures += struct.pack("<I7dI", i + 1, 1.0, 0.0, 0.0, 0.0, float(i), 0.0, 0.0, 1) + os.fsencode(name) + bytes(9)
    (tmp_path / "sparse/0/cameras.bin").write_bytes(cameras)
    (tmp_path / "sparse/0/images.bin").write_bytes(pictures)
    (tmp_path / "sparse/0/points3D.bin").write_bytes(struct.pack("<Q", 0))
    scene = load_scene(tmp_path)
    assert len(scene.views) == 4
    for note in scene.notes:
        note.encode("utf-8")  # what is said can be printed


def test_a_photo_that_is_a_pipe_is_no_photo(tmp_path):
    writer = Writer(tmp_path)
    (tmp_path / writer.names[5]).unlink()
    os.mkfifo(tmp_path / writer.names[5])
    assert "images/005.png" in writer.refusal()


def test_a_photo_that_is_a_link_to_itself_is_not_there_and_a_folder_that_holds_itself_is_not_walked(tmp_path):
    writer = Writer(tmp_path)
    (tmp_path / writer.names[5]).unlink()
    (tmp_path / writer.names[5]).symlink_to("005.png")
    (tmp_path / "images/again").symlink_to(".")
    assert [(drop.name, drop.reason) for drop in writer.load().dropped] == [("images/005.png", "listed but not there")]


def test_the_fingerprint_is_the_same_wherever_the_folder_lies(tmp_path):
    first, second = Writer(tmp_path / "a").load(), Writer(tmp_path / "b").load()
    assert first.photos.fingerprint == second.photos.fingerprint
    save(tmp_path / "b" / "images/007.png", picture(99))
    assert load_scene(tmp_path / "b").photos.fingerprint != first.photos.fingerprint
