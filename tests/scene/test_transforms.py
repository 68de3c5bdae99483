import json
import math
import os

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nerf_app.errors import DataError
from nerf_app.scene import transforms
from nerf_app.scene.camera import Lens
from nerf_app.scene.instant_ngp import natural
from nerf_app.scene.listing import StatedCamera
from nerf_app.scene.settings import SceneSettings

SETTINGS = SceneSettings()
NERFSTUDIO = {"camera_model": "OPENCV"}  # a key that only nerfstudio writes
INSTANT_NGP = {"aabb_scale": 4}  # and one of instant-ngp


def matrix(x=0.0):
    pose = np.eye(4)
    pose[0, 3] = x
    return pose.tolist()


def entry(name, x=0.0, **keys):
    return {"file_path": name, "transform_matrix": matrix(x)} | keys


def write(folder, *entries, file="transforms.json", **keys):
    (folder / file).write_text(json.dumps({"fl_x": 500.0, "frames": list(entries)} | keys))
    return folder / file


def cameras(folder, *entries, **keys):
    write(folder, *entries, **keys)
    return [frame.camera for frame in transforms.read(folder, SETTINGS).frames]


def lens(folder, **keys):
    return cameras(folder, entry("1.png"), **keys)[0].lens


def test_poses_intrinsics_and_axes_are_taken_as_they_stand(tmp_path):
    pose = [[0.0, -1.0, 0.0, 5.0], [1.0, 0.0, 0.0, 6.0], [0.0, 0.0, 1.0, 7.0], [0.0, 0.0, 0.0, 1.0]]
    write(tmp_path, {"file_path": "./photos/1.jpg", "transform_matrix": pose}, fl_y=510, cx=301.5, cy=199, w=600.0, h=400)
    listing = transforms.read(tmp_path, SETTINGS)
    frame, = listing.frames
    assert (frame.name, frame.path) == ("photos/1.jpg", tmp_path / "photos/1.jpg")
    np.testing.assert_array_equal(frame.world_from_camera, pose)
    assert frame.camera == StatedCamera(600, 400, 500.0, 510.0, 301.5, 199.0)
    np.testing.assert_array_equal(listing.up, (0, 0, 1))
    assert (listing.root, listing.format, listing.applied_transform) == (tmp_path, "transforms", None)


def test_the_folder_or_the_file_may_be_named(tmp_path):
    file = write(tmp_path, entry("1.png"), file="cameras.json")
    for path in (tmp_path, file):
        assert transforms.recognises(path)
        assert [frame.name for frame in transforms.read(path, SETTINGS).frames] == ["1.png"]


def test_a_photos_own_intrinsics_win_and_the_files_fill_the_gaps(tmp_path):
    first, second = cameras(tmp_path, entry("1.png", fl_x=300.0, w=320, h=240, cx=161.0, k1=0.1), entry("2.png"),
                            fl_y=505.0, w=640, h=480, cx=320.0, cy=240.0, k1=0.2, k2=0.3)
    assert first == StatedCamera(320, 240, 300.0, None, 161.0, 240.0, lens=Lens(radial=(0.1, 0.0, 0.0, 0.0)))
    assert second == StatedCamera(640, 480, 500.0, 505.0, 320.0, 240.0, lens=Lens(radial=(0.2, 0.3, 0.0, 0.0)))


def test_without_focal_lengths_the_angle_counts_in_radians_and_fov_in_degrees(tmp_path):
    assert cameras(tmp_path, entry("1.png"), fl_x=None, camera_angle_x=0.7)[0] == StatedCamera(angle_x=0.7)
    both = cameras(tmp_path, entry("1.png", x_fov=90.0, y_fov=60.0), camera_angle_x=0.7)[0]
    assert (both.focal_x_px, both.angle_x, both.angle_y) == (None, math.pi / 2, math.radians(60.0))
    assert cameras(tmp_path, entry("1.png"), fl_x=None)[0] == StatedCamera()  # EXIF may know


# nerfstudio


def test_nerfstudio_distortion_is_a_polynomial_up_to_r8(tmp_path):
    expected = Lens(radial=(0.1, 0.2, 0.3, 0.4), tangential=(0.01, 0.02))
    keys = {"k1": 0.1, "k2": 0.2, "k3": 0.3, "k4": 0.4, "p1": 0.01, "p2": 0.02}
    assert lens(tmp_path, **keys, **NERFSTUDIO) == expected
    assert lens(tmp_path, **keys) == expected  # without a flavour's key
    assert lens(tmp_path, distortion_params=[0.1, 0.2, 0.3, 0.4, 0.01, 0.02]) == expected
    assert lens(tmp_path, **keys, **NERFSTUDIO, **INSTANT_NGP) == expected  # nerfstudio's key decides


@pytest.mark.parametrize("model, family", [
    ("SIMPLE_PINHOLE", "perspective"), ("PINHOLE", "perspective"), ("SIMPLE_RADIAL", "perspective"),
    ("RADIAL", "perspective"), ("OPENCV", "perspective"), ("OPENCV_FISHEYE", "fisheye"), ("EQUIRECTANGULAR", "equirectangular"),
])
def test_nerfstudio_camera_models_have_their_lens(tmp_path, model, family):
    assert lens(tmp_path, camera_model=model).family == family


@pytest.mark.parametrize("model", ["OMNIDIRECTIONALSTEREO_L", "OMNIDIRECTIONALSTEREO_R", "VR180_L", "VR180_R", "ORTHOPHOTO",
                                   "FISHEYE624", "opencv\n"])
def test_camera_models_that_are_not_read_are_named(tmp_path, model):
    with pytest.raises(DataError, match=f"camera_model {model.strip()}"):
        lens(tmp_path, camera_model=model)


def test_distortion_params_of_another_length_are_refused(tmp_path):
    with pytest.raises(DataError, match="6 numbers k1 k2 k3 k4 p1 p2, got 4"):
        lens(tmp_path, distortion_params=[0.1, 0.2, 0.0, 0.0])


def test_nerfstudio_sorts_by_path_and_instant_ngp_by_the_numbers_in_it(tmp_path):
    entries = [entry(f"img{i}.png", i) for i in (2, 10, 1)]
    for keys, order in ((NERFSTUDIO, ["img1.png", "img10.png", "img2.png"]),
                        (INSTANT_NGP, ["img1.png", "img2.png", "img10.png"])):
        write(tmp_path, *entries, **keys)
        frames = transforms.read(tmp_path, SETTINGS).frames
        assert [frame.name for frame in frames] == order
        assert [f"img{frame.world_from_camera[0, 3]:.0f}.png" for frame in frames] == order  # the poses go along


@given(st.lists(st.integers(0, 10**30), max_size=5))
def test_natural_order_of_numbered_names_is_the_order_of_the_numbers(numbers):
    assert sorted((f"v{n:040d}x{n % 1000}" for n in numbers), key=natural) == [f"v{n:040d}x{n % 1000}" for n in sorted(numbers)]
    small = [n % 10**18 for n in numbers]
    assert sorted((f"v{n}.png" for n in small), key=natural) == [f"v{n}.png" for n in sorted(small)]


def test_the_files_own_split_lists_are_kept_and_what_they_leave_out_is_dropped(tmp_path):
    write(tmp_path, *(entry(f"./images/{i}.png", i) for i in range(5)), train_filenames=["images/0.png", "./images/1.png"],
          val_filenames=["./images/2.png", "./images/3.png"], test_filenames=["./images/3.png"])
    listing = transforms.read(tmp_path, SETTINGS)
    assert [(frame.name, frame.split) for frame in listing.frames] == [
        ("images/0.png", "train"), ("images/1.png", "train"), ("images/2.png", "val"), ("images/3.png", "test")]
    assert listing.dropped == (("images/4.png", "in none of train_filenames, val_filenames, test_filenames"),)
    write(tmp_path, entry("1.png"), entry("2.png"), test_filenames=["2.png"])
    assert [frame.split for frame in transforms.read(tmp_path, SETTINGS).frames] == [None, "test"]


def test_mask_and_depth_paths_are_kept_with_their_meaning(tmp_path):
    write(tmp_path, entry("1.png", mask_path="masks/1.png", depth_file_path="depth/1.png"))
    frame, = transforms.read(tmp_path, SETTINGS).frames
    assert (frame.mask, frame.is_mask_inverted) == (tmp_path / "masks/1.png", False)  # black = ignore
    assert (frame.depth, frame.depth_scale) == (tmp_path / "depth/1.png", 1e-3)


def test_the_applied_transform_is_kept_with_its_scale_and_coordinates_stay_the_files(tmp_path):
    rows = [[1.0, 0.0, 0.0, 0.5], [0.0, 0.0, 1.0, 0.0], [0.0, -1.0, 0.0, 0.0]]
    write(tmp_path, entry("1.png", 3.0), applied_transform=rows, applied_scale=2.0)
    listing = transforms.read(tmp_path, SETTINGS)
    np.testing.assert_array_equal(listing.applied_transform, 2.0 * np.array(rows))
    np.testing.assert_array_equal(listing.frames[0].world_from_camera, matrix(3.0))
    for bad in ([[1.0]], [[0.0] * 4] * 3):
        write(tmp_path, entry("1.png"), applied_transform=bad)
        with pytest.raises(DataError, match="applied_transform"):
            transforms.read(tmp_path, SETTINGS)


# instant-ngp


def test_instant_ngp_has_p1_and_p2_in_the_slots_of_k3_and_k4(tmp_path):
    expected = Lens(radial=(0.1, 0.2, 0, 0), tangential=(0.01, 0.02))
    assert lens(tmp_path, k1=0.1, k2=0.2, p1=0.01, p2=0.02, **INSTANT_NGP) == expected
    assert lens(tmp_path, k1=0.1, k2=0.2, k3=0.01, k4=0.02, **INSTANT_NGP) == expected
    assert lens(tmp_path, k1=0.1, k3=0.3, k4=0.4, p1=0.0, p2=0.0, **INSTANT_NGP) == Lens(radial=(0.1, 0, 0, 0))
    assert any("k3 and k4 are not used" in note for note in transforms.read(tmp_path, SETTINGS).notes)


def test_instant_ngp_fisheye_keeps_the_four_coefficients_that_colmap2nerf_writes_beside_zero_p1_p2(tmp_path):
    k = {"k1": 0.1, "k2": 0.2, "k3": 0.3, "k4": 0.4}
    assert lens(tmp_path, is_fisheye=True, **k) == Lens("fisheye", (0.1, 0.2, 0.3, 0.4))
    assert lens(tmp_path, is_fisheye=True, p1=0, p2=0, **k) == Lens("fisheye", (0.1, 0.2, 0.3, 0.4))
    assert lens(tmp_path, is_fisheye=True, p1=0.5, p2=0.6, k1=0.1, k2=0.2) == Lens("fisheye", (0.1, 0.2, 0.5, 0.6))


def test_latlong_is_a_panorama(tmp_path):
    assert lens(tmp_path, latlong=True) == Lens("equirectangular")


@pytest.mark.parametrize("keys, words", [
    ({"ftheta_p0": 0.1}, "f-theta"), ({"orthographic": True}, "orthographic"), ({"equirectangular": True}, "equal-area"),
    ({"rolling_shutter": [0.0, 0.0, 1.0, 0.0]}, "rolling shutter"), ({"from_mitsuba": True}, "Mitsuba"),
])
def test_instant_ngp_cameras_that_are_not_supported_are_named(tmp_path, keys, words):
    for own in (True, False):
        with pytest.raises(DataError, match=words):
            cameras(tmp_path, entry("1.png", **(keys if own else {})), **({} if own else keys))
    with pytest.raises(DataError, match="moves"):
        cameras(tmp_path, entry("1.png", transform_matrix_end=matrix(1.0)))


def test_a_rolling_shutter_of_zeros_is_none(tmp_path):
    assert lens(tmp_path, rolling_shutter=[0, 0, 0, 0]) == Lens()


def test_all_json_files_with_frames_are_merged_for_instant_ngp_alone(tmp_path):
    write(tmp_path, entry("b.png", 1), file="transforms.json", **INSTANT_NGP)
    write(tmp_path, entry("a.png", 2), file="more.json", fl_x=900.0)
    write(tmp_path, entry("c.png", 3), file="transforms_test.json")  # Blender's name
    (tmp_path / "camera_path.json").write_text('{"camera_path": []}')
    frames = transforms.read(tmp_path, SETTINGS).frames
    assert [(frame.name, frame.camera.focal_x_px) for frame in frames] == [("b.png", 500.0), ("a.png", 900.0)]
    assert len(transforms.read(tmp_path / "more.json", SETTINGS).frames) == 1
    write(tmp_path, entry("b.png", 1), **NERFSTUDIO)
    assert [frame.name for frame in transforms.read(tmp_path, SETTINGS).frames] == ["b.png"]


def test_files_that_are_merged_may_not_disagree_about_a_photo(tmp_path):
    write(tmp_path, entry("a.png", 1), **INSTANT_NGP)
    write(tmp_path, entry("a.png", 2), file="old.json", **INSTANT_NGP)
    with pytest.raises(DataError, match="a.png is listed twice with different poses"):
        transforms.read(tmp_path, SETTINGS)
    write(tmp_path, entry("a.png", 1), file="old.json", **INSTANT_NGP)
    assert len(transforms.read(tmp_path, SETTINGS).frames) == 1


def test_comments_are_allowed_and_strings_are_not_touched_by_them(tmp_path):
    text = json.dumps({"fl_x": 1.0, "frames": [entry("a//b/*c*/\\\"d.png")]})
    text = text.replace('"frames"', '/* "no" // \n */ "frames"')
    (tmp_path / "transforms.json").write_text('\ufeff// head /* "\n' + text + "// tail")
    assert transforms.read(tmp_path, SceneSettings()).frames[0].name == 'a/b/*c*/"d.png'


def test_suffixes_are_guessed_and_backslashes_turned(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images/0001.jpg").touch()
    (tmp_path / "images/0002.JPG").touch()
    write(tmp_path, entry("images/0002"), entry("images/0002.jpg"), **INSTANT_NGP)
    assert [frame.name for frame in transforms.read(tmp_path, SETTINGS).frames] == ["images/0002.JPG"]
    write(tmp_path, entry("images\\0001"), **INSTANT_NGP)
    assert [frame.name for frame in transforms.read(tmp_path, SETTINGS).frames] == ["images/0001.jpg"]
    write(tmp_path, entry("images\\0001"), **NERFSTUDIO)
    with pytest.raises(DataError, match="Windows"):
        transforms.read(tmp_path, SETTINGS)


def test_dynamic_masks_and_alpha_pictures_lie_beside_the_photo(tmp_path):
    (tmp_path / "images").mkdir()
    for name in ("1.png", "2.png", "dynamic_mask_1.png", "1.png.alpha.png", "2.alpha.png"):
        (tmp_path / "images" / name).touch()
    write(tmp_path, entry("images/1.png"), entry("images/2.png", 1), **INSTANT_NGP)
    first, second = transforms.read(tmp_path, SETTINGS).frames
    assert (first.mask, first.is_mask_inverted) == (tmp_path / "images/dynamic_mask_1.png", True)  # white = ignore
    assert (second.mask, second.is_mask_inverted) == (None, False)
    assert [frame.alpha.name for frame in (first, second)] == ["1.png.alpha.png", "2.alpha.png"]
    write(tmp_path, entry("images/1.png"), **NERFSTUDIO)
    assert transforms.read(tmp_path, SETTINGS).frames[0].mask is None


def test_instant_ngp_depth_has_its_own_scale(tmp_path):
    write(tmp_path, entry("1.png", depth_path="depth\\1.png"), integer_depth_scale=0.25)
    frame, = transforms.read(tmp_path, SETTINGS).frames
    assert (frame.depth, frame.depth_scale) == (tmp_path / "depth/1.png", 0.25)


def test_a_stated_up_counts(tmp_path):
    write(tmp_path, entry("1.png"), up=[0, 2, 0])
    np.testing.assert_array_equal(transforms.read(tmp_path, SETTINGS).up, (0, 1, 0))
    for bad in ([0, 0, 0], [1, 2], [1.7e308] * 3, "z"):
        write(tmp_path, entry("1.png"), up=bad)
        with pytest.raises(DataError, match="up"):
            transforms.read(tmp_path, SETTINGS)


def test_lens_models_of_single_photos_count_in_either_flavour(tmp_path):
    first, second = cameras(tmp_path, entry("1.png", camera_model="OPENCV_FISHEYE", k1=0.2), entry("2.png"),
                            camera_model="OPENCV", k1=0.1)
    assert (first.lens, second.lens) == (Lens("fisheye", (0.2, 0, 0, 0)), Lens(radial=(0.1, 0, 0, 0)))
    first, second = cameras(tmp_path, entry("1.png", is_fisheye=True, k1=0.1, k2=0.2, k3=0.3, k4=0.4, p1=0, p2=0),
                            entry("2.png", is_fisheye=False, k1=0.1, p1=0.01), **INSTANT_NGP)  # colmap2nerf with many cameras
    assert first.lens == Lens("fisheye", (0.1, 0.2, 0.3, 0.4))
    assert second.lens == Lens(radial=(0.1, 0, 0, 0), tangential=(0.01, 0.0))
    with pytest.raises(DataError, match=r"frames\[0\] \(1.png\): camera_model FISHEYE624"):
        cameras(tmp_path, entry("1.png", camera_model="FISHEYE624"))


def test_old_nerfstudio_sets_get_the_transform_that_nobody_wrote_down(tmp_path):
    (tmp_path / "colmap/sparse/0").mkdir(parents=True)
    write(tmp_path, entry("1.png"), **NERFSTUDIO)
    listing = transforms.read(tmp_path, SETTINGS)
    points = np.array([[1.0, 2.0, 3.0]])
    np.testing.assert_array_equal(points @ listing.applied_transform[:, :3].T, [[2.0, 1.0, -3.0]])
    assert len(listing.notes) == 1 and "older nerfstudio" in listing.notes[0]
    write(tmp_path, entry("1.png"), **INSTANT_NGP)  # moved and scaled besides, which no file says
    assert transforms.read(tmp_path, SETTINGS).applied_transform is None


UNUSED = [
    {"aabb_scale": 16, "scale": 0.33, "offset": [0.5, 0.5, 0.5], "aabb": [[0, 0, 0], [1, 1, 1]],
     "render_aabb": [[0, 0, 0], [1, 1, 1]],
     "n_extra_learnable_dims": 8, "sharpen": 0.5, "n_frames": 99, "importance_sampling": True, "integer_depth_scale": None,
     "enable_depth_loading": False, "enable_ray_loading": True, "fix_premult": False, "envmap": "sky.exr"},
    {"aabb_scale": "16", "scale": "x", "offset": 0.5, "aabb": None, "render_aabb": {}, "sharpness_discard_threshold": 2.0},
    {"orientation_override": "none", "ply_file_path": "../../sparse.ply", "applied_scale": None, "up": "z", "camera_model": None,
     "depth_unit_scale_factor": 1.0, "mask": {"deep": [[[]]]}, "train_filenames": None},
    {"sk_x": 0, "sk_y": 0, "sphere_center": [0, 0, 0], "sphere_radius": 1, "aabb_range": [[0, 1]] * 3},  # neuralangelo's
]


@pytest.mark.parametrize("keys", UNUSED)
def test_keys_that_are_not_used_change_nothing_whatever_they_hold(tmp_path, keys):
    plain = cameras(tmp_path, entry("1.png"), w=64, h=48)
    found = cameras(tmp_path, entry("1.png", sharpness=3.5, colmap_im_id=7, driver_parameters={"LightX": 0.1}, rotation=0.1,
                                    mask_path=None, depth_file_path=None), w=64, h=48, **keys)
    assert found == plain
    np.testing.assert_array_equal(transforms.read(tmp_path, SETTINGS).frames[0].world_from_camera, matrix())


# photos that no entry names


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def test_photos_without_an_entry_are_dropped_and_companions_of_listed_ones_are_not(tmp_path):
    touch(tmp_path, "root.png", "images/1.jpg", "images/2.jpg", "images/10.jpg", "images/sub/4.jpg", "images/._5.jpg",
          "images/n.txt", "images/m.png", "images/d.png", "other/6.jpg", "images/1_mask.png",
          "images/1.jpg.png", "images/1.alpha.png", "images/1_depth_0001.png", "images/dynamic_mask_1.png")
    write(tmp_path, entry("images/1.jpg", mask_path="images/m.png", depth_file_path="images/d.png"), entry("images/3.jpg", 1.0))
    listing = transforms.read(tmp_path, SETTINGS)
    assert listing.dropped == tuple((f"images/{i}.jpg", "no entry in transforms.json") for i in (10, 2))
    assert [frame.name for frame in listing.frames] == ["images/1.jpg", "images/3.jpg"]


def test_where_more_files_list_photos_nobody_counts_those_of_one(tmp_path):
    touch(tmp_path, "images/1.jpg", "images/2.jpg", "images/3.jpg")
    write(tmp_path, entry("images/1.jpg"), **INSTANT_NGP)
    write(tmp_path, entry("images/2.jpg", 1.0), file="more.json")
    assert transforms.read(tmp_path / "more.json", SETTINGS).dropped == ()
    assert transforms.read(tmp_path, SETTINGS).dropped == (("images/3.jpg", "no entry in more.json or transforms.json"),)
    write(tmp_path, entry("images/1.jpg"), **NERFSTUDIO)
    assert transforms.read(tmp_path, SETTINGS).dropped == ()


def test_split_lists_and_missing_entries_are_told_apart(tmp_path):
    touch(tmp_path, "images/1.jpg", "images/2.jpg", "images/3.jpg")
    write(tmp_path, entry("images/1.jpg"), entry("images/2.jpg", 1.0), train_filenames=["images/1.jpg"])
    assert transforms.read(tmp_path, SETTINGS).dropped == (
        ("images/2.jpg", "in none of train_filenames, val_filenames, test_filenames"),
        ("images/3.jpg", "no entry in transforms.json"))


# bad input


def test_two_photos_of_one_name_in_two_folders_are_both_kept(tmp_path):
    write(tmp_path, entry("front/0001.png", 1), entry("back/0001.png", 2))
    assert [frame.name for frame in transforms.read(tmp_path, SETTINGS).frames] == ["back/0001.png", "front/0001.png"]


def test_a_photo_listed_twice_is_kept_once_unless_the_poses_differ(tmp_path):
    write(tmp_path, entry("1.png", 1), entry("./1.png", 1))
    listing = transforms.read(tmp_path, SETTINGS)
    assert len(listing.frames) == 1 and "1.png listed more than once" in listing.notes[0]
    write(tmp_path, entry("1.png", 1), entry("./1.png", 2))
    with pytest.raises(DataError, match="listed twice"):
        transforms.read(tmp_path, SETTINGS)


GOOD = json.dumps({"fl_x": 500.0, "w": 640, "h": 480, "frames": [entry("1.png"), entry("2.png", 1.0)]})


@pytest.mark.parametrize("text, complaint", [
    (GOOD.replace("640", "NaN"), "line 1: numbers must be finite, got NaN"),
    (GOOD.replace("[1.0, 0.0, 0.0, 0.0]", "[1e999, 0.0, 0.0, 0.0]"), r"\$\.frames\[0\]\.transform_matrix\[0\]\[0\]"),
    (GOOD.replace("[1.0, 0.0, 0.0, 0.0]", '["1", 0.0, 0.0, 0.0]'), r"\$\.frames\[0\]\.transform_matrix\[0\]\[0\]"),
    (GOOD.replace("[1.0, 0.0, 0.0, 1.0]", "[1.0, 0.0, 1.0]"), r"frames\[1\] \(2.png\): .*rows differ"),
    (GOOD.replace("500.0", "1" * 5000), r"\$\.fl_x"),
    (GOOD.replace("500.0", '"500"'), r"\$\.fl_x"),
    (GOOD.replace('"w"', '"fl_x"'), "'fl_x' stands twice"),
    (GOOD.replace('"file_path": "1.png", ', ""), r"file_path.* at `\$\.frames\[0\]`"),
    (GOOD.replace('"file_path"', '"x": 1, "x": 1, "file_path"'), "'x' stands twice"),
    (GOOD.replace("{", '{"deep": ' + "[" * 200_000 + "]" * 200_000 + ", ", 1), "recursion"),
    (GOOD[:-1], "truncated"),
    (GOOD + "x", "trailing"),
    (GOOD.replace("640", "0"), "between 1 and"),
    (GOOD.replace("640", "1e300"), "between 1 and"),
    (GOOD.replace("1.png", "../1.png"), "leads out"),
    (GOOD.replace("1.png", "/etc/passwd"), "absolute"),
    ('{"frames": [], "transform_matrix": 0}', "empty"),
    ('{"frames": 7, "transform_matrix": 0}', "array"),
    ('{"frames": ["transform_matrix"]}', "object"),
    ('["frames", "transform_matrix"]', "object"),
    ("/* " * 100_000 + '"frames" "transform_matrix"', "truncated"),
    ('"frames""transform_matrix' + '\\"' * 100_000 + "\\", "cannot be used"),
])
def test_a_bad_file_is_refused_in_one_line_that_names_the_place(tmp_path, text, complaint):
    (tmp_path / "transforms.json").write_text(text)
    assert transforms.recognises(tmp_path)
    with pytest.raises(DataError, match=complaint) as error:
        transforms.read(tmp_path, SETTINGS)
    assert "transforms.json" in str(error.value) and "\n" not in str(error.value) and len(str(error.value)) < 800


def test_a_number_that_nobody_uses_may_be_as_long_as_it_likes(tmp_path):
    (tmp_path / "transforms.json").write_text(GOOD.replace("{", '{"version": ' + "9" * 9999 + ", ", 1))
    assert len(transforms.read(tmp_path, SETTINGS).frames) == 2


def test_bytes_that_are_no_utf8_are_refused(tmp_path):
    for name in (b"1", b'x": "\xff", "y'):
        (tmp_path / "transforms.json").write_bytes(GOOD.encode().replace(b"2.png" if name == b"1" else b"w", b"\xff" + name, 1))
        with pytest.raises(DataError, match="utf-8"):
            transforms.read(tmp_path, SETTINGS)


def test_a_poses_mending_is_noted_once_for_all(tmp_path):
    scaled = (np.diag([2.0, 2.0, 2.0, 1.0])).tolist()
    write(tmp_path, *({"file_path": f"{i}.png", "transform_matrix": scaled} for i in range(3)))
    listing = transforms.read(tmp_path, SETTINGS)
    np.testing.assert_allclose(listing.frames[2].world_from_camera, np.eye(4), atol=1e-15)
    assert len(listing.notes) == 1 and "scale 2" in listing.notes[0] and "2 more" in listing.notes[0]


@pytest.mark.parametrize("text, words", [("{}", "is there but has no frames with a transform_matrix"),
                                         ("", "is there but has no frames"), ("not json", "is there but has no frames"),
                                         ('{"frames": [\n]}', 'lists no photos: its "frames" are empty')])
def test_a_file_without_frames_is_not_recognised_and_explained(tmp_path, text, words):
    (tmp_path / "transforms.json").write_text(text)
    for path in (tmp_path, tmp_path / "transforms.json"):
        assert not transforms.recognises(path)
        assert transforms.missing(path).startswith(f"transforms.json {words}")
    assert transforms.missing(tmp_path / "nowhere") is None and not transforms.recognises(tmp_path / "nowhere")


def test_a_pipe_in_place_of_the_file_stops_nobody(tmp_path):
    os.mkfifo(tmp_path / "transforms.json")
    assert not transforms.recognises(tmp_path)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=100, deadline=None)
@given(st.data())
def test_a_mutated_file_is_read_or_refused_but_nothing_else_happens(tmp_path, data):
    text = bytearray(GOOD.encode())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(text) - 1))
        piece = data.draw(st.sampled_from([b"", b'"', b"[", b"}", b"-1e300", b"null", b"\\u0000", b"\xff", b"..", b"//"]))
        text[at:at + data.draw(st.integers(0, 8))] = piece
    (tmp_path / "transforms.json").write_bytes(text)
    try:
        listing = transforms.read(tmp_path / "transforms.json", SETTINGS)
    except DataError as error:
        assert "\n" not in str(error)
    else:
        assert all(os.path.realpath(frame.path).startswith(str(tmp_path.resolve())) for frame in listing.frames)
