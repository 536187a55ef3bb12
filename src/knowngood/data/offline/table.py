"""The manifest of an augmented set: originals where they are, and copies with how they were made."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from knowngood.data.records import BAD, GOOD, SPLITS, Records

LISTED: dict[str, pl.DataType] = {  # what every set that a program makes says of its images
    "image": pl.String(),  # absolute path of an original, or path of a made one below the manifest's folder
    "known_as": pl.String(),  # what the set that it was made of calls an original
    "label": pl.String(),
    "defect": pl.String(),
    "probability": pl.Float32(),
    "split": pl.String(),
    "lot": pl.String(),
    "unit": pl.String(),
    "machine": pl.String(),
    "product": pl.String(),
    "mask": pl.String(),
    "box": pl.String(),  # JSON
    "generated": pl.Boolean(),
    "made_from": pl.String(),  # of made ones: what the original is known as
    "also_from": pl.String(),  # JSON: further originals that it shows parts of
}
SCHEMA: dict[str, pl.DataType] = {
    **LISTED,
    "source_sha256": pl.String(),  # of copies: of the original's file
    "seed": pl.Int64(),
    "number": pl.Int64(),  # with the seed it decides what was drawn
    "transforms": pl.String(),  # JSON: [[name, [parameters]], ...] in the order of the policy
    "defect_inside": pl.Float64(),  # share of the mask or box that is left in the picture
}
Schema = Mapping[str, pl.DataType]
_KEPT = ("defect", "probability", "lot", "unit", "machine", "product")


def original_rows(records: Records, schema: Schema = SCHEMA) -> pl.DataFrame:
    """Returns the rows of a set as it was, each named by the path of its file."""
    frame = records.frame
    made = frame.select(
        *_KEPT,
        "split",
        "mask",
        "generated",
        "made_from",
        image="path",
        known_as="image",
        label=word_of("label"),
        box=as_json(frame["box"]),
        also_from=as_json(frame["also_from"]),
    )
    return typed(made, schema)


def copied_rows(records: Records, rows: Sequence[dict[str, Any]], seed: int) -> pl.DataFrame:
    """Returns the rows of the copies: what is known of the originals, and how each was made (notes of `make_chunk`)."""
    told = pl.DataFrame(
        {
            **{name: [row[name] for row in rows] for name in ("image", "mask", "made_from", "source_sha256", "number")},
            "box": [None if row["box"] is None else json.dumps(row["box"]) for row in rows],
            "transforms": [json.dumps(row["transforms"]) for row in rows],
            "defect_inside": [row["defect_inside"] for row in rows],
        },
        schema_overrides={name: SCHEMA[name] for name in ("mask", "box", "defect_inside")},
    )
    known = records.frame.select(*_KEPT, made_from="image", label=word_of("label"))
    made = told.join(known, on="made_from", how="left", maintain_order="left")
    return typed(made.with_columns(split=pl.lit("train"), generated=pl.lit(True), seed=pl.lit(seed)))


def as_json(cells: pl.Series) -> pl.Series:
    """Returns a column of lists as JSON text."""
    return pl.Series([None if cell is None else json.dumps(cell) for cell in cells.to_list()], dtype=pl.String)


def word_of(column: str) -> pl.Expr:
    """Returns "good" or "bad" for a column of labels."""
    label = pl.col(column)
    return pl.when(label == BAD).then(pl.lit("bad")).when(label == GOOD).then(pl.lit("good"))


def typed(frame: pl.DataFrame, schema: Schema = SCHEMA) -> pl.DataFrame:
    """Returns a table with exactly these columns; those that are not there are null."""
    there = set(frame.columns)
    return frame.select(
        (pl.col(name) if name in there else pl.lit(None)).cast(dtype).alias(name) for name, dtype in schema.items()
    )


def counts_of(frame: pl.DataFrame) -> dict[str, dict[str, int]]:
    """Returns for each split how many rows are good, bad, and generated."""
    counts = {}
    for name in SPLITS:
        part = frame.filter(pl.col("split") == name)
        if part.height:
            by = {kind: int((part["label"] == kind).sum()) for kind in ("good", "bad")}
            counts[name] = by | {"generated": int(part["generated"].sum())}
    return counts
