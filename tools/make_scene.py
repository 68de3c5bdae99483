"""Makes the bundled scenes: photos with known cameras, and the truth about shape to measure against.

    pip install -e ".[scenes]"      and Debian's libllvm19
    python tools/make_scene.py object --out data/object
    python tools/make_scene.py room --out data/room
    python tools/make_scene.py shiny --out data/shiny
    python tools/make_scene.py mirror --out data/mirror

The rays go through the program's own lenses. Views that the folder already holds are kept, so a broken run goes on
where it stopped; the same flags and seed give the same scene.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import trimesh
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import scene_mirror
import scene_object
import scene_render
import scene_room
import scene_shiny
from nerf_app.scene.camera import Camera, Lens
from nerf_app.scene.scene import View
from scene_shapes import Part, simplified

LICENSE = "These pictures and meshes were made by tools/make_scene.py. CC0 1.0: no rights reserved, use them as you like.\n"
TRUTH_FACES = 54_000  # 19 bytes each in a PLY file


@dataclass(frozen=True)
class Recipe:
    """What there is, how it is lit, and who looks at it from where."""

    parts: list[Part]
    views: list[View]
    unit: float  # of the depth files, in scene units
    write_cameras: Callable[[list[View], Path], None]
    sky: np.ndarray | None = None  # [H, W, 3] linear light; None: the parts themselves give light
    exposure: float = 1.0
    bounces: int = 5
    mirrors: int = 1  # times that a photo's light may be mirrored
    materials: tuple[int, ...] | None = None  # of each part, in the truth's pictures of them; None: there are none
    glass: int | None = None  # the part that is a mirror: each photo gets a mask that is white where it shows


def main() -> None:
    """Reads the command line and makes one scene."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("scene", choices=SCENES)
    parser.add_argument("--out", type=Path, required=True, help="folder of the scene; views that it holds are kept")
    parser.add_argument("--size", type=int, default=None,
                        help="width of the photos in pixels (object 400, room 480, shiny and mirror 320)")
    parser.add_argument("--samples", type=int, default=64, choices=(16, 64, 144, 256), help="light paths per pixel")
    parser.add_argument("--views", type=int, default=60, help="photos to train on")
    parser.add_argument("--test", type=int, default=10, help="photos to test with")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    recipe_of, size = SCENES[args.scene]
    make(recipe_of(args.size or size, args.views, args.test, args.seed), args.out, args.samples, args.seed)


def make(recipe: Recipe, out: Path, samples: int, seed: int) -> None:
    """Renders what is missing in `out`, then writes the truth and the cameras."""
    stage = scene_render.Stage(recipe.parts, recipe.sky, recipe.mirrors)
    missing = [(number, view) for number, view in enumerate(recipe.views) if not (out / view.name).exists()]
    if missing:
        stage.shine(recipe.bounces)
    for number, view in missing:
        started = time.monotonic()
        traced = stage.photo(view, samples, seed * 10_000 + number)
        write_picture(_photo(traced, recipe), out / view.name)
        print(f"{number + 1}/{len(recipe.views)} {view.name} {time.monotonic() - started:.1f} s", flush=True)
    for view in recipe.views:
        if view.split == "test":
            write_truth(stage, view, recipe, out / "truth")
        if recipe.glass is not None:
            is_mirror = stage.truth(view)[2] == recipe.glass
            write_picture(is_mirror.astype(np.uint8) * 255, out / "mirror" / (Path(view.name).stem + ".png"))
    write_mesh(recipe.parts, out / "truth" / "mesh.ply")
    meaning = {"depth_unit": recipe.unit, "depth": "z-depth along the camera's axis at the pixel's centre; 0: nothing there",
               "normal": "world axes, 255 * (n + 1) / 2, towards the camera; 0 0 0: nothing there"}
    if recipe.materials is not None:
        meaning["material"] = "255 polished, 170 brushed, 85 matt, 0 nothing there"
    (out / "truth" / "depth.json").write_text(json.dumps(meaning, indent=1) + "\n")
    (out.parent / "LICENSE").write_text(LICENSE)
    recipe.write_cameras(recipe.views, out)
    print(f"{out}: {sum(f.stat().st_size for f in out.rglob('*') if f.is_file()) / 1e6:.1f} MB")


def _photo(traced: scene_render.Traced, recipe: Recipe) -> np.ndarray:
    """[H, W, 3 or 4] uint8 as people get it: with alpha if there is nothing behind."""
    colour = scene_render.coded(traced.linear_rgb * recipe.exposure)
    picture = colour if recipe.sky is None else np.dstack([np.where(traced.alpha[..., None] > 0, colour, 0), traced.alpha])
    return np.round(picture.clip(0, 1) * 255).astype(np.uint8)


def write_picture(pixels: np.ndarray, path: Path) -> None:
    """uint8 [H, W, C] or uint16 [H, W] to a PNG or JPEG file, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name("unfinished-" + path.name)
    Image.fromarray(pixels).save(beside, quality=92, optimize=True)
    beside.replace(path)


def write_truth(stage: "scene_render.Stage", view: View, recipe: Recipe, folder: Path) -> None:
    """Depth and normals of one view, and its materials where the recipe tells of them."""
    depth, normals, parts = stage.truth(view)
    ticks = np.round(depth / recipe.unit)
    assert ticks.max() < 2**16, f"depth of {depth.max()} does not fit into 16 bits of {recipe.unit}"
    stem = Path(view.name).stem + ".png"
    write_picture(ticks.astype(np.uint16), folder / "depth" / stem)
    coded = np.where(depth[..., None] > 0, np.round((normals + 1) / 2 * 255), 0)
    write_picture(coded.astype(np.uint8), folder / "normal" / stem)
    if recipe.materials is not None:
        materials = np.where(depth > 0, np.array(recipe.materials)[parts], 0)
        write_picture(materials.astype(np.uint8), folder / "material" / stem)


def write_mesh(parts: list[Part], path: Path) -> None:
    """All surfaces in one binary PLY; carved parts share `TRUTH_FACES` by their size."""
    total = sum(len(part.faces) for part in parts if part.outlines is None)
    pieces = [simplified(part, TRUTH_FACES * len(part.faces) // total) for part in parts]
    starts = np.cumsum([0] + [len(vertices) for vertices, _ in pieces])
    faces = np.concatenate([faces + start for (_, faces), start in zip(pieces, starts)])
    vertices = np.concatenate([vertices for vertices, _ in pieces])
    path.write_bytes(trimesh.Trimesh(vertices, faces, process=False).export(file_type="ply", vertex_normal=False))


def look(eye: np.ndarray, at: np.ndarray) -> np.ndarray:
    """[4, 4] world_from_camera, OpenGL axes: from `eye` [3] towards `at` [3], +z of the world upwards."""
    back = (eye - at) / np.linalg.norm(eye - at)
    right = np.cross((0, 0, 1.0), back)
    right /= np.linalg.norm(right)
    pose = np.eye(4)
    pose[:3] = np.stack([right, np.cross(back, right), back, eye], 1)
    return pose


def splits(n_train: int, n_test: int) -> list[str]:
    """The split of each view; those for testing spread evenly among the others."""
    n = n_train + n_test
    test = set(np.linspace(0, n, n_test, endpoint=False).astype(int) + n // (2 * max(n_test, 1)))
    return ["test" if i in test else "train" for i in range(n)]


def object_recipe(size: int, n_train: int, n_test: int, seed: int) -> Recipe:
    """The bird, from all round."""
    views = around(size, n_train, n_test, seed, (0.04, 0, 0.09), (0.93, -0.62))
    return Recipe([scene_object.figure(0.0045)], views, 1e-4, write_blender, scene_object.sky(), exposure=0.95)


def shiny_recipe(size: int, n_train: int, n_test: int, seed: int) -> Recipe:
    """The teapot, from all round and not from below."""
    views = around(size, n_train, n_test, seed, (0.0, 0, -0.15), (0.93, -0.12))
    return Recipe(scene_shiny.pot(0.006), views, 1e-4, write_blender, scene_shiny.surroundings(), mirrors=3,
                  materials=scene_shiny.MATERIALS)


def around(size: int, n_train: int, n_test: int, seed: int, at: tuple, sines: tuple[float, float]) -> list[View]:
    """Spread evenly over a sphere round `at`, between two elevations given by their sines, the higher one first."""
    rng = np.random.default_rng(seed)
    focal = 0.5 * size / np.tan(0.6911112 / 2)  # the angle of view of the Blender synthetic sets
    camera = Camera(size, size, focal, focal, size / 2, size / 2)
    counts, views = {"train": 0, "test": 0}, []
    order = splits(n_train, n_test)
    for i, split in enumerate(order):
        sine = sines[0] + (sines[1] - sines[0]) * (i + 0.5) / len(order)
        turn = i * np.pi * (3 - np.sqrt(5))
        away = rng.uniform(3.75, 4.25)
        eye = away * np.array([np.cos(turn) * np.sqrt(1 - sine**2), np.sin(turn) * np.sqrt(1 - sine**2), sine])
        pose = look(eye, np.array(at) + rng.uniform(-0.03, 0.03, 3))
        views.append(View(f"{split}/r_{counts[split]:02}.png", camera, pose, split))
        counts[split] += 1
    return views


def write_blender(views: list[View], out: Path) -> None:
    """transforms_train.json and transforms_test.json of the Blender synthetic sets."""
    camera = views[0].camera
    angle = 2 * np.arctan(0.5 * camera.width / camera.focal_x_px)
    for split in ("train", "test"):
        frames = [{"file_path": "./" + view.name.removesuffix(".png"), "transform_matrix": view.world_from_camera.tolist()}
                  for view in views if view.split == split]
        (out / f"transforms_{split}.json").write_text(json.dumps({"camera_angle_x": angle, "frames": frames}, indent=1) + "\n")


def room_recipe(size: int, n_train: int, n_test: int, seed: int) -> Recipe:
    """The room through a fisheye of about 105 degrees, by someone who walks about in it."""
    focal = size * 0.55
    lens = Lens("fisheye", radial=(0.035, -0.012, 0.004, -0.001))
    camera = Camera(size, size * 3 // 4, focal, focal * 1.002, size * 0.504, size * 0.372, lens)
    poses = [look(eye, at) for eye, at in scene_room.walk(n_train + n_test, seed)]
    views = [View(f"images/frame_{i + 1:05}.jpg", camera, pose, split)
             for i, (pose, split) in enumerate(zip(poses, splits(n_train, n_test)))]
    return Recipe(scene_room.room(), views, 4e-4, write_nerfstudio, exposure=scene_room.EXPOSURE, bounces=8)


def mirror_recipe(size: int, n_train: int, n_test: int, seed: int) -> Recipe:
    """The room with a mirror through a pinhole of about 80 degrees, by someone who walks round its table."""
    camera = Camera(size, size * 3 // 4, 0.6 * size, 0.6 * size, size / 2, size * 3 / 8)
    poses = [look(eye, at) for eye, at in scene_mirror.walk(n_train + n_test, seed)]
    views = [View(f"images/frame_{i + 1:05}.jpg", camera, pose, split)
             for i, (pose, split) in enumerate(zip(poses, splits(n_train, n_test)))]
    parts = scene_mirror.room()
    return Recipe(parts, views, 4e-4, write_nerfstudio, exposure=scene_mirror.EXPOSURE, bounces=8, glass=len(parts) - 1)


def write_nerfstudio(views: list[View], out: Path) -> None:
    """transforms.json in nerfstudio's form, with the lens's coefficients where it bends and the lists of both splits."""
    camera = views[0].camera
    model = "OPENCV_FISHEYE" if camera.lens.family == "fisheye" else "PINHOLE"
    top = {"camera_model": model, "w": camera.width, "h": camera.height, "fl_x": camera.focal_x_px,
           "fl_y": camera.focal_y_px, "cx": camera.centre_x_px, "cy": camera.centre_y_px,
           **{f"k{i + 1}": k for i, k in enumerate(camera.lens.radial) if k}}
    lists = {f"{split}_filenames": [view.name for view in views if view.split == split] for split in ("train", "test")}
    frames = [{"file_path": view.name, "transform_matrix": view.world_from_camera.tolist()} for view in views]
    (out / "transforms.json").write_text(json.dumps({**top, **lists, "frames": frames}, indent=1) + "\n")


SCENES = {"object": (object_recipe, 400), "room": (room_recipe, 480), "shiny": (shiny_recipe, 320),
          "mirror": (mirror_recipe, 320)}  # recipe, width


if __name__ == "__main__":
    main()
