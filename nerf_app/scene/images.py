"""Photo files become pixels, and the pixels of all photos a store.

Pixels are uint8 as the file holds them (sRGB-coded, alpha straight). A decoder is fed foreign bytes: only named formats
are opened, only regular files, sizes are checked before pixels, and a file that does not decode to its end is broken.
"""

import hashlib
import io
import math
import os
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from PIL import ExifTags, Image, UnidentifiedImageError
from torch import Tensor

from nerf_app.errors import BackendUnavailable, DataError, NerfAppError, ResourceError
from nerf_app.scene.paths import read_file, shown
from nerf_app.scene.sizes import SWAPS_SIDES, PhotoHeader, same_shape

MAX_PIXELS = 200_000_000  # of one photo
MAX_BYTES = 2**31  # of one file
FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "AVIF")  # and HEIF and EXR, each with a library of its own
LOSSY = ("JPEG", "WEBP", "AVIF", "HEIF")  # here black may come back as nearly black
EXR_MAGIC = b"\x76\x2f\x31\x01"
HEIF_BRANDS = (b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1")
NUMBERS = (ExifTags.Base.Orientation, ExifTags.Base.FocalLengthIn35mmFilm)
DEVICE = (ExifTags.Base.Make, ExifTags.Base.Model, ExifTags.Base.LensModel, ExifTags.Base.FocalLength)
GPS = ExifTags.GPS
HALVES = {"N": 1, "S": -1, "E": 1, "W": -1}  # of the earth
BELOW = (1, 3, b"\1", b"\3")  # the sea's level
Image.MAX_IMAGE_PIXELS = MAX_PIXELS  # Pillow's own guard warns from here on and refuses twice this size


@dataclass(frozen=True)
class MaskFile:
    """A grey picture that goes with a photo."""

    path: Path
    kind: str  # "ignore": do not look there; "object": nothing is there, and grey is part of the way
    is_inverted: bool = False  # white instead of black is what to ignore, or where nothing is


@dataclass(frozen=True)
class PhotoFile:
    """All that is needed to get a photo's pixels again."""

    name: str  # for messages and the fingerprint
    path: Path
    header: PhotoHeader
    orientation: int = 1  # EXIF turn to apply
    masks: tuple[MaskFile, ...] = ()
    kept_size: tuple[int, int] | None = None  # (width, height) in the store; None: decoded again, whole, when asked for
    is_alpha_inverted: bool = False  # 255 is stored where the object is not

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) of the whole photo, turned."""
        width, height = self.header.width, self.header.height
        return (height, width) if self.orientation in SWAPS_SIDES else (width, height)


@dataclass(frozen=True, eq=False)
class Photos:
    """Pixels by (view, row, column). Training and validation photos lie in one buffer, test photos stay on disk."""

    files: tuple[PhotoFile, ...]  # V of them, in the order of the scene's views
    pixels: Tensor  # [P, C] uint8; C is 4 (straight alpha) where some pixel is not opaque, else 3
    ignored: Tensor | None  # [P] bool, pixels that no loss and no score may look at; None: there are none
    offsets: Tensor  # [V] int64, a view's first pixel in `pixels`; -1 for photos that stay on disk
    widths: Tensor  # [V] int64 pixels
    heights: Tensor  # [V] int64 pixels
    fingerprint: str  # hex digest of all names and contents, masks included

    @property
    def has_alpha(self) -> bool:
        return self.pixels.shape[1] == 4

    def flat_index(self, view: Tensor, row: Tensor, column: Tensor) -> Tensor:
        """Position in `pixels`: [R], [R], [R] int64 -> [R] int64. Only for views with an offset."""
        return self.offsets[view] + row * self.widths[view] + column

    def gather(self, view: Tensor, row: Tensor, column: Tensor) -> Tensor:
        """The pixels there: [R], [R], [R] int64 -> [R, C] uint8."""
        return self.pixels[self.flat_index(view, row, column)]

    def picture(self, view: int, size: tuple[int, int] | None = None) -> tuple[Tensor, Tensor | None]:
        """One whole photo: uint8 [H, W, C], and bool [H, W] where it must be ignored; on fewer pixels (width, height) if given.

        Test photos are decoded here.
        """
        if size is not None:
            pixels, ignored = self.picture(view)
            return (torch.from_numpy(reduced(pixels.numpy(), size)),
                    None if ignored is None else torch.from_numpy(_reduced_ignored(ignored.numpy(), size)))
        shape = int(self.heights[view]), int(self.widths[view])
        begin = int(self.offsets[view])
        if begin < 0:
            pixels, ignored = open_photo(self.files[view])
            pixels = _with_channels(pixels, self.pixels.shape[1])
            return torch.from_numpy(pixels), None if ignored is None else torch.from_numpy(ignored)
        part = slice(begin, begin + shape[0] * shape[1])
        return self.pixels[part].view(*shape, -1), None if self.ignored is None else self.ignored[part].view(shape)


@dataclass(frozen=True)
class LoadedPhotos:
    photos: Photos  # of the photos that are whole
    broken: dict[int, str]  # position in what was asked for -> reason
    empty: tuple[int, ...]  # positions whose mask leaves nothing to look at


@contextmanager
def _image(stream: BinaryIO, path: Path) -> Iterator[Image.Image]:
    """An opened but undecoded picture; whatever Pillow raises, here or in the block, becomes one line about the file."""
    try:
        with Image.open(stream, formats=_formats(stream)) as image:
            _check_size(image.width, image.height, path)
            yield image
    except NerfAppError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise DataError(_too_large(path)) from None
    except UnidentifiedImageError:
        raise DataError(f"{shown(path)} is none of {', '.join(FORMATS)}, HEIF, EXR, or it is broken: "
                        "convert it, or copy it again.") from None
    except MemoryError:
        raise ResourceError(f"no memory to decode {shown(path)}: close other programs, or reduce the photos.") from None
    except Exception as error:  # broken bytes make Pillow's decoders raise nearly any kind
        raise DataError(f"{shown(path)} is broken ({shown(str(error))}): copy it again, or remove it.") from error


def _formats(stream: BinaryIO) -> tuple[str, ...]:
    start = stream.read(12)
    stream.seek(0)
    if start[4:8] != b"ftyp" or start[8:] not in HEIF_BRANDS:
        return FORMATS
    try:
        import pillow_heif
    except ImportError as error:
        raise BackendUnavailable(f"reading HEIF photos needs pillow-heif ({error}): pip install pillow-heif.") from None
    pillow_heif.register_heif_opener()
    return (*FORMATS, "HEIF")


def _check_size(width: int, height: int, path: Path) -> None:
    if width * height > MAX_PIXELS:
        raise DataError(_too_large(path))


def _too_large(path: Path) -> str:
    return f"{shown(path)} has more than {MAX_PIXELS // 10**6} million pixels: reduce it."


def read_header(path: Path) -> PhotoHeader:
    """Size, turn, alpha and focal length as a regular file states them; no pixel is decoded."""
    try:
        with open(path, "rb") as stream:
            if _is_exr(stream):
                return _exr_header(read_file(path, MAX_BYTES), path)
            with warnings.catch_warnings(action="ignore"), _image(stream, path) as image:
                return _header(image)
    except OSError as error:
        raise DataError(f"{shown(path)} cannot be read ({error.strerror}): check the file and its permissions.") from None


def _header(image: Image.Image) -> PhotoHeader:
    exif = _exif(image)
    is_turned_already = image.format == "TIFF"  # by Pillow, which does so with no other format
    orientation = 1 if is_turned_already else int(exif.get(ExifTags.Base.Orientation, 1))
    device = " ".join(str(exif[key]) for key in DEVICE if key in exif)
    focal = exif.get(ExifTags.Base.FocalLengthIn35mmFilm)
    return PhotoHeader(image.width, image.height, orientation if orientation in range(1, 9) else 1,
                       image.has_transparency_data, focal, device, _place(image))


def _exif(image: Image.Image) -> dict[int, float | str]:
    """The entries of interest; EXIF that cannot be read is none."""
    try:
        exif = image.getexif()
        entries = {**exif, **exif.get_ifd(ExifTags.IFD.Exif)}
        words = {key: str(entries[key]) for key in DEVICE if key in entries}
    except Exception:  # foreign bytes again, and nothing depends on them
        return {}
    numbers = {key: entries[key] for key in NUMBERS if isinstance(entries.get(key), int | float)}
    return words | {key: value for key, value in numbers.items() if math.isfinite(value) and value > 0}


def _place(image: Image.Image) -> tuple[float, float, float] | None:
    """Where EXIF says that the photo was taken: degrees north and east, metres above sea level; None where it does not say."""
    try:
        said = image.getexif().get_ifd(ExifTags.IFD.GPSInfo)
        north, east = (sum(float(part) / 60**i for i, part in enumerate(said[key])) * HALVES[said[sign].strip("\0 ").upper()]
                       for key, sign in ((GPS.GPSLatitude, GPS.GPSLatitudeRef), (GPS.GPSLongitude, GPS.GPSLongitudeRef)))
        place = north, east, float(said[GPS.GPSAltitude]) * (-1 if said.get(GPS.GPSAltitudeRef) in BELOW else 1)
    except Exception:  # foreign bytes, as above
        return None
    is_place = all(map(math.isfinite, place)) and abs(north) <= 90 and abs(east) <= 180 and place != (0.0, 0.0, 0.0)
    return place if is_place else None


def exif_of_place(place: tuple[float, float, float] | None) -> bytes:
    """What a photo's file says of the place where it was taken; nothing for None."""
    if place is None:
        return b""
    north, east, height = place
    exif = Image.Exif()
    exif[ExifTags.IFD.GPSInfo] = {
        GPS.GPSVersionID: b"\2\3\0\0", GPS.GPSLatitudeRef: "N" if north >= 0 else "S", GPS.GPSLatitude: _sexagesimal(abs(north)),
        GPS.GPSLongitudeRef: "E" if east >= 0 else "W", GPS.GPSLongitude: _sexagesimal(abs(east)),
        GPS.GPSAltitudeRef: b"\x00" if height >= 0 else b"\x01", GPS.GPSAltitude: abs(height)}
    return exif.tobytes()


def _sexagesimal(degrees: float) -> tuple[float, float, float]:
    minutes, seconds = divmod(degrees * 3600.0, 60.0)
    return float(minutes // 60), float(minutes % 60), seconds


def decode(path: Path) -> np.ndarray:
    """A photo's pixels as stored, unturned: uint8 [H, W, 3], or [H, W, 4] with straight alpha."""
    return decode_bytes(read_file(path, MAX_BYTES), path)[0]


def decode_bytes(content: bytes, path: Path) -> tuple[np.ndarray, str]:
    """Pixels (see `decode`) of a file that was read, and the format's name; `path` is for messages."""
    if content.startswith(EXR_MAGIC):
        return _decode_exr(content, path), "EXR"
    with _image(io.BytesIO(content), path) as image:
        image.load()
        return np.array(_as_8_bit(image, path)), image.format or ""


def _as_8_bit(image: Image.Image, path: Path) -> Image.Image:
    """The picture as RGB or RGBA. Grey of 16 bits is divided by 257; Pillow itself would cut it at 255."""
    if image.mode.startswith("I"):
        values = np.asarray(image).astype(np.int64)
        if values.min() < 0 or values.max() > 65535:
            raise DataError(f"{shown(path)} holds grey values of more than 16 bits: convert it.")
        image = Image.fromarray(((values + 128) // 257).astype(np.uint8))
    if image.mode == "F":
        raise DataError(f"{shown(path)} holds floating point values: convert it to 8 or 16 bits, or to EXR.")
    return image.convert("RGBA" if image.has_transparency_data else "RGB")


def _is_exr(stream: BinaryIO) -> bool:
    start = stream.read(4)
    stream.seek(0)
    return start == EXR_MAGIC


@contextmanager
def _exr_reader(content: bytes, path: Path):
    """imageio's reader, by way of FFmpeg; its errors become one line."""
    import imageio.v3 as imageio
    try:
        with imageio.imopen(content, "r", plugin="pyav", extension=".exr") as reader:
            yield reader
    except NerfAppError:
        raise
    except Exception as error:  # as with Pillow
        raise DataError(f"{shown(path)} cannot be decoded as EXR ({shown(str(error))}): convert it to PNG.") from error


def _exr_header(content: bytes, path: Path) -> PhotoHeader:
    with _exr_reader(content, path) as reader:
        height, width = reader.properties().shape[-3:-1]
        _check_size(width, height, path)
        return PhotoHeader(width, height, has_alpha="gbrap" in reader.metadata()["video_format"])


def _decode_exr(content: bytes, path: Path) -> np.ndarray:
    """Linear light with premultiplied alpha -> sRGB's curve, 8 bits, straight alpha."""
    has_alpha = _exr_header(content, path).has_alpha
    with _exr_reader(content, path) as reader:
        green, blue, red, alpha = reader.read(index=0, format="gbrapf32le")  # [H, W] each
    linear = np.stack([red, green, blue], -1)  # [H, W, 3]
    if has_alpha:
        linear = linear / np.maximum(alpha, 1e-6)[..., None]
    linear = np.clip(np.nan_to_num(linear), 0.0, 1.0)
    coded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    values = np.concatenate([coded, np.clip(alpha, 0.0, 1.0)[..., None]], -1) if has_alpha else coded
    return np.rint(values * 255.0).astype(np.uint8)


def turned(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """[H, W, ...] as stored -> upright, by EXIF's orientation 1...8; sides swap from 5 on."""
    if orientation in SWAPS_SIDES:
        pixels = np.swapaxes(pixels, 0, 1)
    flips_rows, flips_columns = orientation in (3, 4, 7, 8), orientation in (2, 3, 6, 7)
    return np.ascontiguousarray(pixels[::-1 if flips_rows else 1, ::-1 if flips_columns else 1])


def open_photo(file: PhotoFile) -> tuple[np.ndarray, np.ndarray | None]:
    """The whole photo, turned, with its masks applied: uint8 [H, W, 3 | 4], and bool [H, W] where it must be ignored."""
    return _apply_masks(file, decode_bytes(read_file(file.path, MAX_BYTES), file.path)[0])


def _apply_masks(file: PhotoFile, stored: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    if stored.shape[:2] != (file.header.height, file.header.width):
        raise DataError(f"{shown(file.path)} decodes to {stored.shape[1]}×{stored.shape[0]} but announced "
                        f"{file.header.width}×{file.header.height}: copy it again.")
    pixels, ignored = turned(stored, file.orientation), None
    if file.is_alpha_inverted and pixels.shape[2] == 4:
        pixels = np.concatenate([pixels[..., :3], 255 - pixels[..., 3:]], 2)
    for mask in file.masks:
        values = fitted_mask(mask, file)
        if mask.kind == "ignore":
            here = values == 0
            ignored = here if ignored is None else ignored | here
        else:
            pixels = _with_channels(pixels, 4)
            product = pixels[..., 3].astype(np.uint16) * values
            pixels[..., 3] = (product + 127) // 255
    return pixels, ignored


def read_mask(mask: MaskFile) -> np.ndarray:
    """How much of each pixel counts: uint8 [H, W], 0 nothing, 255 all; an ignore mask knows nothing between."""
    colours, form = decode_bytes(read_file(mask.path, MAX_BYTES), mask.path)
    grey = np.maximum.reduce([colours[..., channel] for channel in range(3)])
    if grey.max() == 1:
        grey = grey * np.uint8(255)  # some tools write 0 and 1
    if mask.kind == "ignore":
        grey = np.where(grey > (127 if form in LOSSY else 0), np.uint8(255), np.uint8(0))
    return 255 - grey if mask.is_inverted else grey


def fitted_mask(mask: MaskFile, file: PhotoFile) -> np.ndarray:
    """A mask (see `read_mask`) on the grid of its turned photo, to the nearest pixel: uint8 [H, W].

    It lies as the stored photo does and is turned with it, unless only upright it has the photo's shape.
    """
    values = read_mask(mask)
    size, stored = (values.shape[1], values.shape[0]), (file.header.width, file.header.height)
    orientation = file.orientation if same_shape(size, stored) else 1
    check_mask_size(mask.path, size, file)
    values = turned(values, orientation)
    if values.shape == file.size[::-1]:
        return values
    return np.array(Image.fromarray(values).resize(file.size, Image.Resampling.NEAREST))


def check_mask_size(path: Path, size: tuple[int, int], file: PhotoFile) -> None:
    """Raises unless a mask of (width, height) has the photo's shape."""
    stored = (file.header.width, file.header.height)
    if not (same_shape(size, stored) or same_shape(size, file.size)):
        raise DataError(f"{shown(path)} is {size[0]}×{size[1]} but its photo {shown(file.name)} is {stored[0]}×{stored[1]}: "
                        "a mask must have its photo's shape.")


def _with_channels(pixels: np.ndarray, channels: int) -> np.ndarray:
    """[H, W, 3 | 4] -> [H, W, channels]: opaque alpha added, or alpha dropped."""
    if pixels.shape[2] >= channels:
        return np.ascontiguousarray(pixels[..., :channels])
    return np.concatenate([pixels, np.full_like(pixels[..., :1], 255)], -1)


def reduced(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """[H, W, 3 | 4] -> the same on fewer pixels, each the mean of its box. Pillow premultiplies RGBA before it averages."""
    if pixels.shape[1::-1] == size:
        return pixels
    return np.array(Image.fromarray(pixels).resize(size, Image.Resampling.BOX))


def _reduced_ignored(ignored: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """[H, W] bool -> fewer pixels, each ignored where any part of it is."""
    grey = Image.fromarray(ignored.astype(np.float32))  # in 8 bits a small part of a large box would round to nothing
    return np.array(grey.resize(size, Image.Resampling.BOX)) > 0


class _Filling:
    """The store's buffers while photos are decoded into them, two at a time, each photo once."""

    def __init__(self, files: Sequence[PhotoFile]):
        self.files = files
        counts = [math.prod(file.kept_size) if file.kept_size else 0 for file in files]
        self.begins = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])  # [V+1] in pixels
        kinds = {mask.kind for file in files for mask in file.masks}
        self.channels = 4 if "object" in kinds or any(file.header.has_alpha for file in files) else 3
        total = int(self.begins[-1])
        check_memory(total * (self.channels + ("ignore" in kinds)), len(files))
        self.pixels = np.empty((total, self.channels), np.uint8)  # [P, C]
        self.ignored = np.zeros(total, bool) if "ignore" in kinds else None  # [P]
        self.digests = [""] * len(files)
        self.broken: dict[int, str] = {}
        self.empty: set[int] = set()

    def add(self, index: int) -> None:
        """Decodes one photo with its masks; a broken one is noted."""
        file = self.files[index]
        try:
            content = read_file(file.path, MAX_BYTES)
            pixels, ignored = _apply_masks(file, decode_bytes(content, file.path)[0])
        except DataError as error:
            self.broken[index] = str(error)
            return
        digest = hashlib.sha256(content)
        for mask in file.masks:
            digest.update(read_file(mask.path, MAX_BYTES))
        self.digests[index] = digest.hexdigest()
        has_object_mask = any(mask.kind == "object" for mask in file.masks)
        if (ignored is not None and ignored.all()) or (has_object_mask and not pixels[..., 3].any()):
            self.empty.add(index)
        if file.kept_size:
            self._keep(index, pixels, ignored)

    def _keep(self, index: int, pixels: np.ndarray, ignored: np.ndarray | None) -> None:
        size = self.files[index].kept_size
        part = slice(self.begins[index], self.begins[index + 1])
        self.pixels[part] = _with_channels(reduced(pixels, size), self.channels).reshape(-1, self.channels)
        if ignored is not None:
            self.ignored[part] = _reduced_ignored(ignored, size).ravel()

    def finish(self) -> Photos:
        """The store of what is whole. Gaps of broken photos, and alpha where all is opaque, are closed up in place."""
        whole = [i for i in range(len(self.files)) if i not in self.broken]
        channels = 4 if self.channels == 4 and not self._is_opaque(whole) else 3
        packed = self.pixels.reshape(-1)  # the same memory: what is written lies never behind what is still to be read
        offsets, end = [], 0
        for i in whole:
            begin, count = self.begins[i], self.begins[i + 1] - self.begins[i]
            if channels < self.channels or end < begin:
                packed[end * channels:(end + count) * channels] = self.pixels[begin:begin + count, :channels].ravel()
                if self.ignored is not None:
                    self.ignored[end:end + count] = self.ignored[begin:begin + count]
            offsets.append(end if self.files[i].kept_size else -1)
            end += int(count)
        files = tuple(self.files[i] for i in whole)
        sizes = torch.tensor([file.kept_size or file.size for file in files], dtype=torch.int64).reshape(-1, 2)
        ignored = None if self.ignored is None or not self.ignored.any() else torch.from_numpy(self.ignored[:end])
        manifest = "\n".join(f"{file.name!r} {self.digests[i]}" for i, file in zip(whole, files))
        return Photos(files, torch.from_numpy(packed[:end * channels].reshape(end, channels)), ignored,
                      torch.tensor(offsets, dtype=torch.int64), sizes[:, 0].contiguous(), sizes[:, 1].contiguous(),
                      hashlib.sha256(manifest.encode("utf-8", "surrogateescape")).hexdigest())

    def _is_opaque(self, whole: list[int]) -> bool:
        return all((self.pixels[self.begins[i]:self.begins[i + 1], 3] == 255).all() for i in whole)


def load_photos(files: Sequence[PhotoFile]) -> LoadedPhotos:
    """Decodes every photo once, to its end; keeps the pixels of those with a `kept_size`.

    Raises ResourceError before anything is decoded when the kept pixels would take more than 60 % of the free memory.
    """
    filling = _Filling(files)
    threads = min(2, len(os.sched_getaffinity(0)))
    with warnings.catch_warnings(action="ignore"), ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(filling.add, range(len(files))):
            pass
    return LoadedPhotos(filling.finish(), dict(sorted(filling.broken.items())), tuple(sorted(filling.empty)))


def check_memory(need: int, count: int) -> None:
    """Raises ResourceError when `need` bytes for `count` photos are too many for this machine."""
    free = available_memory()
    if need > 0.6 * free:
        factor = math.sqrt(0.6 * free / need)
        raise ResourceError(f"{count} photos take {need / 1e9:.1f} GB in memory and {free / 1e9:.1f} GB are free: "
                            f"set scene.longest_side to {factor:.2f} of its size or less, or leave photos out.")


def available_memory() -> int:
    """Bytes that this process may still take: the machine's, or what is left of its control group's share."""
    lines = dict(line.split(":", 1) for line in _text("/proc/meminfo").splitlines() if ":" in line)
    free = [int(lines["MemAvailable"].split()[0]) * 1024] if "MemAvailable" in lines else []
    for limit, used in (("memory.max", "memory.current"), ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes")):
        limit, used = _text(f"/sys/fs/cgroup/{limit}").strip(), _text(f"/sys/fs/cgroup/{used}").strip()
        if limit.isdigit() and used.isdigit():
            free.append(max(0, int(limit) - int(used)))
    return min(free, default=2**63)


def _text(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""
