"""Draws the pictures of docs/tape.md: good parts, and every defect type at three severities with its mask.

Run it as `python benchmarks/tape_pictures.py`. Every picture is drawn; none is a photograph.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from knowngood.lookalike.config import TapeConfig
from knowngood.lookalike.defects import DEFECTS
from knowngood.lookalike.families import FAMILIES
from knowngood.lookalike.units import Drawn, draw_planned, draw_unit, plan_unit

FOLDER = Path(__file__).parents[1] / "docs" / "images"
SEVERITIES = (0.4, 0.7, 0.95)
GAP = 6


def row(pictures: list[np.ndarray]) -> np.ndarray:
    """Puts pictures side by side, with a gap, on one height."""
    height = max(picture.shape[0] for picture in pictures)
    padded = [
        cv2.copyMakeBorder(p, 0, height - p.shape[0], 0, GAP, cv2.BORDER_CONSTANT, value=(255, 255, 255))
        for p in pictures
    ]
    return np.hstack(padded)[:, :-GAP]


def column(rows: list[np.ndarray]) -> np.ndarray:
    """Puts rows below each other, with a gap, on one width."""
    width = max(picture.shape[1] for picture in rows)
    padded = [
        cv2.copyMakeBorder(p, 0, GAP, 0, width - p.shape[1], cv2.BORDER_CONSTANT, value=(255, 255, 255)) for p in rows
    ]
    return np.vstack(padded)[:-GAP]


def outlined(unit: Drawn) -> np.ndarray:
    """The picture with the outline of its masks in orange."""
    colour = cv2.cvtColor(unit.image, cv2.COLOR_GRAY2BGR)
    for defect in unit.defects:
        outlines, _ = cv2.findContours(defect.mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(colour, outlines, -1, (30, 140, 255), 1)
    return colour


def good() -> np.ndarray:
    rows = []
    for family in FAMILIES:
        config = TapeConfig(family=family, seed=8, bad_rate=0, abnormal=0, lots=400, machines=46)
        rows.append(row([draw_unit(index, "train", config).image for index in range(4)]))
    return column(rows)


def defect(kind: str) -> np.ndarray:
    rows = []
    for family in FAMILIES:
        config = TapeConfig(family=family, seed=12, lots=400, machines=46)
        units = []
        for index, severity in enumerate(SEVERITIES, 20 * len(rows)):
            plan = replace(plan_unit(index, "train", config), bad=True, defects=((kind, severity),), abnormal=None)
            units.append(draw_planned(plan, index, "train", config))
        pictures = [cv2.cvtColor(unit.image, cv2.COLOR_GRAY2BGR) for unit in units]
        rows.append(row([*pictures, outlined(units[-1])]))
    return column(rows)


def main() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(FOLDER / "tape-good.png"), good(), [cv2.IMWRITE_PNG_COMPRESSION, 9])
    for kind in DEFECTS:
        cv2.imwrite(str(FOLDER / f"tape-{kind.replace('_', '-')}.png"), defect(kind), [cv2.IMWRITE_PNG_COMPRESSION, 9])


if __name__ == "__main__":
    main()
