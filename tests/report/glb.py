"""A GLB made by hand, so that what reads it is held to the format and not to our own writer."""

import io
import json
import struct

import numpy as np
from PIL import Image

FLOAT, UNSIGNED = 5126, 5125
UP_FROM_Z = [1, 0, 0, 0, 0, 0, -1, 0, 0, 1, 0, 0, 0, 0, 0, 1]  # by columns: (x, y, z) -> (x, z, -y)


def make_glb(vertices: np.ndarray, faces: np.ndarray, normals: np.ndarray, *, uvs: np.ndarray | None = None,
             texture: np.ndarray | None = None, views: np.ndarray | None = None, colours: np.ndarray | None = None) -> bytes:
    """One mesh under a root node that turns +z upwards; `uvs` with v from the top."""
    chunks, views_of, accessors = b"", [], []

    def keep(content: bytes) -> int:
        nonlocal chunks
        views_of.append({"buffer": 0, "byteOffset": len(chunks), "byteLength": len(content)})
        chunks += content + b"\0" * (-len(content) % 4)
        return len(views_of) - 1

    def accessor(values: np.ndarray, kind: str, component: int = FLOAT, **more: object) -> int:
        view = keep(values.tobytes())
        accessors.append({"bufferView": view, "componentType": component, "count": len(values), "type": kind, **more})
        return len(accessors) - 1

    points = vertices.astype("<f4")
    limits = {"min": points.min(0).tolist(), "max": points.max(0).tolist()}
    attributes = {"POSITION": accessor(points, "VEC3", **limits), "NORMAL": accessor(normals.astype("<f4"), "VEC3")}
    if uvs is not None:
        attributes["TEXCOORD_0"] = accessor(uvs.astype("<f4"), "VEC2")
    if views is not None:
        attributes["_VIEWS"] = accessor(views.astype("<f4"), "SCALAR")
    if colours is not None:
        attributes["COLOR_0"] = accessor(colours.astype(np.uint8), "VEC4", 5121, normalized=True)
    primitive = {"attributes": attributes, "indices": accessor(faces.astype("<u4").ravel(), "SCALAR", UNSIGNED), "material": 0}
    material = {"pbrMetallicRoughness": {}}
    document = {"asset": {"version": "2.0"}, "scene": 0, "scenes": [{"nodes": [0]}],
                "nodes": [{"children": [1], "matrix": UP_FROM_Z}, {"mesh": 0}], "meshes": [{"primitives": [primitive]}],
                "materials": [material], "accessors": accessors, "bufferViews": views_of}
    if texture is not None:
        stream = io.BytesIO()
        Image.fromarray(texture).save(stream, format="PNG")
        document |= {"images": [{"bufferView": keep(stream.getvalue()), "mimeType": "image/png"}], "textures": [{"source": 0}]}
        material["pbrMetallicRoughness"]["baseColorTexture"] = {"index": 0}
    document["buffers"] = [{"byteLength": len(chunks)}]
    text = json.dumps(document).encode()
    text += b" " * (-len(text) % 4)
    head = struct.pack("<4sII", b"glTF", 2, 28 + len(text) + len(chunks))
    return head + struct.pack("<I4s", len(text), b"JSON") + text + struct.pack("<I4s", len(chunks), b"BIN\0") + chunks
