import dataclasses
import json
import os
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from nerf_app.errors import DataError, ResourceError, UsageError
from nerf_app.export.cameras import in_original_frame, write_cameras
from nerf_app.scene import colmap, transforms
from nerf_app.scene.camera import Camera, Lens
from nerf_app.scene.colmap_writing import quaternion, write_colmap
from nerf_app.scene.load import load_scene
from nerf_app.scene.scene import View
from nerf_app.scene.settings import SceneSettings
from nerf_app.scene.transforms_words import intrinsics, write_transforms
from tests.export.stand_in import pose_looking
from tests.requires import requires

PINHOLE = Camera(640, 480, 500.1, 510.7 + 1e-13, 320.5, 239.25)
LENSES = {
    "pinhole": Lens(),
    "opencv": Lens(radial=(-0.1, 0.02, 0.0, 0.0), tangential=(1e-4, -1 / 3)),
    "k3": Lens(radial=(-0.1, 0.02, 0.003, 0.0)),
    "k4": Lens(radial=(-0.1, 0.02, 0.003, 1e-5)),
    "rational": Lens(radial=(0.1, 0.2, 0.3, 0.0), denominator=(0.01, 0.02, 0.03), tangential=(1e-3, 2e-3)),
    "fisheye": Lens("fisheye", (0.1, -0.02, 0.003, 1e-4)),
    "prism": Lens("fisheye", (0.1, -0.02, 0.003, 1e-4), tangential=(1e-3, 2e-3), prism=(0.01, 0.0, 0.02, 0.0)),
    "fov": Lens("fov", omega=0.9),
    "panorama": Lens("equirectangular"),
}
IN_TRANSFORMS = ("pinhole", "opencv", "k3", "k4", "fisheye", "panorama")
IN_COLMAP = ("pinhole", "opencv", "k3", "rational", "fisheye", "prism", "fov", "panorama")
APPLIED = np.array([[1.0, 0.0, 0.0, 0.5], [0.0, 0.0, 1.0, -2.0], [0.0, -1.0, 0.0, 3.0]])


def seen_through(lens: str) -> Camera:
    if lens == "panorama":
        return Camera(640, 320, 640 / (2 * np.pi), 320 / np.pi, 320.0, 160.0, LENSES[lens])
    return dataclasses.replace(PINHOLE, lens=LENSES[lens])


def views_with(*cameras, folder="images", count=6):
    splits = ["test", "train", "val", "train", "train", "train"]
    offset = np.array([4e5, -2e6, 30.0])  # input coordinates of a map
    poses = [pose_looking(offset + np.random.randn(3), offset + 0.1 * np.random.randn(3)) for _ in range(count)]
    return [View(f"{folder}/{i:02}.png", cameras[i % len(cameras)], poses[i], splits[i % 6]) for i in range(count)]


def add_photos(root, views):
    for view in views:
        (root / view.name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.randint(0, 255, (view.camera.height, view.camera.width, 3), np.uint8)).save(root / view.name)


def check_same(frames, views):
    assert [frame.name for frame in frames] == [view.name for view in views]
    for frame, view in zip(frames, views, strict=True):
        np.testing.assert_allclose(frame.world_from_camera[:3, :3], view.world_from_camera[:3, :3], atol=1e-12)
        np.testing.assert_allclose(frame.world_from_camera, view.world_from_camera, rtol=1e-12, atol=1e-8)  # of 2e6 units


def check_intrinsics(stated, camera):
    assert (stated.width, stated.height, stated.lens) == (camera.width, camera.height, camera.lens)
    if camera.lens.family != "equirectangular":  # the size alone counts
        assert (stated.focal_x_px, stated.focal_y_px) == (camera.focal_x_px, camera.focal_y_px)
        assert (stated.centre_x_px, stated.centre_y_px) == (camera.centre_x_px, camera.centre_y_px)


@pytest.mark.parametrize("lens", IN_TRANSFORMS)
def test_transforms_json_gives_back_poses_splits_lens_and_every_digit_of_the_intrinsics(tmp_path, lens):
    views = views_with(seen_through(lens))
    write_transforms(views, tmp_path / "transforms.json", APPLIED)
    listing = transforms.read(tmp_path, SceneSettings())
    check_same(listing.frames, views)
    assert [frame.split for frame in listing.frames] == [view.split for view in views]
    np.testing.assert_array_equal(listing.applied_transform, APPLIED)
    for frame in listing.frames:
        check_intrinsics(frame.camera, views[0].camera)


@pytest.mark.parametrize("lens", IN_COLMAP)
def test_the_colmap_model_gives_back_poses_lens_and_every_digit_of_the_intrinsics(tmp_path, lens):
    views = views_with(seen_through(lens))
    write_colmap(views, tmp_path / "sparse/0")
    listing = colmap.read(tmp_path, SceneSettings())
    check_same(listing.frames, views)
    assert len(listing.points) == 0
    for frame in listing.frames:
        check_intrinsics(frame.camera, views[0].camera)


def test_every_photo_keeps_its_own_camera_in_both_formats(tmp_path):
    views = views_with(PINHOLE, seen_through("opencv"), dataclasses.replace(PINHOLE, width=600), folder="photos")
    write_transforms(views, tmp_path / "transforms.json")
    write_colmap(views, tmp_path)
    add_photos(tmp_path, views)
    for reader in (transforms, colmap):
        frames = reader.read(tmp_path, SceneSettings()).frames
        check_same(frames, views)
        for frame, view in zip(frames, views, strict=True):
            check_intrinsics(frame.camera, view.camera)


def test_our_own_loader_takes_the_exported_files_beside_the_photos_as_the_same_scene(tmp_path):
    views = views_with(dataclasses.replace(seen_through("opencv"), width=64, height=48, centre_x_px=31.0, centre_y_px=25.0))
    add_photos(tmp_path, views)
    run = SimpleNamespace(views=views, header=SimpleNamespace(applied_transform=tuple(map(tuple, APPLIED.tolist()))))
    files, notes = write_cameras(run, tmp_path)
    assert files == [tmp_path / "transforms.json", tmp_path / "sparse/0"] and not notes
    scene = load_scene(tmp_path)
    assert scene.format == "transforms" and np.array_equal(scene.applied_transform, APPLIED)
    check_same(scene.views, views)
    assert [(view.split, view.camera) for view in scene.views] == [(view.split, view.camera) for view in views]


def test_colmaps_usual_folder_is_left_out_of_names_only_where_all_photos_lie_in_it(tmp_path):
    views = views_with(PINHOLE)
    for name, stored in (("images/front.png", b"front.png"), ("front.png", b"images/00.png")):
        write_colmap([dataclasses.replace(views[0], name="images/00.png"), dataclasses.replace(views[1], name=name)], tmp_path)
        assert stored in (tmp_path / "images.bin").read_bytes()
        assert (b"images/" in (tmp_path / "images.bin").read_bytes()) == (name == "front.png")


@requires("pycolmap")
@pytest.mark.parametrize("lens", IN_COLMAP)
def test_pycolmap_sees_the_same_pixels_through_the_model_that_we_write(tmp_path, lens):
    import pycolmap
    import torch

    from nerf_app.scene.lenses import CameraBatch
    views = views_with(seen_through(lens))
    points = views[0].world_from_camera[:3, 3] + np.random.randn(5, 3)
    write_colmap(views, tmp_path, points)
    model = pycolmap.Reconstruction(str(tmp_path))
    assert model.num_images() == 6 and model.num_cameras() == 1
    np.testing.assert_array_equal(np.array([model.points3D[i + 1].xyz for i in range(5)]), points)
    batch = CameraBatch.from_cameras([view.camera for view in views])
    for i, image in enumerate(sorted(model.images.values(), key=lambda image: image.name)):
        assert image.name == views[i].name.removeprefix("images/")
        place = np.array([0.3, -0.2, -2.0])  # camera axes: ahead
        world = views[i].world_from_camera[:3, :3] @ place + views[i].world_from_camera[:3, 3]
        x, y, is_seen = batch.project(torch.tensor([i]), torch.tensor(place[None]))
        assert is_seen
        np.testing.assert_allclose(image.project_point(world), (float(x), float(y)), atol=1e-5)


def test_original_coordinates_are_those_before_the_applied_transform():
    views = views_with(PINHOLE)
    scaled = np.concatenate([3.0 * APPLIED[:, :3], APPLIED[:, 3:]], 1)
    for view, original in zip(views, in_original_frame(views, scaled), strict=True):
        pose = original.world_from_camera
        np.testing.assert_allclose(scaled[:, :3] @ pose[:3, 3] + scaled[:, 3], view.world_from_camera[:3, 3], rtol=1e-12)
        np.testing.assert_allclose(APPLIED[:, :3] @ pose[:3, :3], view.world_from_camera[:3, :3], atol=1e-12)


def test_a_file_in_original_coordinates_states_no_applied_transform(tmp_path):
    views = views_with(PINHOLE)
    run = SimpleNamespace(views=views, header=SimpleNamespace(applied_transform=APPLIED))
    write_cameras(run, tmp_path, "original")
    content = json.loads((tmp_path / "transforms.json").read_text())
    assert "applied_transform" not in content
    original = in_original_frame(views, APPLIED)[0].world_from_camera
    np.testing.assert_array_equal(content["frames"][0]["transform_matrix"], original)


@pytest.mark.parametrize("linear", [np.diag([1.0, 1.0, -1.0]), np.diag([1.0, 2.0, 1.0])])
def test_a_transform_that_mirrors_or_stretches_cannot_be_undone_for_cameras(linear):
    with pytest.raises(DataError, match="mirrors or stretches: use --frame input"):
        in_original_frame(views_with(PINHOLE), np.concatenate([linear, np.zeros((3, 1))], 1))


@pytest.mark.parametrize("lens, kept, complaint", [
    ("rational", "sparse/0", "transforms.json has no words for a lens with rational distortion"),
    ("prism", "sparse/0", "transforms.json has no words for a lens with thin prisms"),
    ("fov", "sparse/0", "transforms.json has no words for a lens with the FOV model"),
    ("k4", "transforms.json", "COLMAP has no words for a perspective lens with a term of r⁸")])
def test_a_lens_that_one_format_cannot_say_is_written_in_the_other_and_noted(tmp_path, lens, kept, complaint):
    run = SimpleNamespace(views=views_with(seen_through(lens)), header=SimpleNamespace(applied_transform=None))
    files, (note,) = write_cameras(run, tmp_path)
    assert files == [tmp_path / kept] and complaint in note
    assert len(os.listdir(tmp_path)) == 1


def test_lenses_of_two_kinds_do_not_fit_into_one_transforms_json(tmp_path):
    views = views_with(PINHOLE, seen_through("fisheye"))
    with pytest.raises(DataError, match="one kind of lens, these cameras have OPENCV_FISHEYE, PINHOLE"):
        write_transforms(views, tmp_path / "transforms.json")
    write_colmap(views, tmp_path)
    assert len(colmap.read(tmp_path, SceneSettings()).frames) == 6


def test_a_lens_that_no_format_can_say_ends_with_both_reasons(tmp_path):
    camera = dataclasses.replace(PINHOLE, lens=Lens(radial=(0.1, 0.0, 0.0, 0.1), denominator=(0.1, 0.0, 0.0)))
    run = SimpleNamespace(views=views_with(camera), header=SimpleNamespace(applied_transform=None))
    with pytest.raises(DataError, match="transforms.json is not written: .* sparse/0 is not written: "):
        write_cameras(run, tmp_path)
    with pytest.raises(UsageError, match="--frame must be input or original, got world"):
        write_cameras(run, tmp_path, "world")


def test_hostile_names_survive_in_colmap_and_are_refused_where_json_has_no_words_for_them(tmp_path):
    names = [os.fsdecode(b"photos/\xff.png"), "photos/[/red]\n.png", "photos/a b.png"]
    views = [dataclasses.replace(view, name=name) for view, name in zip(views_with(PINHOLE), names, strict=False)]
    write_colmap(views, tmp_path)
    assert sorted(frame.name for frame in colmap.read(tmp_path, SceneSettings()).frames) == sorted(f"images/{n}" for n in names)
    with pytest.raises(DataError, match="is no UTF-8"):
        write_transforms(views, tmp_path / "transforms.json")
    write_transforms(views[1:], tmp_path / "transforms.json")
    assert [frame.name for frame in transforms.read(tmp_path, SceneSettings()).frames] == names[1:]


def test_no_room_is_said_in_one_line_and_leaves_nothing_behind(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ResourceError, match="cannot make .*give another --out"):
        write_transforms(views_with(PINHOLE), tmp_path / "file/transforms.json")
    (tmp_path / "transforms.json").mkdir()
    with pytest.raises(ResourceError, match="cannot write .*give another --out"):
        write_transforms(views_with(PINHOLE), tmp_path / "transforms.json")
    assert sorted(os.listdir(tmp_path)) == ["file", "transforms.json"]


def test_quaternions_turn_like_their_matrices_also_half_way_round():
    turns = [pose_looking(np.random.randn(3), np.zeros(3))[:3, :3] for _ in range(50)]
    turns += [np.diag(signs) for signs in ([1.0, 1.0, 1.0], [1.0, -1.0, -1.0], [-1.0, 1.0, -1.0], [-1.0, -1.0, 1.0])]
    for turn in turns:
        w, *v = quaternion(turn)
        point = np.random.randn(3)
        turned = point + 2.0 * np.cross(v, np.cross(v, point) + w * point)  # the textbook's form
        np.testing.assert_allclose(turned, turn @ point, atol=1e-13)
        assert w >= 0.0 and w * w + np.dot(v, v) == pytest.approx(1.0)


def test_a_lens_without_coefficients_is_called_a_pinhole():
    assert intrinsics(PINHOLE) == {"camera_model": "PINHOLE", "w": 640, "h": 480, "fl_x": 500.1, "fl_y": 510.7 + 1e-13,
                                   "cx": 320.5, "cy": 239.25}
