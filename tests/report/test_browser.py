"""The page in a real browser without a screen: it renders, the mesh turns, nothing is fetched."""

import io
import time

import numpy as np
import pytest
from PIL import Image

from nerf_app.report.coverage import BINS
from nerf_app.report.page import write_report
from nerf_app.report.pictures import still
from tests.report.browser import Browser
from tests.report.glb import make_glb
from tests.report.stand_in import a_mesh_file, a_run, a_scene, an_evaluation, ball
from tests.requires import requires

pytestmark = requires("chromium")
WIDTHS = (360, 800, 1400)
IS_LIVE = "document.getElementById('mesh-view').classList.contains('is-live')"
BOX = "(({x, y, width, height}) => [x, y, width, height])(document.querySelector('canvas').getBoundingClientRect())"


def write(folder, mesh, **more):
    """A page with everything, or with another mesh."""
    scene = a_scene(folder)
    write_report(a_run(folder / "run", scene), scene, folder / "report.html", evaluation=an_evaluation(scene), mesh=mesh,
                 mesh_check={"psnr": 25.0, "silhouette_iou": 0.98, "photos": [{}]}, stage_seconds={"training": 125.0}, **more)
    return folder / "report.html"


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    return write(folder, a_mesh_file(folder))


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with Browser(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


def opened(browser, page, width=800, **preferences):
    """Opens the page: its mesh in sight and ready and, unless asked otherwise, at rest."""
    browser.prefer(**{"prefers_reduced_motion": "reduce", **preferences})
    browser.resize(width)
    browser.open(page)
    browser.wait_for(IS_LIVE)
    canvas_middle(browser)


def drawn(browser) -> np.ndarray:
    """[H, W, 3] of the canvas, after the frame that was asked for last."""
    browser.value("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done(1))))")
    x, y, width, height = browser.value(BOX)
    with Image.open(io.BytesIO(browser.screenshot())) as picture:
        return np.array(picture.convert("RGB").crop((x, y, x + width, y + height))).astype(int)


def canvas_middle(browser) -> tuple[float, float]:
    """Brings the canvas into sight; where its middle is in the window."""
    browser.value("document.querySelector('canvas').scrollIntoView({block: 'center'})")
    x, y, width, height = browser.value(BOX)
    return x + width / 2, y + height / 2


def differ(a: np.ndarray, b: np.ndarray) -> float:
    """Part of the pixels that are visibly not the same."""
    return float((np.abs(a - b).max(axis=2) > 12).mean())


def choose(browser, mode):
    browser.value(f"document.querySelector('input[value={mode}]').click()")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_it_renders_without_complaint_or_request_and_fits_the_width(browser, page, width, scheme):
    opened(browser, page, width, prefers_color_scheme=scheme)
    assert browser.value("document.documentElement.scrollWidth") <= width
    wide = browser.value("[...document.querySelectorAll('main *')].filter(e => !e.closest('.table') &&"
                         " e.getBoundingClientRect().right > innerWidth + 1).map(e => e.outerHTML.slice(0, 80))")
    assert wide == []
    assert browser.value("[...document.images].every(image => image.naturalWidth > 0)")
    browser.wait_for("document.querySelector('video').readyState > 0 && document.querySelector('video').videoWidth === 48")
    assert browser.requests() == [page.resolve().as_uri()]
    assert browser.complaints() == []


def test_the_page_can_reach_nothing_and_run_nothing_else(browser, page):
    opened(browser, page)
    assert browser.value("fetch('data:,x').then(() => 'open', () => 'closed')") == "closed"
    browser.value("document.body.append(Object.assign(document.createElement('script'), {textContent: 'window.hacked = 1'}))")
    browser.value("document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"window.hacked = 1\">')")
    assert browser.value("window.hacked === undefined")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_words_stand_out_from_the_paper(browser, page, scheme):
    opened(browser, page, prefers_color_scheme=scheme)
    colours = browser.value("[...document.querySelectorAll('p, h1, h2, h3, dt, dd, th, td, figcaption, li, svg text')].map(e => {"
                            "const style = getComputedStyle(e), is_svg = e instanceof SVGElement;"
                            "let card = e; while (card && getComputedStyle(card).backgroundColor === 'rgba(0, 0, 0, 0)')"
                            " card = card.parentElement;"
                            "return [is_svg ? style.fill : style.color, getComputedStyle(card).backgroundColor]})")
    assert len(colours) > 50
    assert min(contrast(ink, paper) for ink, paper in map(tuple, colours)) >= 4.5  # WCAG AA
    assert (luminance(colours[0][1]) < 0.05) == (scheme == "dark")


def luminance(css: str) -> float:
    """Relative luminance (WCAG 2) of "rgb(r, g, b)"."""
    coded = np.array([float(part) for part in css[css.index("(") + 1:-1].split(",")][:3]) / 255.0
    return float(np.where(coded <= 0.04045, coded / 12.92, ((coded + 0.055) / 1.055) ** 2.4) @ (0.2126, 0.7152, 0.0722))


def contrast(a: str, b: str) -> float:
    darker, brighter = sorted((luminance(a), luminance(b)))
    return (brighter + 0.05) / (darker + 0.05)


def test_the_mesh_turns_under_the_mouse_and_only_then(browser, page):
    opened(browser, page)
    x, y = canvas_middle(browser)
    before = drawn(browser)
    assert differ(before, drawn(browser)) == 0.0
    browser.drag((x, y), (x + 60, y + 10))
    after = drawn(browser)
    assert differ(before, after) > 0.02
    assert differ(after, drawn(browser)) == 0.0
    browser.send("Input.dispatchKeyEvent", type="keyDown", key="0")
    assert differ(before, drawn(browser)) < 0.001  # the frame of who has the keyboard


@pytest.mark.parametrize("key", ["ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown", "+", "-"])
def test_keys_move_the_mesh(browser, page, key):
    opened(browser, page)
    before = drawn(browser)
    browser.value("document.querySelector('canvas').focus()")
    browser.send("Input.dispatchKeyEvent", type="keyDown", key=key)
    assert differ(before, drawn(browser)) > 0.02


def test_the_wheel_scrolls_the_page_until_the_mesh_was_clicked(browser, page):
    opened(browser, page)
    x, y = canvas_middle(browser)
    before, top = drawn(browser), browser.value("scrollY")
    browser.mouse("mouseWheel", x, y, deltaX=0, deltaY=120)
    browser.wait_for(f"scrollY > {top}")
    x, y = canvas_middle(browser)
    assert differ(before, drawn(browser)) == 0.0
    browser.drag((x, y), (x, y))
    top = browser.value("scrollY")
    browser.mouse("mouseWheel", x, y, deltaX=0, deltaY=120)
    assert differ(before, drawn(browser)) > 0.02 and browser.value("scrollY") == top


def test_two_fingers_zoom(browser, page):
    opened(browser, page, 360)
    x, y = canvas_middle(browser)
    before = drawn(browser)
    for kind, apart in (("touchStart", 40), ("touchMove", 45), ("touchMove", 52), ("touchEnd", None)):
        points = [] if apart is None else [{"x": x - apart, "y": y, "id": 1}, {"x": x + apart, "y": y, "id": 2}]
        browser.send("Input.dispatchTouchEvent", type=kind, touchPoints=points)
    after = drawn(browser)
    is_ball = [np.abs(picture - picture[2, 2]).max(axis=2) > 40 for picture in (before, after)]
    assert 1.5 < is_ball[1].sum() / is_ball[0].sum() < 2.0  # (52 / 40)² = 1.7


def test_it_turns_by_itself_until_it_is_touched(browser, page):
    opened(browser, page, prefers_reduced_motion="no-preference")
    x, y = canvas_middle(browser)
    before, end = drawn(browser), time.monotonic() + 20.0
    while differ(before, drawn(browser)) < 0.02:
        assert time.monotonic() < end
    browser.drag((x, y), (x + 5, y))
    assert differ(drawn(browser), drawn(browser)) == 0.0


def test_each_way_of_showing_shows_what_it_says(browser, page):
    opened(browser, page)
    pictures = {}
    for mode in ("colours", "shape", "normals", "views"):
        choose(browser, mode)
        pictures[mode] = drawn(browser)
    height, width = pictures["views"].shape[:2]
    few, many = (np.array([int(colour[i:i + 2], 16) for i in (1, 3, 5)]) for colour in (BINS[1][2], BINS[4][2]))
    middle, below = pictures["views"][height // 2, width // 2], pictures["views"][int(0.78 * height), width // 2]
    for colour, truth in ((middle, many), (below, few)):  # up to the light
        assert np.allclose(colour / np.linalg.norm(colour), truth / np.linalg.norm(truth), atol=0.05)
    towards_z = pictures["normals"][int(0.25 * height), width // 2]
    assert towards_z[2] > 200  # what faces up is blue
    grey = pictures["shape"][height // 2, width // 2]
    assert np.ptp(grey) < 30 and grey.min() > 120
    across = pictures["colours"][height // 2, width // 3:2 * width // 3]
    assert all(np.abs(across - colour).max(axis=1).min() < 20 for colour in ((220, 80, 40), (0, 0, 0)))  # the texture's stripes
    browser.value("document.querySelector('input[name=lines]').click()")
    assert differ(pictures["views"], drawn(browser)) > 0.02
    assert browser.value("getComputedStyle(document.querySelector('.views-key')).display") == "flex"


def test_a_texture_lies_the_right_way_round_and_up_is_up(browser, tmp_path):
    page = write(tmp_path, painted_square(tmp_path))
    opened(browser, page)
    picture = drawn(browser)
    rows, columns = np.nonzero(np.abs(picture - picture[2, 2]).max(axis=2) > 60)
    top, bottom, left, right = rows.min(), rows.max(), columns.min(), columns.max()
    inner = [picture[int(top + v * (bottom - top)), int(left + u * (right - left))] for v in (0.3, 0.7) for u in (0.3, 0.7)]
    assert np.abs(np.array(inner) - PAINT).max() < 30
    assert abs((bottom - top) - (right - left)) < 0.1 * (bottom - top)


def test_colours_of_vertices_are_linear_light_in_the_file_and_srgb_on_the_screen(browser, tmp_path):
    grey = 188  # half of the light
    vertices, faces, normals = ball()
    file = tmp_path / "plain.glb"
    file.write_bytes(make_glb(vertices, faces, normals, colours=np.tile(np.uint8([128, 128, 128, 255]), (len(vertices), 1))))
    opened(browser, write(tmp_path, file))
    picture = drawn(browser)
    assert np.abs(picture[picture.shape[0] // 2, picture.shape[1] // 2] - grey).max() <= 2


PAINT = np.array([(255, 0, 0), (0, 160, 0), (0, 0, 255), (255, 220, 0)])  # top left, top right, bottom left, bottom right


def painted_square(folder):
    """A square that stands upright and faces the turntable's first camera, each quarter in a colour of its own."""
    scene = a_scene(folder)
    run = a_run(folder / "run", scene)
    flat = still(run).towards * (1.0, 1.0, 0.0)
    normal = flat / np.linalg.norm(flat)
    up = np.array([0.0, 0.0, 1.0])
    right = np.cross(up, normal)
    corners = np.array([run.centre - right + up, run.centre + right + up, run.centre - right - up, run.centre + right - up])
    texture = np.repeat(np.repeat(PAINT.reshape(2, 2, 3).astype(np.uint8), 8, 0), 8, 1)
    uvs = np.array([(0, 0), (1, 0), (0, 1), (1, 1)], float)
    file = folder / "square.glb"
    file.write_bytes(make_glb(corners, np.array([(0, 2, 1), (1, 2, 3)]), np.repeat(normal[None], 4, 0), uvs=uvs, texture=texture))
    return file


def test_without_webgl_there_is_a_picture_and_a_word(page, tmp_path):
    with Browser(tmp_path / "profile", "--disable-3d-apis") as browser:
        browser.resize(800)
        browser.open(page)
        browser.wait_for("document.querySelector('.trouble').textContent !== ''")
        assert "WebGL 2" in browser.value("document.querySelector('.trouble').textContent")
        assert not browser.value(IS_LIVE)
        assert browser.value("document.querySelector('.still img').getBoundingClientRect().width") > 30
        assert browser.value("document.querySelector('canvas').getBoundingClientRect().width") == 0


def test_on_paper_the_mesh_is_a_picture_and_the_film_is_gone(browser, page):
    opened(browser, page, media="print", prefers_color_scheme="dark")
    shown = {name: browser.value(f"document.querySelector('{name}').getBoundingClientRect().width > 0")
             for name in ("canvas", ".still img", "video", ".controls", "h1")}
    assert shown == {"canvas": False, ".still img": True, "video": False, ".controls": False, "h1": True}
    assert browser.value("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
