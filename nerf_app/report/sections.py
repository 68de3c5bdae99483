"""The page's sections, each from the material to markup; None where there is nothing to say."""

import datetime
from pathlib import Path

import nerf_app
from nerf_app.config import Config, differences, with_overrides
from nerf_app.export.paths import survey
from nerf_app.report.charts import Series, bars, depth_scale, line_chart, percent, top_view
from nerf_app.report.coverage import BINS, FEW, Coverage
from nerf_app.report.markup import Html, element, facts, figure, joined, table
from nerf_app.report.material import Material, is_number, scored
from nerf_app.report.pictures import AMPLIFIED, Comparison, jpeg_uri
from nerf_app.scene.camera import Camera
from nerf_app.scene.paths import shown
from nerf_app.scene.scene import SPLITS

MOST_ROWS = 1000  # photos in the table of scores
MOST_LISTED = 200  # notes, and photos that were left out
MOST_KINDS = 5  # of cameras
SPLIT_NAMES = {"train": "to learn from", "val": "to watch training", "test": "for the closing score, never looked at before"}
ASK_FOR_SCORE = "nerf-app eval RUN"


def duration(seconds: float) -> str:
    """42 s, 3 min 5 s, 1 h 2 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min" + (f" {whole % 60} s" if whole % 60 else "")
    return f"{whole // 3600} h" + (f" {whole % 3600 // 60} min" if whole % 3600 // 60 else "")


def number(value: object, digits: int, unit: str = "") -> str | None:
    """A figure with its unit; None of what is none."""
    return f"{value:.{digits}f}{unit}" if is_number(value) else None


def title_of(material: Material) -> str:
    """The scene's name."""
    return Path(material.scene.root).resolve().name or material.scene.format


def opening(material: Material) -> Html:
    """The scene's name and the few figures that matter most."""
    scene, scores, mesh = material.scene, material.evaluation or {}, material.mesh
    tiles = [("photos", str(len(scene.views))), ("of training", duration(material.run.header.seconds)),
             (f"PSNR of {len(scores.get('photos', ()))} held-out photos", number(scores.get("psnr"), 1, " dB")),
             ("SSIM of the same", number(scores.get("ssim"), 3)),
             ("triangles in the mesh", None if mesh is None else f"{len(mesh.faces):,}")]
    lead = element("p", "What these photos became, how well it fits photos that training never saw, "
                   "and where the pictures do not suffice.", class_="lead")
    return element("header", element("h1", title_of(material)), lead, facts(tiles, "tiles"))


def result(material: Material) -> Html:
    """The mesh to turn around and the film."""
    parts = [viewer(material), film(material)]
    return section("Look at it", *parts)


def viewer(material: Material) -> Html:
    """The mesh in an interactive view with a plain picture in its place where that cannot be."""
    pixels = material.still.pixels
    image = element("img", src=Html(jpeg_uri(pixels)), width=pixels.shape[1], height=pixels.shape[0],
                    alt="The scene as the trained field shows it, from the turntable's first place")
    if material.mesh is None or material.mesh_bytes is None:
        why = (f"The mesh is in {shown(material.mesh_file.name)}: it is too large for this page." if material.mesh is not None
               else "No mesh was made in this run; `nerf-app export RUN mesh` makes one.")
        return element("figure", image, element("figcaption", f"The trained field in a picture. {why}"))
    names = [("colours", "photos' colours"), ("shape", "shape alone"), ("normals", "normals")]
    names += [("views", "photos that saw it")] if material.coverage is not None else []
    modes = [element("label", element("input", type="radio", name="mode", value=value, checked=value == "colours"), words)
             for value, words in names]
    controls = element("fieldset", element("legend", "Show"), *modes,
                       element("label", element("input", type="checkbox", name="lines"), "triangles' edges"), class_="controls")
    canvas = element("canvas", tabindex="0", role="application", aria_label="The mesh in three dimensions; arrow keys turn it",
                     aria_describedby="mesh-help", data_from=" ".join(f"{x:.6g}" for x in material.still.towards),
                     data_room="no" if survey(material.run).is_inward else "yes",
                     data_colours=" ".join(colour for _, _, colour in BINS),
                     data_bounds=" ".join(str(bound) for bound, _, _ in BINS))
    words = ("Drag to turn, with the right button or Shift to move; the wheel zooms after a click, two fingers zoom and move. "
             "Keys: arrows turn, Shift with arrows moves, + and − zoom, 0 goes back, as does a double click.")
    return element("div", canvas, element("div", image, class_="still"), element("p", class_="trouble", role="status"), controls,
                   key([(colour, name) for _, name, colour in BINS], "views-key"),
                   element("p", words, class_="note screen", id="mesh-help"), id="mesh-view")


def film(material: Material) -> Html | None:
    """The turntable."""
    if material.film is None:
        if material.film_file is None:
            return None
        words = f"The film is in video/{shown(material.film_file.name)}: it is too large for this page."
        return element("p", words, class_="note")
    video = element("video", src=Html(material.film), controls=True, muted=True, loop=True, playsinline=True, preload="metadata",
                    poster=Html(jpeg_uri(material.still.pixels)), aria_label="A film that goes round the scene, without sound")
    caption = element("figcaption", "Rendered from the trained field, not from the mesh; it has no sound.")
    return element("div", element("h3", "A way round it"), element("figure", video, caption), class_="screen")


def quality(material: Material) -> Html:
    """Held-out numbers and the worst photos."""
    photos, scores = scored(material.evaluation), material.evaluation or {}
    if not photos:
        words = "No held-out photo was scored, so nothing is known about views between the photos: "
        return section("How well it fits", element("p", words, element("code", ASK_FOR_SCORE), " does it where some "
                       "were kept for a test."))
    split = scores.get("split", "test")
    some = f" (windows that show {percent(scores['part'])} of it)" if scores.get("part", 1) < 1 else ""
    intro = (f"{len(photos)} {split} photos that training did not learn from, each at full size{some}, against what the field "
             "shows in their place. PSNR is the error in decibels (20 is rough, 30 close, from 35 on hard to tell apart); SSIM "
             "compares structure, 1 is equal.")
    means = facts([("PSNR, mean", number(scores.get("psnr"), 2, " dB")), ("SSIM, mean", number(scores.get("ssim"), 4)),
                   ("PSNR, worst and best", f"{photos[0]['psnr']:.2f} and {photos[-1]['psnr']:.2f} dB")])
    rows = [(photo["path"], number(photo["psnr"], 2) or "", number(photo.get("ssim"), 4) or "") for photo in photos[:MOST_ROWS]]
    more = f", the first {MOST_ROWS} of {len(photos)}" if len(photos) > MOST_ROWS else ""
    return section("How well it fits", element("p", intro), means, *worst(material.worst),
                   element("h3", "Every photo"), table(("photo", "PSNR, dB", "SSIM"), rows, f"The worst first{more}"),
                   mesh_quality(material))


def worst(comparisons: tuple[Comparison, ...]) -> list[Html]:
    """Photo, rendering and difference side by side."""
    if not comparisons:
        return []
    parts = [element("h3", "The worst, side by side"),
             element("p", f"Differences are shown {AMPLIFIED:.0f} times as strong: white is equal, orange to black is off, "
                     "grey is not compared.", class_="note")]
    for one in comparisons:
        height, width = one.photo.shape[:2]
        score = f"{one.psnr:.2f} dB"
        shown_as = (("photo", one.photo), (f"rendered, {score}", one.picture), ("difference", one.difference))
        parts += [element("p", element("code", one.name)),
                  element("div", *(figure(jpeg_uri(pixels), f"{what} of {one.name}", what, width, height)
                                   for what, pixels in shown_as), class_="row")]
    return parts


def mesh_quality(material: Material) -> Html | None:
    """The mesh's own score."""
    check = material.mesh_check
    if check is None:
        return None
    scores, longest = material.evaluation or {}, material.run.config.scene.longest_side
    sides = [max(view.camera.width, view.camera.height) for view in material.scene.views]
    is_smaller = longest is not None and max(sides, default=0) > longest
    field = None if is_smaller else number(scores.get("psnr"), 1, " dB")
    words = ("The mesh with its texture, drawn from the held-out photos' places and compared with them"
             + (f", reduced to {longest} pixels" if is_smaller else "") + ". Its surface has one "
             "colour from all sides, so it stays below the field" + (f", which reaches {field}." if field else "."))
    overlap = check.get("silhouette_iou")
    rows = [("PSNR of the mesh, mean", number(check.get("psnr"), 2, " dB")),
            ("silhouettes in common", percent(overlap) if is_number(overlap) else None),
            ("photos compared", str(len(check["photos"])) if check.get("photos") else None)]
    return joined([element("h3", "The mesh against the same photos"), element("p", words), facts(rows)])


def seen(material: Material) -> Html | None:
    """Coverage, and where to take more photos."""
    found = material.coverage
    if found is None:
        return None
    names, colours = [name for _, name, _ in BINS], [colour for _, _, colour in BINS]
    described = "Part of the surface by how many photos saw it: " + ", ".join(
        f"{name}: {percent(part)}" for name, part in zip(names, found.parts, strict=True))
    chart = element("figure", bars(names, found.parts, colours, "training photos that saw it", described),
                    element("figcaption", "The mesh's surface by how many training photos saw it."))
    words = "Cameras, surface and directions that lack photos, seen from above"
    legend = key([("camera", "camera, and where it looks"), ("surface", "surface"), ("thin", f"surface seen by fewer than {FEW}"),
                  ("wedge", "missing: photos taken from there")])
    view = element("figure", top_view(found.map, words), element("figcaption", "From above, along the up axis. ", legend))
    return section("What the photos saw", element("div", chart, view, class_="pair"),
                   element("h3", "Where to take more photos"), *more_photos(found))


def more_photos(found: Coverage) -> list[Html]:
    """What to do about thin coverage, in words."""
    if not found.advice:
        enough = percent(1.0 - found.few)
        return [element("p", f"Nowhere in particular: {enough} of the surface was seen by {FEW} photos or more.")]
    intro = (f"{percent(found.few)} of the surface was seen by fewer than {FEW} photos; there the shape is a guess. "
             "Most of it faces these ways:")
    sides = ("from below", "from above")
    items = [element("li", f"{percent(one.part)} of the surface: take photos {one.band}",
                     Html("") if one.band in sides else joined([" on the side of ", element("code", one.near)]))
             for one in found.advice]
    return [element("p", intro), element("ul", *items),
            element("p", "Hollows and parts that touch something stay unseen however many photos there are, and the mesh may end "
                    "where nothing was seen at all; such gaps are not counted here.", class_="note")]


def depth(material: Material) -> Html:
    """Depth and normals of one view."""
    one = material.geometry
    height, width = one.picture.shape[:2]
    kind = "Depth along the camera's axis" if one.kind == "z" else "Distance along the ray"
    scale = joined([f"{kind}, input units", depth_scale(one.near, one.far)])
    pictures = [figure(jpeg_uri(one.picture), f"rendering of {one.name}", "rendered", width, height),
                figure(jpeg_uri(one.depth), f"depth of {one.name}", scale, width, height),
                figure(jpeg_uri(one.normals), f"normals of {one.name}", "Normals in the input's axes: red grows along +x, green "
                       "along +y, blue along +z", width, height)]
    return section("Depth and normals", element("p", "What the field knows at the place of ", element("code", one.name),
                   "; white is unknown."), element("div", *pictures, class_="views"))


def training(material: Material) -> Html | None:
    """Loss and score by time."""
    curve = material.curve
    if curve is None:
        return None
    words = f"Loss goes from {curve.loss[0]:.3g} to {curve.loss[-1]:.3g}"
    loss = line_chart([Series("line", curve.seconds, curve.loss)], "loss", words, is_log=True)
    scores = [Series("faint", curve.seconds, curve.psnr)]
    words = f"PSNR of the training rays goes to {curve.psnr[-1]:.1f} dB"
    caption = "PSNR of the rays that a step learned from (grey), in decibels."
    if len(curve.val_psnr):
        scores.append(Series("dots", curve.val_seconds, curve.val_psnr))
        words += f", of the validation photos to {curve.val_psnr[-1]:.1f} dB"
        caption = "PSNR in decibels: validation photos, reduced (blue), and the rays that a step learned from (grey)."
    return section("Training", element("div", element("figure", loss, element("figcaption", "Loss, on a logarithmic scale.")),
                   element("figure", line_chart(scores, "PSNR, dB", words), element("figcaption", caption)), class_="pair"))


def input_(material: Material) -> Html:
    """What went in."""
    scene = material.scene
    splits = [f"{len(scene.indices(split))} {SPLIT_NAMES[split]}" for split in SPLITS if scene.indices(split)]
    rows = facts([("format", scene.format), ("photos", f"{len(scene.views)}: " + ", ".join(splits)),
                  ("cameras", lines(camera_lines([view.camera for view in scene.views]))),
                  ("sparse points", None if scene.points is None else f"{len(scene.points):,}"),
                  ("left out", str(len(scene.dropped)) if scene.dropped else "no photo")])
    sheet = [element("li", element("img", src=Html(jpeg_uri(pixels)), alt=name, width=pixels.shape[1], height=pixels.shape[0]))
             for name, pixels in material.thumbnails]
    which = "All training photos" if len(sheet) == len(scene.indices("train")) else f"{len(sheet)} of the training photos"
    return section("What went in", rows, element("h3", which), element("ul", *sheet, class_="sheet"), *said(material))


def said(material: Material) -> list[Html]:
    """What was decided on loading, and what was left out and why."""
    notes, dropped = material.scene.notes[:MOST_LISTED], material.scene.dropped
    parts = []
    if notes:
        parts += [element("h3", "What was found and decided"), element("ul", *(element("li", note) for note in notes))]
    if dropped:
        items = [element("li", element("code", one.name), f": {one.reason}") for one in dropped[:MOST_LISTED]]
        more = [element("li", f"and {len(dropped) - MOST_LISTED} more")] if len(dropped) > MOST_LISTED else []
        parts += [element("h3", "Left out"), element("ul", *items, *more, class_="names", tabindex="0")]
    return parts


def camera_lines(cameras: list[Camera]) -> list[str]:
    """Sizes, lenses and focal lengths, a line for each kind, the most frequent first."""
    kinds: dict[str, list[float]] = {}
    for camera in cameras:
        kinds.setdefault(lens_words(camera), []).append(camera.focal_x_px)
    found = []
    for words, focals in sorted(kinds.items(), key=lambda kind: -len(kind[1]))[:MOST_KINDS]:
        low, high = f"{min(focals):.0f}", f"{max(focals):.0f}"
        focal = f", focal length {low if low == high else f'{low} to {high}'} px"
        found.append(f"{len(focals)} × {words}" + ("" if "equirectangular" in words else focal))
    return found + ([f"and {len(kinds) - MOST_KINDS} more kinds"] if len(kinds) > MOST_KINDS else [])


def lens_words(camera: Camera) -> str:
    """Size and lens, such as "400×400, straight lens"."""
    lens = camera.lens
    bends = any((*lens.radial, *lens.denominator, *lens.tangential, *lens.prism, lens.omega))
    plain = "lens with distortion" if bends else "straight lens"
    family = {"perspective": plain, "fov": "wide lens (FOV)"}.get(lens.family, lens.family)
    return f"{camera.width}×{camera.height}, {family}"


def making(material: Material) -> Html:
    """Program, settings, machine and time."""
    header = material.run.header
    changed = [element("code", f"{name}: {'null' if value is None else value}")
               for name, value in differences(with_overrides(Config(), header.config)).items()]
    stages = lines([f"{name}: {duration(seconds)}" for name, seconds in material.stage_seconds.items()])
    rows = facts([("program", f"nerf_app {nerf_app.__version__}"
                   + (f" (trained with {header.app_version})" if header.app_version != nerf_app.__version__ else "")),
                  ("computed by", header.backend), ("training", f"{header.step:,} steps in {duration(header.seconds)}"),
                  ("time by stage", stages if material.stage_seconds else None),
                  ("differs from base", lines(changed) if changed else "in nothing"),
                  ("this page", f"written {datetime.datetime.now(datetime.UTC):%Y-%m-%d %H:%M} UTC")])
    words = ("Lengths are in input units: the numbers of the file with the cameras, as they stand. The settings in full are in "
             "the run's config.yaml, the scores in its eval.json.")
    return section("How it was made", rows, element("p", words, class_="note"))


def section(title: str, *parts: object) -> Html:
    """A part of the page under a heading."""
    return element("section", element("h2", title), *parts)


def lines(parts: list[object]) -> Html:
    """One below the other."""
    return joined([element("div", part) for part in parts])


def key(entries: list[tuple[str, str]], class_: str = "") -> Html:
    """What colours mean: (a colour or a class of the style, words)."""
    items = []
    for colour, words in entries:
        fill = {"fill": colour} if colour.startswith("#") else {"class_": colour}
        swatch = element("svg", element("rect", x="1", y="1", width="12", height="12", rx="2", **fill), viewBox="0 0 14 14",
                         aria_hidden="true")
        items.append(element("li", swatch, words))
    return element("ul", *items, class_=f"key {class_}".strip())


SECTIONS = (result, quality, seen, depth, training, input_, making)
