"""How many of the lead pixels `find_leads` finds, and whether it is blind to the label: by family and defect.

Against the part maps of the look-alike. Units whose part map shows leads that the picture does not (empty pocket,
device flip, abnormal pictures) are left out.

    python benchmarks/lead_finder.py
"""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from knowngood.data.images import decode
from knowngood.data.loading import load
from knowngood.data.preprocessing import find_leads
from knowngood.files import write_json

RESULT = Path(__file__).parent / "results" / "lead_finder.json"
WORD = "tape:train=400,test=0,seed=5,bad_rate=0.6,family={family}"
LEAD, MISSED = 255, 0.5


def measured(path: Path, parts: Path) -> tuple[float, float]:
    """Recall and precision of lead pixels of one picture; precision is NaN where nothing is found."""
    found, truth = find_leads(decode(path)), decode(parts) == LEAD
    common = float((found & truth).sum())
    return common / truth.sum(), common / found.sum() if found.any() else float("nan")


def main() -> None:
    families: dict[str, Any] = {}
    for family in ("sod", "sot23"):
        root = Path(load(WORD.format(family=family)).root)
        units = pl.read_parquet(root / "manifest.parquet").filter(pl.col("abnormal").is_null())
        units = units.filter(~pl.col("true_defect").fill_null("").is_in(["empty_pocket", "device_flip"]))
        kinds = units["true_defect"].fill_null("good").to_list()
        figures = np.array([measured(root / r["image"], root / r["lead_mask"]) for r in units.iter_rows(named=True)])
        families[family] = {
            kind: {
                "units": int((rows := np.array([k == kind for k in kinds])).sum()),
                "recall": round(float(figures[rows, 0].mean()), 3),
                "precision": round(float(np.nanmean(figures[rows, 1])), 3),
                "leads missed": round(float((figures[rows, 0] < MISSED).mean()), 3),
            }
            for kind in sorted(set(kinds))
        }
    write_json(RESULT, {"command": "python " + shlex.join(sys.argv), "data": WORD, "families": families})
    print(RESULT.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
