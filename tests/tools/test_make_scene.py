"""The bundled scenes agree with their own truth: photos, cameras, depth, normals and mesh tell of the same things."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from PIL import Image

from nerf_app.scene.lenses import CameraBatch
from nerf_app.scene.load import load_scene
from nerf_app.scene.scene import Scene, View
from tools.scene_shapes import block, quad, solid, tube

MATT = 85  # of the pictures of materials

DATA = Path(__file__).resolve().parents[2] / "data"


@dataclass(frozen=True)
class Bundle:
    """A bundled scene as the program reads it, and its truth."""

    folder: Path
    scene: Scene
    mesh: trimesh.Trimesh

    @property
    def tests(self) -> list[View]:
        return [self.scene.views[i] for i in self.scene.indices("test")]

    def truth(self, kind: str, view: View) -> np.ndarray:
        return np.asarray(Image.open(self.folder / "truth" / kind / f"{Path(view.name).stem}.png")).astype(np.float64)

    def depth(self, view: View) -> np.ndarray:
        """[H, W] scene units along the camera's axis; 0: nothing there."""
        return self.truth("depth", view) * json.loads((self.folder / "truth" / "depth.json").read_text())["depth_unit"]

    def photo(self, view: View) -> np.ndarray:
        return np.asarray(Image.open(self.folder / view.name)).astype(np.float64) / 255


@pytest.fixture(scope="module", params=["object", "room", "shiny", "mirror"])
def bundle(request: pytest.FixtureRequest) -> Bundle:
    folder = DATA / request.param
    return Bundle(folder, load_scene(folder), trimesh.load(folder / "truth" / "mesh.ply", process=False))


def rays(view: View, x_px: np.ndarray, y_px: np.ndarray) -> np.ndarray:
    """[R, 3] unit vectors in input coordinates."""
    indices = torch.zeros(len(x_px), dtype=torch.int64)
    directions, is_valid = CameraBatch.from_cameras([view.camera]).directions(indices, torch.tensor(x_px), torch.tensor(y_px))
    assert is_valid.all()
    return directions.numpy() @ view.world_from_camera[:3, :3].T


def first_hit(mesh: trimesh.Trimesh, origin: np.ndarray, direction: np.ndarray) -> tuple[float, np.ndarray]:
    """Distance to the nearest of all triangles (infinite: none) and its unit normal."""
    a, b, c = mesh.triangles.transpose(1, 0, 2)
    across = np.cross(b - a, c - a)
    slope = across @ direction
    with np.errstate(divide="ignore", invalid="ignore"):
        t = ((a - origin) * across).sum(1) / slope
        point = origin + t[:, None] * direction
        sides = [(np.cross(end - start, point - start) * across).sum(1) for start, end in ((a, b), (b, c), (c, a))]
        is_hit = (np.min(sides, 0) >= 0) & (t > 1e-6)
    nearest = np.argmin(np.where(is_hit, t, np.inf))
    normal = across[nearest] / max(np.linalg.norm(across[nearest]), 1e-30)
    return (t[nearest] if is_hit[nearest] else np.inf), normal


def test_the_program_loads_every_photo_of_a_bundled_scene_without_a_flag(bundle):
    assert [len(bundle.scene.indices(split)) for split in ("train", "val", "test")] == [56, 4, 10]
    assert bundle.scene.dropped == ()
    is_room, is_place = bundle.folder.name == "room", bundle.folder.name in ("room", "mirror")
    assert bundle.scene.format == ("transforms" if is_place else "blender")
    assert {view.camera.lens.family for view in bundle.scene.views} == {"fisheye" if is_room else "perspective"}
    sizes = {"object": (400, 400, 4), "room": (360, 480, 3), "shiny": (320, 320, 4), "mirror": (240, 320, 3)}
    assert bundle.photo(bundle.tests[0]).shape == sizes[bundle.folder.name]


def test_bundled_scenes_stay_small():
    sizes = {path: path.stat().st_size for path in DATA.rglob("*") if path.is_file()}
    assert sum(sizes.values()) < 25e6
    assert all(size < 1.5e6 for size in sizes.values())
    assert "CC0" in (DATA / "LICENSE").read_text()


def test_depth_and_normals_are_those_of_the_mesh(bundle):
    rng, misses, angles = np.random.default_rng(0), [], []
    for view in bundle.tests[::3]:
        depth, normals = bundle.depth(view), bundle.truth("normal", view) / 255 * 2 - 1
        rows, columns = np.nonzero(depth)
        for i in rng.choice(len(rows), 12, replace=False):
            direction = rays(view, columns[i : i + 1] + 0.5, rows[i : i + 1] + 0.5)[0]
            t, normal = first_hit(bundle.mesh, view.world_from_camera[:3, 3], direction)
            misses.append(abs(t * -(direction @ view.world_from_camera[:3, 2]) - depth[rows[i], columns[i]]))
            angles.append(np.degrees(np.arccos(np.clip(normal @ normals[rows[i], columns[i]], -1, 1))))
    assert np.median(misses) < 5e-4 and np.quantile(misses, 0.85) < 5e-3  # beside an edge the simpler mesh may end earlier
    assert np.median(angles) < 5  # its faces are flat


def test_depth_is_where_the_photo_shows_something(bundle):
    for view in bundle.tests[::4]:
        is_there, photo = bundle.depth(view) > 0, bundle.photo(view)
        alpha = photo[..., 3] if photo.shape[2] == 4 else np.ones(photo.shape[:2])
        assert (~is_there[alpha == 1]).sum() <= 4  # a ray may slip through the seam of two triangles
        assert not is_there[alpha == 0].any()
        lengths = np.linalg.norm(bundle.truth("normal", view) / 255 * 2 - 1, axis=2)[is_there]
        assert np.allclose(lengths, 1, atol=0.01)


def test_one_point_of_a_matt_surface_has_one_colour_in_all_photos_that_see_it(bundle):
    same, others = [], []
    for view, other in zip(bundle.tests, bundle.tests[1:] + bundle.tests[:1]):
        is_matt = ~is_glass(bundle, view)
        if bundle.folder.name == "shiny":
            is_matt = bundle.truth("material", view) == MATT
        rows, columns = np.nonzero((bundle.depth(view) > 0) & is_matt)
        some = np.random.default_rng(0).choice(len(rows), 2000, replace=False)
        rows, columns = rows[some], columns[some]
        directions = rays(view, columns + 0.5, rows + 0.5)
        ahead = directions @ -view.world_from_camera[:3, 2]
        points = view.world_from_camera[:3, 3] + directions * (bundle.depth(view)[rows, columns] / ahead)[:, None]
        local = (points - other.world_from_camera[:3, 3]) @ other.world_from_camera[:3, :3]
        x_px, y_px, is_inside = CameraBatch.from_cameras([other.camera]).project(
            torch.zeros(len(local), dtype=torch.int64), torch.tensor(local))
        column, row = (np.clip(place.numpy().astype(int), 0, size - 1)
                       for place, size in ((x_px, other.camera.width), (y_px, other.camera.height)))
        is_seen = is_inside.numpy() & (np.abs(bundle.depth(other)[row, column] + local[:, 2]) < 0.01)
        here, there = bundle.photo(view)[rows, columns, :3][is_seen], bundle.photo(other)[row, column, :3][is_seen]
        same.append(np.abs(here - there).mean(1))
        others.append(np.abs(here - there[::-1]).mean(1))
    same, others = np.median(np.concatenate(same)), np.median(np.concatenate(others))
    assert same < 0.05 and same < others / 4  # nearest pixels, and a coat that shines


def test_materials_are_told_wherever_something_is(bundle):
    if bundle.folder.name != "shiny":
        assert not (bundle.folder / "truth" / "material").exists()
        return
    shares = {kind: 0.0 for kind in (0, 85, 170, 255)}
    for view in bundle.tests:
        materials = bundle.truth("material", view)
        assert np.array_equal(materials > 0, bundle.depth(view) > 0) and set(np.unique(materials)) <= shares.keys()
        shares = {kind: share + (materials == kind).mean() / 10 for kind, share in shares.items()}
    assert shares[255] > 0.08 and shares[170] > 0.015 and shares[85] > 0.05


def is_glass(bundle: Bundle, view: View) -> np.ndarray:
    """[H, W] bool: where a mirror shows."""
    mask = bundle.folder / "mirror" / f"{Path(view.name).stem}.png"
    return np.asarray(Image.open(mask)) > 0 if mask.exists() else np.zeros((view.camera.height, view.camera.width), bool)


def test_a_mirror_is_flat_where_its_masks_are_white_and_shows_the_room_before_it(bundle):
    if bundle.folder.name != "mirror":
        assert not (bundle.folder / "mirror").exists()
        return
    looked, same = 0, []
    for view in bundle.tests:
        rows, columns = np.nonzero(is_glass(bundle, view))
        if len(rows) < 500:
            continue
        directions = rays(view, columns + 0.5, rows + 0.5)
        ahead = directions @ -view.world_from_camera[:3, 2]
        points = view.world_from_camera[:3, 3] + directions * (bundle.depth(view)[rows, columns] / ahead)[:, None]
        assert np.abs(points[:, 1] - 1.68).max() < 0.002
        assert (np.abs(bundle.truth("normal", view)[rows, columns] / 255 * 2 - 1 - (0, -1, 0)) < 0.01).all()
        looked += 1
        for i in np.random.default_rng(0).choice(len(rows), 6, replace=False):
            t, _ = first_hit(bundle.mesh, points[i] - (0, 1e-3, 0), directions[i] * (1, -1, 1))
            behind = points[i] + t * directions[i] * (1, -1, 1)
            found = [colour for other in bundle.tests if (colour := colour_at(bundle, other, behind)) is not None]
            if found:
                shown = bundle.photo(view)[rows[i], columns[i]]
                same.append(min(np.abs(colour - shown).mean() for colour in found))
    assert looked >= 3 and len(same) > 10
    assert np.median(same) < 0.06


def colour_at(bundle: Bundle, view: View, point: np.ndarray) -> np.ndarray | None:
    """What a photo shows of a place [3], if it sees it."""
    local = torch.tensor((point - view.world_from_camera[:3, 3]) @ view.world_from_camera[:3, :3])[None]
    x_px, y_px, is_inside = CameraBatch.from_cameras([view.camera]).project(torch.zeros(1, dtype=torch.int64), local)
    if not is_inside:
        return None
    row, column = min(int(y_px), view.camera.height - 1), min(int(x_px), view.camera.width - 1)
    is_seen = abs(bundle.depth(view)[row, column] + float(local[0, 2])) < 0.02
    return bundle.photo(view)[row, column] if is_seen else None


def white(p: np.ndarray) -> np.ndarray:
    return np.ones_like(p)


def test_a_solid_is_closed_looks_outwards_and_lies_on_its_distance_function():
    ball = solid(lambda p: np.linalg.norm(p, axis=1) - 0.5, white, (-0.6,) * 3, (0.6,) * 3, 0.04)
    mesh = trimesh.Trimesh(ball.vertices, ball.faces, process=False)
    assert mesh.is_watertight
    assert mesh.volume == pytest.approx(4 / 3 * np.pi * 0.125, rel=0.01)
    assert np.allclose(np.linalg.norm(ball.vertices, axis=1), 0.5, atol=1e-4)
    assert np.allclose(ball.normals, ball.vertices / 0.5, atol=0.02)


def test_a_thin_stick_is_found_among_empty_blocks():
    ends = np.array([[-0.9, -0.7, -0.8], [0.8, 0.9, 0.7]])
    stick = solid(lambda p: tube(p, ends, np.array([0.02, 0.02])), white, (-1,) * 3, (1,) * 3, 0.01)
    mesh = trimesh.Trimesh(stick.vertices, stick.faces, process=False)
    length = np.linalg.norm(ends[1] - ends[0])
    assert mesh.is_watertight and mesh.body_count == 1
    assert mesh.volume == pytest.approx(np.pi * 0.02**2 * (length + 4 / 3 * 0.02), rel=0.07)  # four cells across


def test_a_block_is_seen_from_outside_and_its_texture_is_upright():
    part = block((0, 0, 0), (0.1, 0.2, 0.3))
    assert trimesh.Trimesh(part.vertices, part.faces).volume == pytest.approx(0.006)
    wall = quad((1, 0, 0), (0, 2, 0), (0, 0, 3), tile=0.5)
    assert np.allclose(wall.normals, (1, 0, 0))
    assert np.allclose(wall.uv, wall.vertices[:, 1:] / 0.5)
