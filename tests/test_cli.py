"""The command line: flags in any order, one line and one exit code for each fault, clean stdout, quick help."""

import dataclasses
import errno
import json
import os
import re
import signal
import subprocess
import sys
import time
import warnings
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pytest

from nerf_app import cli, config, console, errors
from nerf_app.progress import display_on
from nerf_app.settings import MachineSettings

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def a_terminal_that_may_close():
    """Whoever started the tests may have asked that this be ignored, as nohup does."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


def run(*arguments: str, **options) -> subprocess.CompletedProcess:
    """`python -m nerf_app` in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **options.pop("env", {})}
    return subprocess.run([sys.executable, "-W", "error", "-m", "nerf_app", *arguments], capture_output=True, text=True,
                          env=environment, timeout=60, **options)


def do_instead(monkeypatch, function, command: str = "doctor") -> None:
    """Lets a command run the test's function."""
    monkeypatch.setitem(cli.COMMANDS, command, dataclasses.replace(cli.COMMANDS[command], function=function))


def raising(error: BaseException):
    def function(*_):
        raise error
    return function


def overrides(*arguments: str) -> dict:
    return cli.overrides_of(cli.parse(arguments))


@pytest.mark.parametrize("arguments", [["--help"], *([name, "--help"] for name in cli.COMMANDS)])
def test_help_is_quick_and_loads_nothing_heavy(arguments):
    script = (f"import sys, time; from nerf_app.cli import main; code = main({arguments!r})\n"
              "print({'torch', 'numpy', 'cv2', 'av'} & set(sys.modules), time.process_time() < 0.5, code, file=sys.stderr)")
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert done.stderr == "set() True 0\n"
    assert done.stdout.startswith("usage: nerf-app")


def test_importing_the_package_loads_no_torch_and_knows_its_lazy_names():
    script = ("import sys, nerf_app; assert not {'torch', 'numpy', 'yaml'} & set(sys.modules)\n"
              "assert {'load_scene', 'train', 'open_run'} <= set(dir(nerf_app)) & set(nerf_app.__all__)\n"
              "assert not hasattr(nerf_app, 'nonsense'); assert callable(nerf_app.load_scene)\n"
              "import os; assert os.environ['GOMP_SPINCOUNT'] == '0'")
    environment = {name: value for name, value in os.environ.items() if name != "GOMP_SPINCOUNT"}
    subprocess.run([sys.executable, "-c", script], check=True, cwd=ROOT, env=environment, timeout=60)


def test_the_program_and_the_module_are_the_same():
    assert run("--version").stdout == "nerf_app 0.1.0\n"


def test_help_lists_the_commands_that_exist_and_no_others():
    listed = re.findall(r"^ {4}(\w+)", run("--help").stdout, re.MULTILINE)
    assert listed == list(cli.COMMANDS) == ["reconstruct", "process", "train", "resume", "render", "export", "eval",
                                           "check", "convert", "doctor"]


def test_help_says_of_every_command_where_its_result_goes_and_names_every_preset():
    train, resume = (" ".join(run(name, "--help").stdout.split()) for name in ("train", "resume"))
    assert all(re.search("default|refused", command.out) for command in cli.COMMANDS.values())
    assert cli.COMMANDS["train"].out in train and cli.COMMANDS["resume"].out in resume
    assert all(path.stem in train for path in Path(ROOT, "configs").glob("*.yaml"))
    assert "(default 5.0)" in train and "(default: the run's own)" in resume and "(default 5.0)" not in resume


def test_every_command_takes_the_common_flags():
    given = ["--out", "o", "--seed", "3", "--threads", "2", "--device", "cpu", "--backend", "reference", "--preset", "nerf",
             "--set", "scene.test=none", "--set", "sampling.steps=99", "--json", "-v"]
    for name, command in cli.COMMANDS.items():
        more = {"": [], "RUN KIND": ["place", "mesh"], "SCENE --to FORMAT": ["place", "--to", "llff"]}
        places = more.get(command.takes, ["place"])
        args = cli.parse([name, *given, *places])
        changed = cli.overrides_of(args)
        assert (changed["machine.seed"], changed["scene.test"], changed["sampling.steps"]) == (3, "none", 99)
        assert (args.out, args.json, args.verbose) == (Path("o"), True, True)


@pytest.mark.parametrize("arguments", [
    ["train", "lego", "--minutes", "2", "--strict", "--seed", "3"],
    ["train", "--minutes", "2", "--strict", "--seed", "3", "lego"],
    ["train", "--seed", "3", "lego", "--strict", "--minutes=2"],
])
def test_flags_may_stand_in_any_order_before_and_behind_the_scene(arguments):
    assert cli.parse(arguments).scene == Path("lego")
    assert overrides(*arguments) == {"training.minutes": 2.0, "scene.is_strict": True, "machine.seed": 3}


def test_every_flag_that_is_a_setting_sets_it():
    settings = cli.config_of(cli.parse([
        "train", "x", "--steps", "7", "--clock", "cpu", "--test", "every:4", "--masks", "object", "--allow-outside-root", "/data",
        "--field", "frequency", "--threads", "1", "--device", "cuda:1", "--backend", "cpp"]))
    assert config.differences(settings) == {
        "training.minutes": None, "training.steps": 7, "training.clock": "cpu", "scene.test": "every:4", "scene.masks": "object",
        "scene.outside_root": "/data", "field.kind": "frequency", "machine.threads": 1, "machine.device": "cuda:1",
        "machine.backend": "cpp"}


def test_the_command_line_wins_over_the_preset_and_the_preset_over_the_defaults(tmp_path):
    (tmp_path / "p.yaml").write_text("training: {steps: 9, plateau: 0.5}\nfield: {hidden_width: 32}")
    settings = cli.config_of(cli.parse(["train", "x", "--preset", str(tmp_path / "p.yaml"), "--set", "field.hidden_width=16",
                                        "--minutes", "3"]))
    assert config.differences(settings) == {"training.minutes": 3.0, "training.steps": 9, "training.plateau": 0.5,
                                            "field.hidden_width": 16}


def test_of_two_values_for_one_setting_the_later_wins():
    assert overrides("train", "x", "--minutes", "3", "--set", "training.minutes=4") == {"training.minutes": 4.0}
    assert overrides("train", "x", "--set", "training.minutes=4", "--minutes", "3") == {"training.minutes": 3.0}


@pytest.mark.parametrize("arguments, says", [
    (["train", "x", "--set", "encoding.level=3"], "unknown setting encoding.level; did you mean encoding.levels?"),
    (["train", "x", "--set", "encoding.levels"], "--set takes key=value"),
    (["train", "x", "--minutes", "soon"], "training.minutes must be a number"),
    (["train", "x", "--minutes", "-1"], "at least 0"),
    (["train", "x", "--minuts", "3"], "--minuts is not known here, perhaps --minutes is meant"),
    (["render", "x", "--foo"], "--foo is not known here; `nerf-app"), (["render", "x", "--frame=3"], "perhaps --frames is meant"),
    (["render", "x", "--background", "greenish"], "a colour's name or transparent, got greenish"),
    (["train", "x", "--minutes", "0"], "training.minutes must be a number, at least 0.001"),
    (["train", "x", "--set", "scene.test=every:1"], "every:N needs a whole number N of at least 2"),
    (["train", "x", "--test", "nowhere.txt"], "a file that lists photos; nowhere.txt is none"),
    (["train"], "SCENE"), (["train", "x", "y"], "y is not known here"), ([], "COMMAND"), (["fly"], "'fly'"),
    (["train", "x", "--preset", "nurf"], "did you mean nerf?"), (["train", "x", "--field", "voxels"], "hashgrid or frequency"),
    (["render", "x", "--size", "big"], "WIDTHxHEIGHT"), (["render", "x", "--fps", "0"], "above 0"),
    (["render", "x", "--channel", "smell"], "rgb"), (["eval", "x", "--split", "dev"], "test"),
    (["render", "x", "--set", "field.kind=frequency"], "field.kind was decided when the run was trained"),
    (["resume", "x", "--out", "y"], "no --out"), (["reconstruct", "x", "--minutes", "0"], "training.minutes must be a number"),
    (["export", "x", "mash"], "mesh"), (["export", "x", "mesh", "--faces", "3"], "a whole number, at least 4, got 3"),
    (["export", "x", "mesh", "--method", "splats"], "tsdf"), (["export", "x", "mesh", "--resolution", "1e3"], "at least 8"),
    (["export", "x", "cameras", "--faces", "9"], "--faces is for mesh; cameras takes --frame."),
    (["export", "x", "mesh", "--split", "test"], "--split is for depth; mesh takes --method, --crop"),
    (["export", "x", "depth", "--watertight"], "--watertight is for mesh"),
    (["export", "x", "depth", "--split", "test", "--path", "orbit"], "give one of them"),
    (["export", "x", "mesh", "--out", "y.stl"], "--out must end in .glb or .obj or .ply, got y.stl"),
    (["export", "x", "mesh", "--out", "y.obj", "--format", "ply"], "--out must end in .ply, got y.obj"),
    (["export", "x", "pointcloud", "--out", "y"], "--out must end in .ply for points"),
    (["export", "x", "pointcloud", "--points", "-5"], "at least 1"),
    (["export", "x", "mesh", "--set", "field.kind=frequency"], "field.kind was decided when the run was trained"),
])
def test_what_cannot_be_meant_ends_with_exit_code_2_and_one_line(arguments, says, capsys):
    assert cli.main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("nerf-app: ") and err.count("\n") == 1 and says in err


@pytest.mark.parametrize("arguments", [["train", "x", "--set", "scene.test=every:1"], ["train", "x", "--test", "nowhere.txt"],
                                       ["render", "x", "--background", "greenish"], ["export", "x", "mesh", "--faces", "0"],
                                       ["export", "x", "mesh", "--out", "/proc/x/mesh.stl"],
                                       ["reconstruct", "x", "--test", "nowhere.txt"]])
def test_what_is_cheap_to_see_is_refused_before_torch_is_loaded(arguments):
    script = f"import sys; from nerf_app.cli import main; print(main({arguments!r}), 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert done.stdout == "2 False\n"


def test_a_list_of_test_photos_may_lie_beside_the_photos(tmp_path, monkeypatch):
    (tmp_path / "kept.txt").write_text("a.png")
    monkeypatch.setattr("nerf_app.scene.load.load_scene", raising(errors.DataError("this far")))
    for scene in (tmp_path, tmp_path / "transforms.json", tmp_path / "sparse/0"):
        assert cli.main(["train", str(scene), "--test", "kept.txt", "--out", str(tmp_path / "run")]) == 3


def test_settings_stop_before_any_file_is_read(monkeypatch):
    monkeypatch.setattr("nerf_app.scene.load.load_scene", lambda *_: pytest.fail("the photos were read"))
    assert cli.main(["train", "nowhere", "--set", "training.minutes=x"]) == 2
    assert cli.main(["train", "nowhere", "--device", "abacus"]) == 2
    assert cli.main(["train", "nowhere", "--device", "cuda:99"]) == 5


full = OSError(errno.ENOSPC, "No space left on device", "runs/a")
KINDS = [(errors.UsageError("a"), 2), (errors.DataError("a"), 3), (errors.ResourceError("a"), 4),
         (errors.BackendUnavailable("a"), 5), (errors.Diverged("a"), 6), (MemoryError(), 4), (full, 4),
         (PermissionError(errno.EACCES, "Permission denied", "x"), 4), (ValueError("a"), 1), (FileNotFoundError("a"), 1),
         (ModuleNotFoundError("No module named 'av'", name="av"), 5),
         (ModuleNotFoundError("No module named 'nerf_app.x'", name="nerf_app.x"), 1), (ModuleNotFoundError("a"), 1),
         (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"), 4),
         (RuntimeError("CUDA out of memory. Tried to allocate"), 4), (RuntimeError("shapes differ"), 1),
         (type("AcceleratorError", (RuntimeError,), {})("CUDA error: an illegal memory access\nCUDA kernel errors might"), 4),
         (console.Interrupted(130), 130), (BrokenPipeError(), 0)]


@pytest.mark.parametrize("error, code", KINDS, ids=[repr(error)[:40] for error, _ in KINDS])
def test_every_kind_of_fault_has_its_exit_code(error, code, monkeypatch, capsys):
    do_instead(monkeypatch, raising(error))
    assert cli.main(["doctor"]) == code
    out, err = capsys.readouterr()
    assert out == "" and ("Traceback" in err) == (code == 1)
    assert code in (0, 1) or err.count("\n") == 1


def test_a_bug_shows_the_way_there_and_says_what_to_do(monkeypatch, capsys):
    do_instead(monkeypatch, raising(ZeroDivisionError("by zero")))
    assert cli.main(["doctor"]) == 1
    assert "unexpected ZeroDivisionError: by zero. This is a fault of nerf_app: please report it" in capsys.readouterr().err


def test_a_traceback_of_a_users_fault_is_shown_only_when_asked_for(monkeypatch, capsys):
    do_instead(monkeypatch, raising(errors.DataError("no photos")))
    assert cli.main(["doctor", "-v"]) == 3
    assert "Traceback" in capsys.readouterr().err


def test_names_in_messages_cannot_break_the_line_or_the_terminal(monkeypatch, capsys):
    do_instead(monkeypatch, raising(errors.DataError("photos/[/x]\n\x1b[31m\udcff.jpg is broken")))
    assert cli.main(["doctor"]) == 3
    assert capsys.readouterr().err == "nerf-app: photos/[/x]\\n\\x1b[31m\\udcff.jpg is broken\n"


def test_a_warning_is_one_line_without_a_place_in_the_program(monkeypatch, capsys):
    def warn(args):
        warnings.simplefilter("default")
        warnings.warn("the disk is slow", stacklevel=1)
        return 0
    do_instead(monkeypatch, warn)
    assert cli.main(["doctor"]) == 0
    assert capsys.readouterr().err == "nerf-app: warning: the disk is slow\n"


def test_json_puts_one_object_on_stdout_even_when_a_command_fails(monkeypatch, capsys):
    do_instead(monkeypatch, raising(errors.DataError("no photos")))
    assert cli.main(["doctor", "--json"]) == 3
    assert json.loads(capsys.readouterr().out) == {"error": "no photos", "exit_code": 3}


SCORES = {"psnr": 20.0, "ssim": 0.5, "split": "test", "part": 1,
          "photos": [{"path": "b[/x]\udcff.png", "psnr": 25.0, "ssim": 0.75},
                     {"path": "a.png", "psnr": float("inf"), "ssim": 1.0},
                     {"path": "c.png", "psnr": 15.0, "ssim": 0.25}]}


@pytest.fixture
def runs(monkeypatch, tmp_path):
    """nerf_app.run with a training of one step and a fixed score, and a folder r."""
    monkeypatch.chdir(tmp_path)
    Path("r").mkdir()
    from nerf_app import run as real
    from nerf_app.training.events import Finished, Note
    stand_in = SimpleNamespace(written=[], resumed=[], note=None, changes=None,
                               backend=SimpleNamespace(device=SimpleNamespace(type="cpu")))
    scene = SimpleNamespace(format="blender", root="lego", notes=("3 photos",), dropped=(), indices=lambda split: [0, 1, 2])

    def train(scene, settings, folder, stop):
        yield Note(f"run       {folder}")
        yield Note("backend   reference")
        yield Finished(1, 0.5, "steps")

    def resume(folder, scene_path, changes, stop):
        stand_in.resumed.append((folder, scene_path, changes))
        yield Finished(2, 1.0, "steps")

    def open_run(folder, machine):
        assert isinstance(machine, MachineSettings)
        return SimpleNamespace(note=stand_in.note, header=None, backend=stand_in.backend)

    def evaluate(run, scene, split, limit_seconds=None, on_photo=None):
        on_photo(1, 3)
        return {**SCORES, "split": split}
    replaced = dict(train_events=train, resume=resume, open_run=open_run, evaluate=evaluate,
                    load_scene_of=lambda run, path: scene,
                    changes_since=lambda header, scene: stand_in.changes, require_new=lambda folder: None,
                    write_evaluation=lambda folder, scores: stand_in.written.append((folder, scores["split"])))
    for name, value in replaced.items():
        assert hasattr(real, name)
        monkeypatch.setattr(real, name, value)
    monkeypatch.setattr("nerf_app.scene.load.load_scene", lambda path, settings: scene)
    return stand_in


def test_train_prints_the_run_folder_as_its_last_line_and_all_else_on_stderr(runs, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["train", "my scene!", "--steps", "1"]) == 0
    out, err = capsys.readouterr()
    folder = Path(out.removesuffix("\n"))
    assert folder.parent == Path("runs") and folder.name.startswith("my-scene-20")
    assert [line.split()[0] for line in err.splitlines()] == ["scene", "3", "run", "backend", "all", "33", "test"]
    assert runs.written == [(folder, "test")]


def test_train_with_json_prints_one_object(runs, tmp_path, capsys):
    assert cli.main(["train", "--json", "lego", "--out", str(tmp_path / "r")]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["evaluation"]["psnr"] == 20.0
    assert (result["run"], result["step"], result["reason"]) == (str(tmp_path / "r"), 1, "steps")


def test_resume_hands_over_the_changes_and_ends_like_train(runs, tmp_path, capsys):
    assert cli.main(["resume", "r", "--steps", "9", "--scene", "there"]) == 0
    assert runs.resumed == [(Path("r"), Path("there"), {"training.minutes": None, "training.steps": 9})]
    assert capsys.readouterr().out == "r\n"


def test_resume_may_take_away_a_limit_that_a_new_training_would_need(runs):
    assert cli.main(["resume", "r", "--set", "training.minutes=null"]) == 0
    assert runs.resumed[0][2] == {"training.minutes": None}


def test_eval_prints_a_table_with_the_worst_photo_first(runs, capsys):
    assert cli.main(["eval", "r"]) == 0
    table = capsys.readouterr().out.splitlines()
    assert [line.split()[-1] for line in table] == ["photo", "c.png", "b[/x]\\udcff.png", "a.png", "3"]
    assert table[-1].split() == ["20.00", "0.500", "mean", "of", "3"]
    assert runs.written == [(Path("r"), "test")]


def test_eval_with_json_prints_one_object_that_every_parser_reads(runs, tmp_path, capsys):
    runs.note = "the newest state was not whole"
    assert cli.main(["eval", "r", "--json", "--split", "train", "--out", str(tmp_path / "scores.json")]) == 0
    out, err = capsys.readouterr()
    scores = json.loads(out, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
    assert scores == json.loads((tmp_path / "scores.json").read_text())
    assert [photo["psnr"] for photo in scores["photos"]] == [25.0, None, 15.0] and scores["split"] == "train"
    assert "not whole" in err and runs.written == []


def test_eval_says_that_photos_changed(runs, capsys):
    runs.changes = "the photos changed since this run was trained"
    assert cli.main(["eval", "r"]) == 0
    assert f"{runs.changes}: the scores compare it with what is there now" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["eval", "r"], ["train", "lego", "--out", "r"]])
def test_a_score_is_told_where_the_run_folder_cannot_keep_it(runs, arguments, monkeypatch, capsys):
    def refuse(folder, scores):
        raise errors.ResourceError(f"cannot write {folder}/eval.json: Read-only file system")
    monkeypatch.setattr("nerf_app.run.write_evaluation", refuse)
    assert cli.main(arguments) == 0
    out, err = capsys.readouterr()
    assert "20.00" in out + err and "nerf-app: the scores are told, not kept: cannot write r/eval.json" in err


@pytest.mark.parametrize("out", ["nowhere/scores.json", "folder", "/proc/scores.json"])
def test_a_score_that_cannot_be_written_is_refused_before_it_is_taken(runs, out, tmp_path, monkeypatch, capsys):
    (tmp_path / "folder").mkdir()
    monkeypatch.setattr("nerf_app.run.evaluate", lambda *_: pytest.fail("it was scored"))
    assert cli.main(["eval", "r", "--out", str(tmp_path / out)]) == 4
    err = capsys.readouterr().err
    assert f"cannot write {tmp_path / out}" in err and err.count("\n") == 1
    assert {path.name for path in tmp_path.rglob("*")} == {"folder", "r"}


def test_a_folder_that_holds_a_run_is_refused_before_the_photos_are_read(tmp_path, monkeypatch, capsys):
    (tmp_path / "scene.safetensors").write_text("")
    monkeypatch.setattr("nerf_app.scene.load.load_scene", lambda *_: pytest.fail("the photos were read"))
    assert cli.main(["train", "x", "--out", str(tmp_path)]) == 4
    err = capsys.readouterr().err
    assert err.startswith(f"nerf-app: {tmp_path} already holds a run: `nerf-app resume {tmp_path}` goes") and err.count("\n") == 1


@pytest.mark.parametrize("n_photos, part, words", [
    (0, None, "no photos"), (1, 1, "(1 photo)"), (2, 1, "(1 of 2 photos; `nerf-app eval` scores all)"),
    (1, 0.052, "(1 photo, 5.2 % of the pixels; `nerf-app eval` scores all)"), (2, 0.31, "(1 of 2 photos, 31 % of the pixels;")])
def test_the_closing_line_counts_in_grammar(n_photos, part, words):
    assert words in cli.closing_line({"psnr": 20.0, "ssim": 0.5, "part": part, "photos": [{}]}, n_photos)


def test_doctor_writes_the_settings_to_stdout_or_a_file(tmp_path, capsys):
    base = config.to_yaml(config.Config())
    assert cli.main(["doctor", "--settings"]) == 0
    assert capsys.readouterr().out == base
    for arguments in (["--settings", str(tmp_path / "a")], ["--settings", "--out", str(tmp_path / "a")]):
        assert cli.main(["doctor", *arguments]) == 0
        assert (tmp_path / "a").read_text() == base and capsys.readouterr().out == ""
        (tmp_path / "a").unlink()
    assert cli.main(["doctor", "--settings", str(tmp_path / "no" / "a")]) == 4


def test_a_place_that_cannot_be_written_shows_before_the_photos_are_read(tmp_path, capsys, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr("nerf_app.scene.load.load_scene", lambda *_: pytest.fail("the photos were read"))
    assert cli.main(["train", "x", "--out", str(tmp_path / "file" / "run")]) == 4
    assert "cannot write in" in capsys.readouterr().err.splitlines()[-1]


def test_the_first_signal_asks_and_the_second_ends_at_once():
    before = signal.getsignal(signal.SIGTERM)
    with console.stopping() as stop:
        assert not stop.is_set()
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.is_set() and stop.signal == signal.SIGTERM
        with pytest.raises(SystemExit) as caught:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(1)
    assert caught.value.code == 130 and signal.getsignal(signal.SIGTERM) is before


def test_a_terminal_that_closes_may_say_so_twice():
    with console.stopping() as stop:
        os.kill(os.getpid(), signal.SIGHUP)
        os.kill(os.getpid(), signal.SIGHUP)
        assert stop.signal == signal.SIGHUP


def test_what_nohup_started_outlives_the_terminal():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with console.stopping() as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not stop.is_set() and signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_terminal_that_was_closed_stops_nothing(monkeypatch):
    master, slave = os.openpty()
    terminal = open(slave, "w")
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")

    def work(args):
        with display_on(sys.stderr) as display:
            display.progress(0.5, "half", 1.0)
            os.close(master)
            display.line("nobody reads this")
            display.progress(0.9, "more", 1.0)
        console.emit(args, {}, ["nor this"])
        return 0
    do_instead(monkeypatch, work)
    assert cli.main(["doctor"]) == 0
    with suppress(OSError):
        terminal.close()


@pytest.mark.parametrize("number, code", [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_an_interrupted_training_saves_says_how_to_go_on_and_ends_with_the_signals_code(runs, number, code, monkeypatch, capsys):
    from nerf_app import run as real
    from nerf_app.training.events import Finished

    def train(scene, settings, folder, stop):
        os.kill(os.getpid(), number)
        assert stop.wait(5)
        yield Finished(5, 1.0, "interrupted")
    monkeypatch.setattr(real, "train_events", train)
    assert cli.main(["train", "lego", "--out", "r"]) == code
    out, err = capsys.readouterr()
    assert out == "r\n" and "`nerf-app resume r` goes on" in err and runs.written == []


@pytest.mark.parametrize("number, code", [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_other_commands_end_at_the_first_signal(number, code, monkeypatch, capsys):
    def wait(args):
        os.kill(os.getpid(), number)
        time.sleep(5)
    do_instead(monkeypatch, wait)
    assert cli.main(["doctor", "--json"]) == code
    out, err = capsys.readouterr()
    assert err == "nerf-app: interrupted\n" and json.loads(out) == {"error": "interrupted", "exit_code": code}


@pytest.mark.parametrize("device, flags, said", [
    ("cpu", [], "the frames that are done are kept, and the same command goes on with them"),
    ("cuda", ["--frames"], "the frames that are done are kept, and the same command goes on with them"),
    ("cuda", [], "nothing was left half-written")])
def test_an_interrupted_film_says_whether_its_frames_are_kept(runs, monkeypatch, capsys, device, flags, said):
    def render_path(*_):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(5)
    runs.backend.device.type = device
    monkeypatch.setattr("nerf_app.export.paths.camera_path", lambda *_: SimpleNamespace(notes=(), cameras=(), fps=24.0))
    monkeypatch.setattr("nerf_app.export.frames.render_path", render_path)
    assert cli.main(["render", "r", "--json", *flags]) == 130
    out, err = capsys.readouterr()
    assert err == f"nerf-app: interrupted; {said}\n"
    assert json.loads(out) == {"error": f"interrupted; {said}", "exit_code": 130}


def test_a_score_after_training_that_is_interrupted_says_that_the_training_is_saved(runs, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("nerf_app.run.evaluate", lambda *_: os.kill(os.getpid(), signal.SIGTERM) or time.sleep(5))
    assert cli.main(["train", "lego", "--json", "--out", str(tmp_path / "r")]) == 143
    said = json.loads(capsys.readouterr().out)["error"]
    assert said.startswith("interrupted; the training is finished and saved: `nerf-app eval")
