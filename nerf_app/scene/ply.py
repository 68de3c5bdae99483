"""Sparse points in PLY files, as nerfstudio keeps them beside transforms.json: text or binary, vertices first."""

import re
from pathlib import Path

import numpy as np

from nerf_app.errors import DataError
from nerf_app.scene.paths import read_file, shown
from nerf_app.scene.writing import write_bytes

LARGEST_FILE = 4 << 30  # bytes
LARGEST_HEADER = 1 << 16
TYPES = {"char": "i1", "uchar": "u1", "short": "i2", "ushort": "u2", "int": "i4", "uint": "u4", "float": "f4", "double": "f8",
         "int8": "i1", "uint8": "u1", "int16": "i2", "uint16": "u2", "int32": "i4", "uint32": "u4", "float32": "f4",
         "float64": "f8"}
ORDERS = {"ascii": "", "binary_little_endian": "<", "binary_big_endian": ">"}
POINT = np.dtype([("xyz", "<f8", 3), ("rgb", "u1", 3)])
GREY = 128  # programs that start from such points ask for colours


def read_ply_points(path: Path) -> np.ndarray:
    """[M, 3] float64 places of the vertices; those that are not finite are left out."""
    data = read_file(path, LARGEST_FILE)
    header = re.match(rb"ply\r?\n(.*?)end_header\r?\n", data[:LARGEST_HEADER], re.DOTALL)
    lines = header[1].decode("latin-1").splitlines() if header else []
    words = [line.split() for line in lines if line.split()[:1] not in ([], ["comment"], ["obj_info"])]
    order = next((ORDERS.get(line[1]) for line in words if line[0] == "format" and len(line) > 1), None)
    elements = [number for number, line in enumerate(words) if line[0] == "element"]
    if order is None or not elements or words[elements[0]][1:2] != ["vertex"]:
        raise _no_points(path, "its header names no vertices")
    end = elements[1] if len(elements) > 1 else len(words)
    properties = [line[1:] for line in words[elements[0] + 1:end]]
    names = [line[-1] for line in properties if len(line) == 2 and line[0] in TYPES]
    if len(names) < len(properties) or not {"x", "y", "z"} <= set(names):
        raise _no_points(path, "its vertices are not made of plain numbers with x, y and z")
    try:
        count = int(words[elements[0]][2])
        rows = _rows(data[header.end():], count, order, properties)
    except (ValueError, IndexError):
        raise _no_points(path, "it ends before the vertices that it promises, or they are no numbers") from None
    points = np.stack([rows[names.index(axis)] for axis in "xyz"], 1).astype(np.float64)
    return points[np.isfinite(points).all(1)]


def _rows(body: bytes, count: int, order: str, properties: list[list[str]]) -> list[np.ndarray]:
    """The vertices' numbers, an array [M] for each property."""
    if count < 0 or count * len(properties) > len(body):  # a number takes a byte at least
        raise ValueError
    if not order:
        lines = body.split(b"\n", count)[:count]
        table = np.array([[float(word) for word in line.split()[:len(properties)]] for line in lines])
        return list(table.reshape(count, len(properties)).T)
    row = np.dtype([(f"{number}", order + TYPES[kind]) for number, (kind, _) in enumerate(properties)])
    rows = np.frombuffer(body, row, count)
    return [rows[name] for name in row.names]


def write_ply_points(points: np.ndarray, out: Path) -> None:
    """[M, 3] places as a binary PLY, in float64 and grey."""
    rows = np.zeros(len(points), POINT)
    rows["xyz"], rows["rgb"] = points, GREY
    names = [*(f"property double {axis}" for axis in "xyz"), *(f"property uchar {colour}" for colour in ("red", "green", "blue"))]
    header = "\n".join(["ply", "format binary_little_endian 1.0", f"element vertex {len(rows)}", *names, "end_header", ""])
    write_bytes(header.encode() + rows.tobytes(), out)


def _no_points(path: Path, what: str) -> DataError:
    return DataError(f"{shown(path)} must be a PLY file of points, but {what}: write it anew, or delete what names it.")
