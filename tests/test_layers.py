"""Imports go one way, each foreign library has one door, and what runs on a bare GPU machine asks for little."""

import ast
import sys
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FLOOR = ("", "errors", "setting", "settings", "*.settings", "ops", "ops.*")  # everybody may import these; they, each other
ORDER = (  # each may import what stands before it or in its own brackets
    ("scene",), ("rays",), ("sampling",), ("fields",), ("render",), ("mirror",),
    ("config",), ("photo_fit",), ("model",), ("picture",), ("checkpoint",), ("training",), ("run", "scoring"),
    ("export",), ("report",), ("convert",), ("check",),
    ("doctor", "progress", "console", "flags", "exporting", "process", "stages", "job", "cli", "__main__"),
)
DOORS = {  # library: the modules that may import it; all others are free of it
    "cv2": ("scene.vision",),
    "imageio": ("scene.images",),
    "pillow_heif": ("scene.images",),
    "yaml": ("config",),
    "av": ("export.video", "export.float_files", "process.frames"),
    "xatlas": ("export.atlas",),
    "fast_simplification": ("export.clean",),
    "skimage": ("export.surface",),
    "trimesh": ("export.mesh_files",),
    "pycolmap": ("process.colmap",),
    "open3d": ("export.open3d",),
    "triton": ("ops.*.*_triton",),
    "tinycudann": ("ops.*.tcnn",),
    "nerfacc": ("ops.*.nerfacc",),
}
LIGHT = {"torch", "numpy", "PIL", "rich", "safetensors", "triton", "tinycudann", "nerfacc", *sys.stdlib_module_names}
LIGHT_STAGES = {"ops", "fields", "training"}


def name_of(path: Path) -> str:
    """scene/load.py -> scene.load; the package itself is the empty name."""
    return ".".join(path.relative_to(ROOT / "nerf_app").with_suffix("").parts).removesuffix("__init__").rstrip(".")


SOURCES = {name_of(path): path for path in sorted((ROOT / "nerf_app").rglob("*.py"))}


def parts(node: ast.AST, at_load: bool) -> Iterator[ast.AST]:
    """What lies in a syntax tree: all of it, or what runs when the module is loaded."""
    for child in ast.iter_child_nodes(node):
        is_put_off = isinstance(child, ast.FunctionDef) or (isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test))
        if not (at_load and is_put_off):
            yield child
            yield from parts(child, at_load)


def imports(source: str, at_load: bool = False) -> set[str]:
    """Full names of the modules imported in a source text: anywhere, also in functions and for types, or `at_load`."""
    found = set()
    for node in parts(ast.parse(source), at_load):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            inner = {alias.name: f"{node.module}.{alias.name}".removeprefix("nerf_app.") for alias in node.names}
            found |= {f"nerf_app.{full}" if full in SOURCES else node.module for full in inner.values()}
    return found


IMPORTS = {name: imports(path.read_text(encoding="utf-8")) for name, path in SOURCES.items()}
LOADED = {name: imports(path.read_text(encoding="utf-8"), at_load=True) for name, path in SOURCES.items()}


def own(names: set[str]) -> set[str]:
    """Of imported names, those of our modules, without the package's."""
    return {name.removeprefix("nerf_app").lstrip(".") for name in names if name.split(".")[0] == "nerf_app"} & SOURCES.keys()


def is_floor(name: str) -> bool:
    return any(fnmatch(name, pattern) for pattern in FLOOR)


def rank(name: str) -> int:
    """How far down the stream of data a module lies; the ground floor is -1."""
    if is_floor(name):
        return -1
    places = [place for place, stages in enumerate(ORDER) if name.split(".")[0] in stages]
    assert places, f"nerf_app.{name} has no place in ORDER: say there which stages it may import"
    return places[0]


@pytest.mark.parametrize("name", [name for name in SOURCES if name])  # the package's own __init__ is lazy and may name all
def test_a_module_imports_only_what_comes_before_it(name):
    below = {other for other in own(IMPORTS[name]) if rank(other) > rank(name)}
    assert not below, f"nerf_app.{name} imports {sorted(below)}, which come after it"


@pytest.mark.parametrize("library", DOORS)
def test_a_library_has_one_door(library):
    users = {name for name, names in IMPORTS.items() if library in {imported.split(".")[0] for imported in names}}
    assert not {user for user in users if not any(fnmatch(user, door) for door in DOORS[library])}


def test_ops_fields_and_training_run_with_torch_and_little_else():
    mine = {name for name in SOURCES if name.split(".")[0] in LIGHT_STAGES}
    seen, waiting = {}, {name: name for name in mine}
    while waiting:  # with all that is loaded along with them, each with the way there
        name, way = waiting.popitem()
        seen[name] = way
        waiting |= {other: f"{way} -> {other}" for other in own(LOADED[name]) - seen.keys()}
    heavy = {f"{way} -> {library}" for name, way in seen.items() for library in (IMPORTS if name in mine else LOADED)[name]
             if library.split(".")[0] not in LIGHT | {"nerf_app"}}
    assert not heavy


def test_the_check_sees_imports_wherever_they_stand():
    source = ("import cv2.aruco as marks\nif TYPE_CHECKING:\n    from nerf_app import errors\n"
              "def f():\n    from nerf_app.scene.camera import Lens\n")
    assert imports(source) == {"cv2.aruco", "nerf_app.errors", "nerf_app.scene.camera"}
    assert imports(source, at_load=True) == {"cv2.aruco"}
