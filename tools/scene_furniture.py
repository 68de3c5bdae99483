"""The carved things of the room, in metres, +z up. Where a function gives a piece, it is a pair: distance, colour."""

import numpy as np

from scene_shapes import (
    Colour,
    Distance,
    Part,
    ball,
    blend,
    box,
    carve,
    curve,
    cylinder,
    ellipsoid,
    mix,
    noise,
    rgb,
    solid,
    tube,
)

Piece = tuple[Distance, Colour]
TABLE, TABLE_TOP = (0.25, -0.15), 0.748
CREAM, LEAF = rgb("f0e6d2"), rgb("3f7a3c")


# Colour functions.


def plain(code: str) -> Colour:
    """One colour all over."""
    return lambda p: np.tile(rgb(code), (len(p), 1))


def stripes(ground: str, line: str, per_metre: float, share: float, base: float = 0.0) -> Colour:
    """Level rings, the lines' `share` of the height; they count from height `base`."""
    def colour(p: np.ndarray) -> np.ndarray:
        away = np.abs((p[:, 2] - base) * per_metre % 1 - 0.5)  # 0.5 in the middle of a line
        return mix(rgb(ground), rgb(line), (away - 0.5 + share / 2) / 0.05)

    return colour


def grained(code: str, size: float) -> Colour:
    """One colour, lighter and darker in spots of about `size`."""
    return lambda p: rgb(code) * (0.85 + 0.3 * noise(p, size, 20))[:, None]


def wood(light: str, dark: str, stretch: tuple) -> Colour:
    """Grain, drawn out along each axis by `stretch`."""
    def colour(p: np.ndarray) -> np.ndarray:
        q = p / np.array(stretch)
        return mix(rgb(light), rgb(dark), noise(q, 0.02, 11) * 0.8 + noise(q, 0.006, 12) * 0.5 - 0.2)

    return colour


def assembled(pieces: list[Piece], low: tuple, high: tuple, cell: float) -> Part:
    """One solid of several pieces; each paints what is nearest to it."""
    def colour(p: np.ndarray) -> np.ndarray:
        nearest = np.stack([np.abs(distance(p)) for distance, _ in pieces], 1).argmin(1)
        return np.stack([paint(p) for _, paint in pieces], 1)[np.arange(len(p)), nearest]

    return solid(lambda p: np.minimum.reduce([distance(p) for distance, _ in pieces]), colour, low, high, cell)


# Furniture.


def table() -> Part:
    """Round, on four splayed legs."""
    x, y = TABLE
    feet = [np.array([[x + 0.13 * a, y + 0.13 * b, 0.72], [x + 0.28 * a, y + 0.28 * b, 0.0]]) for a in (-1, 1) for b in (-1, 1)]

    def distance(p: np.ndarray) -> np.ndarray:
        legs = np.minimum.reduce([tube(p, foot, np.array([0.034, 0.018])) for foot in feet])
        return blend(legs, cylinder(p, (x, y, 0.73), 0.58, 0.018, 0.01), 0.03)

    return solid(distance, wood("b98150", "7f5230", (1, 8, 1)), (x - 0.62, y - 0.62, 0.004), (x + 0.62, y + 0.62, 0.77), 0.009)


def chairs() -> list[Part]:
    """Two of them, one pulled out."""
    return [_chair().placed(1, 0.5, (0.95, -0.75, 0)), _chair().placed(1, 3.6, (-0.55, 0.35, 0))]


def _chair() -> Part:
    """A chair with thin spindles, at the origin, its back towards -y."""
    back = curve((-0.2, -0.16, 0.86), (-0.16, -0.29, 0.90), (0.16, -0.29, 0.90), (0.2, -0.16, 0.86), n=9)
    spindles = [np.array([[0.765 * top[0], -0.15 + 0.3 * (top[1] + 0.16), 0.45], top]) for top in back]
    legs = [np.array([[0.14 * s, 0.14 * t, 0.44], [0.20 * s, 0.20 * t, 0.0]]) for s in (-1, 1) for t in (-1, 1)]

    def distance(p: np.ndarray) -> np.ndarray:
        seat = carve(cylinder(p, (0, 0, 0.445), 0.215, 0.02, 0.018), ellipsoid(p, (0, 0, 0.53), (0.2, 0.2, 0.075)), 0.02)
        frame = [tube(p, spindle, np.array([0.011, 0.008])) for spindle in spindles]
        frame += [tube(p, leg, np.array([0.019, 0.013])) for leg in legs] + [tube(p, back, np.full(len(back), 0.017))]
        return blend(np.minimum.reduce(frame), seat, 0.015)

    return solid(distance, wood("4f7f86", "2f5a66", (1, 1, 6)), (-0.28, -0.32, 0.003), (0.28, 0.28, 0.95), 0.007)


def sofa() -> Part:
    """Along the wall at -x, with a checked and a striped cushion."""
    cushions = [((-1.98, -0.55, 0.60), (0.09, 0.20, 0.20)), ((-1.96, 0.42, 0.60), (0.10, 0.20, 0.19))]
    feet = [(x, y, 0.06) for x in (-1.45, -2.1) for y in (-0.9, 0.7)]

    def distance(p: np.ndarray) -> np.ndarray:
        seats = [box(p, (-1.76, y, 0.39), (0.38, 0.395, 0.075), 0.05) for y in (-0.50, 0.30)]
        d = np.minimum.reduce([box(p, (-1.80, -0.10, 0.24), (0.42, 0.88, 0.13), 0.05), *seats])
        d = blend(d, box(p, (-2.13, -0.10, 0.55), (0.11, 0.86, 0.33), 0.08), 0.04)
        for y in (-1.0, 0.80):
            d = blend(d, box(p, (-1.80, y, 0.38), (0.42, 0.10, 0.22), 0.07), 0.03)
        others = [cylinder(p, foot, 0.022, 0.06, 0.004) for foot in feet] + [ellipsoid(p, *cushion) for cushion in cushions]
        return np.minimum.reduce([d, *others])

    def colour(p: np.ndarray) -> np.ndarray:
        c = mix(rgb("c9932f"), rgb("a06f1e"), noise(p, 0.02, 13) * 0.7 + noise(p, 0.15, 14) * 0.5 - 0.1)
        is_checked, is_striped = (np.abs(ellipsoid(p, *cushion)) < 0.006 for cushion in cushions)
        checks = ((p[:, 1] * 16).round() + (p[:, 2] * 16).round()) % 2
        c = np.where(is_checked[:, None], mix(CREAM, rgb("2f5a66"), checks), c)
        return np.where(is_striped[:, None], stripes("b4472f", "f0e6d2", 14, 0.4)(p), c)

    return solid(distance, colour, (-2.29, -1.15, 0.002), (-1.32, 0.95, 0.93), 0.010)


def rug() -> Part:
    """Round, under the table, with rings, petals and a star."""
    x, y = TABLE

    def colour(p: np.ndarray) -> np.ndarray:
        r, turn = np.hypot(p[:, 0] - x, p[:, 1] - y), np.arctan2(p[:, 1] - y, p[:, 0] - x)
        petals = 0.5 + 0.5 * np.cos(12 * turn) - 2.5 * np.abs(r - 0.82)
        c = mix(rgb("7c2f33"), rgb("a2463c"), noise(p, 0.012, 16))
        c = mix(mix(c, rgb("e8d3ab"), (petals - 0.5) / 0.05), rgb("27546b"), (petals - 0.72) / 0.05)
        for ring, width, code in ((1.09, 0.035, "27546b"), (1.03, 0.012, "e8d3ab"), (0.55, 0.02, "e8d3ab"),
                                  (0.48, 0.03, "27546b")):
            c = mix(c, rgb(code), (width - np.abs(r - ring)) / 0.006)
        star = 0.34 * (0.72 + 0.28 * np.cos(8 * turn)) - r
        c = mix(mix(c, rgb("d9a441"), star / 0.008), rgb("7c2f33"), (star - 0.06) / 0.008)
        return c * (0.9 + 0.2 * noise(p, 0.008, 17))[:, None]

    low, high = (x - 1.2, y - 1.2, 0.001), (x + 1.2, y + 1.2, 0.03)
    return solid(lambda p: cylinder(p, (x, y, 0.0), 1.15, 0.012, 0.005), colour, low, high, 0.010)


def curtains() -> Part:
    """Two folded cloths and the rod they hang from."""
    rod, knobs = np.array([[-1.45, 1.80, 2.30], [1.45, 1.80, 2.30]]), ((-1.46, 1.80, 2.30), (1.46, 1.80, 2.30))

    def distance(p: np.ndarray) -> np.ndarray:
        x = np.abs(p[:, 0])  # the same on both sides
        folds = 0.03 * np.sin(62 * x) * np.clip(2.35 - p[:, 2], 0.2, 1)
        sheet = 0.5 * box(np.stack([x, p[:, 1] - folds, p[:, 2]], 1), (1.12, 1.80, 1.25), (0.22, 0.012, 1.02), 0.008)
        return np.minimum.reduce([sheet, tube(p, rod, np.full(2, 0.012)), *(ball(p, knob, 0.025) for knob in knobs)])

    def colour(p: np.ndarray) -> np.ndarray:
        cloth = stripes("d7b8a0", "b4472f", 1 / 0.24, 0.28)(p) * (0.88 + 0.24 * noise(p * [1, 1, 0.3], 0.012, 18))[:, None]
        return np.where((p[:, 2] > 2.274)[:, None], rgb("4a3428"), cloth)

    return solid(distance, colour, (-1.5, 1.70, 0.2), (1.5, 1.89, 2.36), 0.009)


def plant() -> Part:
    """Fifteen leaves on bent stalks in a striped pot."""
    rng, foot, pieces = np.random.default_rng(8), np.array([-1.85, 1.42, 0.40]), []
    x, y, z = foot
    pieces.append((lambda p: carve(cylinder(p, (x, y, 0.2), 0.17, 0.2, 0.03), cylinder(p, (x, y, z), 0.145, 0.05, 0.01), 0.01),
                   stripes("c9694a", "f0e2c8", 9, 0.4)))
    pieces.append((lambda p: cylinder(p, (x, y, 0.33), 0.15, 0.025, 0.005), grained("4a3426", 0.012)))  # earth
    for i in range(15):
        out = np.array([np.cos(i * 2.4), np.sin(i * 2.4), 0])
        tip = foot + out * rng.uniform(0.14, 0.33) + [0, 0, rng.uniform(0.25, 0.95)]
        pieces.append(_leaf(foot, tip, out))
    return assembled(pieces, (-2.29, 0.86, 0.002), (-1.25, 1.88, 1.55), 0.008)


def _leaf(foot: np.ndarray, tip: np.ndarray, out: np.ndarray) -> Piece:
    """A stalk that rises from `foot` and bends to `tip`, and a folded blade beyond, all three [3]."""
    stalk = curve(tuple(foot), (*foot[:2], (foot + tip)[2] / 2), tuple(tip), n=6)
    ahead = (0.9 * out + [0, 0, -0.35]) / np.hypot(0.9, 0.35)
    side = np.cross([0, 0, 1.0], out)
    axes = np.stack([ahead, side, np.cross(ahead, side)], 1)

    def distance(p: np.ndarray) -> np.ndarray:
        q = (p - tip) @ axes - [0.11, 0, 0]
        q[:, 2] += 1.1 * q[:, 0] ** 2 - 0.6 * np.abs(q[:, 1])  # bent lengthwise, folded along the rib
        return np.minimum(tube(p, stalk, np.full(6, 0.007)), 0.8 * ellipsoid(q, (0, 0, 0), (0.15, 0.065, 0.007)))

    def colour(p: np.ndarray) -> np.ndarray:
        green = LEAF * (0.75 + 0.5 * noise(p, 0.05, 15))[:, None]
        return mix(green, rgb("b9cf7a"), (0.006 - np.abs((p - tip) @ side)) / 0.004)

    return distance, colour


# Small things.


def on_the_table() -> Part:
    """A bowl of fruit, a mug, a vase with flowers and a letter."""
    x, y = TABLE
    bowl, vase = (x + 0.20, y - 0.22), (x + 0.20, y + 0.22)
    pieces = [_bowl(*bowl), _mug(x - 0.22, y - 0.25), _vase(*vase), _letter(x - 0.02, y - 0.36)]
    for dx, dy, dz, radius, code in ((-0.05, 0.02, 0.075, 0.042, "e88a1f"), (0.045, 0.045, 0.078, 0.040, "c8362c"),
                                     (0.02, -0.05, 0.076, 0.041, "dfb82c"), (0.0, 0.005, 0.125, 0.038, "7fa23a")):
        pieces.append(_fruit((bowl[0] + dx, bowl[1] + dy, TABLE_TOP + dz), radius, code))
    for turn, height, code in ((0.3, 0.40, "e4572e"), (1.8, 0.44, "f2c14e"), (3.2, 0.38, "d98ba3"), (4.4, 0.42, "f4efe6"),
                               (5.4, 0.36, "8a5fa8")):
        at = (vase[0] + 0.09 * np.cos(turn), vase[1] + 0.09 * np.sin(turn), TABLE_TOP + height)
        pieces += [_stem(vase, at), _blossom(at, code)]
    return assembled(pieces, (x - 0.36, y - 0.5, TABLE_TOP - 0.004), (x + 0.45, y + 0.42, TABLE_TOP + 0.52), 0.005)


def _bowl(x: float, y: float) -> Piece:
    z = TABLE_TOP + 0.085  # of the rim

    def distance(p: np.ndarray) -> np.ndarray:
        hollow = np.minimum(ellipsoid(p, (x, y, z + 0.005), (0.13, 0.13, 0.075)), z - p[:, 2])
        return carve(ellipsoid(p, (x, y, z), (0.14, 0.14, 0.085)), hollow, 0.006)

    return distance, stripes("f1eadb", "2f6f9f", 1 / 0.035, 0.4, TABLE_TOP)


def _mug(x: float, y: float) -> Piece:
    z = TABLE_TOP + 0.045

    def distance(p: np.ndarray) -> np.ndarray:
        handle = np.hypot(np.hypot(p[:, 0] - x + 0.045, p[:, 2] - z) - 0.024, p[:, 1] - y) - 0.007
        return carve(blend(cylinder(p, (x, y, z), 0.04, 0.045, 0.008), handle, 0.008),
                     cylinder(p, (x, y, z + 0.015), 0.034, 0.05, 0.006), 0.005)

    return distance, plain("d8634b")


def _vase(x: float, y: float) -> Piece:
    def distance(p: np.ndarray) -> np.ndarray:
        heights, radii = np.array([0.03, 0.08, 0.19, 0.22]), np.array([0.045, 0.07, 0.025, 0.03])
        outside = tube(p, np.stack([np.full(4, x), np.full(4, y), TABLE_TOP + heights], 1), radii)
        return carve(outside, cylinder(p, (x, y, TABLE_TOP + 0.25), 0.02, 0.06, 0.004), 0.006)

    def colour(p: np.ndarray) -> np.ndarray:
        waves = np.sin(160 * p[:, 2] + 3 * np.sin(8 * np.arctan2(p[:, 1] - y, p[:, 0] - x)))
        return mix(rgb("2c5f5d"), rgb("e6d9b8"), (waves - 0.5) / 0.1)

    return distance, colour


def _letter(x: float, y: float) -> Piece:
    def colour(p: np.ndarray) -> np.ndarray:
        lines = (0.25 - np.abs(p[:, 1] / 0.02 % 1 - 0.5)) / 0.1
        return mix(rgb("f6f1e4"), rgb("394b6a"), lines * (noise(p * [1, 3, 0], 0.02, 19) > 0.4))

    return (lambda p: box(p, (x, y, TABLE_TOP + 0.004), (0.11, 0.08, 0.006), 0.003)), colour


def _fruit(at: tuple, radius: float, code: str) -> Piece:
    return (lambda p: ball(p, at, radius)), grained(code, 0.012)


def _stem(vase: tuple, at: tuple) -> Piece:
    line = curve((*vase, TABLE_TOP + 0.18), (*vase, TABLE_TOP + 0.30), at, n=6)
    return (lambda p: tube(p, line, np.full(6, 0.004))), plain("4f7d3f")


def _blossom(at: tuple, code: str) -> Piece:
    """Six round petals about a knob."""
    petals = [(at[0] + 0.028 * np.cos(turn), at[1] + 0.028 * np.sin(turn), at[2]) for turn in np.arange(6) * np.pi / 3]

    def distance(p: np.ndarray) -> np.ndarray:
        return np.minimum.reduce([ball(p, at, 0.017), *(ellipsoid(p, petal, (0.018, 0.018, 0.009)) for petal in petals)])

    return distance, lambda p: mix(rgb("5b3a1e"), rgb(code), (np.linalg.norm(p - np.array(at), axis=1) - 0.016) / 0.004)


def on_the_sill() -> Part:
    """Two small cacti and a bottle in the window."""
    z, pieces = 0.85, []
    for x, height in ((-0.55, 0.10), (0.60, 0.15)):
        pot = (x, 1.92, z + 0.045)
        pieces += [((lambda p, pot=pot: cylinder(p, pot, 0.055, 0.045, 0.01)), plain("c9694a")), _cactus(x, z, height)]
    bottle = np.array([[0.12, 1.92, z + h] for h in (0.05, 0.13, 0.18, 0.26)])
    pieces.append(((lambda p: tube(p, bottle, np.array([0.05, 0.05, 0.016, 0.016]))), plain("2f6f8f")))
    return assembled(pieces, (-0.65, 1.83, z - 0.004), (0.70, 2.02, z + 0.40), 0.006)


def _cactus(x: float, z: float, height: float) -> Piece:
    def distance(p: np.ndarray) -> np.ndarray:
        ribs = 0.004 * np.cos(12 * np.arctan2(p[:, 1] - 1.92, p[:, 0] - x))
        return ellipsoid(p, (x, 1.92, z + 0.08 + height / 2), (0.045, 0.045, height)) - ribs

    return distance, lambda p: mix(LEAF, rgb("a8c686"), noise(p, 0.01, 21) * 2 - 1)


def on_the_shelf() -> Part:
    """A globe and a jug between the books."""
    globe, jug = np.array([2.13, -0.25, 1.34]), np.array([2.13, -0.22, 1.66])
    neck, body = np.array([globe - [0, 0, 0.14], globe - [0, 0, 0.10]]), np.array([jug, jug + [0, 0, 0.08], jug + [0, 0, 0.17]])

    def jug_distance(p: np.ndarray) -> np.ndarray:
        handle = np.hypot(np.hypot(p[:, 1] - jug[1] - 0.06, p[:, 2] - jug[2] - 0.09) - 0.04, p[:, 0] - jug[0]) - 0.01
        return blend(tube(p, body, np.array([0.075, 0.06, 0.035])), handle, 0.02)

    def land_and_sea(p: np.ndarray) -> np.ndarray:
        return mix(rgb("3f7fa6"), rgb("c8b560"), (noise(p, 0.06, 22) - 0.55) / 0.03)

    pieces = [((lambda p: ball(p, globe, 0.115)), land_and_sea),
              ((lambda p: cylinder(p, globe - [0, 0, 0.14], 0.05, 0.016, 0.005)), plain("4a3428")),
              ((lambda p: tube(p, neck, np.full(2, 0.012))), plain("4a3428")),
              (jug_distance, stripes("efe6d2", "b4472f", 16, 0.3))]
    return assembled(pieces, (1.98, -0.42, 1.18), (2.28, -0.05, 1.90), 0.007)
