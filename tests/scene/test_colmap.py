import os
import struct
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from nerf_app.errors import DataError
from nerf_app.scene import colmap, transforms
from nerf_app.scene.camera import Lens
from nerf_app.scene.colmap_files import read_cameras, read_images, read_points
from nerf_app.scene.colmap_models import MODEL_NAMES, MODEL_SIZES, NOT_READ
from nerf_app.scene.listing import StatedCamera
from nerf_app.scene.load import read_listing
from nerf_app.scene.settings import SceneSettings
from tests.requires import requires

SETTINGS = SceneSettings()
CAMERAS = {3: (2, 640, 480, (500.0, 320.0, 240.0, 0.01)), 7: (4, 600, 400, (500.0, 510.0, 301.0, 199.0, 0.1, 0.2, 0.01, 0.02))}
NAMES = ["b 1.jpg", "a (2) x.jpg", "sub/c.jpg"]
POINTS = np.random.default_rng(1).normal(size=(5, 3))
WORLD_FROM_CAMERA = Rotation.random(3, random_state=2)  # camera axes right-down-forward
CENTRES = np.random.default_rng(3).normal(size=(3, 3))


def images(names=NAMES, cameras=(3, 7, 3)):
    """(name, camera, quaternion w x y z, translation) of each photo: world-to-camera, as COLMAP stores it."""
    inverse = WORLD_FROM_CAMERA.inv()
    quaternions = inverse.as_quat()[:, [3, 0, 1, 2]]
    return list(zip(names, cameras, quaternions, -inverse.apply(CENTRES), strict=False))


def write_binary(folder, photos=None, cameras=CAMERAS, points=POINTS, n_seen=2):
    folder.mkdir(parents=True, exist_ok=True)
    photos = images() if photos is None else photos
    data = struct.pack("<Q", len(cameras))
    for number, (model, width, height, params) in cameras.items():
        data += struct.pack("<IiQQ", number, model, width, height) + struct.pack(f"<{len(params)}d", *params)
    (folder / "cameras.bin").write_bytes(data)
    data = struct.pack("<Q", len(photos))
    for i, (name, camera, quaternion, translation) in enumerate(photos):
        data += struct.pack("<I7dI", i + 1, *quaternion, *translation, camera) + os.fsencode(name) + b"\0"
        data += struct.pack("<Q", n_seen) + struct.pack("<ddQ", 1.5, 2.5, 2**64 - 1) * n_seen
    (folder / "images.bin").write_bytes(data)
    data = struct.pack("<Q", len(points))
    for i, point in enumerate(points):
        data += struct.pack("<Q3d3BdQ", i + 1, *point, 1, 2, 3, 0.5, i) + b"".join(struct.pack("<II", k + 1, 0) for k in range(i))
    (folder / "points3D.bin").write_bytes(data)


def write_text(folder, photos=None, cameras=CAMERAS, points=POINTS, seen=""):
    folder.mkdir(parents=True, exist_ok=True)
    photos = images() if photos is None else photos
    lines = [f"{n} {MODEL_NAMES[m]} {w} {h} {' '.join(map(repr, p))}" for n, (m, w, h, p) in cameras.items()]
    (folder / "cameras.txt").write_text("# Camera list\n" + "\n".join(lines) + "\n")
    lines = []
    for i, (name, camera, quaternion, translation) in enumerate(photos):
        numbers = " ".join(repr(float(value)) for value in (*quaternion, *translation))
        lines += [f"{i + 1} {numbers} {camera} {name}", seen]
    (folder / "images.txt").write_text("# Image list\n#   POINTS2D[]\n" + "\n".join(lines) + "\n")
    lines = [f"{i + 1} {x!r} {y!r} {z!r} 1 2 3 0.5" + "".join(f" {k + 1} 0" for k in range(i))
             for i, (x, y, z) in enumerate(points.tolist())]
    (folder / "points3D.txt").write_text("# Points\n" + "\n".join(lines) + "\n")


def add_photos(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def check_listing(listing):
    """What every form of the model above must give."""
    frames = {frame.name: frame for frame in listing.frames}
    assert list(frames) == sorted(f"images/{name}" for name in NAMES)
    for name, rotation, centre in zip(NAMES, WORLD_FROM_CAMERA.as_matrix(), CENTRES, strict=True):
        right, down, forward = rotation.T
        expected = (right, -down, -forward, centre)
        np.testing.assert_allclose(frames[f"images/{name}"].world_from_camera[:3].T, expected, atol=1e-14)
        np.testing.assert_array_equal(frames[f"images/{name}"].world_from_camera[3], (0, 0, 0, 1))
    assert frames["images/b 1.jpg"].camera == StatedCamera(
        640, 480, 500.0, 500.0, 320.0, 240.0, lens=Lens(radial=(0.01, 0, 0, 0)))
    assert frames["images/a (2) x.jpg"].camera == StatedCamera(
        600, 400, 500.0, 510.0, 301.0, 199.0, lens=Lens(radial=(0.1, 0.2, 0, 0), tangential=(0.01, 0.02)))
    np.testing.assert_array_equal(listing.points, POINTS)
    assert {name: rows.tolist() for name, rows in listing.sightings.items()} == {f"images/{name}": [3, 4] for name in NAMES}
    assert (listing.format, listing.up, listing.notes) == ("colmap", None, ())


@pytest.mark.parametrize("write", [write_binary, write_text])
@pytest.mark.parametrize("place", ["sparse/0", "colmap/sparse/0", "sparse", ".", "sparse/3"])
def test_a_model_is_found_in_its_usual_places_and_poses_are_turned_round(tmp_path, write, place):
    write(tmp_path / place)
    add_photos(tmp_path, *(f"images/{name}" for name in NAMES))
    assert colmap.recognises(tmp_path) and colmap.missing(tmp_path) is None
    listing = colmap.read(tmp_path, SETTINGS)
    check_listing(listing)
    assert (listing.root, listing.dropped) == (tmp_path, ())


@pytest.mark.parametrize("place", ["sparse/0", "colmap/sparse/0", "sparse"])
def test_the_models_own_folder_may_be_named(tmp_path, place):
    write_binary(tmp_path / place)
    add_photos(tmp_path, *(f"images/{name}" for name in NAMES))
    listing = colmap.read(tmp_path / place, SETTINGS)
    check_listing(listing)
    assert listing.root == tmp_path


def test_points_in_text_may_end_after_their_place(tmp_path):
    write_text(tmp_path)
    text = [" ".join(line.split()[:7]) for line in (tmp_path / "points3D.txt").read_text().splitlines()[1:]]
    (tmp_path / "points3D.txt").write_text("\n".join(text))
    found = read_points(tmp_path)
    assert np.array_equal(found.places, POINTS) and not found.seen_by


def test_points_seen_in_text_may_be_there_or_not(tmp_path):
    for seen in ("", "1.5 2.5 -1 3.5 4.5 17"):
        write_text(tmp_path, seen=seen)
        assert [row.name for row in read_images(tmp_path)] == NAMES
    (tmp_path / "images.txt").write_text((tmp_path / "images.txt").read_text().replace("\n", "\r\n").rstrip())
    assert [row.name for row in read_images(tmp_path)] == NAMES


def test_a_byte_order_mark_that_some_editors_write_is_passed_over(tmp_path):
    write_text(tmp_path / "sparse/0")
    for path in (tmp_path / "sparse/0").iterdir():
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    add_photos(tmp_path, *(f"images/{name}" for name in NAMES))
    check_listing(colmap.read(tmp_path, SETTINGS))


def test_an_images_file_without_its_second_lines_is_refused_instead_of_losing_every_other_photo(tmp_path):
    write_text(tmp_path)
    text = (tmp_path / "images.txt").read_text()
    (tmp_path / "images.txt").write_text("\n".join(line for line in text.splitlines() if line))
    with pytest.raises(DataError, match="POINT3D_ID triples, or an empty line"):
        read_images(tmp_path)


def test_binary_wins_over_text_and_newer_files_are_passed_over(tmp_path):
    write_binary(tmp_path / "sparse/0")
    write_text(tmp_path / "sparse/0", photos=images()[:1])
    for name in ("rigs.bin", "frames.bin", "rigs.txt", "frames.txt"):
        (tmp_path / "sparse/0" / name).write_bytes(b"\xff" * 7)
    assert len(colmap.read(tmp_path, SETTINGS).frames) == 3
    (tmp_path / "sparse/0/images.bin").unlink()  # half a binary model does not count
    assert len(colmap.read(tmp_path, SETTINGS).frames) == 1


def test_of_several_models_the_one_with_most_photos_is_used_and_said(tmp_path):
    write_binary(tmp_path / "sparse/0", photos=images()[:1])
    write_binary(tmp_path / "sparse/1")
    write_binary(tmp_path / "sparse/10", photos=images()[1:])
    add_photos(tmp_path, *(f"images/{name}" for name in NAMES))
    listing = colmap.read(tmp_path, SETTINGS)
    assert len(listing.frames) == 3
    assert listing.notes == ("sparse/1 is used, the model with the most photos: sparse/0 has 1, sparse/1 has 3, sparse/10 has 2",)


def test_photos_without_a_pose_are_listed_as_dropped(tmp_path):
    write_binary(tmp_path / "sparse/0")
    add_photos(tmp_path, "images/b 1.jpg", "images/new.jpg", "images/sub/b 1.jpg", "images/notes.txt", "images/._b 1.jpg")
    listing = colmap.read(tmp_path, SETTINGS)
    assert listing.dropped == (("images/new.jpg", "no pose in the model"), ("images/sub/b 1.jpg", "no pose in the model"))
    assert len(listing.frames) == 3  # those without a photo are the next stage's affair


def test_photos_come_from_the_folder_that_has_them_also_reduced_ones_with_another_suffix(tmp_path):
    write_binary(tmp_path / "sparse/0")
    add_photos(tmp_path, "images/b 1.jpg", "images_8/b 1.png", "images_8/a (2) x.png", "images_8/extra.png")
    listing = colmap.read(tmp_path, SETTINGS)
    assert [frame.name for frame in listing.frames] == ["images_8/a (2) x.png", "images_8/b 1.png", "images_8/sub/c.jpg"]
    assert listing.frames[0].camera.width == 600  # as stated; the photo's own size is looked at later
    assert [name for name, _ in listing.dropped] == ["images_8/extra.png"]


def test_suffixes_may_be_in_the_other_case(tmp_path):
    write_binary(tmp_path / "sparse/0")
    add_photos(tmp_path, *(f"images/{name.replace('jpg', 'JPG')}" for name in NAMES))
    listing = colmap.read(tmp_path, SETTINGS)
    assert all(frame.path.is_file() for frame in listing.frames) and listing.dropped == ()


def test_photos_may_lie_beside_the_model_without_a_folder_of_their_own(tmp_path):
    write_binary(tmp_path)
    add_photos(tmp_path, *NAMES)
    assert [frame.name for frame in colmap.read(tmp_path, SETTINGS).frames] == sorted(NAMES)


def test_list_files_give_the_splits(tmp_path):
    write_binary(tmp_path / "sparse/0")
    add_photos(tmp_path, *(f"images/{name}" for name in NAMES))
    (tmp_path / "test_list.txt").write_text("b 1.jpg\n\nnever posed.jpg\n")
    listing = colmap.read(tmp_path, SETTINGS)
    assert [frame.split for frame in listing.frames] == [None, "test", None]
    assert listing.notes == ("1 names in the list files have no pose in the model, first never posed.jpg",)
    (tmp_path / "train_list.txt").write_text("images/a (2) x.jpg\r\n./b 1.jpg\n")
    (tmp_path / "validation_list.txt").write_text("")
    listing = colmap.read(tmp_path, SETTINGS)
    assert [(frame.name, frame.split) for frame in listing.frames] == [
        ("images/a (2) x.jpg", "train"), ("images/b 1.jpg", "test")]
    assert listing.dropped == (("images/sub/c.jpg", "in none of train_list.txt, validation_list.txt, test_list.txt"),)


def test_names_that_are_no_utf8_survive(tmp_path):
    name = os.fsdecode(b"\xff.jpg")
    write_binary(tmp_path / "sparse/0", photos=images([name, "2.jpg", "3.jpg"]))
    add_photos(tmp_path, f"images/{name}")
    assert {frame.name for frame in colmap.read(tmp_path, SETTINGS).frames if frame.path.is_file()} == {f"images/{name}"}


def test_quaternions_are_normalised_and_points_that_are_not_finite_left_out(tmp_path):
    photos = [(name, camera, 3 * quaternion, translation) for name, camera, quaternion, translation in images()]
    write_binary(tmp_path / "sparse/0", photos=photos, points=np.vstack([POINTS, [np.nan, 0, 0]]))
    add_photos(tmp_path, *(f"images/{name}" for name in NAMES))
    check_listing(colmap.read(tmp_path, SETTINGS))


def test_a_model_without_points_is_fine(tmp_path):
    write_binary(tmp_path / "sparse/0")
    (tmp_path / "sparse/0/points3D.bin").unlink()
    assert colmap.read(tmp_path, SETTINGS).points is None


@pytest.mark.parametrize("write", [write_binary, write_text])
@pytest.mark.parametrize("model", MODEL_NAMES)
def test_every_models_numbers_are_read_and_unreadable_models_are_named(tmp_path, write, model):
    params = (640.0, 480.0) if model == 17 else tuple(0.01 * (i + 1) for i in range(MODEL_SIZES[model]))
    write(tmp_path / "sparse", cameras=CAMERAS | {9: (model, 640, 480, params)}, photos=images(cameras=(3, 3, 9)))
    assert read_cameras(tmp_path / "sparse")[9].params == params
    if model in NOT_READ:
        with pytest.raises(DataError, match=f"camera 9: .*{MODEL_NAMES[model]}"):
            colmap.read(tmp_path, SETTINGS)
        write(tmp_path / "sparse", cameras=CAMERAS | {9: (model, 640, 480, params)}, photos=images()[:2])  # that nobody uses
    assert len(colmap.read(tmp_path, SETTINGS).frames) >= 2


def bad(i=2, name=NAMES[2], camera=3, quaternion=(1, 0, 0, 0), translation=(0, 0, 0)):
    photos = images()
    photos[i] = (name, camera, quaternion, translation)
    return photos


@pytest.mark.parametrize("write", [write_binary, write_text])
@pytest.mark.parametrize("photos, complaint", [
    (bad(quaternion=(0, 0, 0, 0)), r"\(sub/c.jpg\): the quaternion"),
    (bad(quaternion=(float("nan"), 0, 0, 1)), "the quaternion"),
    (bad(quaternion=(1e200, 0, 0, 1)), "the quaternion"),
    (bad(translation=(0, float("inf"), 0)), "the translation"),
    (bad(camera=4), "camera 4 is not among the cameras"),
    (bad(name="../../1.jpg"), "leads out"),
    (bad(name="/etc/passwd"), "absolute"),
    (bad(name="..\\1.jpg"), "Windows"),
    (bad(name="C:/1.jpg"), "Windows"),
    (bad(name=NAMES[0]), "listed twice with different poses"),
    ([], "no posed photos"),
])
def test_bad_entries_are_refused_in_one_line(tmp_path, write, photos, complaint):
    write(tmp_path / "sparse/0", photos=photos)
    with pytest.raises(DataError, match=complaint) as error:
        colmap.read(tmp_path, SETTINGS)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("file, read", [("cameras.bin", read_cameras), ("images.bin", read_images),
                                        ("points3D.bin", read_points)])
def test_a_file_cut_anywhere_is_refused_and_a_giant_count_takes_no_memory(tmp_path, file, read):
    write_binary(tmp_path)
    path = tmp_path / file
    whole = path.read_bytes()
    for content in [whole[:end] for end in range(len(whole))] + [struct.pack("<Q", 2**62) + whole[8:]]:
        path.write_bytes(content)
        with pytest.raises(DataError, match=file):
            read(tmp_path)


@pytest.mark.parametrize("file, line", [
    ("cameras.txt", "1 PINHOLE 640"), ("cameras.txt", "1 NO_MODEL 640 480 1 1 1"), ("cameras.txt", "x PINHOLE 1 1 1 1 1 1"),
    ("cameras.txt", "1 PINHOLE 640.5 480 1 1 1 1"),
    ("images.txt", "1 1 0 0 0 0 0 0 3"), ("images.txt", "1 a 0 0 0 0 0 0 3 d.jpg"),
    ("images.txt", "1 1 0 0 0 0 0 0 3 d.jpg\n1 2 3 4"), ("points3D.txt", "1 2 3"), ("points3D.txt", "1 x 3 4"),
])
def test_a_line_of_text_that_does_not_fit_is_shown_with_its_file(tmp_path, file, line):
    write_text(tmp_path / "sparse/0")
    with open(tmp_path / "sparse/0" / file, "a") as text:
        text.write(line + "\n")
    with pytest.raises(DataError, match=f"{file}: a line must read"):
        colmap.read(tmp_path, SETTINGS)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=100, deadline=None)
@given(st.data())
def test_mutated_models_are_read_or_refused_but_nothing_else_happens(tmp_path, data):
    write = data.draw(st.sampled_from([write_binary, write_text]))
    suffix = {write_binary: "bin", write_text: "txt"}[write]
    folder = tmp_path / suffix / "sparse/0"
    write(folder)
    path = folder / f"{data.draw(st.sampled_from(['cameras', 'images', 'points3D']))}.{suffix}"
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content) - 1))
        content[at:at + 1] = data.draw(st.sampled_from([b"", b"\0", b"\xff", b"\n", b" ", b"-", b"9", b"/", b"\x7f\xf0"]))
    path.write_bytes(content)
    try:
        listing = colmap.read(tmp_path / suffix, SETTINGS)
    except DataError as error:
        assert "\n" not in str(error)
    else:
        assert all(np.isfinite(frame.world_from_camera).all() for frame in listing.frames)


@pytest.mark.parametrize("files, complaint", [
    (["sparse/0/cameras.bin"], "sparse/0 holds COLMAP's cameras but not images.bin or images.txt"),
    (["sparse/images.txt"], "sparse holds COLMAP's images but not cameras.bin or cameras.txt"),
    (["sparse/0/cameras.bin", "sparse/0/images.txt"], "but not the other of the two in the same form"),
    (["database.db", "images/1.jpg"], "COLMAP's database.db is there but no model"),
])
def test_half_a_model_is_not_recognised_and_explained(tmp_path, files, complaint):
    add_photos(tmp_path, *files)
    assert not colmap.recognises(tmp_path)
    assert complaint in colmap.missing(tmp_path)
    with pytest.raises(DataError, match="no COLMAP model"):
        colmap.read(tmp_path, SETTINGS)


def test_a_folder_of_photos_alone_points_to_no_model(tmp_path):
    add_photos(tmp_path, "images/1.jpg")
    for path in (tmp_path, tmp_path / "nowhere", tmp_path / "images/1.jpg"):
        assert not colmap.recognises(path) and colmap.missing(path) is None


@requires("pycolmap")
def test_models_that_pycolmap_writes_are_read_with_the_same_poses_and_points(tmp_path):
    import pycolmap
    model = pycolmap.synthesize_dataset(pycolmap.SyntheticDatasetOptions(num_frames_per_rig=4, num_points3D=20))
    for form, write in (("bin", model.write_binary), ("txt", model.write_text)):
        (tmp_path / form / "sparse/0").mkdir(parents=True)
        write(str(tmp_path / form / "sparse/0"))
        frames = {frame.name: frame for frame in colmap.read(tmp_path / form, SETTINGS).frames}
        assert len(frames) == model.num_reg_images() > 0
        for image in model.images.values():
            pose = frames[f"images/{image.name}"].world_from_camera
            np.testing.assert_allclose(pose[:3, 3], image.projection_center(), atol=1e-12)
            np.testing.assert_allclose(-pose[:3, 2], image.viewing_direction(), atol=1e-12)
        expected = np.array(sorted(point.xyz.tolist() for point in model.points3D.values()))
        points = read_points(tmp_path / form / "sparse/0").places
        np.testing.assert_allclose(sorted(points.tolist()), expected, atol=1e-12)


@requires("pycolmap")
@pytest.mark.parametrize("form", ["bin", "txt"])
def test_photos_have_seen_the_points_that_three_of_them_agree_on(tmp_path, form):
    import pycolmap
    options = pycolmap.SyntheticDatasetOptions(num_frames_per_rig=5, num_points3D=40, match_sparsity=0.4)
    model = pycolmap.synthesize_dataset(options)
    for number, point in model.points3D.items():
        point.error = 3.0 if number % 5 == 0 else 1.0
    (tmp_path / "sparse/0").mkdir(parents=True)
    {"bin": model.write_binary, "txt": model.write_text}[form](str(tmp_path / "sparse/0"))
    sure = {number for number, point in model.points3D.items()
            if number % 5 and len({element.image_id for element in point.track.elements}) >= 3}
    assert 0 < len(sure) < len(model.points3D)
    listing = colmap.read(tmp_path, SETTINGS)
    for image in model.images.values():
        expected = {tuple(model.points3D[p.point3D_id].xyz) for p in image.points2D if p.has_point3D() and p.point3D_id in sure}
        assert {tuple(point) for point in listing.points[listing.sightings[f"images/{image.name}"]]} == expected


TURN = np.array([[1.0, 0, 0, 0], [0, 0, 1, 0], [0, -1, 0, 0]])  # nerfstudio's, from COLMAP's coordinates to its own


@pytest.mark.parametrize("moved, turn, has_sightings", [(0.0, None, True), (0.01, None, False), (0.0, TURN, True)])
def test_sightings_serve_another_description_of_the_same_cameras(tmp_path, moved, turn, has_sightings):
    write_binary(tmp_path / "sparse/0")
    add_photos(tmp_path, *(f"images/{name}" for name in NAMES))
    listing = colmap.read(tmp_path, SETTINGS)
    step = np.zeros((4, 4))
    step[0, 3] = moved
    whole = np.eye(4) if turn is None else np.concatenate([turn, [[0, 0, 0, 1]]])
    frames = [replace(frame, world_from_camera=whole @ frame.world_from_camera + step) for frame in listing.frames]
    transforms.write(replace(listing, frames=tuple(frames), points=None, applied_transform=turn), tmp_path)
    read, notes = read_listing(tmp_path, SETTINGS)
    assert read.format == "transforms" and notes == ["read as transforms; colmap would fit as well"]
    assert (read.sightings is not None) == has_sightings
    if has_sightings:
        np.testing.assert_allclose(read.points, POINTS @ whole[:3, :3].T, atol=1e-12)
        assert read.sightings.keys() == {frame.name for frame in read.frames}
