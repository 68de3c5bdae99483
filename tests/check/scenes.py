"""Smaller copies of the bundled scenes, to be spoilt by the tests."""

import json
import os
from pathlib import Path

import numpy as np

from nerf_app.check.conventions import OF_FORMAT, Convention

DATA = Path(__file__).resolve().parents[2] / "data"


def copy_room(out: Path, count: int = 12) -> Path:
    """The first photos of data/room (a fisheye lens, transforms.json) , copied."""
    content = json.loads((DATA / "room/transforms.json").read_text())
    content = {key: value for key, value in content.items() if not key.endswith("_filenames")}
    content["frames"] = content["frames"][:count]
    (out / "images").mkdir(parents=True)
    for entry in content["frames"]:
        (out / entry["file_path"]).write_bytes((DATA / "room" / entry["file_path"]).read_bytes())
    return write(out, content)


def copy_object(out: Path, count: int = 16) -> Path:
    """The first training photos of data/object (RGBA, Blender's files)."""
    content = read(DATA / "object", "transforms_train.json")
    content["frames"] = content["frames"][:count]
    (out / "train").mkdir(parents=True)
    for entry in content["frames"]:
        name = os.path.normpath(entry["file_path"]) + ".png"
        (out / name).write_bytes((DATA / "object" / name).read_bytes())
    return write(out, content, "transforms_train.json")


def read(folder: Path, file: str = "transforms.json") -> dict:
    return json.loads((folder / file).read_text())


def write(folder: Path, content: dict, file: str = "transforms.json") -> Path:
    (folder / file).write_text(json.dumps(content))
    return folder


def write_as(folder: Path, convention: Convention, file: str = "transforms.json") -> Path:
    """The same poses, written in another convention than the file's."""
    content = read(folder, file)
    for entry in content["frames"]:
        pose = OF_FORMAT["transforms"].read(np.array(entry["transform_matrix"])[None])
        entry["transform_matrix"] = convention.stored(pose)[0].tolist()
    return write(folder, content, file)
