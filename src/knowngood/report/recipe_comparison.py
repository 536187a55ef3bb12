"""Two recipes on the same photographs as a page: the figures, and every flipped unit as a picture."""

from __future__ import annotations

from typing import Any

import polars as pl
from markupsafe import Markup

from knowngood import wording
from knowngood.metrics.thresholds import ACCEPT
from knowngood.report.page import Picture, Section, page, render
from knowngood.report.pictures import thumbnail

CHANCE = 0.05  # a p-value from here on is called a difference that may be chance
SHOWN = 60  # pictures of a group
_FLIPPED = 4  # groups of flipped units, which are shown even where they are empty


def recipe_comparison_page(document: dict[str, Any], rows: pl.DataFrame) -> str:
    """Returns the whole page; nothing in it is fetched from anywhere.

    Args:
        document: Of `knowngood.experiments.recipe_comparison`.
        rows: Columns image, path, label, defect, a_score, a_decision, b_score, b_decision, flipped.
    """
    names = {name: f"{one['name']} ({one['revision']})" for name, one in document["recipes"].items()}
    sections = [_figures(document), _recipes(document), _flips(rows)]
    subtitle = (
        f"A: {names['a']} · B: {names['b']} · {wording.counted(document['goods'], 'good')} and "
        f"{wording.counted(document['bads'], 'bad')}"
    )
    return page("Two recipes on the same photographs", subtitle, sections)


def _figures(document: dict[str, Any]) -> Section:
    auroc = document["auroc"]
    rows: list[tuple[str, ...]] = []
    if auroc is not None:
        rows.append(("AUC", wording.decimal(auroc["a"]), wording.decimal(auroc["b"]), _p(auroc["p_value"])))
    for title, key in (("escapes: bads accepted", "escapes"), ("overkill: goods not accepted", "overkill")):
        found = document[key]
        cells = (_count_and_interval(found[name], found["units"]) for name in ("a", "b"))
        rows.append((title, *cells, _p(found["p_value"])))
    right = document["accuracy"]
    rows.append(
        ("only this one is right", str(right["only_a_right"]), str(right["only_b_right"]), _p(right["p_value"]))
    )
    reviewed = document["reviewed"]
    rows.append(("sent to review", str(reviewed["a"]), str(reviewed["b"]), ""))
    left_out = ", ".join(f"{count} {reason}" for reason, count in document["left_out"].items())
    table = render(
        "sections/study_step.html",
        sentences=[],
        columns=("at each one's own thresholds", "A", "B", "p"),
        rows=rows,
        plain=False,
        link=None,
    )
    body = render("sections/evaluation.html", **_answer(document)) + table
    lead = f"On {wording.counted(document['images'], 'photograph')}; left out: {left_out or 'none'}. "
    lead += "Intervals are exact; p is DeLong's for the AUC, McNemar's exact one for the rest."
    return Section("result", "Result", body, lead)


def _answer(document: dict[str, Any]) -> dict[str, Any]:
    """Returns the sentences as the template of an evaluation takes them: what is better, worse or undecided in B."""
    escapes, overkill, auc, *warnings = document["sentences"]
    found = [
        (*_tone(document["escapes"]), escapes),
        (*_tone(document["overkill"]), overkill),
        (*_tone_of(-(document["auroc"] or {}).get("difference", 0), (document["auroc"] or {}).get("p_value", 1)), auc),
    ]
    certificate = [(tone, sign, *_headed(sentence)) for tone, sign, sentence in found]
    return {"warnings": warnings, "sentence": "", "requirements": None, "certificate": certificate, "tiles": []}


def _headed(sentence: str) -> tuple[str, str]:
    """Returns a sentence up to its first semicolon, which is shown bold, and the rest."""
    head, mark, rest = sentence.partition("; ")
    return (f"{head};", rest) if mark else (head, "")


def _tone(paired: dict[str, Any]) -> tuple[str, str]:
    return _tone_of(paired["b"]["count"] - paired["a"]["count"], paired["p_value"])


def _tone_of(more_mistakes: float, p_value: float) -> tuple[str, str]:
    """Returns the class of the box and its sign: B is better, B is worse, or no difference beyond chance."""
    if p_value >= CHANCE or not more_mistakes:
        return "open", "="
    return ("no", "✕") if more_mistakes > 0 else ("yes", "✓")


def _recipes(document: dict[str, Any]) -> Section:
    columns = ("name", "revision", "runtime", "accept_below", "reject_from")
    rows = [
        (name.upper(), *(one[key] if isinstance(one[key], str) else wording.score(one[key]) for key in columns))
        for name, one in document["recipes"].items()
    ]
    titles = ("", "name", "revision", "decided by", "accepts below", "rejects from")
    body = render("sections/study_step.html", sentences=[], columns=titles, rows=rows, plain=True, link=None)
    return Section("recipes", "The two recipes", body)


def _flips(rows: pl.DataFrame) -> Section:
    a, b, bad = pl.col("a_decision") == ACCEPT, pl.col("b_decision") == ACCEPT, pl.col("label") == 1
    groups = [
        _group("Bad, accepted by A and caught by B", rows.filter(bad & a & ~b), "b_score"),
        _group("Bad, accepted by B and caught by A", rows.filter(bad & ~a & b), "a_score"),
        _group("Good, not accepted by A and accepted by B", rows.filter(~bad & ~a & b), "a_score"),
        _group("Good, not accepted by B and accepted by A", rows.filter(~bad & a & ~b), "b_score"),
        _group("Bad, accepted by both", rows.filter(bad & a & b), "a_score"),
        _group("Good, accepted by neither", rows.filter(~bad & ~a & ~b), "a_score"),
    ]
    groups = [one for number, one in enumerate(groups) if number < _FLIPPED or one[3]]
    lead = "The first four groups are the flipped units: one is right, the other wrong. Under each its two scores."
    return Section("units", "Unit by unit", render("sections/mistakes.html", groups=groups), lead)


def _group(name: str, rows: pl.DataFrame, by: str) -> tuple[Any, ...]:
    shown = rows.sort(by, "image", descending=[True, False]).head(SHOWN)
    rest = f"the {SHOWN} with the highest scores" if len(rows) > SHOWN else ""
    return (f"{name}: {len(rows)}", rest, len(rows), [_picture(row) for row in shown.iter_rows(named=True)])


def _picture(row: dict[str, Any]) -> Picture:
    small = thumbnail(row["path"])
    return Picture(
        uri=small.uri,
        name=row["image"],
        score=f"B {wording.score(row['b_score'])}",
        tag=f"A {wording.score(row['a_score'])}",
        bad=row["label"] == 1,
        trouble=small.trouble,
    )


def _count_and_interval(one: dict[str, Any], units: int) -> Markup:
    interval = f"({wording.percent_range(one['interval'])})" if one["interval"] else ""
    return Markup("{} of {}<br><small>{}</small>").format(one["count"], units, interval)


def _p(value: float) -> str:
    return "< 0.0001" if value < 0.0001 else f"{value:.2g}"
