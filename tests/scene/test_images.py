import io
import os
import random
import warnings
import zlib

import av
import numpy as np
import pillow_heif
import pytest
import torch
from PIL import ExifTags, Image, ImageOps

from nerf_app.errors import DataError, ResourceError
from nerf_app.scene import images
from nerf_app.scene.images import MaskFile, PhotoFile, decode, load_photos, read_header, reduced, turned
from nerf_app.scene.sizes import PhotoHeader


def noise(*shape):
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def save(path, pixels, **options):
    Image.fromarray(pixels).save(path, **options)
    return path


def photo(path, pixels, split="train", masks=(), size=None, orientation=1):
    save(path, pixels)
    header = PhotoHeader(pixels.shape[1], pixels.shape[0], orientation, has_alpha=pixels.shape[2] == 4)
    file = PhotoFile(path.name, path, header, orientation, tuple(masks))
    return PhotoFile(path.name, path, header, orientation, tuple(masks), None if split == "test" else size or file.size)


@pytest.mark.parametrize("suffix, options, channels", [("png", {}, 3), ("png", {}, 4), ("tif", {}, 3),
                                                       ("tif", {}, 4), ("webp", {"lossless": True}, 3),
                                                       ("webp", {"lossless": True}, 4)])
def test_lossless_pixels_come_back_as_they_were_written(tmp_path, suffix, options, channels):
    pixels = noise(7, 9, channels)
    if channels == 4:
        pixels[..., 3] |= 1  # WEBP does not keep colours where nothing is seen
    path = save(tmp_path / f"photo.{suffix}", pixels, **options)
    np.testing.assert_array_equal(decode(path), pixels)
    header = read_header(path)
    assert (header.width, header.height, header.has_alpha) == (9, 7, channels == 4)


@pytest.mark.parametrize("suffix", ["jpg", "avif", "heic"])
def test_lossy_photos_come_back_nearly_as_they_were(tmp_path, suffix):
    if suffix == "heic":
        pillow_heif.register_heif_opener()
    row = np.linspace(40, 200, 32).astype(np.uint8)
    pixels = np.repeat(np.repeat(row[None, :, None], 24, 0), 3, 2)
    path = save(tmp_path / f"photo.{suffix}", pixels, quality=95)
    assert np.abs(decode(path).astype(int) - pixels).max() < 12
    assert (read_header(path).width, read_header(path).height) == (32, 24)


def test_16_bit_grey_is_rounded_to_8_bits(tmp_path):
    grey = np.array([[0, 257, 65535, 32896, 128, 129]], np.uint16)
    np.testing.assert_array_equal(decode(save(tmp_path / "a.png", grey))[..., 0], [[0, 1, 255, 128, 0, 1]])


@pytest.mark.parametrize("mode, shape", [("L", (3, 4, 3)), ("1", (3, 4, 3)), ("P", (3, 4, 3)),
                                         ("LA", (3, 4, 4)), ("PA", (3, 4, 4))])
def test_every_way_of_storing_grey_and_palettes_becomes_rgb(tmp_path, mode, shape):
    picture = Image.new("RGBA" if "A" in mode else "RGB", (4, 3), "white").convert(mode)
    picture.save(tmp_path / ("a.tif" if mode == "PA" else "a.png"))
    pixels = decode(next(tmp_path.iterdir()))
    assert pixels.dtype == np.uint8 and pixels.shape == shape and (pixels == 255).all()


def test_cmyk_becomes_rgb(tmp_path):
    Image.new("CMYK", (4, 4), (0, 255, 255, 0)).save(tmp_path / "a.tif")
    np.testing.assert_array_equal(decode(tmp_path / "a.tif")[0, 0], [255, 0, 0])


def test_a_transparent_colour_becomes_alpha(tmp_path):
    picture = Image.fromarray(np.array([[[9, 9, 9], [1, 2, 3]]], np.uint8))
    picture.save(tmp_path / "a.png", transparency=(1, 2, 3))
    assert decode(tmp_path / "a.png")[0, :, 3].tolist() == [255, 0]
    assert read_header(tmp_path / "a.png").has_alpha


def test_open_exr_gets_the_srgb_curve(tmp_path):
    linear = np.array([0.0, 0.0021, 0.214, 1.0, 7.0], np.float32)  # sRGB by its formula: 0, 7, 127, 255, and clipped
    with av.open(str(tmp_path / "a.exr"), "w", format="image2", options={"update": "1"}) as file:
        stream = file.add_stream("exr", rate=1)
        stream.width, stream.height, stream.pix_fmt = 5, 4, "gbrpf32le"
        frame = av.VideoFrame.from_ndarray(np.broadcast_to(linear[None, :, None], (4, 5, 3)).copy(), format="gbrpf32le")
        file.mux(list(stream.encode(frame)) + list(stream.encode(None)))
    assert (read_header(tmp_path / "a.exr").width, read_header(tmp_path / "a.exr").height) == (5, 4)
    pixels = decode(tmp_path / "a.exr").astype(int)
    assert pixels.shape == (4, 5, 3) and np.abs(pixels - np.array([0, 7, 127, 255, 255])[None, :, None]).max() <= 1


@pytest.mark.parametrize("orientation", range(1, 9))
def test_turning_is_what_exif_says(orientation):
    pixels = noise(3, 5, 3)
    picture = Image.fromarray(pixels)
    picture.getexif()[ExifTags.Base.Orientation] = orientation
    np.testing.assert_array_equal(turned(pixels, orientation), np.asarray(ImageOps.exif_transpose(picture)))


def test_the_header_tells_orientation_and_focal_length(tmp_path):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.FocalLengthIn35mmFilm] = 26
    header = read_header(save(tmp_path / "a.jpg", noise(8, 16, 3), exif=exif))
    assert (header.width, header.height, header.orientation, header.focal_35mm) == (16, 8, 6, 26)
    assert header.upright_size == (8, 16)


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tif", "avif"])
@pytest.mark.parametrize("part", [0.0, 0.02, 0.5, 0.95])
def test_a_file_cut_short_is_broken_and_said_in_one_line(tmp_path, suffix, part):
    path = save(tmp_path / f"a\nb.{suffix}", noise(64, 64, 3))
    content = path.read_bytes()
    path.write_bytes(content[:int(len(content) * part)])
    with pytest.raises(DataError) as caught:
        decode(path)
    assert "\n" not in str(caught.value) and "a\\nb" in str(caught.value)


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tif"])
def test_damaged_bytes_decode_to_a_whole_picture_or_raise_one_line(tmp_path, suffix):
    path = save(tmp_path / f"a.{suffix}", noise(16, 16, 3))
    content = path.read_bytes()
    chance = random.Random(1)
    for _ in range(60):
        damaged = bytearray(content)
        for _ in range(chance.randint(1, 6)):
            damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        path.write_bytes(damaged)
        try:
            with warnings.catch_warnings(action="ignore"):
                read_header(path)
                assert decode(path).dtype == np.uint8
        except DataError as error:
            assert "\n" not in str(error)


@pytest.mark.parametrize("side", [15_000, 20_000, 60_000])
def test_a_photo_that_announces_too_many_pixels_is_refused_unread(tmp_path, side):
    small = io.BytesIO()
    Image.new("1", (side, 1)).save(small, "png")
    content = bytearray(small.getvalue())
    content[20:24] = side.to_bytes(4, "big")
    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    (tmp_path / "a.png").write_bytes(content)
    for read in (read_header, decode):
        with pytest.raises(DataError, match="million pixels"):
            read(tmp_path / "a.png")


@pytest.mark.parametrize("content", [b"", b"GIF89a" + bytes(40), b"%!PS-Adobe-3.0 EPSF-3.0\n", b"hello", b"BM" + bytes(60),
                                     b"\x76\x2f\x31\x01 no exr"])
def test_what_is_no_photo_is_refused_whatever_its_name(tmp_path, content):
    (tmp_path / "a.png").write_bytes(content)
    for read in (read_header, decode):
        with pytest.raises(DataError, match=r"a\.png"):
            read(tmp_path / "a.png")


def test_a_pipe_under_a_photos_name_is_refused_without_waiting(tmp_path):
    os.mkfifo(tmp_path / "a.png")
    with pytest.raises(DataError, match="regular file"):
        decode(tmp_path / "a.png")


def test_reducing_averages_what_is_seen():
    pixels = np.zeros((2, 4, 4), np.uint8)
    pixels[:, :2] = [[200, 100, 0, 255], [0, 255, 255, 0]]  # beside each other: opaque, and nothing in a loud colour
    pixels[:, 2:] = [90, 80, 70, 255]
    expected = [[200, 100, 0, 128], [90, 80, 70, 255]]
    np.testing.assert_allclose(reduced(pixels, (2, 1))[0], expected, atol=1)  # premultiplied colours have 8 bits, too


def test_the_store_gives_every_pixel_by_view_row_and_column(tmp_path):
    pictures = [noise(4, 6, 3), noise(5, 3, 3), noise(2, 2, 3)]
    splits = ["train", "test", "val"]
    photos = load_photos([photo(tmp_path / f"{i}.png", p, s) for i, (p, s) in enumerate(zip(pictures, splits))]).photos
    assert photos.pixels.shape == (4 * 6 + 2 * 2, 3) and photos.offsets.tolist() == [0, -1, 24] and not photos.has_alpha
    for view, picture in enumerate(pictures):
        shown, ignored = photos.picture(view)
        np.testing.assert_array_equal(shown, picture)
        assert ignored is None and shown.shape == (photos.heights[view], photos.widths[view], 3)
        if splits[view] != "test":
            row, column = torch.meshgrid(*map(torch.arange, picture.shape[:2]), indexing="ij")
            there = photos.gather(torch.full((row.numel(),), view), row.ravel(), column.ravel())
            np.testing.assert_array_equal(there.reshape(picture.shape), picture)


def test_broken_photos_leave_no_gap(tmp_path):
    pictures = [noise(3 + i, 5, 3) for i in range(5)]
    files = [photo(tmp_path / f"{i}.png", p, "test" if i == 3 else "train") for i, p in enumerate(pictures)]
    for i in (0, 2):
        files[i].path.write_bytes(files[i].path.read_bytes()[:60])
    loaded = load_photos(files)
    assert list(loaded.broken) == [0, 2] and "0.png" in loaded.broken[0]
    assert loaded.photos.offsets.tolist() == [0, -1, 20] and len(loaded.photos.pixels) == 20 + 35
    for view, i in enumerate((1, 3, 4)):
        np.testing.assert_array_equal(loaded.photos.picture(view)[0], pictures[i])


def test_alpha_is_kept_for_all_as_soon_as_one_photo_has_it(tmp_path):
    photos = load_photos([photo(tmp_path / "a.png", noise(3, 4, 3)), photo(tmp_path / "b.png", noise(3, 4, 4)),
                          photo(tmp_path / "c.png", noise(3, 4, 3), "test")]).photos
    assert photos.has_alpha and (photos.picture(0)[0][..., 3] == 255).all() and photos.picture(2)[0].shape == (3, 4, 4)


def test_alpha_that_hides_nothing_is_dropped(tmp_path):
    pictures = [np.concatenate([noise(3, 4, 3), np.full((3, 4, 1), 255, np.uint8)], -1) for _ in range(3)]
    photos = load_photos([photo(tmp_path / f"{i}.png", p, s) for i, (p, s) in
                          enumerate(zip(pictures, ("train", "val", "test")))]).photos
    assert not photos.has_alpha
    for view in range(3):
        np.testing.assert_array_equal(photos.picture(view)[0], pictures[view][..., :3])


def test_ignore_masks_survive_reduction_wherever_they_touch(tmp_path):
    mask = np.full((40, 40), 255, np.uint8)
    mask[39, 39] = 0
    save(tmp_path / "mask.png", mask)
    masks = [MaskFile(tmp_path / "mask.png", "ignore")]
    files = [photo(tmp_path / "a.png", noise(40, 40, 3), masks=masks, size=(2, 2)), photo(tmp_path / "b.png", noise(2, 2, 3)),
             photo(tmp_path / "c.png", noise(40, 40, 3), "test", masks)]
    photos = load_photos(files).photos
    assert photos.ignored.tolist() == [False, False, False, True] + [False] * 4
    assert photos.picture(2)[1].sum() == 1


def test_the_fingerprint_changes_with_any_photo_mask_or_name_and_nothing_else(tmp_path):
    mask = save(tmp_path / "mask.png", np.full((4, 4), 255, np.uint8))
    def fingerprint(name="a.png", seed=0):
        pixels = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
        return load_photos([photo(tmp_path / name, pixels, masks=[MaskFile(mask, "ignore")])]).photos.fingerprint
    first = fingerprint()
    os.utime(tmp_path / "a.png", (0, 0))
    assert fingerprint() == first
    assert len({first, fingerprint(seed=1), fingerprint("b.png")}) == 3
    save(mask, np.eye(4, dtype=np.uint8) * 255)
    assert fingerprint() != first


def test_photos_that_do_not_fit_into_memory_are_refused_with_numbers(tmp_path, monkeypatch):
    monkeypatch.setattr(images, "available_memory", lambda: 1000)
    with pytest.raises(ResourceError, match="longest_side"):
        load_photos([photo(tmp_path / "a.png", noise(20, 20, 3))])
    assert load_photos([photo(tmp_path / "a.png", noise(10, 19, 3))])


def test_some_memory_is_available():
    assert images.available_memory() > 10**7


def test_a_test_photo_that_changed_its_size_is_noticed(tmp_path):
    photos = load_photos([photo(tmp_path / "a.png", noise(4, 4, 3)), photo(tmp_path / "b.png", noise(4, 4, 3), "test")]).photos
    save(tmp_path / "b.png", noise(5, 5, 3))
    with pytest.raises(DataError, match=r"b\.png decodes to 5×5 but announced 4×4"):
        photos.picture(1)
