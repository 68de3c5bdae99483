"""The settings of all stages put together: defaults, YAML files and overrides in, one checked `Config` out.

A setting's full name is "section.name", such as "encoding.levels". Its type, range, choices and sentence are stated once,
in the settings.py of its stage; every check and every message here is made from them. Later wins: defaults, preset,
command line. YAML is only composed, never constructed: each value arrives as text and is parsed by the setting's type.
"""

import dataclasses
import difflib
import importlib.resources
import json
import math
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import yaml

from nerf_app.errors import DataError, UsageError
from nerf_app.fields.settings import FieldPlan, FieldSettings, FrequencySettings, HashGridSettings, sized
from nerf_app.sampling.settings import SamplingSettings
from nerf_app.scene.paths import read_file, shown
from nerf_app.scene.settings import SceneSettings
from nerf_app.settings import MachineSettings
from nerf_app.training.settings import LossSettings, PhotoSettings, TrainingSettings

LARGEST_FILE = 1_000_000  # bytes; ours have a few thousand
WORDS = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}
FEATURES = (1, 2, 4, 8)  # a row of the hash table is loaded whole
NULLS = ("", "~", "null", "Null", "NULL")


@dataclass(frozen=True)
class Config:
    """Everything that can be set; each stage is handed its own part."""

    scene: SceneSettings = SceneSettings()
    sampling: SamplingSettings = SamplingSettings()
    field: FieldSettings = FieldSettings()
    encoding: HashGridSettings = HashGridSettings()
    frequency: FrequencySettings = FrequencySettings()
    training: TrainingSettings = TrainingSettings()
    losses: LossSettings = LossSettings()
    photos: PhotoSettings = PhotoSettings()
    machine: MachineSettings = MachineSettings()


def settings_table() -> dict[str, dataclasses.Field]:
    """Every setting by its full name, in the order of the stages, with its type, default and metadata."""
    return {f"{section.name}.{field.name}": field
            for section in dataclasses.fields(Config) for field in dataclasses.fields(section.type)}


def values(config: Config) -> dict[str, Any]:
    """Every setting's value by its full name."""
    return {name: getattr(getattr(config, name.split(".")[0]), field.name) for name, field in settings_table().items()}


def differences(config: Config) -> dict[str, Any]:
    """The values that are not the defaults, by full name."""
    return {name: value for name, value in values(config).items() if value != settings_table()[name].default}


def with_overrides(config: Config, overrides: Mapping[str, Any]) -> Config:
    """The config with other values by full name, checked; text is read as the setting's type ("1e-3", "true", "null")."""
    sections: dict[str, dict[str, Any]] = {}
    for name, value in overrides.items():
        value = checked(name, value)
        section, leaf = name.split(".")
        sections.setdefault(section, {})[leaf] = value
    changed = {section: dataclasses.replace(getattr(config, section), **leaves) for section, leaves in sections.items()}
    config = dataclasses.replace(config, **changed)
    check_together(config)
    return config


def settled(config: Config) -> Config:
    """The settings with what null leaves to the program."""
    plan = sized(FieldPlan(config.field, config.encoding, config.frequency), config.training.minutes)
    return dataclasses.replace(config, field=plan.field, encoding=plan.encoding)


def steps_alone(overrides: Mapping[str, Any]) -> dict[str, Any]:
    """The same overrides; where one source asks for steps and does not speak of minutes, steps alone end the training."""
    return {**({"training.minutes": None} if "training.steps" in overrides else {}), **overrides}


def checked(name: str, value: Any) -> Any:
    """The value in the setting's own type and range; anything else is a UsageError."""
    table = settings_table()
    if name not in table:
        raise UsageError(unknown_setting(name))
    field = table[name]
    low, high, choices = (field.metadata[key] for key in ("low", "high", "choices"))
    try:
        parsed = parse(value, field)
        is_allowed = parsed is None or ((low is None or parsed >= low) and (high is None or parsed <= high)
                                        and (choices is None or parsed in choices))
    except (ValueError, OverflowError):
        is_allowed = False
    if not is_allowed:
        got = json.dumps(value, default=repr)
        raise UsageError(f"{name} must be {allowed(field)}, got {got} [{field.metadata['text']}].")
    return parsed


def parse(value: Any, field: dataclasses.Field) -> Any:
    """Text or a value -> a value of the setting's type, or ValueError."""
    kind, may_be_null = kind_of(field)
    if may_be_null and value in (None, "null"):
        return None
    if isinstance(value, str) and kind is bool and value.lower() in ("true", "false"):
        value = value.lower() == "true"
    elif isinstance(value, str) and kind in (int, float) or kind is float and type(value) is int:
        value = kind(value)
    if type(value) is not kind or kind is float and not math.isfinite(value):
        raise ValueError(value)
    return value


def kind_of(field: dataclasses.Field) -> tuple[type, bool]:
    """A setting's type, and whether it may be null."""
    kinds = typing.get_args(field.type) if isinstance(field.type, types.UnionType) else (field.type,)
    return kinds[0], types.NoneType in kinds


def allowed(field: dataclasses.Field) -> str:
    """What a setting may be, in words: "a whole number from 1 to 32"."""
    kind, may_be_null = kind_of(field)
    low, high, choices = (field.metadata[key] for key in ("low", "high", "choices"))
    words = f"{', '.join(choices[:-1])} or {choices[-1]}" if choices else WORDS[kind]
    if low is not None:
        words += f" from {low:.12g} to {high:.12g}" if high is not None else f", at least {low:.12g}"
    return words + ", or null" * may_be_null


def unknown_setting(name: str) -> str:
    """The message for a name that is no setting, with the one that was probably meant."""
    names = list(settings_table())
    by_leaf = {full.split(".")[1]: full for full in reversed(names)}
    leaves = difflib.get_close_matches(name.split(".")[-1], by_leaf, n=1)
    near = difflib.get_close_matches(name, names, n=1) or [by_leaf[leaf] for leaf in leaves]
    cure = f"did you mean {near[0]}?" if near else "`nerf-app doctor --settings` lists them all."
    return f"unknown setting {shown(name)}; {cure}"


def check_together(config: Config) -> None:
    """What no single setting can tell."""
    training, encoding = config.training, config.encoding
    if training.minutes is None and training.steps is None:
        raise UsageError("training.minutes and training.steps are both null, so training would never end: give one of them.")
    if encoding.features not in FEATURES:
        raise UsageError(f"encoding.features must be one of {', '.join(map(str, FEATURES))}, got {encoding.features}.")
    if encoding.finest < encoding.coarsest:
        raise UsageError(f"encoding.finest must be at least encoding.coarsest ({encoding.coarsest}), got {encoding.finest}.")


def to_yaml(config: Config, with_comments: bool = True) -> str:
    """All settings as YAML, with each one's sentence and range above it, opening with what differs from base."""
    lines = []
    if with_comments:
        changed = ", ".join(f"{name} {scalar(value)}" for name, value in differences(config).items())
        lines += ["# Every setting of nerf_app; a preset needs only the lines that differ.",
                  f"# differs from base: {changed or 'nothing'}"]
    section = ""
    for (name, field), value in zip(settings_table().items(), values(config).values(), strict=True):
        if not name.startswith(f"{section}."):
            section = name.split(".")[0]
            lines += [""] * with_comments + [f"{section}:"]
        if with_comments:
            lines.append(f"  # {field.metadata['text']} [{allowed(field)}]")
        lines.append(f"  {field.name}: {scalar(value)}")
    return "\n".join(lines) + "\n"


def scalar(value: Any) -> str:
    """A value as YAML text on one line, in ASCII."""
    style = '"' if isinstance(value, str) and not value.isidentifier() else None
    return yaml.safe_dump(value, default_style=style, width=math.inf).removesuffix("...\n").rstrip("\n")


def from_yaml(text: str, source: str = "the settings") -> Config:
    """The defaults changed by YAML text; `source` names it in messages."""
    return with_overrides(Config(), read_overrides(text, source))


def read_overrides(text: str, source: str) -> dict[str, Any]:
    """The settings in YAML text by full name, checked."""
    found: dict[str, Any] = {}
    for name, value, line in read_pairs(text, source):
        if name in found:
            raise UsageError(f"{source} line {line}: {name} is there twice; keep one.")
        try:
            found[name] = checked(name, value)
        except UsageError as error:
            raise UsageError(f"{source} line {line}: {error}") from None
    return found


def read_pairs(text: str, source: str) -> Iterator[tuple[str, str | None, int]]:
    """(full name, text of the value, line) of each setting in YAML of the form `section: {name: value}`.

    Reads the parser's events and constructs nothing, so tags, aliases and deep nesting can do no harm: they are refused.
    """
    section, key, depth = "", "", 0
    for event in parser_events(text, source):
        line = event.start_mark.line + 1
        match event:
            case yaml.StreamStartEvent() | yaml.StreamEndEvent() | yaml.DocumentStartEvent() | yaml.DocumentEndEvent():
                pass
            case yaml.MappingStartEvent() if depth == 0 or depth == 1 and key:
                section, key, depth = f"{key}." if key else "", "", depth + 1
            case yaml.MappingEndEvent():
                section, depth = "", depth - 1
            case yaml.ScalarEvent() if depth and not key:
                key = event.value
            case yaml.ScalarEvent() if depth:
                value = None if event.style is None and event.value in NULLS else event.value
                if section or value is not None:  # a section with nothing in it sets nothing
                    yield section + key, value, line
                key = ""
            case _:
                raise UsageError(f"{source} line {line}: settings are written as section, then name: value; this is neither.")


def parser_events(text: str, source: str) -> Iterator[yaml.Event]:
    """The YAML parser's events; what is too large or not YAML is a UsageError."""
    if len(text) > LARGEST_FILE:
        raise UsageError(f"{source} has {len(text)} characters; a settings file has at most {LARGEST_FILE}.")
    try:
        yield from yaml.parse(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or getattr(error, "reason", "")
        raise UsageError(f"{source}{line} is not YAML ({problem}); `nerf-app doctor --settings` shows the form.") from None


def config_folder() -> Traversable:
    """Where the presets lie: inside the installed package, or beside it in a checkout."""
    try:
        return importlib.resources.files("nerf_app.configs")
    except ModuleNotFoundError:
        return Path(__file__).parent.parent / "configs"


def read_preset(name: str) -> dict[str, Any]:
    """The settings that differ in a preset, checked, by full name: one of ours, or a YAML file by its path."""
    if Path(name).suffix in (".yaml", ".yml"):
        return steps_alone(read_overrides(read_text(Path(name)), shown(name)))
    presets = {Path(item.name).stem: item for item in config_folder().iterdir() if item.name.endswith(".yaml")}
    if name not in presets:
        near = difflib.get_close_matches(name, presets, n=1)
        raise UsageError(f"no preset {shown(name)}" + (f", did you mean {near[0]}?" if near else ":")
                         + f" there are {', '.join(sorted(presets))}, or give the path of a .yaml file.")
    return steps_alone(read_overrides(presets[name].read_text(encoding="utf-8"), presets[name].name))


def read_text(path: Path) -> str:
    """The text of a settings file of the user's."""
    try:
        return read_file(path, LARGEST_FILE).decode("utf-8")
    except UnicodeDecodeError:
        raise UsageError(f"{shown(path)} is not UTF-8 text; a settings file is YAML.") from None
    except DataError as error:
        raise UsageError(str(error)) from None
