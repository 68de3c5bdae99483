import json

import numpy as np
import pytest

from nerf_app.errors import DataError
from nerf_app.scene import blender, transforms
from nerf_app.scene.camera import Lens
from nerf_app.scene.listing import StatedCamera
from nerf_app.scene.settings import SceneSettings

SETTINGS = SceneSettings()


def matrix(x):
    pose = np.eye(4)
    pose[0, 3] = x
    return pose.tolist()


def write(folder, split, names, **keys):
    """A split file in the plain set's form; the poses differ by their place on the x axis."""
    frames = [{"file_path": name, "rotation": 0.01, "transform_matrix": matrix(i)} for i, name in enumerate(names)]
    (folder / f"transforms_{split}.json").write_text(json.dumps({"camera_angle_x": 0.7, "frames": frames} | keys))
    for name in names:
        photo = folder / (name if name.endswith(".jpg") else name + ".png")
        photo.parent.mkdir(exist_ok=True)
        photo.touch()


def test_splits_come_from_the_three_files_and_photos_get_their_suffix(tmp_path):
    for split in ("test", "val", "train"):
        write(tmp_path, split, [f"./{split}/r_0", f"./{split}/r_10", f"./{split}/r_2"])
    listing = blender.read(tmp_path, SETTINGS)
    assert [(frame.name, frame.split) for frame in listing.frames] == [
        (f"{split}/r_{i}.png", split) for split in ("train", "val", "test") for i in (0, 10, 2)]  # the files' order
    assert all(frame.path == tmp_path / frame.name for frame in listing.frames)
    assert all(frame.camera == StatedCamera(angle_x=0.7) for frame in listing.frames)
    np.testing.assert_array_equal(listing.frames[1].world_from_camera, matrix(1))
    np.testing.assert_array_equal(listing.up, (0, 0, 1))
    assert (listing.root, listing.format, listing.notes, listing.dropped) == (tmp_path, "blender", (), ())


def test_any_of_the_files_may_be_missing_and_any_may_be_named(tmp_path):
    write(tmp_path, "train", ["train/r_0"])
    write(tmp_path, "test", ["test/r_0"])
    for path in (tmp_path, tmp_path / "transforms_test.json"):
        assert blender.recognises(path)
        assert [frame.split for frame in blender.read(path, SETTINGS).frames] == ["train", "test"]


def test_a_photo_may_be_named_with_its_suffix_and_may_be_missing(tmp_path):
    write(tmp_path, "train", ["train/r_0.jpg", "train/r_1"])
    (tmp_path / "train/r_1.png").unlink()
    assert [frame.name for frame in blender.read(tmp_path, SETTINGS).frames] == ["train/r_0.jpg", "train/r_1.png"]


def test_intrinsics_of_add_ons_are_read_as_their_tools_mean_them(tmp_path):
    write(tmp_path, "train", ["train/r_0"], fl_x=500.0, fl_y=510.0, w=400, h=300, cx=201.0, cy=149.0, k1=0.1, k2=0.0,
          p1=0.02, p2=0.0, aabb_scale=4)
    camera = blender.read(tmp_path, SETTINGS).frames[0].camera
    assert camera == StatedCamera(400, 300, 500.0, 510.0, 201.0, 149.0,
                                  lens=Lens(radial=(0.1, 0.0, 0.0, 0.0), tangential=(0.02, 0.0)))


def test_a_val_file_that_copies_the_test_file_does_not_empty_the_test(tmp_path):
    for split, folder in (("train", "train"), ("val", "test"), ("test", "test")):
        write(tmp_path, split, [f"{folder}/r_0", f"{folder}/r_1"])
    listing = blender.read(tmp_path, SETTINGS)
    assert [frame.split for frame in listing.frames] == ["train", "train", "test", "test"]
    assert "listed more than once" in listing.notes[0]


def test_such_a_folder_is_not_taken_for_instant_ngps(tmp_path):
    write(tmp_path, "train", ["train/r_0"])
    assert blender.recognises(tmp_path) and not transforms.recognises(tmp_path)
    assert transforms.missing(tmp_path) is None and blender.missing(tmp_path) is None


def test_files_without_frames_are_not_recognised_and_explained(tmp_path):
    write(tmp_path, "train", [])
    assert not blender.recognises(tmp_path)
    assert blender.missing(tmp_path) == 'transforms_train.json lists no photos: its "frames" are empty'
    with pytest.raises(DataError, match="transforms_train.json"):
        blender.read(tmp_path, SETTINGS)


def test_photos_without_an_entry_are_dropped_and_folders_of_no_split_file_are_left_alone(tmp_path):
    write(tmp_path, "train", ["train/r_0", "train/r_1"])
    write(tmp_path, "test", ["test/r_0"])
    (tmp_path / "val").mkdir()
    for name in ("train/r_10.png", "test/r_0_depth_0001.png", "test/r_0_normal_0001.png", "val/r_0.png"):
        (tmp_path / name).touch()
    assert blender.read(tmp_path, SETTINGS).dropped == (
        ("train/r_10.png", "no entry in transforms_test.json or transforms_train.json"),)


def test_a_bad_pose_is_named_with_file_and_photo(tmp_path):
    write(tmp_path, "train", ["train/r_0"])
    text = (tmp_path / "transforms_train.json").read_text()
    (tmp_path / "transforms_train.json").write_text(text.replace("[0.0, 0.0, 1.0, 0.0]", "[0.0, 0.0, -1.0, 0.0]"))
    with pytest.raises(DataError, match=r"transforms_train.json: frames\[0\] \(train/r_0\): .*mirrors"):
        blender.read(tmp_path, SETTINGS)
