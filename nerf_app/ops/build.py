"""Compiles the C++ kernels of all ops into one library: called when nerf_app is installed and by `doctor --build`.

A run never compiles. Only the standard library is used, so that setup.py can load this file alone.
"""

import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

OPS = Path(__file__).parent
COMPILERS = ("c++", "g++", "clang++")
LIBRARY, LOG = "kernels.so", "build.log"
COMMON = ("-std=c++17", "-O3", "-fPIC", "-fvisibility=hidden", "-fno-math-errno", "-fno-trapping-math")
EXACT = ("-ffp-contract=off",)
EXACT_OPS = ("march", "raster")  # they decide by comparing numbers, which must be the reference's
X86_TARGETS = {  # name -> lanes of a register, flags
    "baseline": (4, ()),
    "avx2": (8, ("-mavx2", "-mfma")),
    "avx512": (16, ("-mavx512f", "-mavx512dq", "-mavx512bw", "-mavx512vl", "-mfma", "-mprefer-vector-width=512")),
}
OTHER_TARGETS = {"baseline": (4, ())}


def targets() -> dict[str, tuple[int, tuple[str, ...]]]:
    """What the library is compiled for, the best last."""
    return X86_TARGETS if platform.machine() in ("x86_64", "AMD64") else OTHER_TARGETS


def sources_digest() -> str:
    """Of all C++ sources, 16 characters: a library says by it what it was compiled from."""
    digest = hashlib.sha256()
    for source in sorted([*OPS.glob("*/*.cpp"), *OPS.glob("*/*.hpp")]):
        digest.update(f"{source.relative_to(OPS).as_posix()} {source.stat().st_size}\n".encode() + source.read_bytes())
    return digest.hexdigest()[:16]


def compile_library(out: Path, extra: tuple[str, ...] = ()) -> None:
    """Writes the library; raises RuntimeError with the compiler's first error. `extra` flags serve sanitizers."""
    compiler = find_compiler()
    with tempfile.TemporaryDirectory() as folder:
        jobs = [(OPS / "native" / "threads.cpp", (f'-DSOURCES="{sources_digest()}"',), Path(folder) / "threads.o")]
        for kernel in sorted(OPS.glob("*/kernel.cpp")):
            for name, (lanes, flags) in targets().items():
                exact = EXACT if kernel.parent.name in EXACT_OPS else ()
                jobs.append((kernel, (*flags, *exact, f"-DTARGET={name}", f"-DLANES={lanes}"),
                             Path(folder) / f"{kernel.parent.name}-{name}.o"))
        with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
            commands = [[*compiler, *COMMON, *extra, *flags, "-c", str(source), "-o", str(made)] for source, flags, made in jobs]
            list(pool.map(run_compiler, commands))
        partial = out.with_suffix(".part")
        run_compiler([*compiler, *extra, "-shared", "-pthread", *(str(job[2]) for job in jobs), "-o", str(partial)])
        os.replace(partial, out)


def find_compiler() -> list[str]:
    """The beginning of a command: CXX, or the first of COMPILERS that is there."""
    compiler = shlex.split(os.environ.get("CXX", "")) or [path for name in COMPILERS if (path := shutil.which(name))][:1]
    if not compiler:
        raise RuntimeError(f"there is no C++ compiler ({', '.join(COMPILERS)})")
    return compiler


def run_compiler(command: list[str]) -> None:
    """Raises RuntimeError with the first error that the command shows."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 (our own list, no shell)
    if done.returncode:
        lines = done.stderr.splitlines() or [f"{command[0]} ended with exit code {done.returncode}"]
        raise RuntimeError(next((line for line in lines if "error" in line), lines[0]))


def build(folder: Path) -> str | None:
    """Compiles into `folder`; None when it worked, else the reason, which is also left in build.log there.

    A library that is there already stays until a new one takes its place.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / LOG).unlink(missing_ok=True)
    try:
        compile_library(folder / LIBRARY)
    except (RuntimeError, OSError) as error:
        (folder / LOG).write_text(f"{error}\n", encoding="utf-8")
        return str(error)
    return None
