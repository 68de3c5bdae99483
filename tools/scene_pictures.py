"""The room's flat pictures: floor, walls, paintings, book spines.

All are arrays [H, W, 3], sRGB-coded in 0...1, first row on top.
"""

from functools import cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from scene_shapes import mix, noise, rgb

SPINES = 24  # books that look different


def _canvas(width: int, height: int) -> tuple[np.ndarray, np.ndarray]:
    """x to the right and y downwards, each [H, W] pixels at their centres."""
    y, x = np.mgrid[:height, :width] + 0.5
    return x, y


def _noise(x: np.ndarray, y: np.ndarray, size: float, seed: int) -> np.ndarray:
    return noise(np.stack([x, y], -1), size, seed)


def planks() -> np.ndarray:
    """Oak boards along the room, each of its own tone."""
    x, y = _canvas(1600, 1320)
    row = (y // 44).astype(int)
    rng = np.random.default_rng(31)
    shift, length = rng.uniform(0, 420, 40)[row], 420
    column = ((x + shift) // length).astype(int)
    tone = rng.random((40, 8))[row, column % 8]
    grain = 0.55 * _noise(x + 700 * tone, y * 9, 60, 32) + 0.45 * _noise(x + 300 * tone, y * 14, 24, 33)
    c = mix(rgb("b98a5c"), rgb("7d5433"), 0.75 * grain + 0.7 * tone - 0.3)
    gap = np.minimum(np.minimum(y % 44, 44 - y % 44), np.minimum((x + shift) % length, length - (x + shift) % length))
    return mix(c, rgb("3f2918"), (1.3 - gap) / 1.0)


def plaster(ground: np.ndarray, seed: int) -> np.ndarray:
    """Brushed wall paint."""
    x, y = _canvas(640, 640)
    patches = 0.5 * _noise(x, y, 40, seed) + 0.3 * _noise(x, y * 0.5, 10, seed + 1) + 0.2 * _noise(x, y, 10, seed + 2)
    return ground * (0.86 + 0.22 * patches)[..., None]


def wallpaper() -> np.ndarray:
    """Sprigs with berries on pale green; 0.6 m that repeat."""
    size = 384
    page = Image.new("RGB", (size * 2, size * 2), "#dfe3cf")
    draw = ImageDraw.Draw(page)
    for x0, y0, flip in ((0, 0, 1), (size, size, -1), (size, 0, -1), (0, size, 1)):
        _sprig(draw, x0 + size / 2, y0 + size - 30, flip)
    paper = np.asarray(page.resize((size, size), Image.Resampling.LANCZOS)) / 255
    x, y = _canvas(size, size)
    return paper * (0.96 + 0.06 * _noise(x, y, 6, 41))[..., None]


def _sprig(draw: ImageDraw.ImageDraw, x: float, y: float, flip: int) -> None:
    """A bent stalk with leaves on both sides and berries, about 300 pixels high."""
    t = np.linspace(0, 1, 30)
    line = np.stack([x + flip * 45 * np.sin(2.6 * t), y - 310 * t], 1)
    draw.line([tuple(p) for p in line], fill="#5f7f63", width=6)
    for i in range(3, 27, 4):
        for side in (-1, 1):
            angle = -0.9 * side * flip
            tip = line[i] + 74 * np.array([side, -0.55])
            across = np.array([-(tip - line[i])[1], (tip - line[i])[0]]) * 0.24
            middle = line[i] * 0.45 + tip * 0.55
            draw.polygon([tuple(line[i]), tuple(middle + across), tuple(tip), tuple(middle - across)],
                         fill="#7f9f7c" if (i + side) % 8 else "#4f7458")
            draw.line([tuple(line[i]), tuple(tip)], fill="#dfe3cf", width=2)
        berry = line[i + 1] + np.array([np.sin(angle) * 30, 26])
        draw.ellipse([*(berry - 9), *(berry + 9)], fill="#c2543d")


def landscape() -> np.ndarray:
    """What is seen through the window: a sky with clouds above hills and a path."""
    x, y = _canvas(720, 500)
    cloud = 0.6 * _noise(x, y * 2.2, 110, 51) + 0.4 * _noise(x, y * 2, 35, 52)
    c = mix(mix(rgb("7fb4e0"), rgb("d9ecf5"), y / 300), (1.0, 1.0, 1.0), (cloud - 0.5) / 0.15)
    for i, (level, far, code) in enumerate(((285, 26, "9db9c4"), (325, 30, "86a873"), (370, 36, "5f8f4e"), (425, 30, "3f6f3a"))):
        edge = level - far * np.sin(x / (150 - 22 * i) + 1.7 * i) - 12 * _noise(x, 0 * y, 40, 53 + i)
        c = mix(c, rgb(code) * (0.85 + 0.3 * _noise(x, y, 9 + 4 * i, 60 + i))[..., None], (y - edge) / 2)
    for tree in ((130, 372, 46), (205, 385, 34), (560, 362, 52), (610, 392, 30)):
        crown = np.hypot(x - tree[0], (y - tree[1]) * 0.8) - tree[2] * (0.8 + 0.4 * _noise(x, y, 8, 70))
        c = mix(c, rgb("335c34") * (0.7 + 0.6 * _noise(x, y, 6, 71))[..., None], -crown / 3)
    return c


def lantern() -> np.ndarray:
    """Rice paper over wire rings, from the top to the bottom of a globe."""
    _, y = _canvas(4, 360)
    paper = mix(rgb("fff0cf"), rgb("ffd28f"), np.abs(y - 200) / 170)
    return mix(paper, rgb("c08a4a"), (3 - np.abs(y % 30 - 15)) / 2)


def mountains() -> np.ndarray:
    """The large painting: an evening lake."""
    x, y = _canvas(750, 510)
    c = mix(rgb("2f4a7a"), rgb("f3b26a"), y / 250)
    c = mix(c, rgb("ffe9b0"), (46 - np.hypot(x - 500, y - 190)) / 2)
    for i, (level, code) in enumerate(((215, "8a6f93"), (255, "5d5580"), (300, "38406b"))):
        ridge = level - 90 * np.abs(_noise(x, 0 * y, 130 - 28 * i, 80 + i) - 0.5) * 2 - 22 * _noise(x, 0 * y, 22, 85 + i)
        c = mix(c, rgb(code) * (0.85 + 0.3 * _noise(x, y, 14, 88 + i))[..., None], (y - ridge) / 2)
    ripple = _noise(x * 0.22, y, 7, 91)
    lake = mix(mix(rgb("c98a66"), rgb("27406a"), (y - 330) / 150), rgb("ffd79a"), (ripple - 0.72) / 0.1)
    c = mix(c, lake, (y - 335) / 2)
    strokes = 0.9 + 0.2 * _noise(x + y * 0.4, y - 0.3 * x, 6, 92)
    return (c * strokes[..., None]).clip(0, 1)


def poster() -> np.ndarray:
    """Rays from an eye through a grid of pixels into a coloured ball, and a title."""
    page = Image.new("RGB", (600, 720), "#f1e7d3")
    draw = ImageDraw.Draw(page)
    draw.text((300, 70), "RADIANCE", fill="#22304f", font=ImageFont.load_default(84), anchor="mm")
    draw.text((300, 660), "fields of light", fill="#b4472f", font=ImageFont.load_default(52), anchor="mm")
    for i, ring in enumerate(("#22304f", "#2f6f8f", "#4fa0a0", "#e9b44c", "#e4572e", "#b4472f")):
        r = 165 - 26 * i
        draw.ellipse([390 - r, 350 - r, 390 + r, 350 + r], fill=ring)
    for y in range(150, 571, 30):
        draw.line([60, 360, 390, y], fill="#22304f", width=3)
    for i in range(7):
        draw.line([190, 240 + 40 * i, 250, 220 + 40 * i], fill="#b4472f", width=5)
    return np.asarray(page) / 255


def leaf_print(which: int) -> np.ndarray:
    """One of three botanical prints."""
    page = Image.new("RGB", (380, 520), "#f6f0df")
    draw = ImageDraw.Draw(page)
    dark, light = (("#2f5d3a", "#6f9f5f"), ("#8a3f2f", "#d9825a"), ("#2f4f7a", "#7fa0c9"))[which]
    draw.line([190, 470, 190, 60], fill=dark, width=6)
    for i in range(9):
        y, length = 430 - 42 * i, (130 - 9 * i) * (1 + 0.25 * (which == 1))
        for side in (-1, 1):
            tip = (190 + side * length, y - 30 - 22 * which)
            middle = (190 + side * length * 0.5, y - 12)
            wide = 18 - which * 4
            draw.polygon([(190, y), (middle[0], middle[1] + wide), tip, (middle[0], middle[1] - wide - 14)],
                         fill=light if (i + which) % 2 else dark)
    draw.text((190, 496), ("Filix", "Folium", "Salix")[which], fill=dark, font=ImageFont.load_default(28), anchor="mm")
    return np.asarray(page) / 255


@cache
def spines() -> np.ndarray:
    """`SPINES` book spines side by side."""
    rng, wide, high = np.random.default_rng(99), 48, 288
    codes = ("8f2f2f", "27546b", "d9a441", "3f6f4f", "efe3c8", "5b3f6f", "c9694a", "22304f")
    page = np.zeros((high, SPINES * wide, 3))
    x, y = _canvas(wide, high)
    for i in range(SPINES):
        ground, ink = rgb(codes[i % 8]), rgb(("e9cf8f", "2a2622")[i % 8 in (2, 4)])
        c = ground * (0.85 + 0.25 * _noise(x, y, 7, i))[..., None]
        for at in rng.choice(np.array([22, 40, 60, 200, 230, 262]), 3, replace=False):
            c = mix(c, ink, (rng.uniform(2, 5) - np.abs(y - at)) / 1.0)
        title = (np.abs(y - 130) < rng.uniform(30, 55)) & (np.abs(x - 24) < rng.uniform(5, 9))
        lines = title & (_noise(x * 0 + i, y, 5, 7) > 0.38)
        page[:, i * wide : (i + 1) * wide] = mix(c, ink, lines.astype(float))
    return page
