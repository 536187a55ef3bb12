"""How well photographs of one part are found: magnetic tiles under six exposures, solar cells, and look-alikes.

Nothing is tuned on these sets. The tiles' groups.csv is a heuristic of its own (it divides some parts that were shot
twice): pairs that it keeps apart although their fine structure agrees within 0.02 are counted by themselves. Of the
cells it is known that 1735 to 1784 were photographed again as 2277 to 2326. The look-alikes are all different parts.

    python benchmarks/repeated_parts.py --data ../shared/data/magnetic-tile
"""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from knowngood.cli.output import at_work
from knowngood.data.duplicates import near_clusters, thumbnails
from knowngood.data.loading import load
from knowngood.data.records import Records
from knowngood.data.registration import likeness
from knowngood.data.units import with_units
from knowngood.files import write_json
from knowngood.workflows.runs import versions

TILES = Path(__file__).resolve().parents[2] / "shared" / "data" / "magnetic-tile"
OUT = Path(__file__).parent / "results" / "repeated_parts.json"
EQUAL = 0.02


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=TILES, help="The magnetic tiles.")
    parser.add_argument("--look-alikes", default="tape:train=2000,test=200", help="A set of different parts.")
    parser.add_argument("--out", type=Path, default=OUT)
    given = parser.parse_args()
    with at_work():
        found = {
            "magnetic tiles": tiles(given.data),
            "elpv": cells(),
            given.look_alikes: look_alikes(given.look_alikes),
        }
    write_json(given.out, {"command": "python " + shlex.join(sys.argv), "sets": found, "versions": versions()})
    print(given.out.read_text(encoding="utf-8"))


def tiles(data: Path) -> dict[str, Any]:
    """Compares found units with groups.csv, pair by pair; the near copies of before as well."""
    truth = dict(pl.read_csv(data / "groups.csv").select("file", "part_group").iter_rows())
    records = load(data)
    facts, units = counted(records)
    group = np.array([truth[name] for name in records.frame["image"]])
    thumbs = thumbnails(records, detail=True)
    close = likeness(thumbs.detail)
    agree = close.pairs[close.difference <= EQUAL]
    apart = agree[group[agree[:, 0]] != group[agree[:, 1]]]
    return facts | {
        "photographs of a part in groups.csv with more than one": int((np.bincount(group)[group] > 1).sum()),
        "against groups.csv": compared(units, group),
        "near copies alone, as before": compared(near_clusters(records, thumbs=thumbs), group),
        "pairs that groups.csv keeps apart although they agree within 0.02": len(apart),
        "of these in one unit": int((units[apart[:, 0]] == units[apart[:, 1]]).sum()),
    }


def cells() -> dict[str, Any]:
    """Counts the cells that are known to be in the set twice; most other groups are neighbours cut from one crystal."""
    records = load("elpv")
    facts, units = counted(records)
    unit = {name[-8:-4]: number for name, number in zip(records.frame["image"], units.tolist(), strict=True)}
    twins = [(f"{number:04}", f"{number + 542:04}") for number in range(1735, 1785)]
    return facts | {"known twins": len(twins), "found": sum(unit[one] == unit[other] for one, other in twins)}


def look_alikes(word: str) -> dict[str, Any]:
    """Every group of these is false."""
    records = load(word)
    frame = records.frame.with_columns(lot=pl.lit(None, pl.String))  # as if nobody had said which lots there are
    return counted(records.with_frame(frame))[0]


def counted(records: Records) -> tuple[dict[str, Any], np.ndarray[Any, np.dtype[np.int64]]]:
    """Returns what was found, and the numbers of the units (N,)."""
    started = time.perf_counter()
    done = with_units(records)
    seconds = time.perf_counter() - started
    repeated = done.repeated
    assert repeated is not None
    units = done.frame["unit"].rank("dense").to_numpy().astype(np.int64)
    return {
        "photographs": len(records),
        "units of several photographs": repeated.units,
        "photographs in them": repeated.images,
        "largest": int(np.bincount(units).max()),
        "suspected": repeated.suspected_images,
        "seconds": round(seconds, 1),
    }, units


def compared(found: np.ndarray[Any, Any], truth: np.ndarray[Any, Any]) -> dict[str, Any]:
    """Returns precision and recall over all pairs."""
    upper = np.triu_indices(len(truth), 1)
    same, told = (truth[:, None] == truth)[upper], (found[:, None] == found)[upper]
    both = int((same & told).sum())
    return {
        "pairs": int(told.sum()),
        "precision": round(both / max(int(told.sum()), 1), 4),
        "recall": round(both / int(same.sum()), 4),
    }


if __name__ == "__main__":
    main()
