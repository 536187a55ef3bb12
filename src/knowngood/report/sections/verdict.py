"""What a quality engineer wants to know first: does it find the bads, what does it cost, what is proven."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import polars as pl

from knowngood import wording
from knowngood.decide.threshold import UNKNOWN, proportion_interval
from knowngood.report.page import Section, render
from knowngood.report.run import RunSummary


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


@dataclass(frozen=True)
class Counts:
    """Decisions on the shown split."""

    goods: int
    bads: int
    escapes: int
    overkill: int
    reviews: int

    @classmethod
    def of(cls, decided: pl.DataFrame) -> Counts:
        bad, decision = decided["label"] == 1, decided["decision"]
        return cls(
            goods=int((~bad).sum()),
            bads=int(bad.sum()),
            escapes=int((bad & (decision == "accept")).sum()),
            overkill=int((~bad & (decision == "reject")).sum()),
            reviews=int((decision == "review").sum()),
        )


def verdict(run: RunSummary) -> Section | None:
    """Makes the headline: one plain sentence, whether the budget is proven, and the large numbers."""
    counts = Counts.of(run.decided)
    body = render(
        "sections/verdict.html",
        sentence=_sentence(run, counts),
        threshold=run.threshold,
        warning=_warning(run, counts),
        tiles=_tiles(run, counts),
    )
    return Section("verdict", "Verdict", body)


def _sentence(run: RunSummary, counts: Counts) -> str:
    where = _where(run)
    parts = [f"On {wording.counted(run.shown.height, 'image')} {where},"]
    auc = run.figures.get("auroc")
    learned_alone = run.config.get("one_class") and not counts.bads
    if learned_alone:
        parts = [f"On {wording.counted(run.shown.height, 'good image')} {where} were scored."]
    elif auc is None:
        parts.append("no AUC can be given, because one class is missing.")
    else:
        interval = wording.decimal_range(run.figures.get("auroc_ci"))
        told = f", 95 % interval {interval}" if interval else ""
        often = wording.percent(auc)
        parts.append(f"a bad unit scores above a good one {often} of the time (AUC {wording.decimal(auc)}{told}).")
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
    if learned_alone:
        parts.append(f"{UNKNOWN.capitalize()}.")
    return " ".join(parts)


def _where(run: RunSummary) -> str:
    if run.split != "test":
        return f"of the {run.split} split: no test split was scored"
    leaks = [w for w in run.metrics.get("warnings") or [] if w["code"].endswith("-across-splits")]
    if leaks:
        return "of the test split, not all of which are new to it (see above)"
    return "never seen in training"


def _warning(run: RunSummary, counts: Counts) -> str | None:
    """Says so when the shown images contradict the certificate: they are unlike the calibration images."""
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


def _tiles(run: RunSummary, counts: Counts) -> list[Tile]:
    figures = run.figures
    auc = figures.get("auroc")
    if run.config.get("one_class") and not counts.bads:
        tiles = [_rate_tile("Overkill", counts.overkill, counts.goods, "good")]
        if counts.reviews:
            tiles.append(_rate_tile("To review", counts.reviews, run.decided.height, ""))
        proven = (run.threshold or {}).get("certified_overkill_rate")
        sure = f"at {100 * float((run.threshold or {}).get('confidence', 0)):g} % confidence, on calibration images"
        tiles.append(Tile("Overkill proven at most", wording.percent(proven), sure))
        return [*tiles, Tile("Escape rate", "unknown", "no bad images")]
    tiles = [Tile("AUC", wording.decimal(auc), wording.decimal_range(figures.get("auroc_ci")))]
    if run.decided.height:
        tiles += [
            _rate_tile("Escape rate", counts.escapes, counts.bads, "bad"),
            _rate_tile("Overkill", counts.overkill, counts.goods, "good"),
        ]
        if counts.reviews:
            tiles.append(_rate_tile("To review", counts.reviews, run.decided.height, ""))
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


def _rate_tile(name: str, part: int, whole: int, kind: str) -> Tile:
    image = f"{kind} image".strip()
    if whole == 0:
        return Tile(name, wording.NONE, f"no {image}s")
    interval = wording.percent_range(proportion_interval(part, whole))
    return Tile(name, wording.percent(part / whole), f"{part:,} of {wording.counted(whole, image)}; {interval}")
