"""The terminal around a command: streams, signals, exit codes, and how results and faults are said.

Results go to stdout, everything else to stderr; with --json stdout holds one object, also where the command fails.
"""

import argparse
import errno
import json
import os
import re
import signal
import sys
import tempfile
import threading
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO

from nerf_app.errors import BackendUnavailable, NerfAppError, ResourceError, is_of_gpu
from nerf_app.progress import LONGEST_LINE
from nerf_app.scene.paths import shown
from nerf_app.scene.writing import finite

BUG, NO_ROOM = 1, ResourceError.exit_code
SIGNALLED = 128  # and the signal's number
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # Ctrl-C, a request to end, a terminal that was closed


def guarded(command: Callable[[], int], *, is_verbose: bool, is_json: bool) -> int:
    """Runs a command and gives the exit code: 0 done, 1 a bug, 2 usage, 3 data, 4 no room, 5 missing part, 6 diverged."""
    prepare_streams()
    before = heard(end_on_signal)
    code = 0
    try:
        with warnings.catch_warnings():
            warnings.showwarning = lambda message, *_, **__: say(f"warning: {message}")
            code = command()
            sys.stdout.flush()
    except Interrupted as ending:
        code = failed(ending.code, ending.said, is_json)
    except SystemExit as ending:  # --help and --version
        code = ending.code or 0
    except BrokenPipeError:  # whoever reads our output has seen enough
        pass
    except Exception as error:
        code, message = explain(error)
        if code == BUG or is_verbose:
            say_where(error)
        failed(code, message, is_json)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        release_stdout()
    return code


def failed(code: int, message: str, is_json: bool) -> int:
    """Says in one line why there is no result; the exit code again."""
    say(message)
    if is_json:
        print(json.dumps({"error": message, "exit_code": code}))
    return code


def say_where(error: Exception) -> None:
    """Where in the program it arose."""
    for line in "".join(traceback.format_exception(error)).splitlines():
        say(line, prefix="")


def explain(error: Exception) -> tuple[int, str]:
    """Exit code and message."""
    if isinstance(error, NerfAppError):
        return error.exit_code, str(error)
    said = " ".join(str(error).split())
    if isinstance(error, MemoryError) or isinstance(error, RuntimeError) and re.search("allocate memory|out of memory", said):
        return NO_ROOM, (f"memory ran out ({said[:200]}); close other programs, or try --set scene.longest_side=800 "
                         "or --set training.samples_per_step=4096.")
    if is_of_gpu(error):
        return NO_ROOM, (f"the GPU failed ({said[:200]}): what was saved before is whole; try again, and with --device cpu "
                         "where it fails again.")
    if isinstance(error, ModuleNotFoundError) and not (error.name or "nerf_app").startswith("nerf_app"):
        return BackendUnavailable.exit_code, (f"the library {error.name}, which this needs, is not installed: install nerf-app "
                                              "again with pip, which brings it.")
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return NO_ROOM, f"the disk is full ({said}); free some space, or give another --out."
    if isinstance(error, PermissionError) or isinstance(error, OSError) and error.errno == errno.EROFS:
        return NO_ROOM, f"no permission ({said}); change it, or give another --out."
    return BUG, f"unexpected {type(error).__name__}: {said}. This is a fault of nerf_app: please report it with the lines above."


# Signals.

class Stop(threading.Event):
    """Set by the first of the signals in ENDING; `signal` is its number, 0 before."""

    signal = 0


class Interrupted(SystemExit):
    """A signal ended the command; `said` tells what is left of its work."""

    def __init__(self, code: int, said: str = "interrupted") -> None:
        super().__init__(code)
        self.said = said


@contextmanager
def stopping() -> Iterator[Stop]:
    """Within it the first signal asks the work to end at the next good moment, the second ends it at once."""
    stop = Stop()

    def receive(number: int, frame: object) -> None:
        if stop.signal and number != signal.SIGHUP:  # which shell and kernel may both send
            end_on_signal(number, frame)
        stop.signal = stop.signal or number
        stop.set()

    before = heard(receive)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def heard(receive: Callable[[int, Any], None]) -> dict[int, Any]:
    """From now on `receive` hears of the signals that end a command; what heard of them before. `nohup` is obeyed."""
    is_kept = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    return {number: signal.signal(number, receive) for number in ENDING if not (is_kept and number == signal.SIGHUP)}


@contextmanager
def when_interrupted(said: str) -> Iterator[None]:
    """Within it a signal that ends the command says this."""
    try:
        yield
    except Interrupted as ending:
        raise Interrupted(ending.code, said) from None


def end_on_signal(number: int, frame: object) -> None:
    raise Interrupted(SIGNALLED + number)


# Streams.

class Terminal:
    """A terminal's stream, to which writing never fails: what is said after it was closed is lost."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        with suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            self._stream.flush()


def prepare_streams() -> None:
    """Any name can be printed in any locale, also where stdout or stderr was closed before we began or is closed later."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))
            continue
        stream.reconfigure(errors="backslashreplace")
        if stream.isatty() and not isinstance(stream, Terminal):
            setattr(sys, name, Terminal(stream))


def release_stdout() -> None:
    """A reader that has gone must not turn a finished command into a failed one when Python flushes at its end."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def say(text: str, prefix: str = "nerf-app: ") -> None:
    """One line on stderr; nobody there to read it is no reason to fail."""
    with suppress(OSError):
        print(prefix + shown(text, LONGEST_LINE), file=sys.stderr, flush=True)


def emit(args: argparse.Namespace, result: dict[str, Any], lines: Iterable[str]) -> None:
    """What a command found, on stdout: one object with --json, else the lines."""
    if args.json:
        print(json.dumps(finite(result)))
    else:
        for line in lines:
            print(line)


# Files that the user asked for.

def write_text(path: Path, text: str) -> None:
    """A small file where the user asked for it."""
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ResourceError(f"cannot write {path} ({error.strerror}); give another --out.") from None


def require_file(path: Path) -> None:
    """Fails now rather than after the work: a file can be written under this name."""
    try:
        with open(path, "ab") if path.exists() else tempfile.TemporaryFile(dir=path.absolute().parent):
            pass
    except OSError as error:
        raise ResourceError(f"cannot write {path} ({error.strerror}); give another --out.") from None


def require_writable(folder: Path) -> None:
    """Fails now rather than after the training: the nearest folder that is there takes a file."""
    place = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        raise ResourceError(f"cannot write in {place} ({error.strerror}); give another --out.") from None
