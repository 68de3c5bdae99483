"""Files onto the disk: whole under their name, or not there at all."""

import datetime
import errno
import fcntl
import math
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from nerf_app.errors import ResourceError, UsageError
from nerf_app.scene.paths import shown


def finite(value: Any) -> Any:
    """The same lists and dictionaries with None in place of NaN and infinities, for which JSON has no word."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_bytes(content: bytes, out: Path) -> None:
    """Write a file beside `out`, then give it its name."""
    beside = out.with_name(out.name + ".part")
    try:
        beside.write_bytes(content)
        os.replace(beside, out)
    except OSError as error:
        raise ResourceError(f"cannot write {shown(out)}: {error.strerror}; make room or give another --out") from error
    finally:
        with suppress(OSError):  # it has its name, or could not even be begun
            beside.unlink()


def made_folder(folder: Path) -> Path:
    """The folder itself, with all above it, made where it was not there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ResourceError(f"cannot make {shown(folder)}: {error.strerror}; give another --out") from error
    return folder


def link_or_copy(source: Path, out: Path) -> None:
    """The same file under a second name, which takes no room; a copy where the two lie on different disks."""
    try:
        try:
            os.link(os.path.realpath(source), out)
        except OSError as error:
            if error.errno == errno.EEXIST:
                raise
            shutil.copyfile(source, out)
    except OSError as error:
        raise ResourceError(f"cannot write {shown(out)}: {error.strerror}; make room or give another --out") from error


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """A folder beside `out` to be filled, which gets its name at the end; whatever ends the filling early removes it."""
    require_new(out)
    made_folder(out.absolute().parent)
    try:
        folder = Path(tempfile.mkdtemp(prefix=f"{out.name[:100]}.", suffix=".part", dir=out.absolute().parent))
    except OSError as error:
        raise ResourceError(f"cannot make {shown(out)}: {error.strerror}; give another --out") from error
    try:
        yield folder
        folder.chmod(0o777 & ~_umask())
        try:
            os.replace(folder, out)
        except OSError as error:
            raise ResourceError(f"cannot make {shown(out)}: {error.strerror}; give another --out") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def require_new(out: Path) -> None:
    """UsageError where something lies already: nothing of the user's is ever written over."""
    if os.path.lexists(out) and not (out.is_dir() and not any(out.iterdir())):
        raise UsageError(f"{shown(out)} is there already: give another --out, or remove it first.")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


class locked:
    """Holds a folder against a second process; made if it is not there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __enter__(self) -> None:
        path = self.folder / "LOCK"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self.file = open(path, "a+", encoding="utf-8", errors="replace")
        except OSError as error:
            raise ResourceError(f"{shown(self.folder)} cannot be written ({error.strerror}): give another folder with --out."
                                ) from error
        try:
            fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.file.seek(0)
            holder = self.file.read(200).strip() or "another process"
            self.file.close()
            raise ResourceError(f"{shown(self.folder)} is in use by {holder}: wait for it, or give another --out.") from None
        except OSError as error:  # some network file systems have no locks
            warnings.warn(f"{shown(self.folder)} cannot be locked ({error.strerror}): see to it that nothing else writes there",
                          stacklevel=2)
        with suppress(OSError):  # a full disk has no room for the holder's name
            self.file.truncate(0)
            os.write(self.file.fileno(), f"process {os.getpid()} since {datetime.datetime.now(datetime.UTC):%F %T} UTC".encode())

    def __exit__(self, *_: object) -> None:
        self.file.close()
