"""Maps over their photographs, all in one scale of colours, with boxes around the highest places."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from knowngood import wording
from knowngood.data.images import decode
from knowngood.recipe.maps import HeatMap
from knowngood.report.page import Section, render
from knowngood.report.pictures import Pixels, Scale, data_uri, pair_of, scale_of

_SIDE = 220  # pixels of the longer side of a picture

Group = tuple[str, str, pl.DataFrame, list[HeatMap]]

DISTANCES = (
    "The distance of each place to the nearest stored patch of a good unit. Boxes: places above the recipe's level."
)
CONTRIBUTION = (
    "The contribution of each place to the raw score (bad minus good). Boxes: places above a share of the maximum."
)


@dataclass(frozen=True)
class Pair:
    """A photograph and its map as the template shows them."""

    photograph: str
    map: str
    name: str
    tag: str
    bad: bool
    score: str
    caption: str
    link: str = ""


def map_section(groups: Sequence[Group], level: float | None, fraction: float) -> Section:
    """Makes the section of maps of a run.

    Args:
        groups: Heading, what it shows, rows of the score table, and the map of each row.
        level: Of a recipe from good images alone: what lies above it gets a box. None for a classifier.
        fraction: Of a classifier's map's own maximum: what lies above it gets a box.
    """
    scale = scale_of([one.values for *_, maps in groups for one in maps], level)
    shown = [
        (name, caption, [_pair(row, one, scale) for row, one in zip(rows.iter_rows(named=True), maps, strict=True)])
        for name, caption, rows, maps in groups
    ]
    title = "Where it looks" if level is None else "Where units differ from good ones"
    return pair_section(shown, scale, fraction, title)


def pair_section(
    groups: Sequence[tuple[str, str, Sequence[Pair]]], scale: Scale, fraction: float, title: str, *, own: bool = False
) -> Section:
    """Makes a section of pairs that are drawn already.

    Args:
        groups: Heading, what it shows, and its pairs.
        scale: Of all of them.
        fraction: As in `map_section`.
        title: Heading of the section.
        own: Whether each picture is scaled to itself instead; the legend then states it.
    """
    level = scale.low if scale.level is None else scale.level
    body = render(
        "sections/maps.html",
        groups=groups,
        scale=scale,
        own=own,
        fraction=fraction,
        stops=", ".join(f"rgb({r} {g} {b})" for r, g, b in scale.ramp().tolist()),
        at=100 * float(np.clip((level - scale.low) / (scale.high - scale.low), 0, 1)),
    )
    return Section("maps", title, body, CONTRIBUTION if scale.level is None else DISTANCES)


def drawn_pair(photograph: Pixels, one: HeatMap, scale: Scale) -> tuple[str, str]:
    """Returns photograph and overlay as small `data:` URIs."""
    left, right = pair_of(photograph, one, scale, _SIDE / max(photograph.shape[:2]))
    return data_uri(left), data_uri(right)


def caption_of(one: HeatMap) -> str:
    """Returns "reject, 2 boxes"."""
    count = len(one.regions)
    return f"{one.decision}, {wording.counted(count, 'box', 'boxes') if count else 'no box'}"


def _pair(row: dict[str, object], one: HeatMap, scale: Scale) -> Pair:
    photograph, overlay = drawn_pair(decode(str(row["path"])), one, scale)
    bad = row["label"] == 1
    return Pair(
        photograph=photograph,
        map=overlay,
        name=str(row["image"]),
        tag=str(row["defect"] or "bad") if bad else "good",
        bad=bad,
        score=wording.score(one.defect_score),
        caption=caption_of(one),
    )
