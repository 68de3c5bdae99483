"""The bird that is its own nest: one solid with thin legs, a handle to look through, a bowl, relief and a painted glaze.

It stands on z = -1 and looks along +x; the units are arbitrary, as in the Blender synthetic sets; it is about 2 large.
"""

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from scene_shapes import Part, ball, blend, carve, curve, ellipsoid, mix, noise, rgb, solid, tube

TEAL, DEEP, CREAM, CORAL = rgb("3f9f9c"), rgb("1c5f70"), rgb("f6ead0"), rgb("ea6f52")
COBALT, GOLD, INK, PALE = rgb("27408f"), rgb("f0b13c"), rgb("22262e"), rgb("a9d3d6")
BODY, BODY_RADII, RIM = (0.0, 0.0, 0.02), (0.66, 0.56, 0.50), 0.34
BAND = (0.165, 0.295)  # z of the written band
WORDS = "      neural radiance fields  ~  a bird that is its own nest      "  # the neck hides the ends

NECK = curve((0.42, 0, 0.0), (0.98, 0, 0.06), (0.52, 0, 0.60), (0.74, 0, 0.80))
HANDLE = curve((-0.50, 0, 0.20), (-0.92, 0, 0.62), (-1.36, 0, 0.10), (-0.98, 0, -0.30), (-0.48, 0, -0.16), n=26)
BEAK = curve((0.86, 0, 0.83), (1.02, 0, 0.84), (1.16, 0, 0.71))
CREST = [curve((0.70, 0, 0.94), (0.66, s * 0.02, 1.06), (0.58 - lean, s * 0.10, 1.12 - drop))
         for s, lean, drop in ((-1, 0.02, 0.02), (0, -0.04, -0.03), (1, 0.02, 0.02))]
EYE, EGGS = (0.785, 0.137, 0.865), (((-0.11, 0.10, 0.07), (0.185, 0.15, 0.145)), ((0.12, -0.09, 0.065), (0.15, 0.18, 0.145)))
LEG_RADIUS = 0.017  # 1.7 % of the size from side to side


def figure(cell: float) -> Part:
    """The bird in cells of `cell` units."""
    return solid(distance, colour, (-1.35, -0.75, -1.08), (1.3, 0.75, 1.25), cell, roughness=0.28)


def distance(p: np.ndarray) -> np.ndarray:
    """[N] distance function of the whole bird."""
    q = _folded(p)
    outside = np.maximum(ellipsoid(p, BODY, BODY_RADII) - 0.022 * _wing(p)[0], p[:, 2] - RIM)
    d = carve(blend(outside, _neck_and_head(p, q), 0.10), _hollow(p), 0.03)
    d = blend(blend(d, _rim(p), 0.015), _eggs(p), 0.012)
    d = blend(d, tube(p, HANDLE, np.full(len(HANDLE), 0.045)), 0.07)
    d = blend(d, _legs(q), 0.035)
    d = np.minimum(d, _eye(q))
    return np.minimum(d, _crest(p))


def _folded(p: np.ndarray) -> np.ndarray:
    """[N, 3] the same points with y >= 0: the bird is the same left and right."""
    return p * [1, 0, 1] + np.abs(p) * [0, 1, 0]


def _hollow(p: np.ndarray) -> np.ndarray:
    """What the bowl holds; its upper half stays clear of the neck."""
    return np.maximum(ellipsoid(p, (0, 0, RIM), (0.50, 0.42, 0.38)), p[:, 2] - RIM - 0.02)


def _rim(p: np.ndarray) -> np.ndarray:
    """A row of beads round the opening."""
    around = np.arctan2(p[:, 1] / 0.463, p[:, 0] / 0.533)
    beads = 0.030 + 0.007 * np.cos(44 * around)
    return 0.9 * (np.hypot((np.hypot(p[:, 0] / 0.533, p[:, 1] / 0.463) - 1) * 0.48, p[:, 2] - RIM) - beads)


def _eggs(p: np.ndarray) -> np.ndarray:
    return np.minimum.reduce([ellipsoid(p, *egg) for egg in EGGS])


def _wing(p: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How high the relief of the wing is, 0...1, and the shade of its feathers, 0 at the root and 1 at the edge: [N] each."""
    x, z = p[:, 0] - 0.02, p[:, 2] + 0.09
    x, z = 0.97 * x - 0.26 * z, 0.26 * x + 0.97 * z  # the tail end points down
    width = 0.215 * np.sqrt(np.clip(1 - (x / 0.43) ** 2, 0, 1)) * np.clip(0.9 + 0.45 * x / 0.43, 0, 2)
    inside = np.clip((width - np.abs(z)) / 0.035, 0, 1) * (np.abs(p[:, 1]) > 0.2)
    column = x / 0.105 + 20
    row = z / 0.088 + 20.5 + 0.5 * (np.floor(column) % 2)
    across, along = row % 1 - 0.5, 1 - column % 1
    shade = np.clip(np.hypot(across * 1.75, np.maximum(along - 0.25, 0) * 1.15), 0, 1)
    smooth = inside * inside * (3 - 2 * inside)
    return smooth * (1 - 0.65 * shade**3), np.where(inside > 0.02, shade, -1.0)


def _neck_and_head(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    radii = np.linspace(0.19, 0.098, len(NECK))
    d = blend(tube(q, NECK, radii), ellipsoid(p, (0.74, 0, 0.83), (0.175, 0.15, 0.155)), 0.08)
    return blend(d, tube(p, BEAK, np.linspace(0.062, 0.012, len(BEAK))), 0.03)


def _eye(q: np.ndarray) -> np.ndarray:
    return ball(q, EYE, 0.032)


def _crest(p: np.ndarray) -> np.ndarray:
    stalks = [tube(p, stalk, np.full(len(stalk), 0.012)) for stalk in CREST]
    return np.minimum.reduce(stalks + [ball(p, tuple(stalk[-1]), 0.042) for stalk in CREST])


def _legs(q: np.ndarray) -> np.ndarray:
    """A knee that points backwards, as birds' do, three toes in front and one behind."""
    hip, knee, heel = np.array([0.02, 0.17, -0.40]), np.array([-0.07, 0.19, -0.70]), np.array([0.0, 0.21, -0.985])
    d = tube(q, np.array([hip, knee, heel]), np.array([LEG_RADIUS * 1.5, LEG_RADIUS, LEG_RADIUS]))
    d = blend(d, ball(q, tuple(knee), 0.026), 0.02)
    for toe in ((0.20, 0.02), (0.16, 0.13), (0.16, -0.10), (-0.10, 0.0)):
        tip = heel + np.array([toe[0], toe[1], -0.004])
        d = blend(d, tube(q, np.array([heel, tip]), np.array([LEG_RADIUS, LEG_RADIUS * 0.8])), 0.015)
    return d


# The glaze.


def colour(p: np.ndarray) -> np.ndarray:
    """[N, 3] sRGB-coded colour at points of the surface: the nearest of its pieces gives it."""
    q = _folded(p)
    eggs = [ellipsoid(p, *egg) for egg in EGGS]
    pieces = [(np.abs(ellipsoid(p, BODY, BODY_RADII) - 0.01) - 0.04, _body_colour(p)),
              (_inside_distance(p), _inside_colour(p)),
              (eggs[0] - 0.004, _egg_colour(p, rgb("bfe0dc"), 1)), (eggs[1] - 0.004, _egg_colour(p, rgb("f3d9bd"), 2)),
              (np.maximum(_neck_and_head(p, q), -_hollow(p) - 0.01), _head_colour(p, q)),
              (tube(p, HANDLE, np.full(len(HANDLE), 0.045)), _handle_colour(p)), (_legs(q) + 0.004, _leg_colour(p)),
              (_eye(q) - 0.003, _eye_colour(q)), (_crest(p), _crest_colour(p))]
    nearest = np.argmin([d for d, _ in pieces], 0)
    return np.stack([c for _, c in pieces], 1)[np.arange(len(p)), nearest]


def _inside_distance(p: np.ndarray) -> np.ndarray:
    """Below the body's own distance on the bowl's inner side only."""
    return np.where(p[:, 2] < RIM - 0.004, np.abs(_hollow(p)) - 0.05, 1.0)


def _body_colour(p: np.ndarray) -> np.ndarray:
    z, around = p[:, 2], np.arctan2(p[:, 1] / 0.56, p[:, 0] / 0.66)
    strokes = noise(np.stack([np.cos(around) * 8, np.sin(around) * 8, z * 1.5], 1), 0.35, 3)
    c = mix(DEEP, TEAL, 0.25 + 0.75 * strokes + 0.6 * z)
    c = mix(c, CREAM, np.clip((-0.19 + 0.05 * np.cos(22 * around) - z) / 0.008, 0, 1))  # scalloped belly
    petal = np.hypot((around * 22 / (2 * np.pi) % 1 - 0.5) * 0.15, z + 0.255) - 0.024
    c = mix(c, COBALT, -petal / 0.004)
    lines = np.abs((around * 22 / (2 * np.pi) + 0.5) % 1 - 0.5) * np.clip(-(z + 0.30), 0, 1)
    c = mix(c, CORAL, (0.020 - lines) / 0.006 * (z < -0.30))
    feather = _wing(p)[1]
    c = np.where(feather[:, None] >= 0, mix(mix(GOLD, CORAL, feather * 1.4), rgb("7d2a35"), (feather - 0.80) / 0.1), c)
    return _band_colour(c, z, around)


def _band_colour(c: np.ndarray, z: np.ndarray, around: np.ndarray) -> np.ndarray:
    """The written band under the rim and the rim's own gold."""
    in_band = (z > BAND[0]) & (z < BAND[1])
    c = np.where(in_band[:, None], CREAM, c)
    edge = np.minimum(np.abs(z - BAND[0]), np.abs(z - BAND[1]))
    c = mix(c, COBALT, (0.010 - edge) / 0.003)
    letters = _writing()
    column = (around / (2 * np.pi) % 1 * letters.shape[1]).astype(int) % letters.shape[1]
    row = ((BAND[1] - z) / (BAND[1] - BAND[0]) * letters.shape[0]).astype(int)
    ink = letters[np.clip(row, 0, letters.shape[0] - 1), column] * in_band
    return mix(mix(c, COBALT, ink), GOLD, (z - (RIM - 0.034)) / 0.003)


def _writing() -> np.ndarray:
    """[H, W] 0...1: the words once round the bird, read from left to right from outside."""
    font = ImageFont.load_default(92)
    width = round(font.getlength(WORDS))
    page = Image.new("L", (width, 132))
    ImageDraw.Draw(page).text((0, 66), WORDS, fill=255, font=font, anchor="lm")
    return np.asarray(page) / 255


def _inside_colour(p: np.ndarray) -> np.ndarray:
    around, r = np.arctan2(p[:, 1] / 0.42, p[:, 0] / 0.50), np.hypot(p[:, 0] / 0.50, p[:, 1] / 0.42)
    c = mix(CREAM, rgb("e9d3a6"), noise(p, 0.05, 5))
    for height in (0.25, 0.21):
        c = mix(c, COBALT, (0.008 - np.abs(p[:, 2] - height)) / 0.003)
    wave = np.abs(p[:, 2] - 0.13 - 0.035 * np.sin(16 * around))
    c = mix(c, CORAL, (0.014 - wave) / 0.004)
    return mix(c, PALE, (0.45 - r) / 0.02)


def _egg_colour(p: np.ndarray, ground: np.ndarray, seed: int) -> np.ndarray:
    return mix(ground, rgb("6a4a3c"), (noise(p, 0.028, seed) - 0.68) / 0.05)


def _head_colour(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    c = mix(TEAL, DEEP, noise(p * [1, 1, 0.3], 0.05, 6) * 1.2 - 0.3 + (0.75 - p[:, 2]) * 0.5)
    rings = (p[:, 2] - 0.30 * p[:, 0]) / 0.075
    c = mix(c, CREAM, (0.13 - np.abs(rings % 1 - 0.5)) / 0.05 * ((p[:, 2] > 0.30) & (p[:, 2] < 0.66)))
    to_eye = np.linalg.norm(q - np.array(EYE), axis=1)
    c = mix(c, CREAM, (0.075 - to_eye) / 0.006)
    cheek = np.linalg.norm(q - np.array([0.80, 0.135, 0.765]), axis=1)
    c = mix(c, rgb("f4a08c"), (0.050 - cheek) / 0.02)
    beak = tube(p, BEAK, np.linspace(0.062, 0.012, len(BEAK)))
    c = mix(c, mix(CORAL, GOLD, (p[:, 0] - 0.9) / 0.2), (0.006 - beak) / 0.004 * (p[:, 0] > 0.86))
    return mix(c, INK, (0.005 - np.abs(p[:, 2] - 0.80 + 0.62 * np.maximum(p[:, 0] - 0.98, 0))) / 0.002 * (p[:, 0] > 0.93))


def _handle_colour(p: np.ndarray) -> np.ndarray:
    around = np.arctan2(p[:, 2] - 0.06, -0.80 - p[:, 0])
    twist = np.arctan2(p[:, 1], np.hypot(p[:, 0] + 0.80, p[:, 2] - 0.06) - 0.28)
    stripe = (around * 9 / np.pi + twist / (2 * np.pi)) % 1
    return mix(CREAM, CORAL, (np.abs(stripe - 0.5) - 0.25) / 0.03 + 0.5)


def _leg_colour(p: np.ndarray) -> np.ndarray:
    rings = np.abs(p[:, 2] / 0.07 % 1 - 0.5)
    return mix(CORAL, rgb("a63f3a"), (rings - 0.32) / 0.04 * (p[:, 2] > -0.95))


def _eye_colour(q: np.ndarray) -> np.ndarray:
    glint = np.linalg.norm(q - np.array(EYE) - np.array([0.012, 0.022, 0.018]), axis=1)
    return mix(INK, (1.0, 1.0, 1.0), (0.011 - glint) / 0.002)


def _crest_colour(p: np.ndarray) -> np.ndarray:
    tips = np.min([np.linalg.norm(p - stalk[-1], axis=1) for stalk in CREST], 0)
    return mix(DEEP, GOLD, (0.046 - tips) / 0.003)


def sky() -> np.ndarray:
    """[H, W, 3] linear light round the bird: a bright studio with a warm large lamp, a cool one and light from the floor."""
    height = (0.5 - (np.arange(64) + 0.5) / 64)[:, None] * np.pi
    turn = (np.arange(128) + 0.5)[None] / 64 * np.pi
    light = mix((0.22, 0.20, 0.19), (0.36, 0.39, 0.44), np.sin(height) * 0.5 + 0.5 + 0 * turn)
    for at_turn, at_height, width, lamp in ((0.9, 0.85, 0.50, (6.2, 5.7, 5.0)), (3.4, 0.45, 0.55, (1.6, 2.0, 2.6)),
                                            (5.2, 0.25, 0.40, (1.5, 1.4, 1.3)), (2.0, -1.1, 0.6, (0.8, 0.68, 0.58))):
        away = np.arccos(np.clip(np.sin(height) * np.sin(at_height)
                                 + np.cos(height) * np.cos(at_height) * np.cos(turn - at_turn), -1, 1))
        light = light + np.exp(-(away / width) ** 4)[..., None] * np.array(lamp)
    return light
