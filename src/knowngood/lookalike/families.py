"""Package families: a class knows one outline, its leads and its pocket; one line registers another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from knowngood.lookalike.lots import Streams
from knowngood.lookalike.marking import FONTS, Font, Word, marking_layer
from knowngood.lookalike.package import LeadStyle, cathode_lines, draw_body, draw_lead
from knowngood.lookalike.pocket import (
    debris,
    draw_crackle,
    draw_pocket,
    draw_tape,
    mirrored,
    scattered,
    shade_floor,
    wall,
)
from knowngood.lookalike.scene import Box, Lead, Scene, follow
from knowngood.lookalike.shapes import Stroke
from knowngood.registry import Registry


class Family(Protocol):
    """One package family. Implementations are plain classes without arguments."""

    summary: str  # one line for the docs
    width: int  # of its pictures, pixels
    height: int
    softness: tuple[float, float]  # sigma of what neighbours share of the noise, across and down, pixels
    scan: float  # how strongly the lines of the camera's scan show, 1 = as on the diodes

    def product(self, scene: Scene) -> str:
        """Names the product that the scene's lot is."""
        ...

    def draw_pocket(self, scene: Scene, streams: Streams) -> None:
        """Draws tape, pocket and floor, without the part."""
        ...

    def draw_part(self, scene: Scene, streams: Streams) -> None:
        """Draws body, marking and leads, and fills the scene's geometry and layers."""
        ...

    def placed(self, box: Box, scene: Scene) -> Box:
        """Turns a box of an average SOT23 picture into a box of this scene's picture."""
        ...


FAMILIES: Registry[type[Family]] = Registry(
    "package family",
    "knowngood.tape_families",
    {
        "sod": "knowngood.lookalike.families:Sod",
        "sot23": "knowngood.lookalike.families:Sot23",
    },
)


@dataclass(frozen=True)
class Variant:
    """One of the diodes.

    Attributes:
        name: For the product column.
        body: In the part's frame.
        leads: The leads.
        metal: How they look.
        lines: Band of the cathode lines, thickness of a line.
        floor: Grey levels that the floor is brighter than the first variant's.
    """

    name: str
    body: Box
    leads: tuple[Lead, ...]
    metal: LeadStyle
    lines: tuple[Box, float]
    floor: float


_KNEED = LeadStyle(
    stops=(
        (0.0, 78), (0.04, 110), (0.12, 112), (0.17, 165), (0.21, 190), (0.27, 160), (0.33, 116), (0.39, 76), (0.43, 66),
        (0.48, 94), (0.55, 82), (0.62, 92), (0.67, 140), (0.71, 240), (0.75, 300), (0.9, 300), (0.94, 215), (1.0, 105),
    ),
    foot_end=0.4, knee=(0.7, 0.93), banding=22.0, grain=0.10,
)  # fmt: skip
_PLAIN = LeadStyle(
    stops=((0.0, 180), (0.05, 230), (0.5, 243), (0.92, 238), (1.0, 160)),
    foot_end=-1.0, knee=(2.0, 3.0), banding=0.0, grain=0.10,
)  # fmt: skip
_GULL = Variant(
    "SOD-A",
    (-62.0, -41.0, 62.0, 41.0),
    (Lead((-16.5, -66.0, 16.5, -39.0), -1, "upper"), Lead((-18.0, 40.0, 15.0, 68.5), 1, "lower")),
    _KNEED,
    ((-62.0, 7.5, 62.0, 28.5), 1.9),
    0.0,
)
_TALL = Variant(
    "SOD-W",
    (-57.0, -56.0, 57.0, 56.0),
    (Lead((-25.0, -82.0, 25.0, -55.0), -1, "upper"), Lead((-25.0, 56.0, 25.0, 82.0), 1, "lower")),
    _PLAIN,
    ((-57.0, 25.0, 57.0, 45.0), 1.3),
    9.0,
)
_BLOCK = Variant(
    "SOD-C",
    (-58.5, -46.0, 58.5, 46.0),
    (Lead((-15.0, -71.0, 15.0, -47.0), -1, "upper"), Lead((-15.0, 48.0, 15.0, 71.0), 1, "lower")),
    _PLAIN,
    ((-58.5, 8.0, 58.5, 28.0), 1.6),
    12.0,
)

_TAPE = (
    (-122.0, 34.0), (-115.0, 36.0), (-113.0, 50.0), (-110.0, 27.0), (-92.0, 28.0), (-90.0, 62.0), (-89.0, 78.0),
    (-88.0, 62.0), (-86.0, 92.0), (-84.5, 68.0), (-83.0, 74.0), (-81.5, 50.0), (-80.0, 46.0), (-77.0, 40.0),
    (-40.0, 42.0), (0.0, 42.0), (40.0, 41.0),
    (80.0, 38.0), (90.0, 36.0), (91.5, 92.0), (92.5, 100.0), (94.0, 52.0), (97.0, 42.0), (104.0, 40.0),
    (107.0, 28.0), (122.0, 28.0),
)  # fmt: skip
_WALL = (
    (-96.0, -69.0), (-97.0, -58.0), (-106.0, -50.0), (-107.0, -38.0), (-107.0, 50.0), (-106.0, 60.0),
    (-98.0, 68.0), (-97.0, 79.0), (-104.0, 85.0), (-113.0, 85.0),
)  # fmt: skip
_ELBOW = (
    (-95.0, -71.0), (-96.5, -60.0), (-104.0, -54.0), (-107.0, -50.0), (-107.5, -40.0), (-107.5, 38.0),
    (-106.0, 48.0), (-99.0, 56.0), (-97.0, 64.0), (-96.0, 84.0),
)  # fmt: skip
_LEANING = (
    (-97.0, -68.0), (-100.0, -56.0), (-106.0, -42.0), (-107.0, -20.0), (-107.0, 34.0), (-104.0, 48.0),
    (-97.5, 62.0), (-97.0, 82.0),
)  # fmt: skip


class Sod:
    """Two leads, five cathode lines and two characters upside down."""

    summary = "SOD, two leads, 224 x 224 pixels, three variants (batch 1 of the contest)"
    width = 224
    height = 224
    softness = (0.72, 0.6)
    scan = 1.0

    def product(self, scene: Scene) -> str:
        """Names the product: its variant and marking code."""
        return f"{_variant(scene).name}-{scene.lot.code}"

    def draw_pocket(self, scene: Scene, streams: Streams) -> None:
        """Draws tape, walls with their elbows, and the pale outlines of the floor."""
        variant, rng = _variant(scene), streams.of("tape")
        own = scene.lot.variant * 7 % 1  # another tape a lot: its edges lie elsewhere and shine otherwise
        stops = tuple(
            (v + 8 * (own - 0.5) * (v < -70), level + (variant.floor if abs(v) < 85 else 0) + _edge_shine(v, own))
            for v, level in _TAPE
        )
        draw_tape(scene, stops, 0.003 + 0.009 * own, 122.0, rng)
        shade_floor(scene, 106.0, 4.5, rng)
        rng = streams.of("pocket")
        level = 102.0 * float(rng.uniform(0.75, 1.25))
        if variant is _GULL:
            curve = tuple((x * 1.035, y) for x, y in (_WALL, _ELBOW, _LEANING)[int(own * 3)])
            strokes = [
                *wall(curve, 8.0, level, 16),
                *wall(mirrored(curve), 8.0, level, 16),
                *scattered(_outlines(0.0), rng),
            ]
        elif variant is _TALL:
            straight = ((-103.0, -92.0), (-103.5, 0.0), (-102.0, 92.0))
            strokes = [
                *wall(straight, 5.0, level, 30),
                *wall(mirrored(straight), 5.0, level, 30),
                *scattered(_outlines(14.0), rng),
            ]
        else:
            faint = ((-92.0, -80.0), (-93.0, 0.0), (-91.0, 80.0))
            strokes = [Stroke(faint, 7.0, 24), Stroke(mirrored(faint), 7.0, 24), *scattered(_outlines(4.0), rng)]
        draw_pocket(scene, strokes, 86.0 + (variant is _TALL) * 10, rng)
        if scene.lot.floor and scene.lot.name.endswith("D"):
            draw_crackle(scene, 11.0, streams.of("crackle"))
        debris(scene, streams.of("dust"), 90.0)

    def draw_part(self, scene: Scene, streams: Streams) -> None:
        """Draws body, lines, characters and leads."""
        variant = _variant(scene)
        scene.body, scene.leads = variant.body, variant.leads
        draw_body(scene, 55.0 + variant.floor * 0.6, streams.of("body"))
        band, thickness = variant.lines
        at, added = cathode_lines(scene, band, 5, thickness, streams.of("lines"))
        scene.marking[at] += added
        rng = streams.of("marking")
        at, added = marking_layer(scene, _words(scene, variant, rng), FONTS[scene.lot.font], rng)
        scene.marking[at] += added
        scene.image += scene.marking
        scene.marking_box = (float(at[1].start), float(at[0].start), float(at[1].stop), float(at[0].stop))
        scene.under_leads = scene.image.copy()
        for lead in scene.leads:
            draw_lead(scene, lead, variant.metal, streams.of(f"lead {lead.name}"))

    def placed(self, box: Box, scene: Scene) -> Box:
        """Shrinks a box of SOT23 to the diode's body; what lay on a lead stays on a lead."""
        x0, y0, x1, y1 = _variant(scene).body
        scale = (x1 - x0) / 202.0, (y1 - y0) / 84.0
        return follow(box, MIDDLE, scale, scene)


def _variant(scene: Scene) -> Variant:
    return _GULL if scene.lot.variant < 0.82 else _TALL if scene.lot.variant < 0.91 else _BLOCK


def _edge_shine(v: float, own: float) -> float:
    return (
        45 * (own - 0.55)
        if v in (-90.0, -89.0, -88.0, -86.0, -84.5, -83.0)
        else 50 * (own * 3 % 1 - 0.6)
        if v in (91.5, 92.5)
        else 0
    )


def _words(scene: Scene, variant: Variant, rng: np.random.Generator) -> list[Word]:
    lot = scene.lot
    dx, dy = rng.normal(0, 1.5, 2)
    turn = 0 if lot.variant * 13 % 1 < 0.05 else 2
    if variant is _TALL:
        return [
            Word("W" + "87655"[len(lot.name) % 5] + "6", 2 + dx, -37 + dy, (17.0, 14.0), 21.0, 2, 1.1),
            Word(lot.code, -4 + dx, -2 + dy, (17.0, 24.0), 21.0, 3, 0.9),
        ]
    return [Word(lot.code, -6 + dx, -14.5 + dy, (26.0 * lot.stretch, 24.0), 38.0 * lot.stretch, turn)]


def _outlines(taller: float) -> list[Stroke]:
    """The floor's pale rounded outline above and below the part, with glints beside it."""
    left = [
        Stroke(((-57.0, -66.0 - taller), (-64.0, -65.0 - taller), (-65.5, -54.0 - taller), (-65.5, -30.0)), 1.8, 36),
        Stroke(((-66.5, 58.0), (-65.0, 79.0 + taller), (-60.0, 82.0 + taller)), 1.6, 32),
        Stroke(((-76.0, -64.0), (-79.0, -50.0), (-78.0, -36.0)), 1.0, 24),
        Stroke(((-72.0, -62.0), (-73.0, -40.0)), 1.0, 20),
        Stroke(((-77.0, 60.0), (-79.0, 72.0), (-75.0, 80.0)), 1.0, 22),
        Stroke(((-82.0, -58.0), (-84.0, -48.0)), 1.0, 26),
        Stroke(((-83.0, 62.0), (-84.0, 70.0)), 1.0, 20),
    ]
    right = [Stroke(mirrored(s.points), s.width, s.level * 0.9) for s in left]
    bars = [
        Stroke(((-22.0, -71.0 - taller), (4.0, -71.0 - taller)), 1.4, 11),
        Stroke(((-20.0, 80.0 + taller), (6.0, 80.0 + taller)), 1.2, 11),
    ]
    return left + right + bars


MIDDLE = (131.0, 143.0)  # of the body in an average picture
_BODY = (-101.0, -42.0, 101.0, 42.0)
_LEADS = (
    Lead((-84.5, -90.0, -53.5, -40.0), -1, "upper left"),
    Lead((53.5, -90.0, 84.5, -40.0), -1, "upper right"),
    Lead((-12.0, 40.0, 19.0, 89.0), 1, "lower"),
)
_METAL = LeadStyle(
    stops=(
        (0.0, 120), (0.03, 190), (0.08, 195), (0.16, 160), (0.28, 140), (0.36, 110), (0.42, 96), (0.48, 84),
        (0.53, 74), (0.57, 84), (0.61, 116), (0.65, 205), (0.68, 268), (0.76, 286), (0.84, 290), (0.87, 200),
        (0.9, 245), (0.93, 262), (0.955, 190), (1.0, 140),
    ),
    foot_end=0.46, knee=(0.66, 0.96), banding=9.0, grain=0.10,
)  # fmt: skip
_TAPE_SOT23 = ((-150.0, 22.0), (-138.0, 23.0), (-134.5, 32.0), (-131.5, 66.0), (-129.5, 66.0), (-127.0, 46.0),
         (-123.0, 44.0),
         (-112.0, 42.0), (-60.0, 44.0), (0.0, 43.0), (60.0, 44.0), (100.0, 45.0), (150.0, 46.0))  # fmt: skip
_WALL_SOT23 = ((-134.0, -104.0), (-134.5, -40.0), (-133.0, 30.0), (-130.0, 66.0), (-122.0, 97.0))
_FONTS = (Font(3.6, 0.0, 0.14, 0.0), Font(5.4, 0.85, 0.14, 0.0), Font(3.0, 0.0, 0.14, 0.05), Font(4.6, 0.45, 0.22, 0.0))


class Sot23:
    """Three leads, three characters upside down and two digits turned by a quarter."""

    summary = "SOT23, three leads, 275 x 267 pixels (batches 2 and 3 of the contest)"
    width = 275
    height = 267
    softness = (0.52, 0.5)
    scan = 0.3

    def product(self, scene: Scene) -> str:
        """Names the product: its marking code."""
        return f"SOT23-{scene.lot.code}"

    def draw_pocket(self, scene: Scene, streams: Streams) -> None:
        """Draws tape, walls, glints and arcs."""
        draw_tape(scene, _TAPE_SOT23, 0.006, 150.0, streams.of("tape"))
        shade_floor(scene, 132.0, 3.5, streams.of("floor"))
        rng = streams.of("pocket")
        level = 100.0 * float(rng.uniform(0.75, 1.2))
        below = float(rng.uniform(-25, 75)) if scene.lot.variant < 0.5 else 0.0
        strokes = [
            *wall(_WALL_SOT23, 4.5, level, 18),
            *wall(mirrored(_WALL_SOT23), 4.5, level, 18),
            *scattered(_glints(), rng),
        ]
        if below > 10:
            edge = ((-136.0, 104.0), (-118.0, 111.0), (-60.0, 116.0), (60.0, 117.0), (104.0, 111.0))
            strokes.append(Stroke(edge, 2.4, below))
        draw_pocket(scene, strokes, 112.0, rng)
        if scene.lot.floor:
            draw_crackle(scene, 15.0, streams.of("crackle"))
        debris(scene, streams.of("dust"), 420.0)

    def draw_part(self, scene: Scene, streams: Streams) -> None:
        """Draws body, characters and leads."""
        scene.body, scene.leads = _BODY, _LEADS
        draw_body(scene, 56.0, streams.of("body"))
        lot = scene.lot
        rng = streams.of("marking")
        size = (24.5 * lot.stretch, 36.0)
        words = [
            Word(lot.code, 27 + float(rng.normal(0, 1.5)), float(rng.normal(0, 1.2)), size, 39 * lot.stretch, 2),
            Word(lot.date, -62 + float(rng.normal(0, 1.5)), float(rng.normal(0, 1.2)), (17.0, 34.0), 26.0, 1),
        ]
        at, added = marking_layer(scene, words, _FONTS[lot.font], rng)
        scene.marking[at] += added
        scene.image += scene.marking
        scene.marking_box = (float(at[1].start), float(at[0].start), float(at[1].stop), float(at[0].stop))
        scene.under_leads = scene.image.copy()
        for lead in scene.leads:
            draw_lead(scene, lead, _METAL, streams.of(f"lead {lead.name}"))

    def placed(self, box: Box, scene: Scene) -> Box:
        """Moves a box with the part."""
        return follow(box, MIDDLE, (1.0, 1.0), scene)


def _glints() -> list[Stroke]:
    left = [
        Stroke(((-116.0, -102.0), (-121.0, -85.0), (-122.0, -40.0)), 1.0, 34),
        Stroke(((-112.0, -103.0), (-114.0, -85.0), (-109.5, -58.0)), 2.0, 34),
        Stroke(((-34.0, 65.0), (-36.0, 78.0)), 1.6, 36),
        Stroke(((-45.0, 80.0), (-48.0, 92.0), (-45.0, 103.0)), 1.2, 58),
        Stroke(((-41.5, 81.0), (-43.0, 93.0), (-41.0, 101.0)), 1.0, 50),
        Stroke(((-37.0, 90.0), (-34.0, 102.0)), 2.2, 24),
    ]
    right = [Stroke(mirrored(s.points), s.width, s.level) for s in left]
    right[1] = Stroke(((104.0, -104.0), (113.0, -101.0), (116.0, -82.0), (112.5, -50.0)), 2.6, 46)
    bars = []
    for x0, x1, y in ((-91.0, -61.0, -110.0), (44.0, 75.0, -110.0), (-16.0, 15.0, 109.0)):
        bars += [Stroke(((x0, y), (x1, y)), 1.0, 32), Stroke(((x0, y + 2.2), (x1, y + 2.2)), 1.0, 26)]
    return left + right + bars
