"""Mesh → files that other programs open: GLB (one file, turned upright), OBJ with its material and picture, PLY.

Vertices are in input coordinates in all of them; in a GLB the root node's matrix turns them to glTF's +Y up and metres, and
those of a far-off world (UTM) lack an origin that is named there. Beside each mesh a JSON file says what its numbers mean.
"""

import json
import math
import re
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from nerf_app.errors import DataError, UsageError
from nerf_app.export.mesh import Mesh
from nerf_app.export.pictures import jpeg_bytes, png_bytes
from nerf_app.scene.paths import shown
from nerf_app.scene.writing import write_bytes

FLOAT, UINT = 5126, 5125  # glTF's numbers of types
TYPES = {1: "SCALAR", 2: "VEC2", 3: "VEC3"}
VERTEX_DATA, FACE_DATA = 34962, 34963  # and of what a buffer view is for
SAMPLER = {"magFilter": 9729, "minFilter": 9987, "wrapS": 33071, "wrapT": 33071}  # linear, mip-mapped, clamped
FAR = 8.0  # of the mesh's own size: nearer to the origin float32 holds vertices to half a millionth of that size
LARGEST_PNG = 8 << 20  # bytes; a texture that takes more goes into a GLB as JPEG
JPEG_QUALITY = 95  # nobody tells it from the texture by eye
UNKNOWN_SPREAD = -1.0  # glTF has no NaN
PLY_KINDS = {"double": "<f8", "float": "<f4", "uchar": "u1", "int": "<i4"}
Written = tuple[dict[str, Any], list[Path]]  # what is particular to the format, and the files, the mesh itself first


def write_mesh(mesh: Mesh, out: Path, up: np.ndarray, metres_per_unit: float | None = None) -> list[Path]:
    """Write the mesh in the format of `out`'s suffix, and `out`.json with what its numbers mean; returns all files, `out` first.

    Args:
        up: [3] what is up in input coordinates, of any length.
        metres_per_unit: None where nobody measured it: programs then take an input unit for a metre.
    """
    write = mesh_writer(out)
    if not len(mesh.faces):
        raise DataError(f"the mesh has no faces, so {shown(out)} is not written: widen --crop or train longer.")
    up = np.asarray(up, np.float64) / np.linalg.norm(up)
    particular, files = write(mesh, out, up, metres_per_unit)
    facts = {"coordinates": "input", "up": up.tolist(), "metres_per_unit": metres_per_unit,
             "vertices": len(mesh.vertices), "faces": len(mesh.faces), **particular}
    write_bytes((json.dumps(facts, indent=1) + "\n").encode(), facts_file(out))
    return [*files, facts_file(out)]


def mesh_writer(out: Path) -> Callable[[Mesh, Path, np.ndarray, float | None], Written]:
    """What writes a file of this name; a UsageError where nothing does."""
    if out.suffix.lower() not in WRITERS:
        raise UsageError(f"a mesh is written as {', '.join(WRITERS)}, got {shown(out.name)}: give --out such an ending.")
    return WRITERS[out.suffix.lower()]


def facts_file(out: Path) -> Path:
    """Where the JSON file of a mesh file lies."""
    return out.with_name(out.name + ".json")


def upright(up: np.ndarray) -> np.ndarray:
    """[3, 3] rotation that takes the unit vector `up` [3] to +Y and leaves X as near to itself as can be."""
    level = np.eye(3)[0 if abs(up[0]) < 0.9 else 2]
    right = level - (level @ up) * up
    right /= np.linalg.norm(right)
    return np.stack([right, up, np.cross(right, up)])


# GLB

def _write_glb(mesh: Mesh, out: Path, up: np.ndarray, metres_per_unit: float | None) -> Written:
    """Everything in one file: https://registry.khronos.org/glTF/specs/2.0/glTF-2.0.html."""
    origin = _origin(mesh.vertices)
    matrix = np.eye(4)  # without the origin: viewers multiply in float32, and millions of metres would shatter the mesh again
    matrix[:3, :3] = upright(up) * (1.0 if metres_per_unit is None else metres_per_unit)
    facts = {"coordinates": "input less the origin; the matrix turns these to +Y up and metres",
             "origin": origin.tolist(), "matrix": matrix.tolist()}

    parts = _GlbParts()
    primitive = {"attributes": _glb_attributes(parts, mesh, origin), "material": 0,
                 "indices": parts.add_values(mesh.faces.astype("<u4").ravel(), UINT, FACE_DATA)}
    surface: dict[str, Any] = {"metallicFactor": 0.0, "roughnessFactor": 1.0}
    document: dict[str, Any] = {
        "asset": {"version": "2.0", "generator": "nerf_app"}, "scene": 0, "scenes": [{"nodes": [0]}],
        "nodes": [{"matrix": matrix.T.ravel().tolist(), "mesh": 0, "extras": {"origin": origin.tolist()}}],
        "meshes": [{"primitives": [primitive]}], "materials": [{"pbrMetallicRoughness": surface, "doubleSided": True}]}
    if mesh.texture is not None:
        content, kind = _encoded(mesh.texture)
        surface["baseColorTexture"] = {"index": 0}
        document |= {"images": [{"bufferView": parts.add(content), "mimeType": kind}], "samplers": [SAMPLER],
                     "textures": [{"source": 0, "sampler": 0}]}
    if mesh.material is not None:
        content, kind = _encoded(mesh.material)
        surface |= {"metallicRoughnessTexture": {"index": 1}, "metallicFactor": 1.0}
        document["images"].append({"bufferView": parts.add(content), "mimeType": kind})
        document["textures"].append({"source": 1, "sampler": 0})
    write_bytes(parts.glb(document), out)
    return facts, [out]


def _origin(vertices: np.ndarray) -> np.ndarray:
    """[3] what to subtract so that float32 holds the vertices: nothing, or their middle where that is far off (UTM)."""
    low, high = vertices.min(0), vertices.max(0)
    is_far = np.abs([low, high]).max() > FAR * np.linalg.norm(high - low)
    return (low + high) / 2 if is_far else np.zeros(3)


def _glb_attributes(parts: "_GlbParts", mesh: Mesh, origin: np.ndarray) -> dict[str, int]:
    """What each vertex has, by glTF's names: the accessors of all that the mesh has."""
    points = (mesh.vertices - origin).astype("<f4")
    values: dict[str, np.ndarray] = {"NORMAL": mesh.normals}
    if mesh.uvs is not None:
        values["TEXCOORD_0"] = mesh.uvs * [1.0, -1.0] + [0.0, 1.0]  # glTF's v goes down from the picture's upper edge
    if mesh.colours is not None and mesh.texture is None:
        values["COLOR_0"] = linear(mesh.colours / 255.0)
    if mesh.views is not None:
        values["_VIEWS"] = mesh.views
    if mesh.depth_spread is not None:
        values["_DEPTH_SPREAD"] = np.nan_to_num(mesh.depth_spread, nan=UNKNOWN_SPREAD)
    limits = {"min": points.min(0).tolist(), "max": points.max(0).tolist()}
    accessors = {"POSITION": parts.add_values(points, FLOAT, VERTEX_DATA, **limits)}
    return accessors | {name: parts.add_values(value.astype("<f4"), FLOAT, VERTEX_DATA) for name, value in values.items()}


class _GlbParts:
    """The binary part of a GLB while it grows, and the lists that say what lies where in it."""

    def __init__(self) -> None:
        self._chunks: list[bytes] = []
        self._length = 0  # bytes
        self._views: list[dict[str, int]] = []
        self._accessors: list[dict[str, Any]] = []

    def add(self, content: bytes, **more: int) -> int:
        """The number of a new buffer view."""
        self._views.append({"buffer": 0, "byteOffset": self._length, "byteLength": len(content), **more})
        self._chunks.append(_padded(content, b"\0"))
        self._length += len(self._chunks[-1])
        return len(self._views) - 1

    def add_values(self, values: np.ndarray, component: int, target: int, **more: object) -> int:
        """The number of a new accessor of [N] or [N, C]."""
        kind = TYPES[1 if values.ndim == 1 else values.shape[1]]
        self._accessors.append({"bufferView": self.add(values.tobytes(), target=target), "componentType": component,
                                "count": len(values), "type": kind, **more})
        return len(self._accessors) - 1

    def glb(self, document: dict[str, Any]) -> bytes:
        """The whole file: header, description, numbers."""
        lists = {"accessors": self._accessors, "bufferViews": self._views, "buffers": [{"byteLength": self._length}]}
        text = _padded(json.dumps(document | lists, separators=(",", ":"), allow_nan=False).encode(), b" ")
        head = struct.pack("<4sII", b"glTF", 2, 28 + len(text) + self._length)
        return b"".join([head, struct.pack("<I4s", len(text), b"JSON"), text,
                         struct.pack("<I4s", self._length, b"BIN\0"), *self._chunks])


def _padded(content: bytes, filler: bytes) -> bytes:
    """To a multiple of 4 bytes."""
    return content + filler * (-len(content) % 4)


def _encoded(texture: np.ndarray) -> tuple[bytes, str]:
    """[T, T, 3] uint8 as a file, and which kind."""
    content = png_bytes(texture)
    if len(content) <= LARGEST_PNG:
        return content, "image/png"
    return jpeg_bytes(texture, JPEG_QUALITY, is_colour_full=True), "image/jpeg"


def linear(colours: np.ndarray) -> np.ndarray:
    """sRGB-coded 0...1 of any shape → linear light (IEC 61966-2-1), which glTF takes vertex colours for."""
    return np.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)


# OBJ

def _write_obj(mesh: Mesh, out: Path, up: np.ndarray, metres_per_unit: float | None) -> Written:
    """Text; where there is a texture, <name>.mtl and <name>_texture.png beside it, the name in plain letters."""
    whole, places = _merged(mesh)
    corners = places[mesh.faces] + 1  # [F, 3]
    size = float(np.linalg.norm(np.ptp(mesh.vertices, axis=0)))
    point = f" %.{max(0, 8 - math.floor(math.log10(size or 1.0)))}f" * 3  # to a ten-millionth of the size, however far off
    lines, files = [f"# {line}\n" for line in _words(up, metres_per_unit)], [out]
    if mesh.texture is None:
        rows, colour = whole.vertices, ""
        if mesh.colours is not None:
            rows, colour = np.concatenate([rows, whole.colours / 255.0], 1), " %.4f %.4f %.4f"
        lines += [_table("v" + point + colour, rows), _table("vn %.7g %.7g %.7g", whole.normals),
                  _table("f" + " %d//%d" * 3, corners.repeat(2, 1))]
    else:
        name = re.sub(r"^-|[^\w.-]", "_", out.stem, flags=re.ASCII)  # readers take "-" for an option and a blank for the end
        material = f"newmtl surface\nKd 1 1 1\nKs 0 0 0\nillum 1\nmap_Kd {name}_texture.png\n"
        files += [out.with_name(f"{name}.mtl"), out.with_name(f"{name}_texture.png")]
        write_bytes(png_bytes(mesh.texture), files[2])
        write_bytes(material.encode(), files[1])
        named = np.stack([corners, mesh.faces + 1, corners], 2).reshape(-1, 9)  # v, vt and vn of each corner
        lines += [f"mtllib {name}.mtl\n", _table("v" + point, whole.vertices), _table("vt %.9g %.9g", mesh.uvs),
                  _table("vn %.7g %.7g %.7g", whole.normals), "usemtl surface\n", _table("f" + " %d/%d/%d" * 3, named)]
    write_bytes("".join(lines).encode(), out)
    return {}, files


def _table(line: str, rows: np.ndarray) -> str:
    """A line for each row."""
    return (line + "\n") * len(rows) % tuple(rows.ravel().tolist())


# PLY

def _write_ply(mesh: Mesh, out: Path, up: np.ndarray, metres_per_unit: float | None) -> Written:
    """Binary and little-endian; `views` and `depth_spread` are names of our own."""
    whole, places = _merged(mesh)
    groups = (("x y z", "double", whole.vertices), ("nx ny nz", "float", whole.normals),
              ("red green blue", "uchar", whole.colours), ("views", "int", whole.views),
              ("depth_spread", "float", whole.depth_spread))
    columns = [(name, kind, values.reshape(len(values), -1)[:, i]) for names, kind, values in groups if values is not None
               for i, name in enumerate(names.split())]
    rows = np.empty(len(whole.vertices), [(name, PLY_KINDS[kind]) for name, kind, _ in columns])
    for name, _, values in columns:
        rows[name] = values
    faces = np.empty(len(mesh.faces), [("count", "u1"), ("corners", "<i4", 3)])
    faces["count"], faces["corners"] = 3, places[mesh.faces]
    header = ["ply", "format binary_little_endian 1.0", *(f"comment {line}" for line in _words(up, metres_per_unit)),
              f"element vertex {len(rows)}", *(f"property {kind} {name}" for name, kind, _ in columns),
              f"element face {len(faces)}", "property list uchar int vertex_indices", "end_header\n"]
    write_bytes("\n".join(header).encode() + rows.tobytes() + faces.tobytes(), out)
    return {}, [out]


def _merged(mesh: Mesh) -> tuple[Mesh, np.ndarray]:
    """The mesh's vertices with those of a seam once, and where each vertex went [V]: a surface without cuts along its seams."""
    if mesh.uvs is None:
        return mesh, np.arange(len(mesh.vertices))
    rows = np.concatenate([mesh.vertices, mesh.normals], 1)
    _, first, places = np.unique(rows, axis=0, return_index=True, return_inverse=True)
    order = np.argsort(first)
    ranks = np.empty_like(order)
    ranks[order] = np.arange(len(order))
    kept = {name: getattr(mesh, name) for name in ("vertices", "normals", "views", "depth_spread", "colours")}
    kept = {name: None if values is None else values[first[order]] for name, values in kept.items()}
    return replace(mesh, uvs=None, texture=None, **kept), ranks[places.reshape(-1)]


def _words(up: np.ndarray, metres_per_unit: float | None) -> list[str]:
    """What the numbers mean, in lines for people who look into the file."""
    axis = int(np.abs(up).argmax())
    way = f"{'+' if up[axis] > 0 else '-'}{'XYZ'[axis]}" if abs(up[axis]) > 1.0 - 1e-9 else "({:.6f}, {:.6f}, {:.6f})".format(*up)
    unit = "not known" if metres_per_unit is None else f"{metres_per_unit:.9g} m"
    return ["nerf_app; vertices in the input coordinates of the scene", f"up is {way}", f"one unit is {unit}"]


WRITERS = {".glb": _write_glb, ".obj": _write_obj, ".ply": _write_ply}
