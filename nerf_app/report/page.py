"""TRAINED FIELD → report.html: one page that opens from disk, asks the network for nothing, and runs no code but its own."""

import base64
import hashlib
import importlib.resources
from collections.abc import Callable, Mapping
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any

from nerf_app.report.markup import Html, element, joined, text
from nerf_app.report.material import Material, gather
from nerf_app.report.sections import SECTIONS, opening, title_of
from nerf_app.scene.writing import write_bytes

if TYPE_CHECKING:
    from nerf_app.run import Run
    from nerf_app.scene.scene import Scene


def write_report(run: "Run", scene: "Scene", out: Path, *, evaluation: Mapping[str, Any] | None = None, mesh: Path | None = None,
                 mesh_check: Mapping[str, Any] | None = None, stage_seconds: Mapping[str, float] | None = None,
                 on_progress: Callable[[int, int], None] = lambda done, total: None) -> None:
    """Write one HTML file of at most 25 MB; what is None, or not in the run folder, is left out or said to be missing.

    Args:
        evaluation: as `nerf_app.run.evaluate` gives it.
        mesh: a GLB of `write_mesh`.
        mesh_check: as `check_mesh` gives it.
        stage_seconds: what was done -> how long it took.
        on_progress: hears (pictures rendered, of how many).
    """
    material = gather(run, scene, evaluation, mesh, mesh_check, stage_seconds or {}, on_progress)
    write_bytes(page(material).encode(), out)


def page(material: Material) -> str:
    """The whole text of the page."""
    assets = importlib.resources.files("nerf_app.report")
    template, style, script = ((assets / name).read_text(encoding="utf-8") for name in ("page.html", "page.css", "viewer.js"))
    body = [opening(material), element("main", *(write(material) for write in SECTIONS)),
            element("footer", "Made by nerf_app. Everything on this page is in this one file.")]
    mesh = Html("")
    if material.mesh_bytes is not None:
        content = Html(base64.b64encode(material.mesh_bytes).decode())
        mesh = element("script", content, type="application/octet-stream", id="mesh-file")
    title = text(f"{title_of(material)} · nerf_app")
    return Template(template).substitute(policy=policy(style, script), title=title, style=style, body=joined(body), mesh=mesh,
                                         script=script)


def policy(style: str, script: str) -> str:
    """What the browser may do with the page: run this script, apply this style, show what is inside the file; nothing else."""
    style_hash, script_hash = (base64.b64encode(hashlib.sha256(part.encode()).digest()).decode() for part in (style, script))
    return (f"default-src 'none'; img-src data:; media-src data:; style-src 'sha256-{style_hash}'; "
            f"script-src 'sha256-{script_hash}'; base-uri 'none'; form-action 'none'")
