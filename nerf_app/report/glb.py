"""GLB → what the page counts: the same attributes that its viewer draws, and no texture is decoded for it."""

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np

from nerf_app.errors import DataError
from nerf_app.export.mesh import Mesh
from nerf_app.scene.paths import read_file, shown

LARGEST = 1 << 31  # bytes
JSON, BINARY = b"JSON", b"BIN\0"
COMPONENTS = {5121: "u1", 5123: "<u2", 5125: "<u4", 5126: "<f4"}  # glTF's numbers of types
WIDTHS = {"SCALAR": 1, "VEC3": 3}


def read_surface(file: Path) -> Mesh:
    """Vertices (input coordinates), faces, normals and, where it has `_VIEWS`, views of a GLB's
    first mesh."""
    content = read_file(file, LARGEST)
    try:
        document, binary = _chunks(content)
        primitive = document["meshes"][0]["primitives"][0]
        attributes = primitive["attributes"]
        vertices, normals = (_values(document, binary, attributes[name]) for name in ("POSITION", "NORMAL"))
        vertices = vertices + np.array(document["nodes"][0].get("extras", {}).get("origin", [0.0, 0.0, 0.0]), np.float64)
        faces = _values(document, binary, primitive["indices"]).reshape(-1, 3)
        views = _values(document, binary, attributes["_VIEWS"]).round() if "_VIEWS" in attributes else None
        if faces.size and faces.max() >= len(vertices) or len(normals) != len(vertices):
            raise ValueError("its faces name vertices that are not there")
    except (KeyError, IndexError, TypeError, ValueError, struct.error) as error:
        raise DataError(f"{shown(file)} is no mesh that nerf_app wrote ({shown(error)}): export it again.") from error
    return Mesh(vertices.astype(np.float64), faces.astype(np.int32), normals.astype(np.float32),
                views=None if views is None else views.astype(np.int32))


def _chunks(content: bytes) -> tuple[dict[str, Any], bytes]:
    """The description and the numbers."""
    magic, version, _, length, kind = struct.unpack_from("<4sIII4s", content)
    if (magic, version, kind) != (b"glTF", 2, JSON):
        raise ValueError("it does not begin as a GLB does")
    size, kind = struct.unpack_from("<I4s", content, 20 + length)
    if kind != BINARY:
        raise ValueError("it has no binary part")
    return json.loads(content[20:20 + length]), content[28 + length:28 + length + size]


def _values(document: dict[str, Any], binary: bytes, index: int) -> np.ndarray:
    """[N] or [N, 3] of an accessor."""
    accessor = document["accessors"][index]
    view = document["bufferViews"][accessor["bufferView"]]
    width, kind = WIDTHS[accessor["type"]], np.dtype(COMPONENTS[accessor["componentType"]])
    begin = view.get("byteOffset", 0) + accessor.get("byteOffset", 0)
    stride = view.get("byteStride", width * kind.itemsize)
    rows = np.ndarray((accessor["count"], width), kind, binary, begin, (stride, kind.itemsize))
    return rows[:, 0] if width == 1 else rows
