import numpy as np
import pytest
from PIL import Image

from nerf_app.errors import DataError
from nerf_app.scene.camera import Camera
from nerf_app.scene.images import MaskFile, PhotoFile, load_photos, open_photo, read_mask
from nerf_app.scene.listing import Frame, Listing, StatedCamera
from nerf_app.scene.masks import decide_masks, find_masks
from nerf_app.scene.settings import SceneSettings
from nerf_app.scene.sizes import PhotoHeader
from nerf_app.scene.vision import largest_piece

SIDE = 64
DISC = (np.hypot(*(np.mgrid[:SIDE, :SIDE] - 31.5)) < 12).astype(np.uint8) * 255


def save(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(pixels, np.uint8)).save(path)
    return path


def ring(count):
    """[V, 4, 4] cameras on a circle that look at the origin, z up."""
    poses = np.tile(np.eye(4), (count, 1, 1))
    for pose, angle in zip(poses, np.arange(count) * 2 * np.pi / count):
        back = np.array([np.cos(angle), np.sin(angle), 0.0])
        pose[:3] = np.stack([np.cross([0, 0, 1], back), [0, 0, 1], back, 4 * back], 1)
    return poses


class Set:
    """Photos in `names`, all grey and SIDE wide, with what is asked of their masks."""

    def __init__(self, root, names, **keys):
        self.root, self.poses = root, ring(len(names))
        for name in names:
            save(root / name, np.full((SIDE, SIDE, 3), 128))
        self.frames = tuple(Frame(name, root / name, pose, StatedCamera(), **keys) for name, pose in zip(names, self.poses))
        self.files = [PhotoFile(name, root / name, PhotoHeader(SIDE, SIDE)) for name in names]

    def decide(self, meaning="auto"):
        listing = Listing(self.root, "test", self.frames)
        found, is_stated, notes = find_masks(listing, self.files, SceneSettings())
        cameras = [Camera(SIDE, SIDE, 64.0, 64.0, 32.0, 32.0)] * len(self.files)
        masks, said = decide_masks(found, is_stated, self.files, cameras, self.poses, meaning)
        return masks, notes + said


def kinds(masks):
    return {mask.kind for several in masks.values() for mask in several}


@pytest.mark.parametrize("photo, mask", [
    ("images/a.jpg", "masks/a.png"), ("images/a.jpg", "mask/a.jpg"), ("images/a.jpg", "images_mask/a.png"),
    ("images/a.jpg", "masks/a_mask.png"), ("images/a.jpg", "masks/a.jpg.png"), ("images/a.jpg", "images/a_mask.png"),
    ("images/a.jpg", "images/masks/a.png"), ("a.jpg", "masks/a.png"), ("images/front/a.jpg", "masks/front/a.png"),
    ("images/front/a.jpg", "images/masks/a.png"), ("train/a.png", "masks/train/a.png"),
    ("images_4/a.png", "masks_4/a.png"), ("images_4/front/a.png", "mask_4/front/a.png"), ("images_4/a.png", "masks/a.png"),
    ("set/images_8/a.png", "set/masks_8/a.png"), ("a.png", "masks/a.PNG")])
def test_masks_are_found_where_people_put_them(tmp_path, photo, mask):
    save(tmp_path / mask, DISC)
    masks, _ = Set(tmp_path, [photo]).decide()
    assert masks[0][0].path == tmp_path / mask


def test_reduced_photos_take_their_own_masks_before_those_of_the_whole_ones(tmp_path):
    for folder in ("masks", "masks_2", "masks_4"):
        save(tmp_path / folder / "a.png", DISC)
    masks, _ = Set(tmp_path, ["images_4/a.png"]).decide()
    assert masks[0][0].path == tmp_path / "masks_4/a.png"


def test_a_mask_of_a_kind_that_is_not_read_is_found_and_named(tmp_path):
    save(tmp_path / "masks/a.bmp", DISC)
    one = Set(tmp_path, ["images/a.png"])
    masks, _ = one.decide("ignore")
    loaded = load_photos([PhotoFile("a", one.files[0].path, PhotoHeader(SIDE, SIDE), 1, masks[0], (SIDE, SIDE))])
    assert "masks/a.bmp is none of JPEG, PNG" in loaded.broken[0]


def test_nothing_is_found_where_nothing_is(tmp_path):
    assert Set(tmp_path, ["images/a.png", "images/b.png"]).decide() == ({}, [])


def test_photos_of_one_name_in_two_folders_get_their_own_masks(tmp_path):
    for folder in ("front", "back"):
        save(tmp_path / f"masks/{folder}/1.png", DISC)
    masks, _ = Set(tmp_path, ["images/front/1.png", "images/back/1.png"]).decide()
    assert [masks[i][0].path.parent.name for i in range(2)] == ["front", "back"]


def test_a_mask_that_fits_two_photos_serves_none_and_is_named(tmp_path):
    save(tmp_path / "masks/1.png", DISC)
    masks, notes = Set(tmp_path, ["front/1.png", "back/1.png"]).decide()
    assert masks == {} and "fit several photos" in notes[0]


def test_a_mask_linked_from_outside_the_folder_is_refused(tmp_path):
    outside = save(tmp_path / "elsewhere.png", DISC)
    (tmp_path / "set/masks").mkdir(parents=True)
    (tmp_path / "set/masks/a.png").symlink_to(outside)
    with pytest.raises(DataError, match="allow-outside-root"):
        Set(tmp_path / "set", ["images/a.png"]).decide()


@pytest.mark.parametrize("is_inverted", [False, True])
def test_keys_of_the_file_mean_ignore_with_their_own_polarity(tmp_path, is_inverted):
    path = save(tmp_path / "key.png", DISC)
    masks, _ = Set(tmp_path, ["a.png"], mask=path, is_mask_inverted=is_inverted).decide()
    assert kinds(masks) == {"ignore"}
    file = PhotoFile("a.png", tmp_path / "a.png", PhotoHeader(SIDE, SIDE), masks=masks[0])
    pixels, ignored = open_photo(file)
    assert pixels.shape[2] == 3
    np.testing.assert_array_equal(ignored, (DISC > 0) == is_inverted)


def test_what_any_of_two_ignore_masks_hides_is_hidden(tmp_path):
    left, upper = np.tile(np.arange(SIDE) > 9, (SIDE, 1)) * 255, np.tile(np.arange(SIDE) > 5, (SIDE, 1)).T * 255
    keys = {"mask": save(tmp_path / "left.png", left), "alpha": save(tmp_path / "upper.png", upper)}
    masks, _ = Set(tmp_path, ["a.png"], **keys).decide("ignore")
    _, ignored = open_photo(PhotoFile("a.png", tmp_path / "a.png", PhotoHeader(SIDE, SIDE), masks=masks[0]))
    np.testing.assert_array_equal(ignored, (left == 0) | (upper == 0))


def test_keys_of_both_kinds_keep_their_meaning(tmp_path):
    keys = {"mask": save(tmp_path / "m.png", DISC), "alpha": save(tmp_path / "o.png", 255 - DISC)}
    masks, notes = Set(tmp_path, ["a.png"], **keys).decide()
    assert [mask.kind for mask in masks[0]] == ["ignore", "object"] and "some hide" in notes[0]


def test_a_key_wins_over_a_folder(tmp_path):
    save(tmp_path / "masks/a.png", DISC)
    masks, _ = Set(tmp_path, ["images/a.png"], mask=save(tmp_path / "key.png", DISC)).decide()
    assert masks[0][0].path.name == "key.png"


def test_a_mask_that_is_listed_and_missing_is_said(tmp_path):
    masks, notes = Set(tmp_path, ["a.png"], mask=tmp_path / "gone.png").decide()
    assert masks == {} and "used whole" in notes[0]


@pytest.mark.parametrize("mark", ["poses_bounds.npy", "cameras_sphere.npz"])
def test_masks_of_nerd_and_neus_are_the_object_whatever_they_look_like(tmp_path, mark):
    (tmp_path / mark).write_bytes(b"")
    save(tmp_path / "masks/a.png", 255 - DISC)
    masks, notes = Set(tmp_path, ["images/a.png"]).decide()
    assert kinds(masks) == {"object"} and "as the set's files say" in notes[0]


def test_one_white_piece_where_the_cameras_aim_is_an_object(tmp_path):
    for name in "abcdef":
        save(tmp_path / f"masks/{name}.png", DISC)
    masks, notes = Set(tmp_path, [f"images/{name}.png" for name in "abcdef"]).decide()
    assert kinds(masks) == {"object"} and len(notes) == 1 and "--masks ignore" in notes[0]


@pytest.mark.parametrize("mask", [
    255 - DISC,  # the most of the picture
    np.roll(DISC, 19, axis=1),  # beside what the cameras look at
    np.maximum(DISC, np.pad(DISC[20:44:2, 20:44:2], ((0, 52), (0, 52)))),  # in pieces
], ids=["majority", "aside", "pieces"])
def test_any_other_white_is_what_may_be_looked_at(tmp_path, mask):
    for name in "abcdef":
        save(tmp_path / f"masks/{name}.png", mask)
    masks, notes = Set(tmp_path, [f"images/{name}.png" for name in "abcdef"]).decide()
    assert kinds(masks) == {"ignore"} and "--masks object" in notes[0]


@pytest.mark.parametrize("meaning", ["ignore", "object"])
def test_the_setting_overrides_what_files_and_looks_say(tmp_path, meaning):
    save(tmp_path / "masks/a.png", DISC)
    (tmp_path / "poses_bounds.npy").write_bytes(b"")
    masks, notes = Set(tmp_path, ["images/a.png"]).decide(meaning)
    assert kinds(masks) == {meaning} and "as asked" in notes[0]


def test_none_leaves_masks_out_and_says_so(tmp_path):
    save(tmp_path / "masks/a.png", DISC)
    assert Set(tmp_path, ["images/a.png"]).decide("none") == ({}, ["masks for 1 of 1 photos left out, as asked"])


def test_soft_edges_of_an_object_are_alpha_times_the_photos_own(tmp_path):
    own, mask = np.meshgrid(np.arange(0, 256, 5), np.arange(0, 256, 5))
    photo = np.stack([own * 0 + 7, own * 0 + 8, own * 0 + 9, own], -1)
    save(tmp_path / "a.png", photo)
    save(tmp_path / "m.png", mask)
    header = PhotoHeader(own.shape[1], own.shape[0], has_alpha=True)
    pixels, ignored = open_photo(PhotoFile("a", tmp_path / "a.png", header, masks=(MaskFile(tmp_path / "m.png", "object"),)))
    assert ignored is None and (pixels[..., :3] == [7, 8, 9]).all()
    np.testing.assert_array_equal(pixels[..., 3], np.rint(own * mask / 255))


@pytest.mark.parametrize("values, expected", [([0, 1, 128, 255], [0, 255, 255, 255]), ([0, 1, 1, 0], [0, 255, 255, 0])])
def test_ignore_masks_know_black_and_everything_else(tmp_path, values, expected):
    path = save(tmp_path / "m.png", [values])
    assert read_mask(MaskFile(path, "ignore")).tolist() == [expected]
    assert read_mask(MaskFile(path, "ignore", True)).tolist() == [[255 - value for value in expected]]


def test_black_of_a_jpeg_need_not_be_zero(tmp_path):
    Image.fromarray(np.repeat(DISC, 4, 1)).save(tmp_path / "m.jpg", quality=30)
    ignored = read_mask(MaskFile(tmp_path / "m.jpg", "ignore")) == 0
    assert (ignored != (np.repeat(DISC, 4, 1) == 0)).mean() < 0.02


def test_masks_of_another_size_and_the_same_shape_are_resized_and_said(tmp_path):
    save(tmp_path / "masks/a.png", DISC[::2, ::2])
    masks, notes = Set(tmp_path, ["images/a.png"]).decide("ignore")
    assert "1 masks resized" in notes[1]
    file = PhotoFile("a", tmp_path / "images/a.png", PhotoHeader(SIDE, SIDE), masks=masks[0])
    np.testing.assert_array_equal(open_photo(file)[1], np.kron(DISC[::2, ::2], np.ones((2, 2))) == 0)


def test_a_mask_of_another_shape_names_both_sizes(tmp_path):
    save(tmp_path / "masks/a.png", DISC[:40])
    with pytest.raises(DataError, match=r"masks/a\.png is 64×40 but its photo images/a\.png is 64×64"):
        Set(tmp_path, ["images/a.png"]).decide()


@pytest.mark.parametrize("is_upright", [False, True])
def test_masks_are_turned_with_their_photo_unless_they_stand_already(tmp_path, is_upright):
    save(tmp_path / "a.png", np.zeros((2, 4, 3)))
    stored = np.array([[255, 0, 0, 0], [255, 255, 0, 0]], np.uint8)
    upright = np.rot90(stored, -1)  # EXIF 6: the first stored column becomes the first row, from the bottom up
    mask = MaskFile(save(tmp_path / "m.png", upright if is_upright else stored), "ignore")
    _, ignored = open_photo(PhotoFile("a", tmp_path / "a.png", PhotoHeader(4, 2, 6), 6, (mask,)))
    np.testing.assert_array_equal(ignored, upright == 0)


def test_a_photo_with_a_broken_mask_is_listed_as_broken(tmp_path):
    save(tmp_path / "masks/a.png", DISC).write_bytes(b"no picture")
    one = Set(tmp_path, ["images/a.png"])
    masks, _ = one.decide("ignore")
    loaded = load_photos([PhotoFile("a", one.files[0].path, PhotoHeader(SIDE, SIDE), 1, masks[0], (SIDE, SIDE))])
    assert "masks/a.png" in loaded.broken[0]


def test_the_largest_piece_is_the_largest(tmp_path):
    mask = np.zeros((5, 7), bool)
    mask[0, 0] = mask[2:4, 2:4] = mask[4, 4] = True
    expected = mask.copy()
    expected[0, 0] = False
    np.testing.assert_array_equal(largest_piece(mask), expected)
    assert not largest_piece(np.zeros((3, 3), bool)).any()
