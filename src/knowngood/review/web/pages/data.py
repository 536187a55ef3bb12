"""Data: the images with their labels, corrections by people, and these as files for `train`."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Annotated, Literal

import numpy as np
from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from markupsafe import Markup

from knowngood.report.chart import Chart, linear, log_counts
from knowngood.review.store.inspections import Row
from knowngood.review.web.access import Anybody, AtStation, Known
from knowngood.review.web.pages.shared import shown
from knowngood.tables import protected_text

router = APIRouter()
PAGE = 48
_BINS = 25
_WORDS = {"good": 0, "bad": 1}


@router.get("/data")
def page(
    request: Request,
    station: AtStation,
    person: Known,
    label: Literal["", "good", "bad"] = "",
    defect: Annotated[str, Query(max_length=80)] = "",
    lot: Annotated[str, Query(max_length=200)] = "",
    low: Annotated[float, Query(ge=0, le=1, allow_inf_nan=False)] = 0.0,
    high: Annotated[float, Query(ge=0, le=1, allow_inf_nan=False)] = 1.0,
    start: Annotated[int, Query(ge=0, le=10_000_000)] = 0,
) -> Response:
    """Shows the labelled images, filtered, the highest score first."""
    rows = station.record.labels.scored(station.scoring)
    kept = [
        row
        for row in rows
        if (not label or row["label"] == _WORDS[label])
        and (not defect or row["defect"] == defect)
        and (not lot or row["lot"] == lot)
        and low <= row["defect_score"] <= high
    ]
    kept.sort(key=lambda row: -row["defect_score"])
    verdicts = station.record.verdicts.corrections()
    return shown(
        request,
        "data.html",
        person,
        sets=sorted({row["data"] for row in verdicts if row["verdict"] != "unsure"}),
        rows=kept[start : start + PAGE],
        total=len(kept),
        counts=_counts(rows),
        defects=sorted({row["defect"] for row in rows if row["defect"]}),
        chart=_histogram(kept) if kept else None,
        corrections=[row for row in verdicts if changes(row)],
        asked={"label": label, "defect": defect, "lot": lot, "low": low, "high": high},
        more=start + PAGE if start + PAGE < len(kept) else None,
        before=max(0, start - PAGE) if start else None,
    )


@router.get("/data/verdicts.csv", dependencies=[Anybody])
def verdicts(station: AtStation, of: Annotated[str, Query(max_length=400)] = "") -> Response:
    """Returns the verdicts on one set's images (of all sets without a name), as `train --verdicts` reads them."""
    verdicts = station.record.verdicts.corrections()
    rows = [row for row in verdicts if row["verdict"] != "unsure" and of in ("", row["data"])]
    lines = [(r["image"], r["verdict"], r["verdict_defect"] or "") for r in rows]
    return _csv("verdicts.csv", ("image", "verdict", "defect"), lines)


@router.get("/data/manifest.csv", dependencies=[Anybody])
def manifest(station: AtStation) -> Response:
    """Returns every kept photograph with a label or a verdict, as `train` takes it: what the line has seen included."""
    lines = []
    for row in station.record.labels.scored(station.scoring):
        if row["place"] is not None and not row["generated"]:
            word = "bad" if row["label"] else "good"
            lines.append((row["place"], word, row["defect"] or "", row["lot"] or "", row["split"] or ""))
    return _csv("manifest.csv", ("image", "label", "defect", "lot", "split"), lines)


def changes(row: Row) -> bool:
    """Returns whether a verdict differs from the set's label."""
    return row["verdict"] == "drop" or (row["verdict"] in _WORDS and row["label"] != _WORDS[row["verdict"]])


def _counts(rows: Sequence[Row]) -> dict[str, dict[str, int]]:
    counts: dict[str, dict[str, int]] = {}
    for row in rows:
        kind = row["split"] or "from the line"
        own = counts.setdefault(kind, {})
        name = row["defect"] or ("bad" if row["label"] else "good")
        own[name] = own.get(name, 0) + 1
    return counts


def _histogram(rows: Sequence[Row]) -> Markup:
    edges = np.linspace(0, 1, _BINS + 1)
    of = {label: np.histogram([r["defect_score"] for r in rows if r["label"] == label], edges)[0] for label in (0, 1)}
    most = int(max(counts.max() for counts in of.values()))
    chart = Chart(linear("defect score", 0, 1), log_counts("images (log)", most), 520, 220)
    for label, css in ((0, "good right"), (1, "bad right")):
        for left, right, count in zip(edges, edges[1:], of[label], strict=False):
            middle = (left + right) / 2
            if count:  # side by side: a tall bar must not hide a short one
                chart.bar(left if label == 0 else middle, middle if label == 0 else right, float(count), css)
    return chart.svg("Histogram of the defect scores of good and bad images, counts on a log scale")


def _csv(name: str, columns: Sequence[str], lines: Iterable[Sequence[str]]) -> Response:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(columns)
    writer.writerows([protected_text(cell) for cell in line] for line in lines)
    headers = {"content-disposition": f'attachment; filename="{name}"'}
    return Response(text.getvalue(), media_type="text/csv; charset=utf-8", headers=headers)
