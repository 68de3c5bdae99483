"""What commands are given: flags that are settings, flags of every command, and what may stand behind a flag.

A flag that is a setting takes its help, type and range from the setting, and is checked with the YAML's own code, which
is why argparse serves here: it hands over plain text.
"""

import argparse
import math
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nerf_app import console
from nerf_app.config import Config, checked, read_preset, settings_table, steps_alone, with_overrides
from nerf_app.errors import UsageError
from nerf_app.settings import MachineSettings

if TYPE_CHECKING:
    from nerf_app.run import Run

CHANNELS = ("rgb", "depth", "normals", "alpha", "diffuse", "specular", "roughness")  # that a film can show
EVERY_COMMAND = {"--seed": "machine.seed", "--threads": "machine.threads", "--device": "machine.device",
                 "--backend": "machine.backend"}


class Parser(argparse.ArgumentParser):
    """argparse whose complaints are UsageErrors of one line."""

    def error(self, message: str) -> None:
        raise UsageError(f"{message}; `{self.prog} --help` lists what can be given.")


class Override(argparse.Action):
    """Collects (setting, text) pairs in the order in which they are given; a later one wins."""

    def __call__(self, parser: Parser, namespace: argparse.Namespace, value: str, option: str | None = None) -> None:
        name, text = self.const or "", value
        if option == "--set":
            name, sign, text = value.partition("=")
            if not sign:
                parser.error(f"--set takes key=value, such as --set training.minutes=2, got {value}")
        elif self.nargs == 0:
            text = "true"
        namespace.overrides = [*namespace.overrides, (name.strip(), text.strip())]


def add_settings(parser: argparse._ActionsContainer, flags: dict[str, str], default_words: str | None = None) -> None:
    """Flags that are settings under a shorter name; `default_words` say what holds where the settings' defaults do not."""
    table = settings_table()
    for flag, name in flags.items():
        field = table[name]
        default = "" if field.default is None or field.default is False else field.default
        default = f" (default: {default_words})" if default_words else f" (default {default})" if default != "" else ""
        more = {"nargs": 0} if field.type is bool else {"metavar": "|".join(field.metadata["choices"] or ()) or "VALUE"}
        parser.add_argument(flag, action=Override, const=name, dest="overrides",
                            help=(field.metadata["text"] + default).replace("%", "%%"), **more)


def add_common(parser: Parser, out: str) -> None:
    """What every command takes; `out` says what goes where without --out."""
    group = parser.add_argument_group("flags of every command")
    group.add_argument("--out", type=Path, metavar="PATH", help=out)
    group.add_argument("--preset", metavar="NAME", help="settings that differ from base: nerf, reflective, or a .yaml file")
    group.add_argument("--set", action=Override, dest="overrides", metavar="KEY=VALUE",
                       help="any setting by its full name (`nerf-app doctor --settings` lists them); repeatable")
    add_settings(group, EVERY_COMMAND)
    group.add_argument("--json", action="store_true", help="print one JSON object on stdout, everything else on stderr")
    group.add_argument("-v", "--verbose", action="store_true", help="show where in the program an error arose")
    parser.set_defaults(overrides=[])


def size(text: str) -> tuple[int, int]:
    """"1280x720" -> (1280, 720)."""
    match = re.fullmatch(r"(\d{1,5})[x×](\d{1,5})", text)
    if not match:
        raise argparse.ArgumentTypeError(f"must be WIDTHxHEIGHT in pixels, such as 1280x720, got {text}")
    return int(match[1]), int(match[2])


def positive(text: str) -> float:
    """A finite number above zero."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0.0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"must be a number above 0, got {text}")
    return number


def count(text: str) -> int:
    """A whole number above zero."""
    if not re.fullmatch(r"0*[1-9]\d{0,8}", text):
        raise argparse.ArgumentTypeError(f"must be a whole number above 0, got {text}")
    return int(text)


def background(text: str) -> str:
    """A colour that Pillow knows, or "transparent"."""
    from PIL import ImageColor
    try:
        return text if text == "transparent" or ImageColor.getrgb(text) else ""
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be white, black, #rrggbb, a colour's name or transparent, got {text}") from None


def channels(text: str) -> str:
    """One of CHANNELS, or some with commas between."""
    if not set(text.split(",")) <= set(CHANNELS):
        raise argparse.ArgumentTypeError(f"must be some of {', '.join(CHANNELS)}, commas between, got {text}")
    return text


def overrides_of(args: argparse.Namespace) -> dict[str, Any]:
    """What the preset and the command line change, checked, by full name."""
    given = {name: checked(name, text) for name, text in args.overrides}
    return (read_preset(args.preset) if args.preset else {}) | steps_alone(given)


def config_of(args: argparse.Namespace) -> Config:
    """All settings: defaults, then preset, then command line."""
    return with_overrides(Config(), overrides_of(args))


def machine_of(args: argparse.Namespace) -> MachineSettings:
    """The settings of the machine alone."""
    return with_overrides(Config(), {name: value for name, value in overrides_of(args).items() if is_of_machine(name)}).machine


def machine_alone(args: argparse.Namespace, why: str = "was decided when the run was trained") -> MachineSettings:
    """The same for commands that take no other settings, for most because they look at a finished run."""
    for name in overrides_of(args):
        if not is_of_machine(name):
            raise UsageError(f"{name} {why}; here only machine.* can be set.")
    return machine_of(args)


def is_of_machine(name: str) -> bool:
    return name.startswith("machine.")


def open_run(folder: Path, machine: MachineSettings) -> "Run":
    """`nerf_app.run.open_run`, saying what it has to say."""
    from nerf_app import run as runs
    run = runs.open_run(folder, machine)
    if run.note:
        console.say(run.note)
    return run
