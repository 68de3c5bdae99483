"""A run and a scene for the report: the ball of tests/sphere.py, rendered in closed form, without a model or training."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from nerf_app.config import Config, values, with_overrides
from nerf_app.export.video import write_video
from nerf_app.scene.scene import Dropped, Scene
from tests.export.stand_in import BallRun
from tests.report.glb import make_glb
from tests.sphere import CENTRE, RADIUS, sphere_scene

HOSTILE = "<script>alert(1)</script>&\"'\n\u202e\udcff.png"  # a file may be called so


class ReportRun(BallRun):
    """Quacks like nerf_app.run.Run, header and settings included."""

    config = Config()

    @property
    def header(self):
        return SimpleNamespace(app_version="0.0.1", seconds=125.0, step=4321, backend="cpp on cpu, 2 threads (no triton)",
                               applied_transform=None, config=values(with_overrides(Config(), {"sampling.steps": 100})))


def a_scene(folder: Path) -> Scene:
    """Sixteen photos of the ball, one of them badly named, and two that were left out."""
    scene = sphere_scene(root=folder / "<b>scene")
    views = list(scene.views)
    views[0] = replace(views[0], name=HOSTILE)
    return replace(scene, views=tuple(views), notes=("space: bounded <i>", "a note & another"),
                   dropped=(Dropped(HOSTILE, "is <b>broken</b>"), Dropped("photos/x.png", "has no pose")))


def a_run(folder: Path, scene: Scene) -> ReportRun:
    """Its run, with metrics and a film."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = [{"event": "stepped", "step": i, "seconds": 0.5 * i, "loss": 1.0 / i, "psnr": 10.0 + 0.1 * i} for i in range(1, 201)]
    lines.insert(150, {"event": "validated", "step": 150, "fraction": 0.7, "psnr": 28.5, "ssim": 0.9})
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "video").mkdir(exist_ok=True)
    write_video((np.full((32, 48, 3), 8 * i, np.uint8) for i in range(12)), folder / "video" / "orbit.mp4", 12.0)
    return ReportRun(folder, scene.views, CENTRE, RADIUS)


def an_evaluation(scene: Scene) -> dict:
    """Scores of the test photos, the first one the worst."""
    photos = [{"path": scene.views[i].name, "psnr": 20.0 + i, "ssim": 0.9 + 0.001 * i} for i in scene.indices("test")]
    return {"psnr": 24.0, "ssim": 0.904, "split": "test", "photos": photos}


def ball(n_rings: int = 24) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Vertices [V, 3] of the scene's ball, faces [F, 3], outward normals [V, 3]; no vertex at the poles is shared."""
    turns = np.linspace(0.0, 2.0 * np.pi, 2 * n_rings + 1)
    polar, azimuth = np.meshgrid(np.linspace(0.0, np.pi, n_rings + 1), turns, indexing="ij")
    normals = np.stack([np.sin(polar) * np.cos(azimuth), np.sin(polar) * np.sin(azimuth), np.cos(polar)], -1).reshape(-1, 3)
    row = 2 * n_rings + 1
    corner = (np.arange(n_rings)[:, None] * row + np.arange(2 * n_rings)).ravel()
    faces = np.concatenate([np.stack([corner, corner + row, corner + 1], 1),
                            np.stack([corner + row, corner + row + 1, corner + 1], 1)])
    return CENTRE + RADIUS * normals, faces.astype(np.int32), normals.astype(np.float32)


def a_mesh_file(folder: Path, has_views: bool = True) -> Path:
    """The ball as a textured GLB; what faces down was seen by one photo, the rest by nine."""
    vertices, faces, normals = ball()
    uvs = np.stack([np.arctan2(normals[:, 1], normals[:, 0]) / (2.0 * np.pi) % 1.0, 0.5 - 0.5 * normals[:, 2]], 1)
    texture = np.zeros((16, 16, 3), np.uint8)
    texture[:, ::2] = (220, 80, 40)
    file = folder / "mesh.glb"
    views = np.where(normals[:, 2] < -0.5, 1, 9) if has_views else None
    file.write_bytes(make_glb(vertices, faces, normals, uvs=uvs, texture=texture, views=views))
    return file
