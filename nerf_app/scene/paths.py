"""Where a scene's files may lie: a name in a foreign file leads into the scene's folder, or nowhere.

Every path that a reader was told goes through `inside`, every foreign file through `read_file`.
"""

import errno
import os
import re
import stat
import unicodedata
from pathlib import Path

from nerf_app.errors import DataError
from nerf_app.scene.settings import SceneSettings

PHOTO_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".exr", ".heic", ".heif", ".avif")
SPELLED_SUFFIXES = (*PHOTO_SUFFIXES, *(suffix.upper() for suffix in PHOTO_SUFFIXES))
UNREAD_SUFFIXES = (".bmp", ".gif", ".tga", ".ppm", ".pnm", ".psd")  # found all the same, to say why they are no use


def shown(text: object, longest: int = 200) -> str:
    """Foreign text fit for a message: one line, printable, at most `longest` characters and an ellipsis."""
    text = str(text)
    printable = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text[:longest])
    return printable if len(text) <= longest else printable + "…"


def plain_name(path: Path) -> str:
    """A folder's or file's name, free of odd characters, for something that is made of it."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", path.resolve().name).strip("-.")[:60] or "scene"


def read_file(path: Path, largest: int) -> bytes:
    """All bytes of a regular file of at most `largest` bytes; a pipe or a device is refused, never waited for."""
    try:
        with open(path, "rb", opener=_open_without_waiting) as file:
            facts = os.fstat(file.fileno())
            if not stat.S_ISREG(facts.st_mode):
                raise DataError(f"{shown(path)} is not a regular file: put the file itself there.")
            if facts.st_size > largest:
                raise DataError(f"{shown(path)} has {facts.st_size} bytes, at most {largest} are read: is it the right file?")
            return file.read(facts.st_size)
    except OSError as error:
        raise DataError(f"{shown(path)} cannot be read: {error.strerror or error}.") from None


def _open_without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def inside(root: Path, relative: str, settings: SceneSettings, where: str) -> Path:
    """`root / relative`, certain to lie under `root` (or under settings.outside_root), links followed.

    A file that is missing passes, for a scene may list more photos than there are; what is there must be a regular
    file. `where` says in a message who named it.
    """
    _refuse_odd_spelling(relative, settings, where)
    path = root / relative
    folders = [root] if settings.outside_root is None else [root, Path(settings.outside_root)]
    try:
        place = Path(os.path.realpath(path))
        is_inside = any(place.is_relative_to(os.path.realpath(folder)) for folder in folders)
        is_odd = is_inside and not stat.S_ISREG(os.stat(place).st_mode)
    except ValueError:  # what no file system can spell
        raise DataError(f"{where}: {shown(relative)} is no possible file name: correct it.") from None
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            raise DataError(f"{where}: {shown(relative)} cannot be looked at: {error.strerror}.") from None
        is_odd = False
    if not is_inside:
        raise DataError(f"{where}: {shown(relative)} leads out of the scene's folder, to {shown(place)}: "
                        "move the file into the folder, or allow the other one with --allow-outside-root DIR.")
    if is_odd:
        raise DataError(f"{where}: {shown(relative)} is a folder or a device, not a regular file: name the file itself.")
    return path


def _refuse_odd_spelling(relative: str, settings: SceneSettings, where: str) -> None:
    """DataError for spellings that mean different places on different systems."""
    if relative in ("", "."):
        raise DataError(f"{where}: the name of the file is empty: write its path.")
    if "\0" in relative:
        raise DataError(f"{where}: {shown(relative)} holds a NUL character: correct the name.")
    if "\\" in relative or re.match(r"[A-Za-z]:", relative):
        raise DataError(f"{where}: {shown(relative)} is spelled for Windows: write a relative path with \"/\".")
    if relative.startswith("/") and settings.outside_root is None:
        raise DataError(f"{where}: {shown(relative)} is an absolute path: write it relative to the scene's folder, "
                        "or allow the folder it lies in with --allow-outside-root DIR.")


def name_of(root: Path, path: Path) -> str:
    """The key of a photo everywhere: its path relative to the scene's folder, with "/", without "." and needless ".."."""
    return os.path.relpath(path, root).replace(os.sep, "/")


def photo(root: Path, stated: str, settings: SceneSettings, where: str, default_suffix: str = "") -> Path:
    """The photo that a file names, perhaps with .jpg for .JPG, without its suffix, or with its accents spelled as another
    system does (macOS writes "u" and two dots for "ü"): the first spelling that exists.

    Where none does: as stated, with `default_suffix` in place of a missing suffix.
    """
    _refuse_odd_spelling(stated, settings, where)
    stem, suffix = os.path.splitext(stated)
    if suffix.lower() in PHOTO_SUFFIXES:
        candidates, default_suffix = (stated, stem + suffix.lower(), stem + suffix.upper()), ""
    else:
        candidates = (stated, *(stated + suffix for suffix in SPELLED_SUFFIXES + UNREAD_SUFFIXES))
    spellings = (unicodedata.normalize(form, name) if form else name for form in ("", "NFC", "NFD") for name in candidates)
    chosen = next((name for name in spellings if os.path.isfile(root / name)), stated + default_suffix)
    return inside(root, chosen, settings, where)


def is_photo(name: str) -> bool:
    """Whether a file's name is one of a photo; hidden ones (macOS puts "._1.jpg" beside 1.jpg) are not."""
    return os.path.splitext(name)[1].lower() in PHOTO_SUFFIXES and not os.path.basename(name).startswith(".")


def photos_below(folder: Path) -> list[str]:
    """Names of the photos in a folder and its subfolders, relative to it, sorted; links to folders are not followed."""
    return sorted(name_of(folder, Path(at, name)) for at, _, names in os.walk(folder) for name in names if is_photo(name))


def photos_in(folder: Path) -> list[str]:
    """Names of the photos in a folder itself, sorted; none where it cannot be read."""
    _, _, names = next(os.walk(folder), ("", [], []))
    return sorted(name for name in names if is_photo(name))


def image_folders(folder: Path) -> list[Path]:
    """Of images/ and its reduced copies images_2/, images_4/, … those that hold photos, the larger photos first."""
    found = {}
    _, names, _ = next(os.walk(folder), ("", [], []))  # a folder that is not there or cannot be read has none
    for name in names:
        match = re.fullmatch(r"images(?:_(\d{1,4}))?", name)
        if match and any(is_photo(photo) for _, _, names in os.walk(folder / name) for photo in names):
            found[int(match[1] or 1)] = folder / name
    return [found[factor] for factor in sorted(found)]
