import numpy as np
from PIL import Image, ImageFilter

from nerf_app.check.looks import look_at
from nerf_app.check.photos import find_blurred, find_twins
from nerf_app.scene.images import PhotoFile, read_header
from tests.check.scenes import DATA
from tests.check.test_conventions import ring

NAMES = [f"images/frame_{i:05}.jpg" for i in range(1, 13)]


def image(name):
    return Image.open(DATA / "room" / name).convert("RGB")


def looks(tmp_path, images):
    result = []
    for i, picture in enumerate(images):
        path = tmp_path / f"{i}.png"
        picture.save(path, compress_level=1)
        result.append(look_at(PhotoFile(path.name, path, read_header(path)), False))
    return result


def shaken(picture, shift):
    """The mean of 9 pictures, each moved on by `shift` (x, y) pixels."""
    moved = [np.roll(np.asarray(picture, float), (shift[1] * k, shift[0] * k), (0, 1)) for k in range(9)]
    return Image.fromarray(np.mean(moved, 0).astype(np.uint8))


def test_blurred_and_shaken_photos_are_found_and_sharp_ones_are_not(tmp_path):
    images = [image(name) for name in NAMES]
    assert find_blurred(NAMES, looks(tmp_path, images)) == []
    images[2] = images[2].filter(ImageFilter.GaussianBlur(1.5))
    images[5], images[7] = shaken(images[5], (1, 0)), shaken(images[7], (0, 1))
    (finding,) = find_blurred(NAMES, looks(tmp_path, images))
    assert not finding.is_fault and set(finding.photos) == {NAMES[2], NAMES[5], NAMES[7]} and finding.photos[0] == NAMES[2]


def test_photos_of_things_that_are_smooth_everywhere_are_not_called_blurred(tmp_path):
    images = [image(name).filter(ImageFilter.GaussianBlur(2)) for name in NAMES]
    assert find_blurred(NAMES, looks(tmp_path, images)) == []


def test_twins_are_a_note_with_one_pose_and_a_fault_with_two(tmp_path):
    images, poses = [image(name) for name in NAMES], ring(12)
    images[4], poses[4] = images[1], poses[1]
    images[9] = images[2]
    (torn, same), extra = find_twins(NAMES, looks(tmp_path, images), poses)
    assert extra == {4, 9}
    assert torn.is_fault and torn.photos == (NAMES[9],) and NAMES[2] in torn.evidence
    assert not same.is_fault and same.photos == (NAMES[4],) and NAMES[1] in same.evidence


def test_photos_that_hardly_differ_are_told_where_their_poses_do(tmp_path):
    images, poses = [image(name) for name in NAMES], ring(12)
    noisy = np.asarray(images[3], int) + np.random.randint(-2, 3, (360, 480, 3))
    images[8] = Image.fromarray(noisy.clip(0, 255).astype(np.uint8))
    (finding,), extra = find_twins(NAMES, looks(tmp_path, images), poses)
    assert not finding.is_fault and extra == set() and finding.photos == (NAMES[3], NAMES[8])
    poses[8] = poses[3]  # as in a film that stands still
    assert find_twins(NAMES, looks(tmp_path, images), poses) == ([], set())


def test_pictures_turned_by_their_header_are_looked_at_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    lying = image(NAMES[0]).rotate(90, expand=True)
    lying.save(tmp_path / "lying.png", exif=exif)
    header = read_header(tmp_path / "lying.png")
    turned = look_at(PhotoFile("lying.png", tmp_path / "lying.png", header, header.orientation), True)
    image(NAMES[0]).save(tmp_path / "upright.png")
    upright = look_at(PhotoFile("upright.png", tmp_path / "upright.png", read_header(tmp_path / "upright.png")), True)
    assert turned.digest == upright.digest
    np.testing.assert_array_equal(turned.features.places, upright.features.places)
    assert (upright.features.places < [480, 360]).all() and (upright.features.places > 0).all()
