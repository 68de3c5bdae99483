"""What a person sees of a training: plain lines without a terminal, a live bar with one, never a crash."""

import io
import os
import re
from types import SimpleNamespace

import pytest

from nerf_app import progress
from nerf_app.progress import Counter, LiveDisplay, PlainDisplay, Whole, display_on, duration, scene_lines, show_training
from nerf_app.training.events import Finished, Note, Saved, Stepped, Validated


def stepped(step: int, seconds: float) -> Stepped:
    return Stepped(step, step / 100, seconds, 100.0 - seconds, loss=0.5 / step, psnr=20.0, rays=1000, samples=5000)


@pytest.fixture
def clock(monkeypatch) -> SimpleNamespace:
    """A clock that the test moves."""
    clock = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


def a_training(clock):
    yield Note("backend   reference on cpu")
    for step in range(1, 101):
        clock.now += 1.0
        yield stepped(step, float(step))
        if step == 50:
            yield Validated(50, 0.5, 24.314, 0.8714)
            yield Saved(50)
    yield Finished(100, 100.0, "budget")


def test_without_a_terminal_there_is_one_plain_line_every_few_seconds(clock):
    stream = io.StringIO()
    finished = show_training(a_training(clock), PlainDisplay(stream, every_seconds=10.0))
    lines = stream.getvalue().splitlines()
    assert finished == Finished(100, 100.0, "budget")
    assert lines[0] == "backend   reference on cpu"
    assert lines[1] == "  1 %   step 1   loss 0.50000   PSNR 20.0 dB   left 1:39"
    assert lines[2] == " 11 %   step 11   loss 0.13727   PSNR 20.0 dB   1,000 rays/s   left 1:29"
    assert "step 50: validation PSNR 24.31 dB, SSIM 0.871" in lines
    assert lines[-1].startswith("the budget is used after 1:40: step 100   loss ")
    assert lines[-2].startswith("100 %   step 100   loss")
    assert sum("%" in line for line in lines) == 11
    assert not re.search(r"[\x00-\x09\x0b-\x1f]", stream.getvalue())


def test_a_training_that_takes_no_step_still_ends_with_a_line():
    stream = io.StringIO()
    show_training(iter([Finished(70, 5.0, "plateau")]), PlainDisplay(stream))
    assert stream.getvalue() == "the validation score rises no more after 0:05: step 70\n"


def test_names_with_terminal_codes_and_line_breaks_are_shown_escaped():
    for display_class in (PlainDisplay, LiveDisplay):
        stream = io.StringIO()
        display_class(stream).line("a[/x]\n\x1b[2J\udcff.jpg")
        assert stream.getvalue() == "a[/x]\\n\\x1b[2J\\udcff.jpg\n"


def test_a_reader_that_has_gone_does_not_stop_the_training(clock):
    read, write = os.pipe()
    os.close(read)
    stream = os.fdopen(write, "w")
    assert show_training(a_training(clock), PlainDisplay(stream)).reason == "budget"
    with pytest.raises(BrokenPipeError):
        stream.close()


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_the_bar_with_all_numbers_and_lines_above_it(clock, monkeypatch):
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "140")
    monkeypatch.setattr(LiveDisplay, "__exit__", lambda self, *error: (self._bar.refresh(), self._bar.stop()) and None)
    stream = Terminal()
    display = display_on(stream)
    assert isinstance(display, LiveDisplay)
    show_training(a_training(clock), display)
    text = stream.getvalue()
    for words in ("100 %", "step 100   loss", "PSNR 20.0 dB", "1,000 rays/s", "left 0:00", "validation PSNR 24.31 dB",
                  "reference on cpu"):
        assert words in text


@pytest.mark.parametrize("term", ["dumb", "unknown", ""])
def test_a_terminal_that_cannot_move_its_cursor_gets_plain_lines(term, monkeypatch):
    monkeypatch.setenv("TERM", term)
    assert isinstance(display_on(Terminal()), PlainDisplay)


def test_a_file_gets_plain_lines(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    assert isinstance(display_on(io.StringIO()), PlainDisplay)


def test_a_live_display_can_be_used_again_after_its_first_job(monkeypatch):
    display = LiveDisplay(Terminal())
    for fraction in (0.3, 0.7):
        with display:
            display.progress(fraction, "again", None)


def test_a_counter_tells_the_time_left_by_the_pace_of_what_it_saw(clock):
    stream = io.StringIO()
    count = Counter(PlainDisplay(stream, every_seconds=0.0), "frame")
    for done in (40, 41, 42):  # forty lay there from an earlier call
        count(done, 52)
        clock.now += 3.0
    assert stream.getvalue().splitlines() == [" 77 %   frame 40 of 52", " 79 %   frame 41 of 52   left 0:33",
                                              " 81 %   frame 42 of 52   left 0:30"]


@pytest.mark.parametrize("name, words", [("mesh %", "mesh 5 %"), ("%", "5 %")])
def test_a_counter_of_hundredths_says_per_cent(name, words):
    stream = io.StringIO()
    Counter(PlainDisplay(stream), name)(5, 100)
    assert stream.getvalue() == f"  5 %   {words}\n"


def test_stages_share_one_bar_which_knows_what_is_still_to_come_and_never_goes_back(clock):
    said = []
    display = SimpleNamespace(progress=lambda *what: said.append(what))
    whole = Whole(display, {"training": 60.0, "film": 30.0, "mesh": 10.0})
    whole.begin("training")
    clock.now += 30.0
    whole.progress(0.5, "step 3", 30.0)
    clock.now += 30.0
    whole.end("training")
    whole.begin("film")
    whole.progress(0.25, "frame 1", None)
    clock.now += 1.0
    whole.progress(0.5, "frame 2", 200.0)  # far slower than anybody thought
    whole.end("film")
    whole.begin("mesh")
    clock.now += 39.0
    whole.progress(1.0, "faces", 0.0)
    assert [(text, left) for _, text, left in said] == [
        ("training: begins", 100.0), ("training: step 3", 70.0), ("film: begins", 40.0), ("film: frame 1", 32.5),
        ("film: frame 2", 210.0), ("mesh: begins", 10.0), ("mesh: faces", 0.0)]
    fractions = [fraction for fraction, _, _ in said]
    assert fractions[:3] == [0.0, 0.3, 0.6] and fractions == sorted(fractions) and fractions[-1] == 1.0


def test_a_stage_that_nobody_expected_shows_its_own_pace(clock):
    said = []
    whole = Whole(SimpleNamespace(progress=lambda *what: said.append(what)), {})
    clock.now += 1.0
    whole.begin("mesh")
    whole.progress(0.5, "faces", 7.0)
    assert said == [(1.0, "mesh: begins", 0.0), (1.0, "mesh: faces", 7.0)]


@pytest.mark.parametrize("seconds, text", [(0, "0:00"), (65.4, "1:05"), (3599.6, "1:00:00"), (7322, "2:02:02")])
def test_durations_read_like_a_clock(seconds, text):
    assert duration(seconds) == text


def test_a_scene_names_a_handful_of_left_out_photos_and_counts_the_rest():
    dropped = [SimpleNamespace(name=f"{i}.jpg", reason="no pose") for i in range(12)]
    scene = SimpleNamespace(format="blender", root="lego", notes=("12 photos",), dropped=dropped)
    lines = list(scene_lines(scene))
    assert lines[:3] == ["scene     blender in lego", "12 photos", "left out  0.jpg: no pose"]
    assert lines[-1] == "left out  ... and 7 more" and len(lines) == 8
