"""nerf_app: a folder of posed photos in; new views, video, depth, a mesh and honest numbers out.

Importing it is light: torch and the stages are loaded when one of the names below is first used.
"""

import importlib
import os
from typing import Any

os.environ.setdefault("GOMP_SPINCOUNT", "0")  # before torch: spinning OpenMP threads make a busy machine ten times slower

__version__ = "0.1.0"
__all__ = ["Config", "MeshPlan", "load_scene", "make_mesh", "open_run", "reconstruct", "train"]

_HOMES = {"Config": "nerf_app.config", "load_scene": "nerf_app.scene.load", "train": "nerf_app.run", "open_run": "nerf_app.run",
          "reconstruct": "nerf_app.job", "MeshPlan": "nerf_app.export.extract", "make_mesh": "nerf_app.export.full_mesh"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'nerf_app' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
