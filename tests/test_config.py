"""Settings: every one survives YAML, and what cannot be meant stops with one line that helps."""

import dataclasses
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nerf_app import config as configs
from nerf_app.config import Config, differences, from_yaml, read_preset, settings_table, settled, to_yaml, values, with_overrides
from nerf_app.errors import UsageError

TABLE = settings_table()


def allowed_values(field: dataclasses.Field) -> st.SearchStrategy:
    """Everything that a setting may be."""
    kind, may_be_null = configs.kind_of(field)
    low, high, choices = (field.metadata[key] for key in ("low", "high", "choices"))
    some = st.sampled_from(choices) if choices else {
        bool: st.booleans(), int: st.integers(low, high), str: st.text(),
        float: st.floats(low, high, allow_nan=False, allow_infinity=False)}[kind]
    if may_be_null and kind is str:
        some = some.filter(lambda text: text != "null")
    return some | st.none() if may_be_null else some


overrides = st.fixed_dictionaries({}, optional={name: allowed_values(field) for name, field in TABLE.items()})


def message(action, *arguments) -> str:
    """The one line of the UsageError that must come."""
    with pytest.raises(UsageError) as caught:
        action(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@given(overrides, st.booleans())
def test_every_setting_survives_the_way_through_yaml(changes, with_comments):
    try:
        config = with_overrides(Config(), changes)
    except UsageError:  # two settings that exclude each other
        return
    text = to_yaml(config, with_comments)
    assert text.isascii() and from_yaml(text) == config


@given(overrides)
def test_differences_are_what_makes_a_config_out_of_the_defaults(changes):
    try:
        config = with_overrides(Config(), changes)
    except UsageError:
        return
    assert with_overrides(Config(), differences(config)) == config
    assert all(value != TABLE[name].default for name, value in differences(config).items())
    assert values(config).keys() == TABLE.keys()


@given(st.sampled_from(sorted(TABLE)), st.text() | st.integers() | st.floats() | st.booleans() | st.none())
def test_any_value_is_taken_in_the_right_type_and_range_or_refused(name, value):
    field, (kind, may_be_null) = TABLE[name], configs.kind_of(TABLE[name])
    try:
        taken = configs.checked(name, value)
    except UsageError:
        return
    assert type(taken) is kind or taken is None and may_be_null
    if taken is not None and field.metadata["low"] is not None:
        assert taken >= field.metadata["low"] and math.isfinite(taken)


@given(st.text() | st.text("ab:{}[]&*!|>-#'\"\n\t 0x~?,%@."))
def test_any_text_is_settings_or_a_usage_error(text):
    try:
        from_yaml(text, "some.yaml")
    except UsageError as error:
        assert "\n" not in str(error)


def test_every_setting_has_a_sentence_and_a_default_that_is_allowed():
    for name, field in TABLE.items():
        assert field.metadata["text"].strip(), name
        assert configs.checked(name, field.default) == field.default


@pytest.mark.parametrize("text, value", [("1e-3", 1e-3), ("0.5", 0.5), ("2", 2.0), (3, 3.0), (" 4 ", 4.0)])
def test_numbers_may_be_written_in_any_usual_way(text, value):
    taken = configs.checked("training.learning_rate", text)
    assert taken == value and type(taken) is float


def test_yaml_numbers_with_an_exponent_are_numbers():
    assert from_yaml("training:\n  learning_rate: 1e-3\n").training.learning_rate == 1e-3


@pytest.mark.parametrize("name, meant", [("encoding.level", "encoding.levels"), ("minutes", "training.minutes"),
                                         ("trainings.steps", "training.steps"), ("machine.sed", "machine.seed")])
def test_an_unknown_setting_is_refused_with_the_nearest_name(name, meant):
    assert message(with_overrides, Config(), {name: 1}) == f"unknown setting {name}; did you mean {meant}?"


def test_a_name_like_no_other_leads_to_the_list():
    assert "doctor --settings" in message(with_overrides, Config(), {"xyzzy": 1})


@pytest.mark.parametrize("name, value, says", [
    ("encoding.levels", 99, "encoding.levels must be a whole number from 1 to 32, got 99 [resolutions, coarse to fine]."),
    ("encoding.levels", "8.5", "a whole number"), ("encoding.levels", True, "got true"), ("encoding.levels", None, "got null"),
    ("training.minutes", "-1", "at least 0.001, or null"), ("training.minutes", 0, "at least 0.001"),
    ("encoding.finest", 10**9, "to 65536"), ("training.final_learning_rate", 0, "from 0.0001 to 1"),
    ("encoding.coarsest", 5000, "to 4096"), ("training.samples_per_step", 10**9, "to 4194304"),
    ("machine.threads", 100_000, "a whole number from 1 to 1024, or null"),  # so many end the process, not the program
    ("training.minutes", "nan", "got \"nan\""),
    ("training.minutes", math.inf, "a number"), ("field.kind", "hash", "must be hashgrid or frequency"),
    ("scene.is_strict", "maybe", "true or false"), ("scene.test", 3, "must be text"),
])
def test_a_wrong_type_or_range_is_refused_with_what_is_allowed(name, value, says):
    assert says in message(with_overrides, Config(), {name: value})


def test_settings_that_exclude_each_other_are_refused():
    assert "never end" in message(with_overrides, Config(), {"training.minutes": None})
    assert "encoding.coarsest (64)" in message(with_overrides, Config(), {"encoding.coarsest": 64, "encoding.finest": 32})


def test_steps_alone_mean_no_minutes():
    assert configs.steps_alone({"training.steps": 7}) == {"training.minutes": None, "training.steps": 7}
    assert configs.steps_alone({"training.steps": 7, "training.minutes": 2}) == {"training.minutes": 2, "training.steps": 7}
    assert configs.steps_alone({"machine.seed": 1}) == {"machine.seed": 1}


@pytest.mark.parametrize("text, says", [
    ("encoding:\n  levels: 4\n  levels: 5", "my.yaml line 3: encoding.levels is there twice"),
    ("encoding:\n  level: 4", "my.yaml line 2: unknown setting encoding.level; did you mean encoding.levels?"),
    ("encoding:\n  levels: many", "my.yaml line 2: encoding.levels must be"),
    ("encoding: &a {levels: 4}\nfield: *a", "my.yaml line 2"), ("[1, 2]", "section, then name: value"),
    ("encoding: {levels: {a: 1}}", "section, then name: value"), ("just words", "section, then name: value"),
    ("training: 'open", "is not YAML"), ("a: \0", "is not YAML"), ("[" * 200_000, "my.yaml line 1"),
    ("a: !!python/object/apply:os.system [ls]", "my.yaml line 1"), ("#" * 1_000_001, "at most 1000000"),
])
def test_a_settings_file_that_cannot_be_meant_is_refused_with_its_line(text, says):
    assert says in message(from_yaml, text, "my.yaml")


@pytest.mark.parametrize("text", ["", "# nothing\n", "encoding:\n", "---\nencoding: {}\n"])
def test_a_settings_file_may_be_empty(text):
    assert from_yaml(text) == Config()


def test_base_yaml_is_what_the_program_writes():
    assert (configs.config_folder() / "base.yaml").read_text(encoding="utf-8") == to_yaml(Config()), \
        "run: nerf-app doctor --settings configs/base.yaml"


def test_base_yaml_explains_every_setting():
    text = to_yaml(Config())
    for field in TABLE.values():
        assert f"  # {field.metadata['text']} [{configs.allowed(field)}]\n  {field.name}: " in text


def test_the_first_lines_of_a_written_config_tell_what_differs_from_base():
    config = with_overrides(Config(), {"training.steps": 10, "field.kind": "frequency"})
    assert "# differs from base: field.kind frequency, training.steps 10\n" in to_yaml(config)


@pytest.mark.parametrize("name", [item.name.removesuffix(".yaml") for item in configs.config_folder().iterdir()
                                  if item.name.endswith(".yaml") and item.name != "base.yaml"])
def test_a_preset_holds_differences_only(name):
    changes = read_preset(name)
    assert changes and differences(with_overrides(Config(), changes)) == changes


def test_a_preset_may_be_a_file_and_steps_alone_rule_there_too(tmp_path):
    (tmp_path / "mine.yaml").write_text("training:\n  steps: 30\n")
    assert read_preset(str(tmp_path / "mine.yaml")) == {"training.minutes": None, "training.steps": 30}


def test_a_preset_that_is_not_there_is_named_with_the_nearest(tmp_path):
    assert "did you mean nerf?" in message(read_preset, "nurf")
    assert "missing.yaml" in message(read_preset, str(tmp_path / "missing.yaml"))
    (tmp_path / "latin.yaml").write_bytes(b"# \xff")
    assert "UTF-8" in message(read_preset, str(tmp_path / "latin.yaml"))


def test_a_longer_training_gets_a_larger_field_unless_it_was_said():
    def sizes(**training):
        config = settled(with_overrides(Config(), {f"training.{name}": value for name, value in training.items()}))
        return config.encoding.log2_entries, config.field.hidden_width
    assert [sizes(minutes=minutes) for minutes in (0.3, 1, 5, 15)] == [(17, 32), (18, 32), (19, 32), (19, 64)]
    assert sizes(minutes=None, steps=9) == (17, 32)
    said = with_overrides(Config(), {"training.minutes": 15.0, "encoding.log2_entries": 12, "field.hidden_width": 16})
    assert settled(said) == said and settled(settled(Config())) == settled(Config())
