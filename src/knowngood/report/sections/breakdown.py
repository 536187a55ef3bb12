"""Which defects escape, and which lots go wrong."""

from __future__ import annotations

import polars as pl

from knowngood.decide.threshold import proportion_interval
from knowngood.report.page import Section, render
from knowngood.report.run import RunSummary

_LOTS = 12


def by_defect(run: RunSummary) -> Section | None:
    """Makes the table of defect types, the one with most escapes first."""
    bads = run.decided.filter(pl.col("label") == 1)
    if not bads.height:
        return None
    table = (
        bads.with_columns(pl.col("defect").fill_null("bad"))
        .group_by("defect")
        .agg(_number("reject"), _number("review"), _number("accept"), pl.len().alias("n"))
        .sort(pl.col("accept") / pl.col("n"), "n", descending=True)
    )
    rows = [
        {**row, "rate": row["accept"] / row["n"], "interval": proportion_interval(row["accept"], row["n"])}
        for row in table.iter_rows(named=True)
    ]
    body = render("sections/defects.html", rows=rows, review=bool((bads["decision"] == "review").any()))
    lead = "Intervals are exact 95 % intervals: a wide one means too few bads to know."
    return Section("defects", "By defect", body, lead)


def by_lot(run: RunSummary) -> Section | None:
    """Makes the table of lots, those with most mistakes first."""
    named = run.decided.filter(pl.col("lot").is_not_null())
    if not named.height:
        return None
    bad, decision = pl.col("label") == 1, pl.col("decision")
    table = (
        named.group_by("lot")
        .agg(
            (~bad).sum().alias("goods"),
            bad.sum().alias("bads"),
            (bad & (decision == "accept")).sum().alias("escapes"),
            (~bad & (decision == "reject")).sum().alias("overkill"),
        )
        .sort(["escapes", "overkill", "lot"], descending=[True, True, False])
    )
    body = render(
        "sections/lots.html",
        rows=list(table.head(_LOTS).iter_rows(named=True)),
        more=max(table.height - _LOTS, 0),
    )
    return Section("lots", "By lot", body, "The lots with most escapes first, then most overkill.")


def _number(decision: str) -> pl.Expr:
    return (pl.col("decision") == decision).sum().alias(decision)
