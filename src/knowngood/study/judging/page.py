"""Judged images as a page: what was found, the figures beside their reference points, pictures beside originals."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import polars as pl

from knowngood import wording
from knowngood.data.records import Records
from knowngood.report.page import Picture, Section, page, render
from knowngood.report.sections.pictures import pictures
from knowngood.report.sections.synthesis import classifier_section
from knowngood.report.thumbnails import thumbnail

_SHOWN, _PAIRS = 48, 24
_NUMBER = "The number is the distance to the nearest bad that the maker knew, in those of new real bads (median 1)."


def judge_page(document: dict[str, Any], table: pl.DataFrame, unseen: Records) -> str:
    """Returns the whole page.

    Args:
        document: As in judge.json.
        table: A row a made image.
        unseen: Real bads to show beside them.
    """
    scale = document["memory"]["real_distance"] or 1.0
    shown = table.with_columns(score=pl.col("nearest_distance") / scale)
    sections = [_found(document), _likeness(document), _grid(shown, unseen), _copies(shown), _broken(shown)]
    if "classifier" in document:
        sections.insert(1, classifier_section(document["classifier"]))
    sections.append(_again(document))
    count = wording.counted(document["images"]["made"], "made image")
    subtitle = f"{document['created']} · {count} · features of {document['features']['backbone']}"
    return page("Made images, judged", subtitle, sections)


def _found(document: dict[str, Any]) -> Section:
    body = render("sections/synthesis_found.html", sentences=document["sentences"], notes=document["notes"])
    return Section("found", "What was found", body)


def _likeness(document: dict[str, Any]) -> Section:
    rows = []
    for row in document["likeness"]:
        low, high = row["kid"]["interval"]
        both = [wording.NONE if row[name] is None else wording.percent(row[name]) for name in ("precision", "recall")]
        value, interval = f"{row['kid']['value']:.4g}", f"{low:.4g} to {high:.4g}"
        rows.append((row["what"], row["kid"]["images"][0], value, interval, *both))
    columns = ("compared with unseen real bads", "images", "KID", "95 % interval", "precision", "recall")
    body = render("sections/study_step.html", sentences=[], columns=columns, rows=rows, plain=True, link=None)
    lead = (
        "KID is nought for images that cannot be told from real ones. Precision: how many lie among the real bads; "
        "recall: how many real bads lie among them. Real bads that the maker knew show what is possible."
    )
    return Section("likeness", "Likeness", body, lead)


def _grid(shown: pl.DataFrame, unseen: Records) -> Section:
    step = max(1, shown.height // _SHOWN)
    real = unseen.frame.head(_SHOWN // 2).with_columns(score=pl.lit(None, pl.Float64))
    groups = [
        ("Made", "over the whole set", shown.height, pictures(shown.gather_every(step).head(_SHOWN))),
        ("Real", "bads that the maker did not see", len(unseen), pictures(real)),
    ]
    return Section("pictures", "Look at them", render("sections/mistakes.html", groups=groups), _NUMBER)


def _copies(shown: pl.DataFrame) -> Section:
    copied = shown.filter(pl.col("drop").str.starts_with("copy").fill_null(False)).sort("nearest_distance")
    nearest = shown.filter(pl.col("drop").is_null()).sort("nearest_distance")
    groups = [
        ("Copies", "each beside its original, to be dropped", copied.height, _pairs(copied)),
        ("The nearest that are no copies", "each beside the bad it is nearest to", nearest.height, _pairs(nearest, 8)),
    ]
    repeats = shown.filter(pl.col("drop").str.starts_with("repeat").fill_null(False))
    if repeats.height:
        groups.append(("Repeats", "of an earlier made image", repeats.height, pictures(repeats.head(_PAIRS))))
    body = render("sections/mistakes.html", groups=groups)
    return Section("copies", "Learned by heart?", body, _NUMBER)


def _pairs(rows: pl.DataFrame, most: int = _PAIRS) -> Sequence[Picture]:
    found: list[Picture] = []
    for row in rows.head(most).iter_rows(named=True):
        for name, path, tag in ((row["image"], row["path"], "made"), (row["nearest"], row["nearest_path"], "real")):
            small = thumbnail(path)
            score = wording.score(row["score"]) if tag == "made" else ""
            found.append(Picture(small.uri, name, score, tag, tag == "made", small.trouble))
    return found


def _broken(shown: pl.DataFrame) -> Section:
    rows = shown.filter(pl.col("drop").str.starts_with("broken").fill_null(False))
    rows = rows.sort("real_distance", descending=True)
    groups = [("Broken", "the farthest from all real bads first", rows.height, pictures(rows.head(_SHOWN)))]
    return Section("broken", "Broken, or of a kind that is not real", render("sections/mistakes.html", groups=groups))


def _again(document: dict[str, Any]) -> Section:
    config = json.dumps(document["config"], indent=2)
    body = render("sections/synthesis_again.html", document=document, config=config)
    return Section("again", "How to run it again", body)
