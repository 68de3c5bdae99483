import dataclasses
import errno
import json
import os

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image

from nerf_app import cli
from nerf_app.convert import TARGETS, convert
from nerf_app.errors import DataError, ResourceError, UsageError
from nerf_app.scene.camera import Camera, Lens
from nerf_app.scene.colmap_writing import write_colmap
from nerf_app.scene.images import open_photo
from nerf_app.scene.lenses import CameraBatch
from nerf_app.scene.load import load_scene, read_listing
from nerf_app.scene.scene import View
from nerf_app.scene.settings import SceneSettings
from nerf_app.scene.transforms_words import write_transforms
from tests.export.stand_in import pose_looking

PLAIN = Camera(12, 10, 21.7, 21.7, 6.0, 5.0)  # what every format can say
BENT = Camera(12, 10, 21.7, 22.9, 5.5, 5.25, Lens(radial=(-0.1, 0.02, 0.0, 0.0), tangential=(1e-3, -1 / 3000)))
MANY_LENSES = ("transforms", "instant-ngp", "colmap")
OFFSET = np.array([4e3, -2e4, 30.0])  # input coordinates of a map
SETTINGS = SceneSettings()


def views_of(*cameras, count=6, splits=(None,), folder="images"):
    poses = [pose_looking(OFFSET + 3 * np.random.randn(3), OFFSET) for _ in range(count)]
    return [View(f"{folder}/{i:02}.png", cameras[i % len(cameras)], poses[i], splits[i % len(splits)]) for i in range(count)]


def save(path, pixels, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return path


def noise(height, width, channels=3):
    return np.random.randint(0, 256, (height, width, channels), np.uint8)


def write_set(folder, views):
    """The views as transforms.json, with photos of noise."""
    write_transforms(views, folder / "transforms.json")
    for view in views:
        save(folder / view.name, noise(view.camera.height, view.camera.width))
    return folder


def run(source, to, out, **settings):
    """The notes of a conversion."""
    seen = []
    count, notes = convert(source, to, out, SceneSettings(**settings), lambda done, total: seen.append((done, total)))
    assert seen == [(i + 1, count) for i in range(count)]
    return " | ".join(notes)


def ready(folder, **settings):
    """The photos of a set, as a training would get them: name without suffix -> (view, pixels, ignored)."""
    scene = load_scene(folder, SceneSettings(**settings))
    return {view.name.rsplit("/", 1)[1].split(".")[0]: (view, *open_photo(scene.photos.files[i]))
            for i, view in enumerate(scene.views)}


def check_same_cameras(folder, views):
    frames = {frame.name.rsplit("/", 1)[1][:2]: frame for frame in read_listing(folder, SETTINGS)[0].frames}
    assert len(frames) == len(views)
    for view in views:
        frame = frames[view.name.rsplit("/", 1)[1][:2]]
        np.testing.assert_allclose(frame.world_from_camera, view.world_from_camera, rtol=1e-12, atol=1e-6)
        np.testing.assert_allclose(frame.world_from_camera[:3, :3], view.world_from_camera[:3, :3], atol=1e-12)
        camera, stated = view.camera, frame.camera
        assert (stated.width, stated.height, stated.focal_x_px, stated.lens) == (
            camera.width, camera.height, camera.focal_x_px, camera.lens)
        assert (camera.focal_y_px if stated.focal_y_px is None else stated.focal_y_px) == camera.focal_y_px
        centre = (stated.centre_x_px, stated.centre_y_px)
        assert centre in ((camera.centre_x_px, camera.centre_y_px), (None, None))
        assert None not in centre or (camera.centre_x_px, camera.centre_y_px) == (camera.width / 2, camera.height / 2)


@pytest.mark.parametrize("second", TARGETS)
@pytest.mark.parametrize("first", TARGETS)
def test_any_format_becomes_any_other_with_the_same_poses_and_every_digit_of_the_intrinsics(tmp_path, first, second):
    views = views_of(PLAIN)
    write_set(tmp_path / "source", views)
    run(tmp_path / "source", first, tmp_path / "first")
    run(tmp_path / "first", second, tmp_path / "second")
    check_same_cameras(tmp_path / "first", views)
    check_same_cameras(tmp_path / "second", views)


@pytest.mark.parametrize("second", MANY_LENSES)
@pytest.mark.parametrize("first", MANY_LENSES)
def test_every_photo_keeps_its_own_lens_where_both_formats_know_lenses(tmp_path, first, second):
    views = views_of(BENT, PLAIN)
    write_set(tmp_path / "source", views)
    run(tmp_path / "source", first, tmp_path / "first")
    run(tmp_path / "first", second, tmp_path / "second")
    check_same_cameras(tmp_path / "second", views)


@pytest.mark.parametrize("to", MANY_LENSES)
def test_a_fisheyes_four_coefficients_arrive(tmp_path, to):
    views = views_of(dataclasses.replace(PLAIN, lens=Lens("fisheye", (0.1, -0.02, 0.003, 1e-4))))
    run(write_set(tmp_path / "source", views), to, tmp_path / "out")
    check_same_cameras(tmp_path / "out", views)


@pytest.mark.parametrize("to", ["blender", "llff"])
def test_what_a_format_cannot_say_of_cameras_is_drawn_anew_for_one_pinhole(tmp_path, to):
    """Photos of a smooth world: what lies in a direction has the same colour before and after."""
    lens = Lens(radial=(-0.1, 0.02, 0.0, 0.0), tangential=(1e-3, -1 / 3000))
    views = views_of(Camera(120, 100, 117.0, 119.0, 58.5, 50.25, lens), Camera(120, 100, 125.0, 125.0, 60.0, 50.0))
    write_transforms(views, tmp_path / "source/transforms.json")
    for view in views:
        save(tmp_path / "source" / view.name, world_of(view.camera))
    notes = run(tmp_path / "source", to, tmp_path / "out")
    assert "drawn anew as a pinhole with a focal length of 121 px" in notes
    out = ready(tmp_path / "out")
    (camera,) = {view.camera for view, _, _ in out.values()}
    assert camera.lens == Lens() and camera.width > 105 and (camera.centre_x_px, camera.centre_y_px) == (
        camera.width / 2, camera.height / 2)
    for view in views:
        seen, pixels, _ = out[view.name[7:9]]
        np.testing.assert_allclose(seen.world_from_camera, view.world_from_camera, atol=1e-6)
        assert np.abs(pixels.astype(int) - world_of(camera)).max() <= 2


def world_of(camera):
    """[H, W, 3] what the camera sees of a world whose colour is its direction's."""
    rows, columns = torch.meshgrid(torch.arange(camera.height), torch.arange(camera.width), indexing="ij")
    indices = torch.zeros(rows.numel(), dtype=torch.int64)
    directions, _ = CameraBatch.from_cameras([camera]).directions(indices, columns.reshape(-1) + 0.5, rows.reshape(-1) + 0.5)
    return (128 + 120 * torch.sin(3.0 * directions)).round().byte().view(camera.height, camera.width, 3).numpy()


@pytest.mark.parametrize("to, cameras, complaint", [
    ("blender", [Camera(12, 6, 1.0, 1.0, 6.0, 3.0, Lens("equirectangular"))], "cannot describe a camera with a lens"),
    ("llff", [dataclasses.replace(PLAIN, centre_x_px=1.0)], r"its centre at \(1, 5\) of 12×10, not in the middle"),
    ("instant-ngp", [dataclasses.replace(PLAIN, lens=Lens(radial=(0.1, 0.0, 0.2, 0.0)))], "no words for this perspective lens")])
def test_what_a_format_cannot_say_of_a_camera_is_refused_and_nothing_is_left(tmp_path, to, cameras, complaint):
    source = write_set(tmp_path / "source", views_of(*cameras))
    with pytest.raises(DataError, match=complaint):
        convert(source, to, tmp_path / "out", SETTINGS, lambda *_: None)
    assert os.listdir(tmp_path) == ["source"]


def test_photos_are_the_same_files_under_a_second_name_or_copies_on_another_disk(tmp_path, monkeypatch):
    source = write_set(tmp_path / "source", views_of(PLAIN))
    run(source, "colmap", tmp_path / "linked")
    assert os.path.samefile(source / "images/03.png", tmp_path / "linked/images/03.png")

    def no_link(*_):
        raise OSError(errno.EXDEV, "another disk")
    monkeypatch.setattr(os, "link", no_link)
    run(source, "colmap", tmp_path / "copied")
    assert not os.path.samefile(source / "images/03.png", tmp_path / "copied/images/03.png")
    assert (source / "images/03.png").read_bytes() == (tmp_path / "copied/images/03.png").read_bytes()


def test_the_command_prints_the_folder_and_says_what_it_could_not_carry(tmp_path, capsys):
    assert list(TARGETS) == list(cli.FORMATS)
    source = write_set(tmp_path / "source", views_of(PLAIN, splits=("train", "test")))
    assert cli.main(["convert", str(source), "--to", "llff", "--out", str(tmp_path / "a")]) == 0
    said = capsys.readouterr()
    assert said.out == f"{tmp_path / 'a'}\n" and "llff cannot say it" in said.err and "100 %" in said.err
    assert cli.main(["convert", str(source), "--to", "blender", "--out", str(tmp_path / "b"), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result == {"out": str(tmp_path / "b"), "format": "blender", "photos": 6, "notes": []}
    assert cli.main(["convert", str(source), "--to", "blender", "--out", str(tmp_path / "b")]) == 2


def test_a_folder_that_is_there_is_never_written_into(tmp_path):
    source = write_set(tmp_path / "source", views_of(PLAIN))
    (tmp_path / "empty").mkdir()
    run(source, "colmap", tmp_path / "empty")
    with pytest.raises(UsageError, match="is there already: give another --out"):
        run(source, "transforms", tmp_path / "empty")
    (tmp_path / "file").write_text("")
    with pytest.raises(ResourceError, match="cannot make .*give another --out"):
        run(source, "transforms", tmp_path / "file/out")


def test_whoever_is_interrupted_leaves_nothing(tmp_path):
    source = write_set(tmp_path / "source", views_of(PLAIN))

    def stop(done, total):
        raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt):
        convert(source, "colmap", tmp_path / "out", SETTINGS, stop)
    assert os.listdir(tmp_path) == ["source"]


@pytest.mark.parametrize("via", ["transforms", "colmap", "blender"])
def test_splits_that_the_source_states_arrive(tmp_path, via):
    splits = ("train", "test", "val", "train", "train", "train")
    source = write_set(tmp_path / "source", views_of(PLAIN, splits=splits))
    run(source, via, tmp_path / "via")
    run(tmp_path / "via", "blender", tmp_path / "out")
    for folder in ("via", "out"):
        frames = read_listing(tmp_path / folder, SETTINGS)[0].frames
        assert {frame.name[-6:-4]: frame.split for frame in frames} == {f"{i:02}": split for i, split in enumerate(splits)}


@pytest.mark.parametrize("to", ["llff", "instant-ngp"])
def test_a_split_that_a_format_cannot_say_is_noted(tmp_path, to):
    source = write_set(tmp_path / "source", views_of(PLAIN, splits=("train", "test")))
    assert f"which photos are for training and which for the test is left out, {to} cannot say it" in run(
        source, to, tmp_path / "out")


def test_a_source_without_splits_gets_them_where_they_are_asked_for(tmp_path):
    source = write_set(tmp_path / "source", views_of(PLAIN))
    assert "with --test every:8" in run(source, "blender", tmp_path / "as_it_is")
    assert os.path.exists(tmp_path / "as_it_is/transforms_train.json")
    assert not os.path.exists(tmp_path / "as_it_is/transforms_test.json")
    assert "2 photos are for the test (every 3th)" in run(source, "blender", tmp_path / "asked", test="every:3")
    assert len(json.loads((tmp_path / "asked/transforms_test.json").read_text())["frames"]) == 2


@pytest.mark.parametrize("second", MANY_LENSES)
@pytest.mark.parametrize("first", MANY_LENSES)
def test_masks_that_say_where_not_to_look_keep_their_meaning(tmp_path, first, second):
    source = write_set(tmp_path / "source", views_of(PLAIN))
    for i in range(6):
        save(source / f"masks/{i:02}.png", np.where(np.arange(120).reshape(10, 12) % (i + 3) == 0, 0, 255).astype(np.uint8))
    run(source, first, tmp_path / "first", masks="ignore")
    run(tmp_path / "first", second, tmp_path / "second", masks="auto" if first != "colmap" else "ignore")
    before, after = ready(source, masks="ignore"), ready(tmp_path / "second", masks="auto" if second != "colmap" else "ignore")
    for name, (_, pixels, ignored) in before.items():
        np.testing.assert_array_equal(after[name][1], pixels)
        np.testing.assert_array_equal(after[name][2], ignored)


@pytest.mark.parametrize("to", TARGETS)
def test_masks_that_show_the_object_become_alpha_in_every_format(tmp_path, to):
    source = write_set(tmp_path / "source", views_of(PLAIN))
    for i in range(6):
        save(source / f"masks/{i:02}.png", noise(10, 12, 1)[..., 0])
    run(source, to, tmp_path / "out", masks="object")
    before, after = ready(source, masks="object"), ready(tmp_path / "out")
    for name, (_, pixels, _) in before.items():
        np.testing.assert_array_equal(after[name][1], pixels)


@pytest.mark.parametrize("to", ["blender", "llff"])
def test_ignore_masks_without_a_place_are_noted(tmp_path, to):
    source = write_set(tmp_path / "source", views_of(PLAIN))
    for i in range(6):
        save(source / f"masks/{i:02}.png", np.full((10, 12), 255, np.uint8))
    assert "left out" in run(source, to, tmp_path / "out", masks="ignore")


def test_a_photo_that_exif_turns_is_stored_upright(tmp_path):
    views = views_of(PLAIN)
    source = write_set(tmp_path / "source", views)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    pixels = noise(12, 10)  # lying: turned by a quarter it is 12 wide
    save(source / "images/00.png", pixels, exif=exif)
    run(source, "transforms", tmp_path / "out")
    upright = np.rot90(pixels, -1)
    np.testing.assert_array_equal(ready(tmp_path / "out")["00"][1], upright)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "out/images/00.png")), upright)


def test_blenders_programs_get_png_whatever_the_photos_were(tmp_path):
    views = [dataclasses.replace(view, name=view.name.replace(".png", ".jpg")) for view in views_of(PLAIN)]
    source = write_set(tmp_path / "source", views)
    run(source, "blender", tmp_path / "out")
    np.testing.assert_array_equal(ready(tmp_path / "out")["01"][1], np.asarray(Image.open(source / "images/01.jpg")))
    assert json.loads((tmp_path / "out/transforms_train.json").read_text())["frames"][1]["file_path"] == "./images/01"


def test_two_photos_never_become_one(tmp_path):
    views = views_of(PLAIN)
    views[1] = dataclasses.replace(views[1], name="images/00.jpg")
    source = write_set(tmp_path / "source", views)
    with pytest.raises(DataError, match="images/00.jpg and images/00.png would both become images/00.png"):
        convert(source, "blender", tmp_path / "out", SETTINGS, lambda *_: None)


def test_llff_wants_its_photos_in_one_folder(tmp_path):
    views = views_of(PLAIN)
    views[0] = dataclasses.replace(views[0], name="images/front/07.png")
    run(write_set(tmp_path / "source", views), "llff", tmp_path / "out")
    assert sorted(os.listdir(tmp_path / "out/images")) == [*(f"0{i}.png" for i in range(1, 6)), "front_07.png"]
    frames = read_listing(tmp_path / "out", SETTINGS)[0].frames
    np.testing.assert_allclose(frames[-1].world_from_camera, views[0].world_from_camera, atol=1e-9)


def test_depth_maps_go_along_where_the_format_has_a_place(tmp_path):
    source = write_set(tmp_path / "source", views_of(PLAIN))
    content = json.loads((source / "transforms.json").read_text())
    for i, entry in enumerate(content["frames"]):
        entry["depth_file_path"] = f"depths/{i}.png"
        save(source / f"depths/{i}.png", np.full((10, 12), 1000 + i, np.uint16))
    (source / "transforms.json").write_text(json.dumps(content))
    run(source, "instant-ngp", tmp_path / "ngp")
    run(tmp_path / "ngp", "transforms", tmp_path / "out")
    for folder in ("ngp", "out"):
        frame = read_listing(tmp_path / folder, SETTINGS)[0].frames[4]
        assert frame.depth_scale == 1e-3 and np.asarray(Image.open(frame.depth))[0, 0] == 1004
    assert "depth maps are left out, colmap has no place for them" in run(source, "colmap", tmp_path / "colmap")


def test_sparse_points_go_to_those_who_hold_them_and_give_llff_its_bounds(tmp_path):
    views = views_of(PLAIN)
    source = write_set(tmp_path / "source", views)
    points = OFFSET + 0.01 * np.random.randn(500, 3)
    (source / "transforms.json").unlink()
    write_colmap(views, source / "sparse/0", points)
    assert "500 sparse points go along, in grey" in run(source, "transforms", tmp_path / "first")
    run(tmp_path / "first", "colmap", tmp_path / "second")
    for folder in ("first", "second"):
        np.testing.assert_array_equal(read_listing(tmp_path / folder, SETTINGS)[0].points, points)
    run(source, "llff", tmp_path / "llff")
    rows = np.load(tmp_path / "llff/poses_bounds.npy")
    distances = [np.linalg.norm(view.world_from_camera[:3, 3] - OFFSET) for view in views]
    assert (np.abs(rows[:, 15:] - np.array(distances)[:, None]) < 0.06).all() and (rows[:, 15] < rows[:, 16]).all()
    assert "500 sparse points are left out" in run(source, "instant-ngp", tmp_path / "ngp")


def test_an_applied_transform_stays_with_nerfstudio_and_is_noted_elsewhere(tmp_path):
    applied = np.array([[1.0, 0.0, 0.0, 0.5], [0.0, 0.0, 1.0, -2.0], [0.0, -1.0, 0.0, 3.0]])
    views = views_of(PLAIN)
    source = write_set(tmp_path / "source", views)
    write_transforms(views, source / "transforms.json", applied)
    run(source, "transforms", tmp_path / "out")
    np.testing.assert_array_equal(read_listing(tmp_path / "out", SETTINGS)[0].applied_transform, applied)
    assert "applied_transform is left out" in run(source, "colmap", tmp_path / "colmap")


def test_a_world_that_lies_on_its_side_is_said_where_z_is_taken_for_up(tmp_path):
    turn = np.diag([1.0, -1.0, -1.0, 1.0])
    views = [dataclasses.replace(view, world_from_camera=turn @ view.world_from_camera) for view in views_of(PLAIN)]
    source = write_set(tmp_path / "source", views)
    (source / "transforms.json").unlink()
    write_colmap(views, source / "sparse/0")
    assert "take +Z for up" in run(source, "transforms", tmp_path / "transforms")
    run(source, "instant-ngp", tmp_path / "ngp")  # which can say it
    assert read_listing(tmp_path / "ngp", SETTINGS)[0].up[2] < -0.5


def test_instant_ngps_unit_cube_holds_what_the_cameras_look_at(tmp_path):
    run(write_set(tmp_path / "source", views_of(PLAIN, count=40)), "instant-ngp", tmp_path / "out")
    content = json.loads((tmp_path / "out/transforms.json").read_text())
    np.testing.assert_allclose(content["scale"] * OFFSET + content["offset"], 0.5, atol=1e-3)
    centres = np.array([entry["transform_matrix"] for entry in content["frames"]])[:, :3, 3]
    placed = content["scale"] * centres + content["offset"]
    assert np.median(np.linalg.norm(placed - 0.5, axis=1)) == pytest.approx(0.33 * 4.0, rel=1e-3)


def test_photos_with_odd_names_are_converted_and_kept(tmp_path):
    views = [dataclasses.replace(view, name=f"images/{name}") for view, name in
             zip(views_of(PLAIN, count=4), ["[/red] a.png", "ü\n.png", "a b/c.png", "-x.png"], strict=True)]
    source = write_set(tmp_path / "source", views)
    run(source, "colmap", tmp_path / "colmap")
    run(tmp_path / "colmap", "transforms", tmp_path / "out")
    assert {frame.name for frame in read_listing(tmp_path / "out", SETTINGS)[0].frames} == {view.name for view in views}
