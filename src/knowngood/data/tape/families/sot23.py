"""SOT23: a flat body with three leads in a wide pocket, 275 x 267 pixels."""

from __future__ import annotations

from knowngood.data.tape.layers.body import draw_body
from knowngood.data.tape.layers.leads import LeadStyle, draw_lead
from knowngood.data.tape.layers.marking import Font, Word, marking_layer
from knowngood.data.tape.layers.pocket import debris, draw_pocket, mirrored, scattered, shade_floor, wall
from knowngood.data.tape.layers.strokes import Stroke
from knowngood.data.tape.layers.tape import draw_crackle, draw_tape
from knowngood.data.tape.placing import follow
from knowngood.data.tape.scene import Box, Lead, Scene
from knowngood.data.tape.streams import Streams

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
_TAPE = ((-150.0, 22.0), (-138.0, 23.0), (-134.5, 32.0), (-131.5, 66.0), (-129.5, 66.0), (-127.0, 46.0), (-123.0, 44.0),
         (-112.0, 42.0), (-60.0, 44.0), (0.0, 43.0), (60.0, 44.0), (100.0, 45.0), (150.0, 46.0))  # fmt: skip
_WALL = ((-134.0, -104.0), (-134.5, -40.0), (-133.0, 30.0), (-130.0, 66.0), (-122.0, 97.0))
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
        draw_tape(scene, _TAPE, 0.006, 150.0, streams.of("tape"))
        shade_floor(scene, 132.0, 3.5, streams.of("floor"))
        rng = streams.of("pocket")
        level = 100.0 * float(rng.uniform(0.75, 1.2))
        below = float(rng.uniform(-25, 75)) if scene.lot.variant < 0.5 else 0.0
        strokes = [*wall(_WALL, 4.5, level, 18), *wall(mirrored(_WALL), 4.5, level, 18), *scattered(_glints(), rng)]
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
