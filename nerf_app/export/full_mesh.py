"""RUN, PHOTOS → MESH FILE: surface, texture, file, and how the mesh fares against photos that it was not made from."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nerf_app.export.clean import open_edges
from nerf_app.export.extract import MeshPlan, extract_mesh
from nerf_app.export.material import material_mesh
from nerf_app.export.mesh import Mesh
from nerf_app.export.mesh_check import check_mesh
from nerf_app.export.mesh_files import mesh_writer, write_mesh
from nerf_app.export.parts import require_parts
from nerf_app.export.texture import texture_mesh
from nerf_app.run import load_scene_of
from nerf_app.scene.writing import made_folder, write_bytes

if TYPE_CHECKING:
    from nerf_app.run import Run
    from nerf_app.scene.scene import Scene

EXTRACTED, TEXTURED, STEPS = 70, 95, 100  # of the whole time, in per cent: where the surface is there, and where its colours are


def export_mesh(run: "Run", scene: "Scene", plan: MeshPlan, out: Path, on_progress: Callable[[int, int], None],
                metres_per_unit: float | None = None) -> tuple[list[Path], dict[str, Any]]:
    """Write a textured mesh by `out`'s suffix, and beside it how well it shows the held-out photos.

    Returns all files, `out` first, and the facts {"faces", "vertices", "open_edges", "texture", "psnr", "silhouette_iou",
    "split", "photos"}, the last four as `check_mesh` gives them, or None where no photo was held out; without reflections a
    texture is none that photos could be held against, and `psnr` is None. `open_edges` are those of the surface before its
    texture cuts it along seams. `on_progress` hears per cent.
    """
    made_folder(out.parent)
    mesh, n_open = _made(run, scene, plan, on_progress)
    files = write_mesh(mesh, out, run.up, metres_per_unit)
    facts = {"faces": len(mesh.faces), "vertices": len(mesh.vertices), "open_edges": n_open, "texture": mesh.texture.shape[1]}
    is_checked = scene.indices("test") or scene.indices("val")
    check = check_mesh(run, scene, mesh) if is_checked else dict.fromkeys(("psnr", "silhouette_iou", "split", "photos"))
    if plan.texture != "photos" and is_checked:
        check |= {"psnr": None, "photos": [photo | {"psnr": None} for photo in check["photos"]]}
    write_bytes((json.dumps(facts | check, indent=1) + "\n").encode(), check_file(out))
    on_progress(STEPS, STEPS)
    return [*files, check_file(out)], facts | check


def make_mesh(run: "Run", plan: MeshPlan | None = None, out: str | Path | None = None, scene: "Scene | None" = None) -> Mesh:
    """The textured mesh of a run; `Run.mesh` is this.

    Args:
        plan: None: all there is, in at most 50,000 faces.
        out: a .glb, .obj or .ply that is written as well; its folder is made where it was not there.
        scene: whose photos give the texture; None: those that the run remembers.
    """
    if out is not None:
        mesh_writer(Path(out))  # an ending that nobody writes shows before the work
    mesh, _ = _made(run, scene or load_scene_of(run), plan or MeshPlan(), lambda done, total: None)
    if out is not None:
        made_folder(Path(out).parent)
        write_mesh(mesh, Path(out), run.up)
    return mesh


def _made(run: "Run", scene: "Scene", plan: MeshPlan, on_progress: Callable[[int, int], None]) -> tuple[Mesh, int]:
    """The textured mesh, and the open edges that it had before its texture cut it."""
    if plan.texture != "photos":
        require_parts(run, "--texture diffuse")
    painting = _part(on_progress, EXTRACTED, TEXTURED)
    mesh = extract_mesh(run, plan, _part(on_progress, 0, EXTRACTED))
    painted = texture_mesh(run, scene, mesh, painting) if plan.texture == "photos" else material_mesh(run, mesh, painting)
    return painted, open_edges(mesh.faces)


def check_file(out: Path) -> Path:
    """Where the check of a mesh file lies."""
    return out.with_name(f"{out.name}.check.json")


def check_words(facts: dict[str, Any]) -> str:
    """What `export_mesh` found, in a sentence."""
    n_open = facts["open_edges"]
    edges = f"{n_open:,} open edge{'s' * (n_open != 1)}" if n_open else "watertight"
    words = f"{facts['faces']:,} faces, {edges}, texture {facts['texture']}×{facts['texture']}"
    if facts["photos"] is None:
        return f"{words}; not checked, for no photo was held out"
    found = [] if facts["psnr"] is None else [f"PSNR {facts['psnr']:.2f} dB"]
    found += [] if facts["silhouette_iou"] is None else [f"silhouettes overlap by {100 * facts['silhouette_iou']:.1f} %"]
    return f"{words}; seen from {len(facts['photos'])} held-out photos: {', '.join(found) or 'nothing to compare'}"


def _part(on_progress: Callable[[int, int], None], begin: int, end: int) -> Callable[[int, int], None]:
    """Progress of a part as progress of the whole."""
    return lambda done, total: on_progress(begin + (end - begin) * done // max(total, 1), STEPS)
