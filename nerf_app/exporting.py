"""`nerf-app export`: which flag belongs to which kind of export, and the call behind each kind."""

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nerf_app import console
from nerf_app.errors import UsageError
from nerf_app.flags import Parser, machine_alone, open_run
from nerf_app.progress import Counter, Display, counted, display_on
from nerf_app.scene.paths import shown

if TYPE_CHECKING:
    from nerf_app.export.crop import Box
    from nerf_app.run import Run
    from nerf_app.scene.scene import Scene

SECONDS, FPS = 6.0, 24.0  # of a made-up path, as `render` makes it
FORMATS, DEPTH_FORMATS = ("glb", "obj", "ply"), ("npy", "exr")
METHODS = ("tsdf", "density", "blocks", "poisson")
INTERRUPTED = "interrupted; no file was left half-written"


def whole(low: int) -> Callable[[str], int]:
    """Takes whole numbers from `low` on."""
    def parse(text: str) -> int:
        if not (text.isascii() and text.isdecimal() and len(text) < 10 and int(text) >= low):
            raise argparse.ArgumentTypeError(f"must be a whole number, at least {low}, got {text}")
        return int(text)
    return parse


FLAGS: dict[str, dict[str, Any]] = {
    "--method": dict(choices=METHODS, help="the surface from depth that cameras see (tsdf, the default), or from the density; "
                                            "with Open3D: from depth in sparse blocks, or Poisson's through points"),
    "--crop": dict(metavar="BOX", help='"x0 y0 z0 x1 y1 z1" in input units, or auto: what the cameras look at (default: all). '
                                     "Depth outside of it is unknown"),
    "--faces": dict(type=whole(4), metavar="N", help="at most (default 50000)"),
    "--min-views": dict(type=whole(0), metavar="N", help="leave out what fewer training photos see (default 1)"),
    "--resolution": dict(type=whole(8), metavar="N", help="voxels along the box's longest side (default: chosen)"),
    "--texture": dict(choices=("photos", "diffuse"), help="as photographed, or without reflections and, in a GLB, with roughness "
                                                          "and metal (of a reflective run) (default photos)"),
    "--watertight": dict(action="store_true", help="close all holes"),
    "--format": dict(choices=FORMATS + DEPTH_FORMATS, help="glb, obj or ply of a mesh (default glb, or what --out ends in); "
                                                           "npy or exr of float depths (default npy)"),
    "--scale-from": dict(metavar="HOW", help='metres from "x y z x y z 0.30", two points and the metres between them, '
                                             '"aruco 0.05", the side of a printed marker, or "gps", the places in the photos\' '
                                             "EXIF. Changes the factor in a GLB's root "
                                             "node, that of depth's 16-bit PNGs, and the JSON beside each file; vertices of "
                                             "OBJ and PLY and float depths stay in input units"),
    "--split": dict(choices=("test", "val", "train", "all"), help="photos that get a depth map (default all)"),
    "--path": dict(metavar="KIND|FILE", help="along a camera path in place of the photos, as `render` takes it"),
    "--undistort": dict(action="store_true", help="a pinhole camera in place of the photo's own lens"),
    "--points": dict(type=whole(1), metavar="N", help="at most (default 300000)"),
    "--frame": dict(choices=("input", "original"), help="coordinates: of the file that was read, or before nerfstudio took them"),
    "--scene": dict(type=Path, metavar="DIR", help="where the photos are now, if they were moved"),
}


@dataclass(frozen=True)
class Kind:
    """A kind of export: where it goes, the flags that mean something to it, and who does it."""

    place: str  # in the run folder
    is_file: bool  # else a folder
    flags: tuple[str, ...]
    function: Callable[["Order"], dict[str, Any]]


@dataclass(frozen=True)
class Order:
    """What is wanted of a run."""

    run: "Run"
    args: argparse.Namespace
    out: Path
    display: Display

    def given(self, *flags: str) -> dict[str, Any]:
        """Those of some flags that were given, by name; what was not is left to whoever knows the default."""
        found = {flag: getattr(self.args, flag, None) for flag in flags}
        return {flag: value for flag, value in found.items() if value is not None}

    def scene(self) -> "Scene":
        """The photos of the run."""
        from nerf_app import run as runs
        return runs.load_scene_of(self.run, self.args.scene)

    def box(self) -> "Box | None":
        """What --crop says; None where nobody asked."""
        if self.args.crop is None:
            return None
        from nerf_app.export.crop import parse_crop
        box = parse_crop(self.args.crop, self.run)
        self.display.line(f"crop      {box}")
        return box

    def metres_per_unit(self) -> float | None:
        """What --scale-from says; None where nobody asked."""
        if self.args.scale_from is None:
            return None
        from nerf_app.export.scale import scale_from
        scale = scale_from(self.args.scale_from, self.scene, Counter(self.display, "photo"))
        self.display.line(f"scale     {scale.how}")
        return scale.metres_per_unit


def mesh(order: Order) -> dict[str, Any]:
    from nerf_app.export.extract import MeshPlan
    from nerf_app.export.full_mesh import check_words, export_mesh
    given = order.given("method", "crop", "faces", "min_views", "resolution", "texture")
    plan = MeshPlan(**given, is_watertight=order.args.watertight)
    scene, scale = order.scene(), order.metres_per_unit()
    files, facts = export_mesh(order.run, scene, plan, order.out, Counter(order.display, "mesh %"), scale)
    order.display.line(f"mesh      {check_words(facts)}")
    return {**facts, "files": files, "metres_per_unit": scale}


def depth(order: Order) -> dict[str, Any]:
    from nerf_app.export.depth import known_words, shots_of_path, shots_of_split, write_depth
    from nerf_app.export.paths import camera_path
    if order.args.path is None:
        shots = shots_of_split(order.run, order.args.split or "all")
    else:
        shots = shots_of_path(camera_path(order.args.path, order.run, None, SECONDS, FPS))
    scale, box = order.metres_per_unit(), order.box()
    files = write_depth(order.run, shots, order.out, Counter(order.display, "map"), metres_per_unit=scale,
                        undistort=order.args.undistort, box=box, form=order.args.format or DEPTH_FORMATS[0])
    order.display.line(f"depth     {counted(len(shots), 'map')}, explained in depth.json; {known_words(files[0])}")
    return {"maps": len(shots), "files": files, "metres_per_unit": scale}


def pointcloud(order: Order) -> dict[str, Any]:
    from nerf_app.export.pointcloud import write_point_cloud
    count = {} if order.args.points is None else {"count": order.args.points}
    cloud = write_point_cloud(order.run, order.out, Counter(order.display, "view"), box=order.box(), **count)
    order.display.line(f"points    {len(cloud.points):,} with normals, colours and confidence")
    return {"points": len(cloud.points), "files": [order.out]}


def cameras(order: Order) -> dict[str, Any]:
    from nerf_app.export.cameras import write_cameras
    files, notes = write_cameras(order.run, order.out, order.args.frame or "input")
    for note in notes:
        order.display.line(note)
    return {"cameras": len(order.run.views), "files": files}


KINDS = {
    "mesh": Kind("mesh/mesh", True, ("--method", "--crop", "--faces", "--min-views", "--resolution", "--texture", "--watertight",
                                     "--format", "--scale-from", "--scene"), mesh),
    "depth": Kind("depth", False, ("--split", "--path", "--undistort", "--crop", "--format", "--scale-from", "--scene"), depth),
    "pointcloud": Kind("cloud/points.ply", True, ("--points", "--crop"), pointcloud),
    "cameras": Kind("cameras", False, ("--frame",), cameras),
}


def declare_export(parser: Parser) -> None:
    parser.add_argument("run", type=Path, metavar="RUN", help="run folder, as `train` printed it")
    parser.add_argument("kind", choices=KINDS, metavar="KIND", help=", ".join(KINDS))
    for flag, about in FLAGS.items():
        owners = [name for name, kind in KINDS.items() if flag in kind.flags]
        parser.add_argument(flag, **about | {"help": f"{'/'.join(owners)}: {about['help']}"})


def export(args: argparse.Namespace) -> int:
    machine = machine_alone(args)
    kind = KINDS[args.kind]
    for flag in FLAGS:
        if flag not in kind.flags and getattr(args, flag[2:].replace("-", "_")) not in (None, False):
            owners = " or ".join(name for name, other in KINDS.items() if flag in other.flags)
            raise UsageError(f"{flag} is for {owners}; {args.kind} takes {', '.join(kind.flags)}.")
    formats = DEPTH_FORMATS if args.kind == "depth" else FORMATS
    if args.format is not None and args.format not in formats:
        raise UsageError(f"--format of {args.kind} must be {' or '.join(formats)}, got {args.format}.")
    if args.split is not None and args.path is not None:
        raise UsageError("--split and --path both say where depth is seen from: give one of them.")
    out = out_of(args, kind)
    if kind.is_file and out.exists():
        console.require_file(out)
    else:
        console.require_writable(out.parent if kind.is_file else out)
    run = open_run(args.run, machine)
    with display_on(sys.stderr) as display, console.when_interrupted(INTERRUPTED):
        result = kind.function(Order(run, args, out, display))
    files = [str(file) for file in result.pop("files")]
    console.emit(args, {"files": files, **result}, files)
    return 0


def out_of(args: argparse.Namespace, kind: Kind) -> Path:
    """File or folder of the export; a mesh's suffix is its format."""
    out = args.out or args.run / kind.place
    if args.kind == "pointcloud" and out.suffix.lower() != ".ply":
        raise UsageError(f"--out must end in .ply for points, got {shown(out)}")
    if args.kind != "mesh":
        return out
    if args.out is None:
        return out.with_name(f"{out.name}.{args.format or FORMATS[0]}")
    formats = (args.format,) if args.format else FORMATS
    if out.suffix.lower().removeprefix(".") not in formats:
        raise UsageError(f"--out must end in {' or '.join(f'.{name}' for name in formats)}, got {shown(out)}")
    return out
