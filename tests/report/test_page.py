"""The text of the page; what a browser makes of it is in test_browser.py."""

import base64
import hashlib
import math
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

import nerf_app
from nerf_app.config import with_overrides
from nerf_app.errors import ResourceError
from nerf_app.report import material
from nerf_app.report.page import write_report
from nerf_app.report.sections import MOST_KINDS, MOST_LISTED, MOST_ROWS, camera_lines, duration
from nerf_app.scene.camera import Camera, Lens
from nerf_app.scene.scene import Dropped
from tests.report.stand_in import HOSTILE, a_mesh_file, a_run, a_scene, an_evaluation

VOID = {"meta", "link", "img", "input"}
SAID = ("<b>scene", "2 min 5 s", "24.0 dB", "The worst, side by side", "photos/008.png", "25.25 dB", "99 %",
        "What the photos saw", "take photos from below", "Depth along the camera's axis, input units", "seconds of training",
        "16 × 40×40, straight lens, focal length 76 px", "space: bounded <i>", "has no pose", "is <b>broken</b>",
        f"nerf_app {nerf_app.__version__} (trained with 0.0.1)", "cpp on cpu, 2 threads", "sampling.steps: 100",
        "mesh <b>: 1 min 1 s", "4,321 steps", "alert(1)", "13 to learn from, 1 to watch training, 2 for the closing score")
CHECK = {"psnr": 25.25, "silhouette_iou": 0.987, "split": "test", "photos": [{}, {}]}


class Page(HTMLParser):
    """Elements in their order; fails where one is not closed as it should be."""

    def __init__(self, markup: str) -> None:
        super().__init__()
        self.open, self.elements, self.words = [], [], []
        self.feed(markup)
        self.close()
        assert not self.open

    def handle_starttag(self, name, attributes):
        assert len(attributes) == len(dict(attributes)), f"{name} has an attribute twice"
        self.elements.append((name, dict(attributes)))
        if name not in VOID:
            self.open.append(name)

    def handle_endtag(self, name):
        assert self.open.pop() == name

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("script", "style"):
            self.words.append(data)

    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def all(self, name: str) -> list[dict]:
        return [attributes for found, attributes in self.elements if found == name]


def written(folder, scene=None, run=None, **more) -> str:
    scene = scene or a_scene(folder)
    run = run or a_run(folder / "run", scene)
    write_report(run, scene, folder / "report.html", **more)
    return (folder / "report.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def full(tmp_path_factory) -> str:
    """A page with everything."""
    folder = tmp_path_factory.mktemp("full")
    scene = a_scene(folder)
    return written(folder, scene, evaluation=an_evaluation(scene), mesh=a_mesh_file(folder), mesh_check=CHECK,
                   stage_seconds={"training": 125.0, "mesh <b>": 61.0})


def test_everything_that_was_asked_for_is_said(full):
    words = Page(full).text()
    for said in SAID:
        assert said in words, said


def test_large_photos_are_said_to_be_scored_in_part_and_their_mesh_on_fewer_pixels(tmp_path):
    scene = a_scene(tmp_path)
    run = a_run(tmp_path / "run", scene)
    scores = an_evaluation(scene) | {"part": 0.0523}
    words = Page(written(tmp_path, scene, run, evaluation=scores, mesh_check=CHECK)).text()
    assert "each at full size (windows that show 5.2 % of it)" in words and "below the field, which reaches" in words
    run.config = with_overrides(run.config, {"scene.longest_side": 16})
    words = Page(written(tmp_path, scene, run, evaluation=scores, mesh_check=CHECK)).text()
    assert "compared with them, reduced to 16 pixels" in words and "which reaches" not in words


def test_foreign_text_is_never_markup(full):
    page = Page(full)
    assert len(page.all("script")) == 2  # the mesh's bytes and our own
    assert not page.all("b") and not page.all("i")
    assert HOSTILE not in full and "\u202e" not in full and "<script>alert" not in full
    assert all(not name.startswith("on") for _, attributes in page.elements for name in attributes)


def test_the_page_names_no_address_but_its_own_content(full):
    page = Page(full)
    addresses = [attributes[key] for _, attributes in page.elements for key in ("src", "href", "poster") if key in attributes]
    assert addresses and all(address.startswith("data:") for address in addresses)
    outside = re.sub(r"data:[a-z/0-9-]+;base64,[\w+/=]+", "", full)
    assert not re.search(r"https?:|//[a-z]|url\(|@import", re.sub(r'<script type=.*?</script>', "", outside, flags=re.S))


def test_the_policy_lets_only_the_pages_own_script_and_style_in(full):
    policy = next(meta["content"] for meta in Page(full).all("meta") if meta.get("http-equiv") == "Content-Security-Policy")
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == rules["base-uri"] == rules["form-action"] == "'none'"
    assert rules["img-src"] == rules["media-src"] == "data:"
    assert "unsafe" not in policy
    for kind, tag in (("style-src", "style"), ("script-src", "script")):
        content = re.findall(f"<{tag}>(.*?)</{tag}>", full, flags=re.S)
        assert len(content) == 1 and "style=" not in re.sub(r"<(script|style).*?</\1>", "", full, flags=re.S)
        assert rules[kind] == f"'sha256-{base64.b64encode(hashlib.sha256(content[0].encode()).digest()).decode()}'"


def test_pictures_have_words_and_headings_an_order(full):
    page = Page(full)
    assert all(image.get("alt") and int(image["width"]) and int(image["height"]) for image in page.all("img"))
    assert all(drawing.get("aria-label") or drawing.get("aria-hidden") for drawing in page.all("svg"))
    levels = [int(name[1]) for name, _ in page.elements if re.fullmatch("h[1-6]", name)]
    assert levels[0] == 1 and levels.count(1) == 1 and all(after <= before + 1 for before, after in zip(levels, levels[1:]))
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids)) and page.all("html")[0]["lang"] == "en"


def test_without_scores_mesh_film_and_metrics_the_page_says_so_or_is_silent(tmp_path):
    scene = a_scene(tmp_path)
    run = a_run(tmp_path / "run", scene)
    (run.folder / "metrics.jsonl").unlink()
    (run.folder / "video" / "orbit.mp4").unlink()
    page = Page(written(tmp_path, scene, run))
    words = page.text()
    assert "No held-out photo was scored" in words and "No mesh was made" in words
    assert "What the photos saw" not in words and "seconds of training" not in words and "mesh against" not in words
    assert not page.all("video") and not page.all("canvas") and len(page.all("script")) == 1


@pytest.mark.parametrize("scores", [{}, {"photos": []}, {"psnr": None, "photos": [{"path": "gone.png", "psnr": math.nan}]},
                                    {"psnr": 20.0, "photos": [{"path": "gone.png", "psnr": 20.0, "ssim": None}]}])
def test_scores_that_are_missing_or_of_lost_photos_do_no_harm(tmp_path, scores):
    page = Page(written(tmp_path, evaluation=scores, mesh_check={"psnr": None, "silhouette_iou": None, "photos": []}))
    assert "nan" not in page.text().lower().split()


def test_a_mesh_that_does_not_say_who_saw_it_has_no_such_colours(tmp_path):
    page = Page(written(tmp_path, mesh=a_mesh_file(tmp_path, has_views=False)))
    assert "What the photos saw" not in page.text() and page.all("canvas")
    assert {one["value"] for one in page.all("input") if one.get("name") == "mode"} == {"colours", "shape", "normals"}


def test_what_has_no_room_is_named_and_left_out(tmp_path, monkeypatch):
    mesh = a_mesh_file(tmp_path)
    monkeypatch.setattr(material, "ROOM", mesh.stat().st_size)  # as base64 it is a third larger
    words = Page(written(tmp_path, mesh=mesh)).text()
    assert f"The mesh is in {mesh.name}: it is too large" in words and "orbit.mp4" not in words
    monkeypatch.setattr(material, "ROOM", material.encoded_size(mesh.read_bytes()) + 4)
    words = Page(written(tmp_path, mesh=mesh)).text()
    assert "The film is in video/orbit.mp4: it is too large" in words and "The mesh is in" not in words


def test_a_crowd_of_photos_stays_on_one_page(tmp_path):
    scene = a_scene(tmp_path)
    scene = replace(scene, dropped=tuple(Dropped(f"{i}.png", "is broken") for i in range(5000)), notes=("x" * 10_000,) * 300)
    photos = [{"path": f"{i}.png", "psnr": 20.0 + i / 1e4, "ssim": 0.9} for i in range(20_000)]
    text = written(tmp_path, scene, evaluation={"psnr": 21.0, "ssim": 0.9, "split": "test", "photos": photos})
    words = Page(text).text()
    assert f"the first {MOST_ROWS} of 20000" in words and f"and {5000 - MOST_LISTED} more" in words
    assert len(text) < 5_000_000


def test_nothing_half_written_stays_under_the_name(tmp_path):
    scene = a_scene(tmp_path)
    run = a_run(tmp_path / "run", scene)
    run.fails_at = 1
    with pytest.raises(KeyboardInterrupt):
        write_report(run, scene, tmp_path / "report.html")
    assert not list(tmp_path.glob("report*"))
    with pytest.raises(ResourceError, match="cannot write .*; make room"):
        write_report(a_run(tmp_path / "run", scene), scene, tmp_path / "nowhere" / "report.html")


def test_progress_counts_the_pictures(tmp_path):
    heard, scene = [], a_scene(tmp_path)
    written(tmp_path, scene, evaluation=an_evaluation(scene), on_progress=lambda *at: heard.append(at))
    assert heard == [(i, 4) for i in range(1, 5)]  # two test photos, one of depth, one still


def test_the_turntable_is_the_film_and_no_picture_of_depth_is(tmp_path):
    for name in ("a.mp4", "orbit_depth.mp4", "z.mp4"):
        (tmp_path / name).write_bytes(b"")
    assert material.find_film(tmp_path).name == "a.mp4"
    (tmp_path / "orbit.mp4").write_bytes(b"")
    assert material.find_film(tmp_path).name == "orbit.mp4"
    assert material.find_film(tmp_path / "nowhere") is None


@pytest.mark.parametrize("seconds, words", [(0.4, "0 s"), (59.4, "59 s"), (59.6, "1 min"), (185.0, "3 min 5 s"), (3600.0, "1 h"),
                                            (3720.0, "1 h 2 min")])
def test_durations_are_short(seconds, words):
    assert duration(seconds) == words


@pytest.mark.parametrize("lens, words", [(Lens(), "straight lens, focal length 50 px"),
                                         (Lens("fisheye"), "fisheye, focal length 50 px"),
                                         (Lens(radial=(0.1, 0.0, 0.0, 0.0)), "lens with distortion, focal length 50 px"),
                                         (Lens("equirectangular"), "equirectangular")])
def test_a_lens_is_named(lens, words):
    assert camera_lines([Camera(64, 48, 50.0, 50.0, 32.0, 24.0, lens)]) == [f"1 × 64×48, {words}"]


def test_cameras_are_counted_by_kind_with_the_range_of_their_focal_lengths():
    cameras = [Camera(64, 48, 50.0 + i, 50.0, 32.0, 24.0) for i in range(4)]
    cameras += [Camera(32 + i, 48, 50.0, 50.0, 32.0, 24.0) for i in range(9)]
    found = camera_lines(cameras)
    assert found[0] == "4 × 64×48, straight lens, focal length 50 to 53 px" and found[-1] == f"and {10 - MOST_KINDS} more kinds"


def test_the_middling_held_out_photo_is_the_one_whose_depth_is_shown(tmp_path):
    scene = a_scene(tmp_path)
    scores = [{"path": view.name, "psnr": float(20 + (i * 7) % 16)} for i, view in enumerate(scene.views)]
    chosen = material.telling_view(scene, {"photos": scores})
    assert np.isclose(scores[chosen]["psnr"], 28.0)
    assert material.telling_view(scene, None) in scene.indices("test")
