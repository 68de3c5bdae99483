"""How near a mesh comes to points that were measured without it: the distance of those inside the object's box to the surface.

    python tools/score_points.py RUN mesh.ply

The points are the scene's own sparse ones (COLMAP); where it has none, pycolmap triangulates some from its photos and the
given poses. The box is that of `--crop auto`, distances are parts of its diagonal.
"""

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
import pycolmap
import trimesh
from scipy.spatial import cKDTree

from nerf_app.export.crop import parse_crop
from nerf_app.run import load_scene_of, open_run
from nerf_app.scene.colmap_models import colmap_model
from nerf_app.scene.colmap_writing import COLMAP_IMAGES, write_colmap
from nerf_app.scene.scene import Scene

FEATURES, NEIGHBOURS = 3000, 10  # of a photo; photos before and behind it that it is matched with
SEEN_BY, ERROR_PX = 4, 1.0  # photos, and mean reprojection error, that make a point sure
SAMPLES = 500_000  # places on the mesh; their own spacing adds some 0.05 % of the diagonal


def main() -> None:
    """Reads the command line, prints one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("mesh", type=Path, help="PLY or OBJ, in input coordinates")
    args = parser.parse_args()
    run = open_run(args.run)
    scene, box = load_scene_of(run), parse_crop("auto", run)
    points = scene.points if scene.points is not None else triangulated(scene)
    inside = points[box.contains(points)]
    mesh = trimesh.load(args.mesh, force="mesh", process=False)
    surface, _ = trimesh.sample.sample_surface(mesh, SAMPLES, seed=0)
    distances = cKDTree(surface).query(inside)[0]
    diagonal = 2 * np.linalg.norm(box.half_sizes)
    parts = 100 * np.percentile(distances, [25, 50, 75, 90]) / diagonal
    print(json.dumps({"points": len(points), "inside": len(inside), "box": str(box), "diagonal": diagonal,
                      "median_percent": parts[1], "quartiles_percent": [parts[0], parts[2]], "worst_tenth_percent": parts[3]},
                     indent=1))


def triangulated(scene: Scene) -> np.ndarray:
    """[N, 3] input coordinates: where SIFT features of neighbouring photos meet, by the scene's own poses."""
    pycolmap.logging.minloglevel = 2  # errors
    prefix = COLMAP_IMAGES if all(view.name.startswith(COLMAP_IMAGES) for view in scene.views) else ""
    views, photos = {view.name.removeprefix(prefix): view for view in scene.views}, scene.root / prefix
    cameras = {view.camera for view in scene.views}
    options, lens = pycolmap.FeatureExtractionOptions(), pycolmap.ImageReaderOptions()
    options.sift.max_num_features = FEATURES
    lens.camera_model = pycolmap.CameraModelId(colmap_model(next(iter(cameras)))[0]).name
    mode = pycolmap.CameraMode.SINGLE if len(cameras) == 1 else pycolmap.CameraMode.PER_IMAGE
    pairing = pycolmap.SequentialPairingOptions()
    pairing.overlap = NEIGHBOURS
    with tempfile.TemporaryDirectory() as folder:
        database, model = Path(folder, "features.db"), Path(folder, "model")
        pycolmap.extract_features(database, photos, image_names=list(views), camera_mode=mode, reader_options=lens,
                                  extraction_options=options)
        pycolmap.match_sequential(database, pairing_options=pairing)
        with pycolmap.Database.open(database) as features:
            numbers = {image.name: image.image_id for image in features.read_all_images()}
        write_colmap([views[name] for name in sorted(numbers, key=numbers.get)], model)  # it numbers them from 1 on, too
        found = pycolmap.triangulate_points(pycolmap.Reconstruction(model), database, photos, folder)
    sure = [point.xyz for point in found.points3D.values() if point.track.length() >= SEEN_BY and point.error <= ERROR_PX]
    return np.array(sure).reshape(-1, 3)


if __name__ == "__main__":
    main()
