"""The commands: parse, build a Config, call one function of the program, say what came of it.

Nothing heavy is imported before a command needs it, so `--help` is quick.
"""

import argparse
import dataclasses
import difflib
import json
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nerf_app
from nerf_app import console
from nerf_app.config import to_yaml, values
from nerf_app.errors import DataError, ResourceError, UsageError
from nerf_app.exporting import declare_export, export
from nerf_app.flags import (
    Override,
    Parser,
    add_common,
    add_settings,
    background,
    channels,
    config_of,
    count,
    machine_alone,
    machine_of,
    open_run,
    overrides_of,
    positive,
    size,
)
from nerf_app.progress import Counter, closing_line, counted, display_on, number, scene_lines, show_training
from nerf_app.scene.paths import plain_name, shown
from nerf_app.scene.splits import check_test
from nerf_app.scene.writing import finite, require_new

if TYPE_CHECKING:
    from nerf_app.run import Run
    from nerf_app.scene.scene import Scene
    from nerf_app.training.events import Finished

FORMATS = ("transforms", "instant-ngp", "blender", "llff", "colmap")  # that `convert` writes
SPLITS = ("test", "val", "train")
NEAR = 0.7  # likeness, 0...1, of a flag that may have been meant
MOST_PHOTOS = 20  # rows of the table that `eval` prints
CLOSING_SECONDS, CLOSING_PART = 10.0, 0.1  # the score after training may take so long, and this part of the training

BUDGET = {"--minutes": "training.minutes", "--steps": "training.steps"}
READING = {"--test": "scene.test", "--masks": "scene.masks", "--allow-outside-root": "scene.outside_root",
           "--strict": "scene.is_strict"}
TRAINING = BUDGET | {"--clock": "training.clock"} | READING | {
    "--field": "field.kind", "--appearance": "field.appearance", "--mirror": "scene.mirror", "--exposure": "photos.exposure"}


def add_scene(parser: Parser) -> None:
    parser.add_argument("scene", type=Path, metavar="SCENE",
                        help="photos with poses: a folder of Blender, nerfstudio, instant-ngp, COLMAP or LLFF, or its "
                             "transforms.json")


def declare_train(parser: Parser) -> None:
    add_scene(parser)
    add_settings(parser, TRAINING)


def declare_reconstruct(parser: Parser) -> None:
    parser.add_argument("scene", type=Path, metavar="SCENE",
                        help="folder of photos, with poses or without, its transforms.json, or a video; or a run folder, which "
                             "goes on")
    parser.add_argument("--minutes", action=Override, const="training.minutes", dest="overrides", metavar="VALUE",
                        help="wall time of the whole job, at least half of it training (default 5)")
    add_settings(parser, {flag: name for flag, name in TRAINING.items() if flag != "--minutes"})


def declare_process(parser: Parser) -> None:
    parser.add_argument("source", type=Path, metavar="PHOTOS|VIDEO", help="folder of photos, or a video")
    parser.add_argument("--minutes", type=positive, default=10.0, metavar="N",
                        help="half of them may go into comparing photos, where there are more than 150 (default 10)")
    parser.add_argument("--frames", type=count, default=150, metavar="N", help="of a video, the sharpest ones (default 150)")


def declare_resume(parser: Parser) -> None:
    parser.add_argument("run", type=Path, metavar="RUN", help="run folder, as `train` printed it")
    parser.add_argument("--scene", type=Path, metavar="DIR", help="where the photos are now, if they were moved")
    add_settings(parser, BUDGET, "the run's own")


def declare_render(parser: Parser) -> None:
    parser.add_argument("run", type=Path, metavar="RUN", help="run folder, as `train` printed it")
    parser.add_argument("--path", default="orbit", metavar="KIND|FILE",
                        help="orbit, spiral, interpolate (from photo to photo), train (the photos' own cameras), or a camera "
                             "file of nerfstudio or instant-ngp (default orbit)")
    parser.add_argument("--size", type=size, metavar="WxH", help="pixels (default: the photos', at most 1280)")
    parser.add_argument("--fps", type=positive, default=24.0, metavar="N", help="frames a second (default 24)")
    parser.add_argument("--seconds", type=positive, default=6.0, metavar="N", help="length of a made-up path (default 6)")
    parser.add_argument("--background", type=background, default="white", metavar="COLOUR",
                        help="white, black, #rrggbb, or transparent, which writes PNG frames (default white)")
    parser.add_argument("--channel", action="append", type=channels, metavar="KIND[,KIND...]",
                        help="what is shown: rgb, depth, normals, alpha; of a reflective run also diffuse, specular, roughness; "
                             "with commas between, side by side; repeatable, one video each (default rgb)")
    parser.add_argument("--frames", action="store_true", help="write numbered PNG frames; what is there already is kept")


def declare_eval(parser: Parser) -> None:
    parser.add_argument("run", type=Path, metavar="RUN", help="run folder, as `train` printed it")
    parser.add_argument("--scene", type=Path, metavar="DIR", help="where the photos are now, if they were moved")
    parser.add_argument("--split", choices=SPLITS, default="test", help="which photos (default test)")


def declare_convert(parser: Parser) -> None:
    add_scene(parser)
    parser.add_argument("--to", required=True, choices=FORMATS, metavar="|".join(FORMATS), help="the format to write")
    add_settings(parser, READING)


def declare_check(parser: Parser) -> None:
    add_scene(parser)
    parser.add_argument("--fix", type=Path, metavar="DIR", help="write a corrected copy there; photos are linked, not copied")
    add_settings(parser, {flag: READING[flag] for flag in ("--masks", "--allow-outside-root")})


def declare_doctor(parser: Parser) -> None:
    either = parser.add_mutually_exclusive_group()
    either.add_argument("--settings", nargs="?", const="-", metavar="FILE", help="only write every setting, meaning and default")
    either.add_argument("--build", action="store_true", help="only compile the C++ kernels, with $CXX if it is set")


# What the commands do. Each gives its exit code.

def train(args: argparse.Namespace) -> int:
    config = config_of(args)
    check_test(config.scene.test, (args.scene, *args.scene.absolute().parents))
    from nerf_app import run as runs
    from nerf_app.ops.backend import choose_backend
    from nerf_app.scene.load import load_scene
    folder, display = args.out or runs.new_folder(args.scene), display_on(sys.stderr)
    console.require_writable(folder)  # what cannot be should show before the photos are read
    runs.require_new(folder)
    choose_backend(config.machine.backend, config.machine.device, config.machine.threads)
    scene = load_scene(args.scene, config.scene)
    for line in scene_lines(scene):
        display.line(line)
    with console.stopping() as stop:
        finished = show_training(runs.train_events(scene, config, folder, stop), display)
    return close_training(args, folder, finished, stop, scene)


def reconstruct(args: argparse.Namespace) -> int:
    config = config_of(args)
    check_test(config.scene.test, (args.scene, *args.scene.absolute().parents))
    from nerf_app.job import Job
    job, code = Job(args.scene, args.out, overrides_of(args)), 0
    console.require_writable(job.folder)
    try:
        with display_on(sys.stderr) as display:
            job.plan(display)
            with console.stopping() as stop:
                job.train(stop)
            if stop.signal:
                console.end_on_signal(stop.signal, None)
            job.make()
    except console.Interrupted as ending:
        code = ending.code
        console.say(job.interruption())
    result = job.result()
    places = [result["run"], *([result["report"]] if result["report"] and not code else [])]
    code = code or next((failure.exit_code for failure in job.failures.values()), 0)
    console.emit(args, {**result, "exit_code": code}, places)
    return code


def process(args: argparse.Namespace) -> int:
    machine = machine_alone(args, "says nothing about where photos were taken")
    from nerf_app.ops.machine import available_threads
    from nerf_app.process.solve import Asked, closing_lines, process
    out = args.out or Path("scenes") / plain_name(args.source)
    asked = Asked(args.source, out, args.minutes, args.frames, machine.threads or available_threads(), machine.seed)
    console.require_writable(out)
    said = f"interrupted; what is found so far is kept, and the same command with --out {out} goes on"
    with console.when_interrupted(said), display_on(sys.stderr) as display:
        found = process(asked, display)
        for line in closing_lines(found):
            display.line(line)
    console.emit(args, {"scene": str(out), **dataclasses.asdict(found)}, [str(out)])
    return 0


def resume(args: argparse.Namespace) -> int:
    changes = overrides_of(args)
    if args.out is not None:
        raise UsageError("resume goes on in the run folder itself and takes no --out; to keep the old state, copy it first.")
    from nerf_app import run as runs
    with console.stopping() as stop:
        finished = show_training(runs.resume(args.run, args.scene, changes, stop), display_on(sys.stderr))
    return close_training(args, args.run, finished, stop, None)


def close_training(args: argparse.Namespace, folder: Path, finished: "Finished", stop: console.Stop,
                   scene: "Scene | None") -> int:
    """The closing score of the test photos, which no earlier step has looked at; the folder is the last line on stdout."""
    from nerf_app import run as runs
    result = {"run": str(folder), "step": finished.step, "seconds": finished.seconds, "reason": finished.reason}
    if stop.signal:
        console.say(f"the state is saved: `nerf-app resume {folder}` goes on")
    else:
        limit = CLOSING_SECONDS + CLOSING_PART * finished.seconds
        with console.when_interrupted(f"interrupted; the training is finished and saved: `nerf-app eval {folder}` scores it"):
            run = runs.open_run(folder, machine_of(args))
            scene = scene or runs.load_scene_of(run, args.scene)
            result["evaluation"] = scores = score(run, scene, "test", limit)
        keep(folder, scores)
        display_on(sys.stderr).line(closing_line(scores, len(scene.indices("test"))))
    console.emit(args, result, [str(folder)])
    return console.SIGNALLED + stop.signal if stop.signal else 0


def evaluate(args: argparse.Namespace) -> int:
    machine = machine_alone(args)
    from nerf_app import run as runs
    run = open_run(args.run, machine)
    if args.out is not None:
        console.require_file(args.out)
    scene = runs.load_scene_of(run, args.scene)
    if changes := runs.changes_since(run.header, scene):
        console.say(f"{changes}: the scores compare it with what is there now")
    if not scene.indices(args.split):
        have = [split for split in SPLITS if scene.indices(split)]
        raise UsageError(f"{args.run} has no {args.split} photos; --split {' or '.join(have)} has some.")
    scores = score(run, scene, args.split)
    if args.out is not None:
        console.write_text(args.out, json.dumps(finite(scores), indent=1) + "\n")
    elif args.split == "test":
        keep(args.run, scores)
    console.emit(args, scores, score_lines(scores))
    return 0


def keep(folder: Path, scores: dict[str, Any]) -> None:
    """eval.json of a run. Scores are told where that cannot be written, too: nobody asked for the file by name."""
    from nerf_app import run as runs
    try:
        runs.write_evaluation(folder, scores)
    except ResourceError as error:
        console.say(f"the scores are told, not kept: {error}")


def score(run: "Run", scene: "Scene", split: str, limit_seconds: float | None = None) -> dict[str, Any]:
    """`nerf_app.run.evaluate` with its progress shown."""
    from nerf_app import run as runs
    with display_on(sys.stderr) as display:
        return runs.evaluate(run, scene, split, limit_seconds, Counter(display, f"{split} photo"))


def score_lines(scores: dict[str, Any]) -> Iterator[str]:
    """A table of the photos' scores, the worst first, and the means."""
    photos = sorted(scores["photos"], key=lambda photo: photo["psnr"])
    yield f"{'PSNR':>8} {'SSIM':>7}   {scores['split']} photo"
    yield from (f"{photo['psnr']:8.2f} {photo['ssim']:7.3f}   {shown(photo['path'])}" for photo in photos[:MOST_PHOTOS])
    if len(photos) > MOST_PHOTOS:
        yield f"{'':16}   and {len(photos) - MOST_PHOTOS} better ones"
    yield f"{number(scores['psnr'], 2):>8} {number(scores['ssim'], 3):>7}   mean of {len(photos)}"


def render(args: argparse.Namespace) -> int:
    machine = machine_alone(args)
    from nerf_app.export.frames import render_path, survives
    from nerf_app.export.paths import camera_path
    run = open_run(args.run, machine)
    path = camera_path(args.path, run, args.size, args.seconds, args.fps)
    out = args.out or args.run / "video" / Path(args.path).stem
    with display_on(sys.stderr) as display:
        for note in path.notes:
            display.line(note)
        kept = "the frames that are done are kept, and the same command goes on with them"
        left = kept if survives(run, args.frames) else "nothing was left half-written"
        with console.when_interrupted(f"interrupted; {left}"):
            files = render_path(run, path, out, args.channel or ["rgb"], args.background, args.frames, Counter(display, "frame"))
    console.emit(args, {"files": [str(file) for file in files], "frames": len(path.cameras), "fps": path.fps}, map(str, files))
    return 0


def convert(args: argparse.Namespace) -> int:
    config = config_of(args)
    check_test(config.scene.test, (args.scene, *args.scene.absolute().parents))
    from nerf_app import convert as conversion
    out = args.out or Path(f"{plain_name(args.scene.parent if args.scene.is_file() else args.scene)}-{args.to}")
    with display_on(sys.stderr) as display, console.when_interrupted("interrupted; nothing was left half-written"):
        photos, notes = conversion.convert(args.scene, args.to, out, config.scene, Counter(display, "photo"))
        for note in notes:
            display.line(note)
    console.emit(args, {"out": str(out), "format": args.to, "photos": photos, "notes": notes}, [str(out)])
    return 0


def check(args: argparse.Namespace) -> int:
    config = config_of(args)
    out = args.out or Path(f"{plain_name(args.scene.parent if args.scene.is_file() else args.scene)}-check.png")
    if out.suffix.lower() != ".png":
        raise UsageError(f"--out must end in .png, for it is a picture of the cameras, got {shown(out)}")
    console.require_file(out)
    from nerf_app.check.examine import examine
    from nerf_app.check.mend import write_mended
    from nerf_app.export.pictures import write_png
    if args.fix is not None:
        require_new(args.fix)
    with display_on(sys.stderr) as display, console.when_interrupted("interrupted; nothing was left half-written"):
        found = examine(args.scene, config.scene, Counter(display, "photo"))
        if found.picture is not None:
            write_png(found.picture, out)
        try:
            notes = [] if args.fix is None else write_mended(found, args.scene, args.fix, Counter(display, "copying photo"))
        except DataError as error:  # what was found is worth reading all the same
            notes, args.fix = [f"no corrected copy: {error}"], None
        for note in notes:
            display.line(note)
    files = [str(path) for path, is_there in ((out, found.picture is not None), (args.fix, args.fix is not None)) if is_there]
    faults = sum(finding.is_fault for finding in found.findings)
    closing = f"{counted(faults, 'fault')}, {counted(len(found.findings) - faults, 'note')} on {counted(found.n_photos, 'photo')}"
    result = {"format": found.format, "photos": found.n_photos, "findings": [finding.as_object() for finding in found.findings],
              "conventions": {str(convention): share for convention, share in found.shares.items()}, "coverage": found.coverage,
              "files": files, "notes": notes, "exit_code": found.exit_code}
    console.emit(args, result, [*(line for finding in found.findings for line in finding.lines()), closing, *files])
    return found.exit_code


def doctor(args: argparse.Namespace) -> int:
    config = config_of(args)
    if args.settings is not None:
        result, lines = {"settings": values(config)}, to_yaml(config).splitlines()
    else:
        from nerf_app import doctor as examination
        result, lines = examination.build_kernels() if args.build else examination.report(config.machine)
    out = args.out if args.settings in (None, "-") else Path(args.settings)
    if out is not None:
        console.write_text(out, "\n".join(lines) + "\n")
    if out is None or args.json:
        console.emit(args, result, lines)
    return 0


@dataclass(frozen=True)
class Command:
    """A word on the command line: what it does in a sentence, what it is given, its flags, its function."""

    help: str
    takes: str
    out: str  # what --out is, and what holds without it
    declare: Callable[[Parser], None]
    function: Callable[[argparse.Namespace], int]


RUN_FOLDER = "folder of the run (default: a new one below runs/)"
COMMANDS = {
    "reconstruct": Command("the whole job, from photos to film, mesh and report", "SCENE", RUN_FOLDER,
                           declare_reconstruct, reconstruct),
    "process": Command("photos without poses, or a video, become a scene", "PHOTOS|VIDEO",
                       "folder of the scene (default scenes/NAME)", declare_process, process),
    "train": Command("photos with poses become a radiance field in a run folder", "SCENE", RUN_FOLDER, declare_train, train),
    "resume": Command("go on with an interrupted or finished training", "RUN", "refused: it goes on in RUN itself",
                      declare_resume, resume),
    "render": Command("a video or frames of new views along a camera path", "RUN",
                      "name of the video, NAME.mp4, and of a folder of frames, NAME.frames (default RUN/video/KIND)",
                      declare_render, render),
    "export": Command("mesh, depth, points or cameras for other programs", "RUN KIND",
                      "file of a mesh or of points, folder of the others (default RUN/mesh/mesh.glb, RUN/depth, "
                      "RUN/cloud/points.ply, RUN/cameras)", declare_export, export),
    "eval": Command("PSNR and SSIM of photos that training never saw", "RUN",
                    "JSON file of the scores (default, of test photos: RUN/eval.json)", declare_eval, evaluate),
    "check": Command("what is wrong with a scene, and the cure, without training", "SCENE",
                     "picture of cameras, points and box (default NAME-check.png)", declare_check, check),
    "convert": Command("the same cameras and photos in another format's files", "SCENE --to FORMAT",
                       "folder of the new scene (default NAME-FORMAT)", declare_convert, convert),
    "doctor": Command("versions, what computes here and how fast, every setting", "", "file of the text (default: stdout)",
                      declare_doctor, doctor),
}


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line, flags in any order behind the command."""
    parser = Parser("nerf-app", description="Posed photos in; new views, depth, a mesh and numbers out.", allow_abbrev=False,
                    epilog="`nerf-app COMMAND --help` lists its flags. Exit codes: 0 done, 1 a fault of ours, 2 usage, 3 data, "
                           "4 disk or memory, 5 missing part, 6 diverged, 129/130/143 interrupted.")
    parser.add_argument("--version", action="version", version=f"nerf_app {nerf_app.__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for name, command in COMMANDS.items():
        usage = f"nerf-app {name} [flags] {command.takes}".rstrip()
        sub = commands.add_parser(name, help=command.help, description=command.help, usage=usage, allow_abbrev=False)
        command.declare(sub)
        add_common(sub, command.out)
        sub.set_defaults(function=command.function, parser=sub)
    args, unknown = parser.parse_known_args(arguments)
    if unknown:
        flag = next((text for text in unknown if text.startswith("-")), unknown[0])
        known = re.findall(r"--([a-z-]+)", args.parser.format_help())
        near = difflib.get_close_matches(flag.lstrip("-").partition("=")[0], known, n=1, cutoff=NEAR)
        args.parser.error(f"{flag} is not known here" + (f", perhaps --{near[0]} is meant" if near else ""))
    return args


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and gives the exit code."""
    given = sys.argv[1:] if arguments is None else list(arguments)

    def command() -> int:
        args = parse(given)
        return args.function(args)
    code = console.guarded(command, is_verbose=not {"-v", "--verbose"}.isdisjoint(given), is_json="--json" in given)
    if arguments is None and code > console.SIGNALLED:
        os._exit(code)  # Python's own end waits for threads and takes torch apart: seconds on a busy machine
    return code
