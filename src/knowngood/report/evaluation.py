"""The page of an evaluation: the answer, the confusion with pictures, curves, groups, what did not count."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import polars as pl

from knowngood import wording
from knowngood.metrics.thresholds import ACCEPT, REJECT
from knowngood.report.page import Section, exact_rate, page, render
from knowngood.report.pictures import row_pictures
from knowngood.report.run_figures import calibration, provenance, separation
from knowngood.report.run_summary import RunSummary
from knowngood.report.run_verdict import Tile, by_defect, by_lot, decisions, rate_tile

_ESCAPES, _WORST, _CAUGHT, _REVIEWED = 120, 16, 6, 12  # pictures of each kind
_GROUP_ROWS = 20
_MEANT = 20  # bads from which on a reliability plot says something
_SIGNS = {"contradicted": ("no", "✕"), "confirmed": ("yes", "✓"), "compatible": ("yes", "✓")}
_OPEN = ("open", "?")  # of the other findings: there is nothing to tell from


def evaluation_page(document: dict[str, Any], run: RunSummary, maps: Sequence[Section] = ()) -> str:
    """Returns the whole HTML page; nothing in it is fetched from anywhere.

    Args:
        document: Of `knowngood.recipe.evaluating`.
        run: The photographs that count, all in split "test", with the figures of the document.
        maps: Sections of maps, shown after the pictures.
    """
    made = [
        _answer(document),
        decisions(run),
        _pictures(run),
        *maps,
        separation(run),
        by_defect(run),
        by_lot(run),
        _groups(document),
        calibration(run) if document["decisions"]["bads"] >= _MEANT else None,
        _figures(document),
        _counted(document),
        provenance(run),
    ]
    counts = document["decisions"]
    subtitle = (
        f"{run.created} · {wording.counted(counts['goods'], 'good')} and {wording.counted(counts['bads'], 'bad')} · "
        f"decided by {document['recipe']['runtime']}, recipe {document['recipe']['revision']}"
    )
    return page(run.title, subtitle, [one for one in made if one is not None])


def _answer(document: dict[str, Any]) -> Section:
    sentences = document["sentences"]
    certificate = [
        (*_SIGNS.get(one["finding"], _OPEN), *_headed(one["sentence"]))
        for one in document["certificate"].values()
        if one["sentence"] in sentences
    ]
    known = {one["sentence"] for one in document["certificate"].values()}
    plain = [sentence for sentence in sentences if sentence not in known]
    body = render(
        "sections/evaluation.html",
        warnings=plain[:-1],
        sentence=plain[-1],
        requirements=document["requirements"],
        certificate=certificate,
        tiles=_tiles(document),
    )
    return Section("answer", "The answer", body)


def _headed(sentence: str) -> tuple[str, str]:
    """Returns what stands before the first colon of a sentence, which is shown bold, and the rest."""
    head, colon, rest = sentence.partition(": ")
    return (f"{head}:", rest) if colon else ("", sentence)


def _tiles(document: dict[str, Any]) -> list[Tile]:
    figures, counts = document["figures"], document["decisions"]
    tiles = [
        rate_tile("Escape rate", counts["escapes"]["count"], counts["bads"], "bad"),
        rate_tile("Overkill", counts["overkill"]["count"], counts["goods"], "good"),
        rate_tile("To review", counts["reviewed"]["count"], counts["images"], ""),
        Tile("AUC", wording.decimal(figures["auroc"]), _interval(figures, counts)),
    ]
    if figures["auroc"] is not None:
        at, interval = figures["fpr_at_tpr"]["0.995"], figures["fpr_at_tpr_ci"]["0.995"]
        tiles.append(Tile("Overkill at 0.5 % escapes", wording.percent(at), wording.percent_range(interval)))
    place = document["localisation"]
    if place and place["on_defect"]["units"]:
        found = place["on_defect"]
        tiles.append(rate_tile("Hottest place on the defect", found["count"], found["units"], "marked"))
    return tiles


def _interval(figures: dict[str, Any], counts: dict[str, Any]) -> str:
    if figures["auroc"] is None:
        return f"undefined: there is no {'bad' if counts['goods'] else 'good'} image"
    return wording.decimal_range(figures["auroc_ci"])


def _figures(document: dict[str, Any]) -> Section:
    """Makes the table of all figures that are no rate of decisions, with their intervals."""
    figures = document["figures"]
    rows = [
        (title, word(figures[name]), ranged(figures[f"{name}_ci"]))
        for title, name, word, ranged in (
            ("accuracy, review counted as not accepted", "accuracy", wording.percent, wording.percent_range),
            ("precision", "precision", wording.percent, wording.percent_range),
            ("recall", "recall", wording.percent, wording.percent_range),
            ("F1", "f1", wording.decimal, wording.decimal_range),
            ("AUC", "auroc", wording.decimal, wording.decimal_range),
            ("average precision", "average_precision", wording.decimal, wording.decimal_range),
        )
        if figures[name] is not None
    ]
    columns = ("", "value", f"{100 * document['confidence']:g} % interval")
    body = render("sections/study_step.html", sentences=[], columns=columns, rows=rows, plain=False, link=None)
    return Section("figures", "All figures", body, "The first four are counted at the threshold.")


def _pictures(run: RunSummary) -> Section:
    """Shows all escapes, the worst overkill, what the input check sent to a person, and a few that were caught."""
    decided = run.decided
    caught = decided.filter((pl.col("label") == 1) & (pl.col("decision") == REJECT)).sort("score", descending=True)
    apart = decided.filter(pl.col("reason").is_not_null()).sort("image")
    escapes, overkill = run.picked(1, ACCEPT), run.picked(0, REJECT)
    shown = [
        ("Escapes", "bad and accepted, the lowest score first", escapes, _ESCAPES),
        ("Overkill", "good and rejected, the highest score first", overkill, _WORST),
        ("Sent to a person by the input check", "whatever the score", apart, _REVIEWED),
        ("Caught", "bad and rejected, the highest score first", caught, _CAUGHT),
    ]
    groups = [
        (name, order, rows.height, row_pictures(rows[:most]))
        for name, order, rows, most in shown
        if rows.height or name in ("Escapes", "Overkill")
    ]
    return Section("pictures", "Mistakes, and what was caught", render("sections/mistakes.html", groups=groups))


def _groups(document: dict[str, Any]) -> Section | None:
    """Makes one table by split, machine and product, where there are several of them."""
    rows = []
    for column in ("split", "machine", "product"):
        groups = document["groups"].get(column, [])
        rows += [(f"{column} {one['name']}", *_cells(one)) for one in groups[:_GROUP_ROWS] if len(groups) > 1]
    if document["units"]:
        rows.append(("by part, its worst decision", *_cells(document["units"])))
    if not rows:
        return None
    columns = ("", "goods", "bads", "escapes", "overkill", "to review")
    body = render("sections/study_step.html", sentences=[], columns=columns, rows=rows, plain=False, link=None)
    return Section("groups", "By split, machine and product", body)


def _cells(one: dict[str, Any]) -> tuple[str, ...]:
    rates = (exact_rate(one[key]["count"], one[key]["units"]) for key in ("escapes", "overkill"))
    return (f"{one['goods']:,}", f"{one['bads']:,}", *rates, f"{one['reviewed']['count']:,}")


def _counted(document: dict[str, Any]) -> Section:
    """Makes the table of what counts, what was left out and why, and why photographs went to a person."""
    seen = document["seen"]
    rows = [
        ("photographs in the set", f"{document['photographs']:,}"),
        *((f"left out: {reason}", f"{count:,}") for reason, count in document["left_out"].items()),
        ("counted", f"{document['decisions']['images']:,}"),
        *((f"to review: {_reason(reason)}", f"{count:,}") for reason, count in document["reviewed_because"].items()),
        ("trained or calibrated on, of those scored", f"{seen['count']:,}" if seen["known"] else "unknown"),
    ]
    with_seen = document["with_seen"]
    sentences = []
    if with_seen:
        escapes, overkill = with_seen["escapes"], with_seen["overkill"]
        sentences.append(
            "With the photographs that the recipe was trained or calibrated on, which flatter it: "
            f"AUC {wording.decimal(with_seen['auroc'])}, escapes {exact_rate(escapes['count'], escapes['units'])}, "
            f"overkill {exact_rate(overkill['count'], overkill['units'])}."
        )
    place = document["localisation"]
    if place and place["why_not"]:
        sentences.append(f"Defects are marked on {wording.counted(place['marked'], 'photograph')}. {place['why_not']}")
    body = render("sections/evaluation_counted.html", rows=rows, sentences=sentences)
    return Section("counted", "What was counted", body)


def _reason(reason: str) -> str:
    return "score between the thresholds" if reason == "score" else reason
