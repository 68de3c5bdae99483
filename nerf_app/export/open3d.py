"""Two more ways from a trained field to its surface, through Open3D where its extra is there.

`blocks_surface` fuses the same depths as `tsdf_surface` in Open3D's sparse blocks of voxels; `poisson_surface` lays a
screened Poisson surface (Kazhdan and Hoppe 2013) through the points that views agree on, and so bridges small gaps.
Open3D counts in float32: it is given the box's own frame, in which one unit is one voxel.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from nerf_app.errors import BackendUnavailable, DataError
from nerf_app.export import surface
from nerf_app.export.clean import with_faces, with_normals
from nerf_app.export.crop import Box
from nerf_app.export.depth_views import DepthView
from nerf_app.export.mesh import Mesh
from nerf_app.export.pointcloud import fuse_points
from nerf_app.export.surface import Grid, depths_over

if TYPE_CHECKING:
    from nerf_app.run import Run

BLOCK = 8  # voxels along an edge of Open3D's blocks
BLOCKS = 10_000  # that have room at first; Open3D makes more
TRUNCATION = float(surface.TRUNCATION)  # voxels
POISSON_POINTS = 400_000
NEAREST = 3.0  # cells of the finest octree level: a face farther than that from every point was made up


def blocks_surface(run: "Run", box: Box, resolution: int | None, on_progress: Callable[[int, int], None]) -> Mesh:
    """As `tsdf_surface`, without `depth_spread`."""
    o3d = _library()
    grid = Grid.over(box, resolution)
    views = depths_over(run, grid, on_progress)
    core = o3d.core
    volume = o3d.t.geometry.VoxelBlockGrid(("tsdf", "weight"), (core.float32, core.float32), ((1), (1)), 1.0, BLOCK, BLOCKS)
    image, shots = o3d.t.geometry.Image, list(_shots(o3d, views, grid))
    for depth, intrinsics, pose, far in shots:
        seen = volume.compute_unique_block_coordinates(image(depth), intrinsics, pose, 1.0, far / 2, TRUNCATION)
        volume.hashmap().activate(seen)
    blocks = volume.hashmap().key_tensor()[volume.hashmap().active_buf_indices().to(core.int64)]
    for depth, intrinsics, pose, far in shots:  # every picture has a say in every block, also where it only looks through
        volume.integrate(blocks, image(depth), intrinsics, pose, 1.0, 2 * far, TRUNCATION)
    found = volume.extract_triangle_mesh(1.0)
    points, faces = (found.vertex.positions.numpy(), found.triangle.indices.numpy()) if len(found.vertex) else ((), ())
    return _in_box(points, faces, grid)


def poisson_surface(run: "Run", box: Box, resolution: int | None, on_progress: Callable[[int, int], None]) -> Mesh:
    """The surface through the point cloud of the box, open where no point is near."""
    o3d = _library()
    grid = Grid.over(box, resolution)
    cloud = fuse_points(run, POISSON_POINTS, box, on_progress)
    points = o3d.geometry.PointCloud(o3d.utility.Vector3dVector(_to_voxels(cloud.points, grid)))
    points.normals = o3d.utility.Vector3dVector(cloud.normals.astype(np.float64) @ box.axes.T)
    levels = max(4, round(math.log2(max(grid.counts))))
    found, _ = o3d.geometry.TriangleMesh.create_from_point_cloud_poisson(points, depth=levels, n_threads=run.backend.threads)
    corners = np.asarray(found.vertices)
    faces = np.asarray(found.triangles)
    if len(faces):
        cell = max(grid.counts) / 2**levels
        gaps = o3d.geometry.PointCloud(found.vertices).compute_point_cloud_distance(points)
        faces = faces[(np.asarray(gaps)[faces] < NEAREST * cell).all(1)]
    return _in_box(corners, faces, grid)


def _library() -> ModuleType:
    """Open3D, quiet."""
    try:
        import open3d
    except (ImportError, OSError) as error:
        raise BackendUnavailable(f"--method blocks and poisson need Open3D ({' '.join(str(error).split())}): "
                                 "pip install open3d, or use --method tsdf.") from error
    open3d.utility.set_verbosity_level(open3d.utility.VerbosityLevel.Error)
    return open3d


def _shots(o3d: ModuleType, views: Sequence[DepthView], grid: Grid) -> Iterator[tuple[Any, Any, Any, float]]:
    """Each picture as Open3D takes it: z-depth in voxels (0: nobody knows, `far`: light goes through), intrinsics, pose, far."""
    core = o3d.core
    for view in views:
        camera, pose = view.camera, np.eye(4)
        matrix = np.diag([camera.focal_x_px, camera.focal_y_px, 1.0])
        matrix[:2, 2] = camera.centre_x_px, camera.centre_y_px
        pose[:3, :3] = grid.box.axes @ view.world_from_camera[:3, :3] * [1.0, -1.0, -1.0]  # x right, y down, z forwards
        pose[:3, 3] = _to_voxels(view.world_from_camera[:3, 3], grid)
        far = 2.0 * (float(np.linalg.norm(pose[:3, 3])) + sum(grid.counts))
        depth = np.nan_to_num(view.depth / grid.edge, nan=0.0, posinf=far).astype(np.float32)
        yield core.Tensor(depth[..., None].copy()), core.Tensor(matrix), core.Tensor(np.linalg.inv(pose)), far


def _to_voxels(points: np.ndarray, grid: Grid) -> np.ndarray:
    """Input coordinates [N, 3] -> the box's own frame, in voxels from its middle."""
    return (points - grid.box.centre) @ grid.box.axes.T / grid.edge


def _in_box(points: np.ndarray, faces: np.ndarray, grid: Grid) -> Mesh:
    """The mesh in input coordinates, without what reaches out of the box."""
    vertices = np.asarray(points, np.float64).reshape(-1, 3) * grid.edge @ grid.box.axes + grid.box.centre
    mesh = Mesh(vertices, np.asarray(faces, np.int32).reshape(-1, 3), np.zeros(vertices.shape, np.float32))
    mesh = with_faces(mesh, grid.box.contains(vertices)[mesh.faces].all(1))
    if not len(mesh.faces):
        raise DataError(f"there is no surface in the crop {grid.box}: move or widen --crop, or train longer.")
    return with_normals(mesh)
