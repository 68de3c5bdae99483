"""The sixth noun: a surface, as every exporter hands it to the next."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Mesh:
    """V vertices and F triangles in input coordinates, counter-clockwise where seen from outside."""

    vertices: np.ndarray  # [V, 3] float64 input units
    faces: np.ndarray  # [F, 3] int32
    normals: np.ndarray  # [V, 3] float32 unit vectors, outwards
    views: np.ndarray | None = None  # [V] int32: how many training photos see it
    depth_spread: np.ndarray | None = None  # [V] float32 input units: how far the views' depths disagree there
    colours: np.ndarray | None = None  # [V, 3] uint8 sRGB-coded
    uvs: np.ndarray | None = None  # [V, 2] float32 0...1, v upwards; seam vertices are there once for each chart
    texture: np.ndarray | None = None  # [T, T, 3] uint8 sRGB-coded, first row on top
    material: np.ndarray | None = None  # [T, T, 3] uint8 as glTF has it: nothing, roughness, metallic
