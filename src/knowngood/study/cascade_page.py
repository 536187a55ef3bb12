"""The cascade as a page: what it decides by itself, what that costs, which images went up."""

from __future__ import annotations

from typing import Any

import polars as pl

from knowngood.recipe.cascade.document import CascadeDocument
from knowngood.report.page import Section, page, render
from knowngood.report.sections.pictures import pictures

_SHOWN = 48


def cascade_page(document: CascadeDocument, passed: pl.DataFrame) -> str:
    """Returns the whole page.

    Args:
        document: What cascade.json holds.
        passed: A row a test image that went on to the large network, with its score.
    """
    sections = [_verdict(document), _cost(document), _escapes(document)]
    groups = [
        _group("Good units", passed.filter(pl.col("label") == 0)),
        _group("Bad units", passed.filter(pl.col("label") == 1)),
    ]
    lead = "Test images of which the student was not certain; the highest score of the large network first."
    sections.append(Section("passed", "Which images went up", render("sections/mistakes.html", groups=groups), lead))
    subtitle = f"{document.created} · student {document.student.revision} · large network {document.large.revision}"
    return page("Cascade: a student before the large network", subtitle, sections)


def sentences(document: CascadeDocument) -> list[str]:
    """Returns what the cascade does, in words."""
    test = document.figures["test"]
    said = [f"Certificate of the whole: {document.threshold['sentence']}"]
    if test:
        faster = test["cascade"]["images_per_second"] / max(test["large"]["images_per_second"], 1e-9)
        said.insert(
            0,
            f"Of the test images the student accepts {_percent(test['accepted_by_student'])} and rejects "
            f"{_percent(test['rejected_by_student'])} by itself; {_percent(test['passed_on'])} go on to the large "
            f"network. Files to decisions: {faster:.1f} times as fast as the large network alone, here and now.",
        )
    return said


def _verdict(document: CascadeDocument) -> Section:
    test = document.figures["test"]
    rows = []
    for name, key in (("large network alone", "large"), ("cascade", "cascade")):
        if test:
            rows.append((name, *_figures(test[key])))
    body = render(
        "sections/study_step.html",
        sentences=sentences(document),
        columns=("on the test split", "AUC", "escapes", "overkill", "overkill at TPR 99.5 %", "images/s"),
        rows=rows,
        plain=False,
        link=None,
    )
    return Section("verdict", "What it does", body)


def _cost(document: CascadeDocument) -> Section:
    tried = document.figures["tried"]
    rows = [
        (f"{one['certainty']:g}", _percent(one["passed"]), _percent(one["overkill"]), _percent(one["overkill_alone"]))
        for one in tried
    ]
    high = "nothing" if document.high > 1 else f"from a score of {document.high:.3g}"
    cut = document.threshold["threshold"]
    said = [
        f"The student accepts below {document.low:.3g}, {document.certainty:g} times the threshold of {cut:.3g}, "
        f"and rejects {high}."
    ]
    body = render(
        "sections/study_step.html",
        sentences=said,
        columns=("certainty", "passed on", "overkill of the whole", "overkill of the large network alone"),
        rows=rows,
        plain=False,
        link=None,
    )
    lead = (
        "How certain the student must be, tried on images that neither network learned from, at the threshold that "
        "keeps the budget there."
    )
    return Section("cost", "What certainty costs", body, lead)


def _escapes(document: CascadeDocument) -> Section:
    rows = [
        (_percent(one["escape_budget"]), *map(_percent, (one["passed"], one["overkill"], one["overkill_alone"])))
        for one in document.figures["budgets"]
    ]
    body = render(
        "sections/study_step.html",
        sentences=[],
        columns=("escape budget", "passed on", "overkill of the whole", "overkill of the large network alone"),
        rows=rows,
        plain=False,
        link=None,
    )
    lead = "What other budgets would cost with this student, on the same images."
    return Section("escapes", "Cost against escapes", body, lead)


def _figures(one: dict[str, Any]) -> tuple[str, ...]:
    low, high = one["auroc_ci"] or (None, None)
    auc = "" if one["auroc"] is None else f"{one['auroc']:.4f}" + ("" if low is None else f" ({low:.3f}–{high:.3f})")
    rest = (one["escape_rate"], one["overkill_rate"], one["overkill_at_995"])
    return (auc, *map(_percent, rest), f"{one['images_per_second']:.0f}")


def _group(name: str, rows: pl.DataFrame) -> tuple[Any, ...]:
    return (f"{name}: {rows.height}", "", rows.height, pictures(rows.head(_SHOWN)))


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.1f} %"
