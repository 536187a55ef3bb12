"""The audit as a page: what to do with it, the pictures of every list, and what a removal trial found."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import polars as pl

from knowngood.report.experiments import removal
from knowngood.report.page import Section, page, render
from knowngood.report.pictures import row_pictures
from knowngood.wording import counted

_SHOWN, _FEWER = 48, 16
_PROBABILITY = "The number is the out-of-fold probability of being bad."
_MEANING = {
    "outliers": "do not belong to the set: both detectors say so",
    "suspected labels": "the other label is likelier",
    "rare defects": "bad, unlike other bads and unlike goods: keep them, find more of them",
    "conflicting duplicates": "near-duplicates that carry different labels: one of them is wrong",
}


def lists_of(table: pl.DataFrame) -> dict[str, pl.DataFrame]:
    """Returns the lists of issues by name, each with the most likely issue first."""
    both = table["ocsvm_score"].rank() + table["iforest_score"].rank()
    pair = pl.coalesce("duplicate_of", "image")  # copies lie beside each other
    return {
        "outliers": table.with_columns(_both=both).filter("outlier").sort("_both", descending=True).drop("_both"),
        "suspected labels": table.filter(pl.col("suspect").fill_null(False)).sort("suspect_score", descending=True),
        "rare defects": table.filter(pl.col("rare").fill_null(False)).sort(
            "good_distance", descending=True, nulls_last=True
        ),
        "conflicting duplicates": table.filter(pl.col("conflicting_duplicate").is_not_null()).sort(pair, "image"),
    }


def audit_page(facts: dict[str, Any], table: pl.DataFrame, trial: dict[str, Any] | None = None) -> str:
    """Returns the whole page.

    Args:
        facts: What audit.json holds.
        table: One row for each image.
        trial: What removal.json holds, where a removal trial was made.
    """
    shown = _short_names(table)
    lists = lists_of(shown)
    tiles = [(name.capitalize(), rows.height, _MEANING[name]) for name, rows in lists.items()]
    start = render("sections/audit_start.html", tiles=tiles, notes=facts["notes"], tried=trial is not None)
    sections = [Section("start", "What to do", start)]
    if trial is not None:
        sections.append(removal(trial))
    for name, rows in lists.items():
        groups, lead = _groups(name, rows, shown)
        body = render("sections/mistakes.html", groups=groups)
        title = f"{name.capitalize()}: {rows.height}"
        sections.append(Section(name.replace(" ", "-"), title, body, f"{_MEANING[name].capitalize()}. {lead}"))
    data, deep = facts["data"], facts["features"]
    subtitle = (
        f"{facts['created']} · {counted(table.height, 'image')} of {data['source']} · features of {deep['model']}"
    )
    return page("Audit: what to look at before training", subtitle, sections)


def audit_sections(table: pl.DataFrame, trial: dict[str, Any] | None, link: str) -> list[Section]:
    """Returns the audit as sections of a larger page: every list with a few pictures, and the trial.

    Args:
        table: One row for each image.
        trial: What removal.json holds, where a removal trial was made.
        link: Where the audit's own page is.
    """
    groups = []
    for name, rows in lists_of(table).items():
        score = "iforest_score" if name == "outliers" else "out_of_fold_score"
        groups.append(_group(name.capitalize(), _MEANING[name], rows, score, _FEWER))
    more = render("sections/study_step.html", sentences=[], rows=[], link=(link, "The whole audit, every picture"))
    body = render("sections/mistakes.html", groups=groups) + more
    lead = "An issue is not a verdict: a person looks before anything is removed or relabelled."
    made = [Section("audit", "Outliers and suspected labels", body, lead)]
    return made if trial is None else [*made, removal(trial)]


def _short_names(table: pl.DataFrame) -> pl.DataFrame:
    """Returns the table with names without the folders that all of them share, to fit under small pictures."""
    names = table["image"].to_list()
    letters = os.path.commonprefix(names)  # noqa: RUF071  (dirname makes whole folders of them)
    shared = os.path.dirname(letters) if len(names) > 1 else ""
    return table.with_columns(pl.col("image").str.slice(len(shared) + 1)) if shared else table


def _groups(name: str, rows: pl.DataFrame, table: pl.DataFrame) -> tuple[list[tuple[Any, ...]], str]:
    """Returns the groups of pictures of one list, and how to read the number under each."""
    if name == "outliers":
        one = table.filter(pl.col("ocsvm_outlier") != pl.col("iforest_outlier"))
        groups = [
            _group("Both say so", "the most abnormal first", rows, "iforest_score"),
            *_by_one(one),
        ]
        return groups, "The number is the isolation forest's score, 0 to 1, higher is more abnormal."
    if name == "suspected labels":
        good, bad = rows.filter(pl.col("label") == 0), rows.filter(pl.col("label") == 1)
        return [
            _group("Labelled good, look bad", "the most suspected first", good),
            _group("Labelled bad, look good", "the most suspected first", bad),
        ], _PROBABILITY
    if name == "rare defects":
        return [_group("", "the farthest from all good ones first", rows)], _PROBABILITY
    return [_group("", "copies lie beside each other", rows)], _PROBABILITY


def _by_one(one: pl.DataFrame) -> Iterator[tuple[Any, ...]]:
    for detector, title in (("ocsvm", "The one-class SVM alone"), ("iforest", "The isolation forest alone")):
        rows = one.filter(f"{detector}_outlier").sort(f"{detector}_score", descending=True)
        if rows.height:
            yield _group(title, "no outliers, but the nearest to it", rows, "iforest_score", _FEWER)


def _group(
    name: str, note: str, rows: pl.DataFrame, number: str = "out_of_fold_score", most: int = _SHOWN
) -> tuple[Any, ...]:
    shown = rows.head(most).with_columns(score=pl.col(number))
    title = name or counted(rows.height, "image")
    return (f"{title}: {rows.height}" if name else title, note, rows.height, row_pictures(shown))
