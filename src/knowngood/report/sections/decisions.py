"""The confusion matrix with the images behind every cell, and the worst mistakes as pictures."""

from __future__ import annotations

from dataclasses import dataclass

from knowngood.report.page import Picture, Section, render
from knowngood.report.run import RunSummary
from knowngood.report.sections.pictures import pictures

_CELL, _WORST = 24, 16
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


def mistakes(run: RunSummary) -> Section | None:
    """Shows the bads that look most like goods to the inspector, and the other way round."""
    escapes, overkill = run.picked(1, "accept"), run.picked(0, "reject")
    if not run.decided.height:
        return None
    groups = [
        (1, "Escapes", "bad, yet accepted; the lowest score first", escapes),
        (0, "Overkill", "good, yet rejected; the highest score first", overkill),
    ]
    body = render(
        "sections/mistakes.html",
        groups=[
            (name, said, rows.height, pictures(rows[:_WORST])) for label, name, said, rows in groups if _any(run, label)
        ],
    )
    lead = "Look here first: some of these labels may be wrong."
    return Section("mistakes", "The worst mistakes", body, lead if escapes.height + overkill.height else "")


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
        pictures=pictures(rows[:_CELL]),
    )
