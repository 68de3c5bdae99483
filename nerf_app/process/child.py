"""Runs the tasks of `process.colmap` in a process of their own, which ends when this one does or when it is interrupted."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nerf_app
from nerf_app.errors import BackendUnavailable, DataError, ResourceError
from nerf_app.scene.paths import shown

PROGRAM = "nerf_app.process.colmap"


def require_pycolmap() -> None:
    """Fails now rather than after the photos are read."""
    from importlib.util import find_spec
    if find_spec("pycolmap") is None:
        raise BackendUnavailable("finding where photos were taken needs pycolmap: pip install pycolmap; or give photos "
                                 "with poses, from COLMAP for instance.")


def run(task: str, on_progress: Callable[[int, int], None], **arguments: Any) -> Any:
    """What the task answers. However this ends, the other process has ended too."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(nerf_app.__file__).parent.parent),
                                                                *filter(None, [os.environ.get("PYTHONPATH")])])}
    with tempfile.TemporaryFile() as words:
        with subprocess.Popen([sys.executable, "-m", PROGRAM],  # noqa: S603 (ourselves, no shell)
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=words, env=environment,
                              text=True, encoding="utf-8", start_new_session=True) as process:  # Ctrl-C is for us alone
            try:
                answer = _converse(process, {"task": task, "arguments": arguments}, on_progress)
            finally:
                process.kill()
        if answer is not None:
            return answer["result"]
        words.seek(0)
        raise _failure(task, process.returncode, words.read().decode("utf-8", "replace"))


def _converse(process: subprocess.Popen, question: dict[str, Any], on_progress: Callable[[int, int], None]) -> dict | None:
    """The final answer; None where there was none."""
    try:
        process.stdin.write(json.dumps(question) + "\n")
        process.stdin.flush()
    except BrokenPipeError:
        return None
    for line in process.stdout:
        answer = json.loads(line)
        if isinstance(answer, dict):
            return answer
        on_progress(*answer)
    process.wait()
    return None


def _failure(task: str, code: int, words: str) -> Exception:
    last = next((line for line in reversed(words.splitlines()) if line.strip()), "without a word")
    if code == -signal.SIGKILL or "MemoryError" in last or "bad_alloc" in last:
        return ResourceError(f"pycolmap was ended in its task \"{task}\", as where memory runs out: close other programs, or "
                             "give fewer or smaller photos.")
    if "ModuleNotFoundError" in last or "ImportError" in last:
        return BackendUnavailable(f"pycolmap cannot be loaded ({shown(last)}): pip install pycolmap.")
    return DataError(f"pycolmap failed in its task \"{task}\" ({shown(last)}): delete the folder \"work\" of the result and try "
                     "again, or leave out photos.")
