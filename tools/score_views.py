"""How near a run's test pictures come to a bundled scene's truth: colours, depths, normals, by material where it has some.

    python tools/score_views.py RUN data/shiny

PSNR is of all pixels of a kind together; depths are median errors in per cent, normals mean angles in degrees.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parent))
from nerf_app.run import Run, open_run
from nerf_app.scene.load import load_scene
from nerf_app.training.validation import on_white
from scene_shiny import BRUSHED, MATT, POLISHED
from score_mesh import degrees

MATERIALS = {"polished": POLISHED, "brushed": BRUSHED, "matt": MATT}


def main() -> None:
    """Reads the command line, prints one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("scene", type=Path)
    args = parser.parse_args()
    print(json.dumps(score(open_run(args.run), args.scene), indent=1))


def score(run: Run, folder: Path) -> dict[str, dict[str, float]]:
    """Each kind of pixels: PSNR in decibel, depths' error in per cent, normals' in degrees."""
    scene, truth = load_scene(folder, run.config.scene), folder / "truth"
    unit = json.loads((truth / "depth.json").read_text())["depth_unit"]
    columns = {"everything": [], "surface": []} | {name: [] for name in MATERIALS}
    for index in scene.indices("test"):
        view = scene.views[index]
        name = Path(view.name).stem + ".png"
        depth = np.asarray(Image.open(truth / "depth" / name)) * unit  # [H, W] input units, 0: nothing there
        normals = np.asarray(Image.open(truth / "normal" / name)) / 127.5 - 1.0  # [H, W, 3]
        seen = run.render(view, with_normals=True)
        squares = ((seen.rgb - on_white(scene.photos.picture(index)[0])) ** 2).mean(2)
        wrong = np.abs(seen.z_depth - depth) / np.maximum(depth, unit)
        values = np.stack([squares, np.where(np.isnan(wrong), np.inf, wrong), degrees(seen.normals, normals)], 2)  # [H, W, 3]
        columns["everything"].append(values.reshape(-1, 3))
        columns["surface"].append(values[depth > 0])
        if (truth / "material" / name).exists():
            materials = np.asarray(Image.open(truth / "material" / name))
            for material, number in MATERIALS.items():
                columns[material].append(values[materials == number])
    return {kind: _means(np.concatenate(parts), kind) for kind, parts in columns.items() if parts}


def _means(values: np.ndarray, kind: str) -> dict[str, float]:
    """Of [N, 3] squared errors, parts of the depth, degrees; there are no depths and normals where nothing is."""
    score = {"psnr": float(-10 * np.log10(values[:, 0].mean()))}
    if kind != "everything":
        score |= {"depth_percent": float(100 * np.median(values[:, 1])), "normal_degrees": float(values[:, 2].mean())}
    return score


if __name__ == "__main__":
    main()
