"""What the maps of a finished run look like: caught, missed and rejected for nothing, each beside its photograph.

python benchmarks/gallery.py RUN docs/images/maps-SET.jpg
"""

from __future__ import annotations

import argparse
from pathlib import Path

import polars as pl
from PIL import Image

from knowngood.data.images import decode
from knowngood.data.records import BAD
from knowngood.recipe.bundle import Recipe
from knowngood.report.pictures import beside, framed, legend, pair_of, scale_of, under, words
from knowngood.workflows.maps import mapped, spread

WIDE, COLUMNS = 150, 4  # pixels of a photograph; pairs in a row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("out", type=Path)
    given = parser.parse_args()
    recipe = Recipe.load(given.run / "recipe")
    table = pl.read_parquet(given.run / "scores.parquet").filter(
        (pl.col("split") == "test") & pl.col("score").is_not_null()
    )
    # Where the threshold is cautious nothing escapes: what is shown is decided at the score of 0.5.
    bad, passed = pl.col("label") == BAD, pl.col("score") < 0.5
    kinds = {
        "caught, from the surest to the least sure": spread(table.filter(bad & ~passed), 2 * COLUMNS),
        "missed at 0.5, the worst first": table.filter(bad & passed).sort("score").head(COLUMNS),
        "good, above 0.5, the worst first": table.filter(~bad & ~passed).sort("score", descending=True).head(COLUMNS),
    }
    shown = {name: mapped(recipe, rows) for name, rows in kinds.items() if rows.height}
    scale = scale_of([one.values for _, maps in shown.values() for one in maps])
    parts = []
    for name, (rows, maps) in shown.items():
        parts.append(words(name, COLUMNS * (2 * WIDE + 14)))
        pairs = []
        for row, one in zip(rows.iter_rows(named=True), maps, strict=True):
            photograph = decode(row["path"])
            pair = beside(pair_of(photograph, one, scale, WIDE / photograph.shape[1]), 2)
            pairs.append(under([pair, words(f"{row['defect'] or 'good'}  {one.defect_score:.2f}", 2 * WIDE, 12)], 2))
        parts += [beside(pairs[start : start + COLUMNS], 10) for start in range(0, len(pairs), COLUMNS)]
    parts.append(legend(scale, 300))
    given.out.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(framed(under(parts, 8))).save(given.out, quality=85)
    print(given.out, given.out.stat().st_size)


if __name__ == "__main__":
    main()
