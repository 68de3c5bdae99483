"""Everything the page is written from, gathered before a word of it is."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nerf_app.errors import ResourceError
from nerf_app.report.coverage import Coverage, coverage
from nerf_app.report.curve import Curve, read_curve
from nerf_app.report.glb import read_surface
from nerf_app.report.pictures import Comparison, Geometry, Still, compare, data_uri, geometry, still, thumbnail
from nerf_app.scene.paths import shown

if TYPE_CHECKING:
    from nerf_app.export.mesh import Mesh
    from nerf_app.run import Run
    from nerf_app.scene.scene import Scene

ROOM = 20_000_000  # bytes for mesh and film as they stand in the page; what else is on it stays far below 5 MB
WORST, THUMBNAILS = 3, 24  # photos
ASIDE = ("_depth", "_normals", "_alpha")  # what ends the name of a film that is not the plain one


@dataclass(frozen=True)
class Material:
    """A run, and what was found out about it."""

    run: "Run"
    scene: "Scene"
    evaluation: Mapping[str, Any] | None  # as nerf_app.run.evaluate gives it
    mesh_check: Mapping[str, Any] | None  # as nerf_app.export.mesh_check gives it
    stage_seconds: Mapping[str, float]  # what was done -> how long it took
    curve: Curve | None
    worst: tuple[Comparison, ...]
    geometry: Geometry
    still: Still
    thumbnails: tuple[tuple[str, np.ndarray], ...]  # name of a training photo, [h, w, 3] uint8
    mesh: "Mesh | None"
    mesh_bytes: bytes | None  # the GLB, where it has room
    mesh_file: Path | None
    coverage: Coverage | None
    film: str | None  # data URI, where it has room
    film_file: Path | None


def gather(run: "Run", scene: "Scene", evaluation: Mapping[str, Any] | None, mesh_file: Path | None,
           mesh_check: Mapping[str, Any] | None, stage_seconds: Mapping[str, float],
           on_progress: Callable[[int, int], None]) -> Material:
    """Reads the run folder and renders the few pictures that the page shows."""
    chosen = worst_photos(scene, evaluation)
    total = len(chosen) + 2
    worst = []
    for index, psnr, ssim in chosen:
        worst.append(compare(run, scene, index, psnr, ssim))
        on_progress(len(worst), total)
    looked_at = geometry(run, scene, telling_view(scene, evaluation))
    on_progress(total - 1, total)
    picture = still(run)
    on_progress(total, total)
    mesh, mesh_bytes = (None, None) if mesh_file is None else (read_surface(mesh_file), within(mesh_file, ROOM))
    film_file = find_film(run.folder / "video")
    film = None if film_file is None else within(film_file, ROOM - encoded_size(mesh_bytes))
    return Material(run, scene, evaluation, mesh_check, stage_seconds, read_curve(run.folder), tuple(worst), looked_at, picture,
                    thumbnails(scene), mesh, mesh_bytes, mesh_file,
                    None if mesh is None or mesh.views is None else coverage(run, mesh),
                    None if film is None else data_uri(film, "video/mp4"), film_file)


def scored(evaluation: Mapping[str, Any] | None) -> list[Mapping[str, Any]]:
    """The photos that have a PSNR, the worst first."""
    photos = [photo for photo in (evaluation or {}).get("photos", ()) if is_number(photo.get("psnr"))]
    return sorted(photos, key=lambda photo: photo["psnr"])


def is_number(value: object) -> bool:
    """Neither missing nor NaN nor infinite."""
    return isinstance(value, int | float) and math.isfinite(value)


def worst_photos(scene: "Scene", evaluation: Mapping[str, Any] | None) -> list[tuple[int, float, float | None]]:
    """(index, PSNR, SSIM) of the photos with the lowest PSNR that the scene still has."""
    places = {view.name: i for i, view in enumerate(scene.views)}
    found = [(places[photo["path"]], photo["psnr"], photo.get("ssim")) for photo in scored(evaluation) if photo["path"] in places]
    return found[:WORST]


def telling_view(scene: "Scene", evaluation: Mapping[str, Any] | None) -> int:
    """The view whose depth is shown: the held-out one of middling score, or any that training did not see, or the first."""
    places = {view.name: i for i, view in enumerate(scene.views)}
    known = [places[photo["path"]] for photo in scored(evaluation) if photo["path"] in places]
    held_out = known or scene.indices("test") or scene.indices("val") or [0]
    return held_out[len(held_out) // 2]


def thumbnails(scene: "Scene") -> tuple[tuple[str, np.ndarray], ...]:
    """Training photos, evenly chosen; they are in memory already."""
    train = scene.indices("train")
    chosen = np.unique(np.linspace(0, len(train) - 1, min(len(train), THUMBNAILS)).round().astype(int))
    return tuple((scene.views[train[i]].name, thumbnail(scene, train[i])) for i in chosen)


def find_film(folder: Path) -> Path | None:
    """The turntable of a run, or another plain film."""
    films = sorted(path for path in folder.glob("*.mp4") if not path.stem.endswith(ASIDE))
    return next((path for path in films if path.stem == "orbit"), films[0] if films else None)


def within(file: Path, room: int) -> bytes | None:
    """A file's bytes, if as base64 they take at most `room`."""
    try:
        content = file.read_bytes() if file.stat().st_size * 4 // 3 + 4 <= room else None
    except OSError as error:
        raise ResourceError(f"cannot read {shown(file)}: {error.strerror}; make it again") from error
    return content


def encoded_size(content: bytes | None) -> int:
    """Bytes that a content takes as base64."""
    return 0 if content is None else (len(content) + 2) // 3 * 4
