"""The report's first half: verdict, warnings, decisions with the images behind them, tables by defect and lot."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import polars as pl

from knowngood import wording
from knowngood.metrics.decisions import DecisionCounts
from knowngood.metrics.thresholds import UNKNOWN, proportion_interval
from knowngood.report.page import Picture, Section, render
from knowngood.report.pictures import row_pictures
from knowngood.report.run_summary import UNKNOWN_KIND, RunSummary


@dataclass(frozen=True)
class Tile:
    """One large number.

    Attributes:
        name: What it is.
        value: The number, worded.
        detail: Interval or count under it.
    """

    name: str
    value: str
    detail: str


def verdict(run: RunSummary) -> Section | None:
    """Makes the headline: one plain sentence, whether the budget is proven, and the large numbers."""
    counts = DecisionCounts.of(run.decided["label"], run.decided["decision"])
    body = render(
        "sections/verdict.html",
        sentence=_sentence(run, counts),
        threshold=run.threshold,
        warning=_warning(run, counts),
        tiles=_tiles(run, counts),
    )
    return Section("verdict", "Verdict", body)


def _sentence(run: RunSummary, counts: DecisionCounts) -> str:
    where = _where(run)
    parts = [f"On {wording.counted(run.shown.height, 'image')} {where},"]
    auc = run.figures.get("auroc")
    good_only = run.config.get("one_class") and not counts.bads
    if good_only:
        parts = [f"On {wording.counted(run.shown.height, 'good image')} {where} were scored."]
    elif auc is None:
        parts.append("no AUC can be given, because one class is missing.")
    else:
        interval = wording.decimal_range(run.figures.get("auroc_ci"))
        with_interval = f", 95 % interval {interval}" if interval else ""
        often = wording.percent(auc)
        parts.append(
            f"a bad unit scores above a good one {often} of the time (AUC {wording.decimal(auc)}{with_interval})."
        )
    if run.decided.height and run.threshold:
        done = []
        if counts.bads:
            done.append(
                f"{counts.escapes:,} of {wording.counted(counts.bads, 'bad unit')} escaped "
                f"({wording.percent(counts.escapes / counts.bads)})"
            )
        if counts.goods:
            done.append(
                f"{counts.overkill:,} of {wording.counted(counts.goods, 'good unit')} were rejected "
                f"({wording.percent(counts.overkill / counts.goods)} overkill)"
            )
        parts.append(f"At the threshold {wording.score(run.threshold.get('threshold'))}, {' and '.join(done)}")
        if counts.reviews:
            parts[-1] += f"; {wording.counted(counts.reviews, 'unit')} went to a person"
        parts[-1] += "."
    if good_only:
        parts.append(f"{UNKNOWN.capitalize()}.")
    return " ".join(parts)


def _where(run: RunSummary) -> str:
    if run.split != "test":
        return f"of the {run.split} split: no test split was scored"
    leaks = [w for w in run.metrics.get("warnings") or [] if w["code"].endswith("-across-splits")]
    if leaks:
        return "of the test split, not all of which are new to it (see above)"
    return "never seen in training"


def _warning(run: RunSummary, counts: DecisionCounts) -> str | None:
    """Returns a warning where the test contradicts the certificate: its images are unlike the calibration images."""
    proven = (run.threshold or {}).get("certified_escape_rate")
    if run.split != "test" or proven is None or counts.bads == 0:
        return None
    low, _ = proportion_interval(counts.escapes, counts.bads)
    if low <= proven:
        return None
    seen = f"{counts.escapes} of {counts.bads}, at least {wording.percent(low)} at 97.5 % confidence"
    return (
        f"The test escapes ({seen}) contradict the certified {wording.percent(proven)}: the calibration "
        "images are unlike the test images. Calibrate on images of the lots and defects to be inspected."
    )


def _tiles(run: RunSummary, counts: DecisionCounts) -> list[Tile]:
    figures = run.figures
    auc = figures.get("auroc")
    if run.config.get("one_class") and not counts.bads:
        tiles = [rate_tile("Overkill", counts.overkill, counts.goods, "good")]
        if counts.reviews:
            tiles.append(rate_tile("To review", counts.reviews, run.decided.height, ""))
        proven = (run.threshold or {}).get("certified_overkill_rate")
        sure = f"at {100 * float((run.threshold or {}).get('confidence', 0)):g} % confidence, on calibration images"
        tiles.append(Tile("Overkill proven at most", wording.percent(proven), sure))
        return [*tiles, Tile("Escape rate", "unknown", "no bad images")]
    tiles = [Tile("AUC", wording.decimal(auc), wording.decimal_range(figures.get("auroc_ci")))]
    if run.decided.height:
        tiles += [
            rate_tile("Escape rate", counts.escapes, counts.bads, "bad"),
            rate_tile("Overkill", counts.overkill, counts.goods, "good"),
        ]
        if counts.reviews:
            tiles.append(rate_tile("To review", counts.reviews, run.decided.height, ""))
    if not counts.reviews:  # with a person in between there is no accuracy of the machine alone
        tiles.append(_accuracy_tile(figures, run.threshold))
    at = (figures.get("fpr_at_tpr") or {}).get("0.995")
    interval = (figures.get("fpr_at_tpr_ci") or {}).get("0.995")
    tiles.append(Tile("Overkill at 0.5 % escapes", wording.percent(at), wording.percent_range(interval)))
    return tiles


def _accuracy_tile(figures: dict[str, Any], threshold: dict[str, Any] | None) -> Tile:
    """Makes the accuracy at the recipe's threshold, which the confusion matrix shows; that of score 0.5 is a detail."""
    usual = f"{wording.percent(figures.get('accuracy'))} if cut at 0.5, as the literature does"
    if threshold is None or figures.get("at_threshold_accuracy") is None:
        return Tile("Accuracy, cut at 0.5", wording.percent(figures.get("accuracy")), "")
    interval = wording.percent_range(figures.get("at_threshold_accuracy_ci"))
    detail = f"{interval}; {usual}" if interval else usual
    return Tile("Accuracy at the threshold", wording.percent(figures["at_threshold_accuracy"]), detail)


def rate_tile(name: str, part: int, whole: int, kind: str) -> Tile:
    """Returns a share of the images of a kind ("good", "bad" or "") with its exact interval."""
    image = f"{kind} image".strip()
    if whole == 0:
        return Tile(name, wording.NONE, f"no {image}s")
    interval = wording.percent_range(proportion_interval(part, whole))
    return Tile(name, wording.percent(part / whole), f"{part:,} of {wording.counted(whole, image)}; {interval}")


def warnings(run: RunSummary) -> Section | None:
    """Shows each warning in red, and in a plain line what was done about parts that were photographed several times."""
    found = run.metrics.get("warnings") or []
    repeated = run.data.get("repeated_parts") or {}
    kept = repeated.get("units") and repeated.get("status") in ("found", "given")
    estimate = (repeated.get("estimate") or {}).get("sentence", "")
    if not found and not kept:
        return None
    body = render(
        "sections/warnings.html",
        warnings=found,
        repeated=repeated if kept else None,
        estimate=estimate if kept else "",
    )
    return Section("warnings", "Read this first" if found else "Repeated parts", body)


_CELL = 24
_MEANING = {
    (0, "accept"): "good, passed",
    (0, "review"): "good, to a person",
    (0, "reject"): "overkill",
    (1, "accept"): "escapes",
    (1, "review"): "bad, to a person",
    (1, "reject"): "bad, caught",
}


@dataclass(frozen=True)
class Cell:
    """One cell of the matrix.

    Attributes:
        key: Anchor of its pictures.
        meaning: What such a decision is called.
        count: Images in it.
        share: Of the images of its class; None without any.
        mistake: Whether these decisions are wrong.
        pictures: The first of them, worst first.
    """

    key: str
    meaning: str
    count: int
    share: float | None
    mistake: bool
    pictures: list[Picture]


def decisions(run: RunSummary) -> Section | None:
    """Makes the confusion matrix; a third column appears when units went to review."""
    if not run.decided.height:
        return None
    columns = [d for d in ("accept", "review", "reject") if d != "review" or _reviewed(run)]
    rows = [
        (name, [_cell(run, label, d) for d in columns]) for label, name in ((0, "good"), (1, "bad")) if _any(run, label)
    ]
    body = render("sections/decisions.html", columns=columns, rows=rows, threshold=run.threshold)
    return Section("decisions", "Decisions", body, "Choose a cell to see the images behind it, the worst first.")


def _any(run: RunSummary, label: int) -> bool:
    return bool((run.decided["label"] == label).any())


def _reviewed(run: RunSummary) -> bool:
    return bool((run.decided["decision"] == "review").any())


def _cell(run: RunSummary, label: int, decision: str) -> Cell:
    rows = run.picked(label, decision)
    whole = int((run.decided["label"] == label).sum())
    return Cell(
        key=f"{'bad' if label else 'good'}-{decision}",
        meaning=_MEANING[label, decision],
        count=rows.height,
        share=rows.height / whole if whole else None,
        mistake=(label, decision) in ((1, "accept"), (0, "reject")),
        pictures=row_pictures(rows[:_CELL]),
    )


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


def by_kind(run: RunSummary) -> Section | None:
    """Makes the confusion matrix of the kinds of defects: what each bad unit has, against what the network sees."""
    if "kind" not in run.shown.columns:
        return None
    bads = run.shown.filter((pl.col("label") == 1) & pl.col("defect").is_not_null() & pl.col("kind").is_not_null())
    if bads["kind"].n_unique() < 1 or bads["defect"].n_unique() < 2:
        return None
    table = bads.group_by("defect", "kind").len()
    counts = {(defect, kind): number for defect, kind, number in table.iter_rows()}
    totals = dict(bads["defect"].value_counts().iter_rows())
    names = sorted(totals, key=lambda name: (-totals[name], name))
    kinds = [name for name in names if (bads["kind"] == name).any()]
    kinds += sorted(set(bads["kind"].to_list()) - set(kinds) - {UNKNOWN_KIND})
    kinds += [UNKNOWN_KIND] if (bads["kind"] == UNKNOWN_KIND).any() else []
    rows = [(name, totals[name], [counts.get((name, kind), 0) for kind in kinds]) for name in names]
    right = sum(counts.get((name, name), 0) for name in names)
    body = render("sections/kinds.html", kinds=kinds, rows=rows)
    share = wording.percent(right / bads.height)
    lead = (
        f"Of {wording.counted(bads.height, 'bad unit')} with a named defect, {share} are called by its name, accepted "
        "ones too. The kind decides nothing."
    )
    return Section("kinds", "Which defect it sees", body, lead)


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
