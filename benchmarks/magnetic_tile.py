"""Magnetic tiles (Huang et al.), split by the part and never by the file, several seeds.

Reads ../shared/data/magnetic-tile where it is; nothing of it goes into the project.

    python benchmarks/magnetic_tile.py --seeds 3 --preset best
"""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path

import polars as pl
from summary import summarise

from knowngood.cli.output import at_work
from knowngood.files import write_json
from knowngood.workflows.train import train

DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "magnetic-tile"


def manifest(data: Path, out: Path) -> Path:
    """Writes a manifest whose lot is the part, so that all exposures of one part stay on one side."""
    rows = pl.read_csv(data / "groups.csv")
    table = rows.select(
        image=pl.lit(f"{data}/") + pl.col("file"),
        label=pl.col("label"),
        defect=pl.when(pl.col("label") == "bad").then(pl.col("class")),
        lot=pl.col("part_group").cast(pl.String),
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    table.write_csv(out)
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--preset", default="best")
    parser.add_argument("--epochs", type=int, default=None)
    parser.add_argument("--augment", default="strong")
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--runs", type=Path, default=Path("runs/magnetic-tile"))
    parser.add_argument("--out", type=Path, default=None)
    given = parser.parse_args()
    listing = manifest(given.data, given.runs / "manifest.csv")
    runs = []
    with at_work():
        for seed in range(given.seeds):
            folder = given.runs / f"{given.preset}-{seed}"
            options = {"preset": given.preset, "epochs": given.epochs, "augment": given.augment, "seed": seed}
            runs.append(train(listing, folder, **options))
    out = given.out or Path(__file__).parent / "results" / f"magnetic_tile_{given.preset}.json"
    write_json(out, summarise(runs, "python " + shlex.join(sys.argv)))
    print(out.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
