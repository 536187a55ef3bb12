"""Statistics of the look-alike beside those of real pictures, and how near its defect boxes are to real ones.

Run it as `python benchmarks/tape_statistics.py [--boxes FOLDER]`. FOLDER holds <type>.csv with rows
image,type,rectangle,x0,y0,x1,y1 of real SOT23 pictures; without it only the drawn side is measured. The real
figures are those of LOOK.md, measured on six native pictures, 64 tiles and 7,441 boxes.
"""

from __future__ import annotations

import argparse
import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from scipy.stats import ks_2samp

from knowngood.files import write_json
from knowngood.lookalike.config import TapeConfig
from knowngood.lookalike.units import (
    BODY,
    BORDER,
    FLOOR,
    LEAD,
    Drawn,
    draw_planned,
    draw_unit,
    plan_unit,
    severity_shape,
)

RESULT = Path(__file__).parent / "results" / "tape_statistics.json"
BOXED = ("chipping", "foreign_material", "scratch", "lead_glue", "lead_defect", "marking_defect")
REAL = {
    "median grey, lowest and highest picture": "32 .. 62",
    "mean grey": "58 .. 61",
    "1st percentile": "23 .. 25",
    "95th percentile": "130 .. 150",
    "saturated share, %": "0.5 .. 0.9 (natives 0.49 .. 1.77)",
    "floor sigma (noise and grain)": "2.2 .. 2.5",
    "body width, px": {"sod": "124 (112 and 117 of the other variants)", "sot23": "202"},
    "body height, px": {"sod": "82 (112 and 92)", "sot23": "84"},
    "body level": {"sod": "53 .. 57", "sot23": "50 .. 60"},
    "floor level": {"sod": "40 .. 50", "sot23": "46"},
    "lead width, px": {"sod": "33 (50 and 30)", "sot23": "31"},
    "lead length, px": {"sod": "28 .. 32 (25 and 23)", "sot23": "47 .. 55"},
    "line and marking level": {"sod": "75 .. 160", "sot23": "85 .. 110"},
}


def good_units(family: str, count: int) -> list[Drawn]:
    config = TapeConfig(family=family, seed=101, bad_rate=0, abnormal=0, lots=400, machines=46)
    return [draw_unit(index, "train", config) for index in range(count)]


def floor_sigma(unit: Drawn) -> float:
    """Median standard deviation of 8 x 8 patches of bare floor."""
    patches = [
        unit.image[y : y + 8, x : x + 8].std()
        for y in range(0, unit.image.shape[0] - 8, 8)
        for x in range(0, unit.image.shape[1] - 8, 8)
        if (unit.parts[y : y + 8, x : x + 8] == FLOOR).all()
    ]
    return float(np.median(patches))


def rectangles(mask: np.ndarray) -> list[tuple[float, float]]:
    """Width and height of each upright-ish region of a mask."""
    outlines, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    sizes = []
    for outline in outlines:
        if len(outline) > 30:
            _, (a, b), _ = cv2.minAreaRect(outline)
            _, _, width, height = cv2.boundingRect(outline)
            turned = abs(b - width) + abs(a - height) < abs(a - width) + abs(b - height)
            sizes.append((b + 1, a + 1) if turned else (a + 1, b + 1))
    return sizes


def good_statistics(units: list[Drawn]) -> dict[str, Any]:
    pixels = np.stack([unit.image for unit in units])
    medians = np.median(pixels, axis=(1, 2))
    closed = [cv2.morphologyEx((u.parts == BODY).astype(np.uint8), cv2.MORPH_OPEN, np.ones((9, 9))) for u in units]
    bodies = [max(rectangles(mask), key=lambda size: size[0] * size[1]) for mask in closed]
    leads = [size for unit in units for size in rectangles(unit.parts == LEAD)]
    inside = [unit.image[cv2.erode(mask, np.ones((9, 9))) > 0] for unit, mask in zip(units, closed, strict=True)]

    def middle(values: list[float]) -> list[float]:
        return [round(float(q), 1) for q in np.percentile(values, [5, 50, 95])]

    return {
        "median grey, lowest and highest picture": [float(medians.min()), float(medians.max())],
        "mean grey": round(float(pixels.mean()), 1),
        "1st percentile": float(np.percentile(pixels, 1)),
        "95th percentile": float(np.percentile(pixels, 95)),
        "saturated share, %": round(100 * float((pixels >= 250).mean()), 2),
        "floor sigma (noise and grain)": middle([floor_sigma(unit) for unit in units]),
        "body width, px": middle([w for w, _ in bodies]),
        "body height, px": middle([h for _, h in bodies]),
        "body level": middle([float(np.median(values)) for values in inside]),
        "floor level": middle([float(np.median(unit.image[unit.parts == FLOOR])) for unit in units]),
        "lead width, px": middle([w for w, _ in leads]),
        "lead length, px": middle([h for _, h in leads]),
        "line and marking level": middle([float(np.percentile(values, 96)) for values in inside]),
    }


def drawn_boxes(kind: str, count: int) -> np.ndarray:
    config = TapeConfig(family="sot23", seed=77, lots=400, machines=46)
    rng = np.random.default_rng(0)
    boxes = []
    for index in range(count):
        severity = BORDER + (1 - BORDER) * rng.beta(*severity_shape(config))
        plan = replace(plan_unit(index, "train", config), bad=True, defects=((kind, severity),), abnormal=None)
        boxes += [defect.box for defect in draw_planned(plan, index, "train", config).defects]
    return np.array(boxes, float)


def real_boxes(folder: Path, kind: str) -> np.ndarray:
    with (folder / f"{kind}.csv").open() as handle:
        rows = [row[3:7] for row in csv.reader(handle) if row[1] == kind]
    boxes = np.array(rows, float)
    return boxes[((boxes[:, 2:] - boxes[:, :2]) > 2).all(axis=1)]  # a few were drawn by a slip of the hand


def measures(boxes: np.ndarray) -> dict[str, np.ndarray]:
    width, height = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    middle = (boxes[:, :2] + boxes[:, 2:]) / 2
    return {"width": width, "height": height, "x": middle[:, 0], "y": middle[:, 1], "area": width * height}


def box_statistics(kind: str, count: int, folder: Path | None) -> dict[str, Any]:
    drawn = measures(drawn_boxes(kind, count))
    real = measures(real_boxes(folder, kind)) if folder else None
    result: dict[str, Any] = {"drawn": len(drawn["width"]), "real": len(real["width"]) if real else None}
    for name, values in drawn.items():
        entry: dict[str, Any] = {"drawn 5, 50, 95 %": np.percentile(values, [5, 50, 95]).round().tolist()}
        if real:
            entry["real 5, 50, 95 %"] = np.percentile(real[name], [5, 50, 95]).round().tolist()
            entry["KS distance"] = round(float(ks_2samp(values, real[name]).statistic), 3)
        result[name] = entry
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--boxes", type=Path, help="folder with the real boxes")
    parser.add_argument("--units", type=int, default=300, help="good units a family")
    parser.add_argument("--defects", type=int, default=800, help="drawn defects a type")
    chosen = parser.parse_args()
    cv2.setNumThreads(1)
    document: dict[str, Any] = {"what": __doc__.splitlines()[0], "real": REAL, "drawn": {}, "boxes": {}}
    for family in ("sod", "sot23"):
        document["drawn"][family] = good_statistics(good_units(family, chosen.units))
        print(family, document["drawn"][family], flush=True)
    for kind in BOXED:
        document["boxes"][kind] = box_statistics(kind, chosen.defects, chosen.boxes)
        print(
            kind,
            {n: v.get("KS distance") for n, v in document["boxes"][kind].items() if isinstance(v, dict)},
            flush=True,
        )
    write_json(RESULT, document)


if __name__ == "__main__":
    main()
