"""How near a mesh comes to a bundled scene's truth: Chamfer distance, F-score, angle between normals.

    python tools/score_mesh.py data/object mesh.ply

The truth is the part of truth/mesh.ply that at least three training photos see. Distances are parts of its bounding
diagonal; both surfaces are sampled at 60,000 places, whose own spacing adds about 0.15 % to the Chamfer distance.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import trimesh
from scipy.spatial import cKDTree

from nerf_app.export.mesh import Mesh
from nerf_app.export.visibility import count_views
from nerf_app.ops.backend import choose_backend
from nerf_app.scene.load import load_scene
from nerf_app.scene.settings import SceneSettings

SAMPLES, SEED = 60_000, 0
SEEN_BY = 3  # training photos
NEAR = 0.01  # of the diagonal: what counts as found


def main() -> None:
    """Reads the command line, prints one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("scene", type=Path)
    parser.add_argument("mesh", type=Path, help="in input coordinates; anything trimesh reads")
    args = parser.parse_args()
    found = trimesh.load(args.mesh, force="mesh", process=False)
    if args.mesh.suffix == ".glb":  # its root node turned it to +Y up
        raise SystemExit("give the PLY or OBJ of the mesh: a GLB is turned and scaled for viewers")
    print(json.dumps(score(found, *truth(args.scene)), indent=1))


def truth(folder: Path) -> tuple[trimesh.Trimesh, float]:
    """What the photos of a scene could show of its true mesh, and the whole one's bounding diagonal."""
    whole = trimesh.load(folder / "truth" / "mesh.ply", process=False)
    mesh = Mesh(np.asarray(whole.vertices), np.asarray(whole.faces, np.int32), np.asarray(whole.vertex_normals, np.float32))
    views = count_views(mesh, load_scene(folder, SceneSettings()).views, choose_backend())
    seen = whole.faces[(views[mesh.faces] >= SEEN_BY).all(1)]
    return trimesh.Trimesh(whole.vertices, seen, process=False), float(np.linalg.norm(np.ptp(whole.vertices, axis=0)))


def score(found: trimesh.Trimesh, true: trimesh.Trimesh, diagonal: float) -> dict[str, float]:
    """All numbers for one mesh against the truth; distances in per cent of the diagonal, angles in degrees."""
    places, normals = zip(*(_sampled(mesh) for mesh in (found, true)))
    to_true, at_true = cKDTree(places[1]).query(places[0])
    to_found, at_found = cKDTree(places[0]).query(places[1])
    precision, recall = ((distances < NEAR * diagonal).mean() for distances in (to_true, to_found))
    angles = [degrees(normals[0], normals[1][at_true]), degrees(normals[0][at_found], normals[1])]
    return {"chamfer_percent": 50 * (to_true.mean() + to_found.mean()) / diagonal,
            "accuracy_percent": 100 * to_true.mean() / diagonal, "completeness_percent": 100 * to_found.mean() / diagonal,
            "f_score": 2 * precision * recall / max(precision + recall, 1e-12), "precision": precision, "recall": recall,
            "normal_degrees": float(np.mean(angles)), "parts": found.body_count, "faces": len(found.faces)}


def _sampled(mesh: trimesh.Trimesh) -> tuple[np.ndarray, np.ndarray]:
    """SAMPLES places [N, 3] on the surface, and its normals there: between the vertices' own."""
    places, faces = trimesh.sample.sample_surface(mesh, SAMPLES, seed=SEED)
    parts = trimesh.triangles.points_to_barycentric(mesh.triangles[faces], places)
    normals = (mesh.vertex_normals[mesh.faces[faces]] * parts[..., None]).sum(1)
    return places, normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)


def degrees(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Between unit vectors [..., 3] and [..., 3]: [...]."""
    return np.degrees(np.arccos(np.clip((a * b).sum(-1), -1.0, 1.0)))


if __name__ == "__main__":
    main()
