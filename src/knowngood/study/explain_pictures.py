"""The pictures of `explain`: overlays, strips, stages, and a page that shows them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from knowngood import wording
from knowngood.data.images import decode
from knowngood.decide.threshold import ACCEPT
from knowngood.files import write_text
from knowngood.recipe.bundle import Recipe
from knowngood.recipe.maps import HeatMap, at_size
from knowngood.report.composing import beside, framed, legend, under, words
from knowngood.report.heat import Pixels, Scale, as_colour, pair_of, scale_of, sized
from knowngood.report.maps import Pair, drawn_pair, pair_section, said_of
from knowngood.report.page import Section, page, render
from knowngood.report.thumbnails import thumbnail
from knowngood.study.explain_config import ExplainConfig
from knowngood.study.explain_files import Looked

_SMALLEST, _LARGEST = 400, 1600  # pixels of the longer side of a picture that is written
_STAGE_SIDE = 240
_NARROWEST = 300  # pixels that a legend's words need
_GALLERY, _STRIPS = 200, 24  # shown in the page
_SHARED, _OWN = "one scale for all pictures of this call", "scaled to this picture alone: compare places, not colours"

OVERLAYS, STRIPS, LAYERS = "overlays", "strips", "layers"


@dataclass(frozen=True)
class Drawing:
    """Draws one photograph after the other, all in one scale.

    Attributes:
        folder: To write to.
        raw: Where the maps are.
        level: Of a recipe from good images alone, else None.
        config: What was asked for.
        scale: Of the recipe's maps.
        stages: Scale of each layer that is shown beside.
        network: Whose layers, and by which method.
    """

    folder: Path
    raw: Path
    level: float | None
    config: ExplainConfig
    scale: Scale
    stages: Mapping[str, Scale]
    network: str

    def draw(self, one: Looked, photograph: Pixels) -> None:
        """Writes overlay, strip and, where layers are asked for, their strip."""
        heat = self.map_of(one)
        longest = max(photograph.shape[:2])
        factor = min(max(longest, _SMALLEST), _LARGEST) / longest
        scale = self.scale_for(heat.values)
        left, right = pair_of(photograph, heat, scale, factor)
        width = max(right.shape[1], _NARROWEST)
        below = legend(scale, width, f"{self._unit()}; {_OWN if self.config.scale == 'image' else _SHARED}.")
        facts = f"{one.image}: {said_of(heat)}, defect score {wording.score(one.defect_score)}"
        self._write(OVERLAYS, one.key, under([right, below]))
        both = beside([left, under([right, below])])
        self._write(STRIPS, one.key, framed(under([words(facts, both.shape[1]), both])))
        if self.stages:
            self._write(LAYERS, one.key, self._strip(one, photograph, facts))

    def map_of(self, one: Looked) -> HeatMap:
        """Returns what was found in a readable photograph, with its map from the disk."""
        assert one.defect_score is not None
        assert one.decision is not None
        return HeatMap(one.image, one.defect_score, one.decision, self._values(one.key), one.regions)

    def scale_for(self, values: npt.NDArray[np.float32]) -> Scale:
        """Returns the scale that a map is shown in."""
        return scale_of([values], self.level) if self.config.scale == "image" else self.scale

    def _strip(self, one: Looked, photograph: Pixels, facts: str) -> Pixels:
        """Returns the photograph and the map of each layer, with that layer's own scale under it."""
        small = as_colour(sized(photograph, _STAGE_SIDE / max(photograph.shape[:2])))
        height, width = small.shape[:2]
        wide = max(width, 120)
        columns = [under([words("photograph", wide), small])]
        own = self.config.scale == "image"
        for layer, shared in self.stages.items():
            values = self._values(f"{one.key}.{layer}")
            scale = scale_of([values]) if own else shared
            painted = scale.over(small, at_size(values, height, width))
            name = layer if values.max() > 0 else f"{layer}: nothing"
            columns.append(under([words(name, wide), painted, legend(scale, width)]))
        row = beside(columns)
        said = f"Stages of {self.network}. Each has a scale of its own: between stages compare places, not colours; "
        said += "every picture too." if own else "from picture to picture a stage keeps its scale."
        return framed(under([words(facts, row.shape[1]), row, words(said, row.shape[1], 13)]))

    def _unit(self) -> str:
        if self.level is not None:
            return f"distance to the nearest remembered patch; boxes above {self.level:.3g}"
        return f"what the margin of bad over good owes to a place; boxes above {self.config.fraction:g} x maximum"

    def _values(self, key: str) -> npt.NDArray[np.float32]:
        values: npt.NDArray[np.float32] = np.load(self.raw / f"{key}.npy", allow_pickle=False)
        return values

    def _write(self, kind: str, key: str, picture: Pixels) -> None:
        place = self.folder / kind
        place.mkdir(exist_ok=True)
        Image.fromarray(picture).save(place / f"{key}.png", compress_level=3)


def write_gallery(
    drawing: Drawing, looked: Sequence[Looked], paths: Mapping[str, Path], recipe: Recipe, target: Path
) -> None:
    """Writes the page: the highest scores first, then stages, then what could not be read.

    Args:
        drawing: That has written the pictures.
        looked: All photographs.
        paths: Of the readable ones, by key.
        recipe: For its name.
        target: To write.
    """
    readable = [one for one in looked if one.error is None]
    shown = sorted(readable, key=lambda one: (-(one.defect_score or 0.0), one.image))[:_GALLERY]
    rest = len(readable) - len(shown)
    pairs = [_pair(drawing, one, paths[one.key]) for one in shown]
    more = f"the {len(shown)} highest scores; {rest} more are in {OVERLAYS}/" if rest else ""
    groups = [("Photographs" if more else "", more, pairs)] if pairs else []
    title = "Where it looked" if drawing.level is None else "Where units differ from good ones"
    own = drawing.config.scale == "image"
    sections = [pair_section(groups, drawing.scale, drawing.config.fraction, title, own=own)] if pairs else []
    if drawing.stages:
        strips = [
            (
                f"{LAYERS}/{one.key}.png",
                thumbnail(str(drawing.folder / LAYERS / f"{one.key}.png"), 1400).uri,
                one.image,
                "",
            )
            for one in shown[:_STRIPS]
        ]
        lead = f"{drawing.network}. Early stages see edges and textures; the last one is what the decision stands on."
        sections.append(Section("stages", "Stage by stage", render("sections/strips.html", strips=strips), lead))
    broken = [(one.image, one.error) for one in looked if one.error is not None]
    if broken:
        body = render(
            "sections/study_step.html", sentences=[], columns=("image", "error"), rows=broken, plain=True, link=None
        )
        sections.append(Section("unreadable", "Unreadable", body))
    subtitle = f"{wording.counted(len(looked), 'photograph')}, recipe {recipe.manifest.name}, {drawing.config.method}"
    write_text(target, page("Where the inspector looked", subtitle, sections))


def _pair(drawing: Drawing, one: Looked, path: Path) -> Pair:
    heat = drawing.map_of(one)
    photograph, overlay = drawn_pair(decode(path), heat, drawing.scale_for(heat.values))
    score, bad = wording.score(one.defect_score), one.decision != ACCEPT
    return Pair(photograph, overlay, one.image, "", bad, score, said_of(heat), f"{STRIPS}/{one.key}.png")
