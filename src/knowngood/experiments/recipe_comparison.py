"""`knowngood compare-recipes`: two recipes on the same labelled photographs that neither has seen."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from knowngood.data.loading import load, refuse_in_data
from knowngood.data.records import BAD, Records
from knowngood.errors import ConfigError, DataError, KnownGoodError
from knowngood.files import check_writable, whole_folder, write_json
from knowngood.metrics.comparisons import compare_accuracy, compare_auroc
from knowngood.metrics.decisions import share_and_interval
from knowngood.metrics.thresholds import ACCEPT, REVIEW
from knowngood.progress import reporter
from knowngood.recipe.bundle import Recipe
from knowngood.recipe.evaluating import recipe_facts, scored_rows
from knowngood.recipe.evaluation_document import left_out_because, reason_counts
from knowngood.recipe.evidence import seen_by
from knowngood.recipe.session import AUTO, Session, open_session
from knowngood.report.recipe_comparison import CHANCE, recipe_comparison_page
from knowngood.tables import write_table

DOCUMENT, ROWS, PAGE = "compared.json", "compared.parquet", "index.html"

Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class ComparedRecipes:
    """Two recipes on the same photographs.

    Attributes:
        document: What compared.json holds: both recipes, images, auroc, accuracy, escapes, overkill, sentences.
        rows: A row a photograph: image, path, label, defect, sha256, a_score, a_decision, b_score, b_decision, and
            flipped, whether one of the two accepts it and the other does not.
        folder: With index.html, compared.json and compared.parquet; None where none was asked for.
    """

    document: dict[str, Any]
    rows: pl.DataFrame
    folder: Path | None


def compare_recipes(
    a: Recipe | str | Path,
    b: Recipe | str | Path,
    data: str | Path | Records,
    out: str | Path | None = None,
    *,
    source: str | None = None,
    all_images: bool = False,
    runtime: str = AUTO,
    confidence: float = 0.95,
) -> ComparedRecipes:
    """Compares two recipes on the labelled photographs that neither learned from or was calibrated on.

    Differences are those of B minus A, on the same photographs: of the AUC by DeLong, of right decisions, escapes and
    overkill by McNemar's exact test, each recipe deciding at its own thresholds in its own runtime. A decision is right
    where a good unit is accepted or a bad one is not; review counts as not accepted. Photographs with equal bytes
    count once.

    Args:
        a: A recipe, such as the one in use.
        b: Another, such as the one that shall replace it.
        data: Folder, manifest, the word of a source, or loaded records, with labels.
        out: Folder for the page, the document and the rows; one that an earlier call wrote is replaced whole.
        source: Data source, when it should not be guessed.
        all_images: Take all photographs, also those that a recipe has seen.
        runtime: As in `knowngood.predict`, of both.
        confidence: Of the intervals.

    Raises:
        DataError: No labelled photograph is left, or nobody knows which ones a recipe has seen.
        ConfigError: `out` is a file, or holds something else.
        RecipeError: A recipe cannot be loaded.
    """
    folder = None if out is None else Path(out)
    if folder is not None:
        check_writable(folder, folder=True)
        refuse_in_data(folder, [] if isinstance(data, Records) else [data])
    taken = folder is not None and folder.is_dir() and not (folder / DOCUMENT).is_file()
    if folder is not None and taken and any(folder.iterdir()):
        raise ConfigError(
            f"{folder} holds something that `knowngood compare-recipes` did not write.",
            expected="an empty folder, none, or one of an earlier comparison of recipes",
            fix="Choose another --out.",
        )
    first, second = (one if isinstance(one, Recipe) else Recipe.load(one) for one in (a, b))
    records = data if isinstance(data, Records) else load(data, source)
    reasons = left_out_because(records.frame)
    frame, left_out = records.frame.filter(reasons.is_null()), reason_counts(reasons)
    if not all_images:
        digests = frame["sha256"].to_list()
        seen = {name: _seen_by(recipe, digests, name) for name, recipe in (("a", first), ("b", second))}
        frame = frame.filter(pl.Series(~(seen["a"] | seen["b"])))
        left_out |= {f"seen by {name.upper()}": int(marks.sum()) for name, marks in seen.items() if marks.any()}
    if frame.is_empty():
        raise DataError(
            f"No photograph is left to compare on; left out: {_words(left_out)}.",
            expected="labelled photographs that neither recipe learned from or was calibrated on",
            fix="Give other photographs, or --all-images to count those that they have seen.",
        )
    reporter().say(f"{len(frame)} photographs are compared; left out: {_words(left_out) or 'none'}")
    sessions = {"a": open_session(first, runtime), "b": open_session(second, runtime)}
    rows, broken = _scored(frame, sessions)
    if broken:
        left_out |= {"unreadable": left_out.get("unreadable", 0) + broken}
    if rows.is_empty():
        raise DataError("None of the photographs can be read.", fix="Run `knowngood check` on the folder.")
    document = _document(rows, sessions, left_out, all_images, confidence)
    if folder is not None:
        with whole_folder(folder) as scratch:
            write_json(scratch / DOCUMENT, document)
            write_table(rows, scratch / ROWS)
            (scratch / PAGE).write_text(recipe_comparison_page(document, rows), encoding="utf-8")
    return ComparedRecipes(document, rows, folder)


def _seen_by(recipe: Recipe, digests: list[str], name: str) -> Bools:
    """Returns which photographs (N,) a recipe was trained or calibrated on, by their bytes.

    Raises:
        DataError: Nobody knows: the recipe is an older one, and not in the folder of its run.
    """
    seen = seen_by(recipe, digests)
    if seen is None:
        raise DataError(
            f"Nobody knows which photographs recipe {name.upper()} ({recipe.manifest.name}) was trained on.",
            expected="evidence.safetensors in it, which `knowngood train` saves, or records.parquet of its run",
            fix="Give the recipe inside its run, or --all-images to count photographs that it may have seen.",
        )
    return seen


def _scored(frame: pl.DataFrame, sessions: dict[str, Session]) -> tuple[pl.DataFrame, int]:
    """Returns the rows that both could score, and how many others there are."""
    rows = frame.select("image", "path", "label", "defect", "sha256")
    for name, session in sessions.items():
        made = scored_rows(session, rows.select("image", "path"), f"score with {name.upper()}")
        rows = rows.with_columns(
            made["defect_score"].alias(f"{name}_score"), made["decision"].alias(f"{name}_decision")
        )
    whole = rows.drop_nulls(["a_score", "b_score"])
    flipped = (pl.col("a_decision") == ACCEPT) != (pl.col("b_decision") == ACCEPT)
    return whole.with_columns(flipped.alias("flipped")), len(rows) - len(whole)


def _document(
    rows: pl.DataFrame, sessions: dict[str, Session], left_out: dict[str, int], all_images: bool, confidence: float
) -> dict[str, Any]:
    labels = rows["label"].to_numpy()
    bad = labels == BAD
    passed = {name: (rows[f"{name}_decision"] == ACCEPT).to_numpy() for name in ("a", "b")}
    right = compare_accuracy(labels, ~passed["b"], ~passed["a"])
    auroc = None
    try:
        found = compare_auroc(labels, rows["b_score"].to_numpy(), rows["a_score"].to_numpy(), confidence=confidence)
        auroc = {
            "a": found.auroc_b,
            "b": found.auroc_a,
            "difference": found.difference,
            "interval": list(found.interval),
            "p_value": found.p_value,
        }
    except KnownGoodError:  # fewer than two of a class
        pass
    document: dict[str, Any] = {
        "recipes": {name: recipe_facts(session) for name, session in sessions.items()},
        "images": len(rows),
        "goods": int((~bad).sum()),
        "bads": int(bad.sum()),
        "left_out": left_out,
        "all": all_images,
        "confidence": confidence,
        "auroc": auroc,
        "accuracy": {
            "only_a_right": right.only_b_right,
            "only_b_right": right.only_a_right,
            "difference": right.difference,
            "p_value": right.p_value,
        },
        "escapes": _paired(passed["a"][bad], passed["b"][bad], confidence),
        "overkill": _paired(~passed["a"][~bad], ~passed["b"][~bad], confidence),
        "reviewed": {name: int((rows[f"{name}_decision"] == REVIEW).sum()) for name in ("a", "b")},
        "flipped": int(rows["flipped"].sum()),
    }
    return document | {"sentences": _in_words(document)}


def _paired(a: Bools, b: Bools, confidence: float) -> dict[str, Any]:
    """Returns the mistakes of one class of units (N,): counts, exact intervals, and McNemar's exact test."""
    test = compare_accuracy(np.zeros(len(a), np.uint8), a, b)

    return {
        "units": len(a),
        "a": share_and_interval(int(a.sum()), len(a), confidence),
        "b": share_and_interval(int(b.sum()), len(b), confidence),
        "only_a": int((a & ~b).sum()),
        "only_b": int((b & ~a).sum()),
        "p_value": test.p_value,
    }


def _in_words(document: dict[str, Any]) -> list[str]:
    """Returns the result in words: escapes, overkill, AUC, and on what it was measured."""
    sentences = [
        _mistakes(document["escapes"], "lets through", "bad"),
        _mistakes(document["overkill"], "holds back", "good"),
    ]
    auroc = document["auroc"]
    if auroc is None:
        sentences.append("The AUC needs at least two goods and two bads.")
    elif auroc["difference"] == 0 and auroc["p_value"] == 1:
        sentences.append(f"Both have the AUC {auroc['a']:.4f}.")
    else:
        low, high = auroc["interval"]
        sentences.append(
            f"AUC {auroc['a']:.4f} of A, {auroc['b']:.4f} of B: a difference of {auroc['difference']:+.4f} "
            f"({100 * document['confidence']:g} % interval {low:+.4f} to {high:+.4f}); {_chance(auroc['p_value'])}."
        )
    if document["all"]:
        sentences.append("All photographs count, also those that a recipe may have seen: its figures flatter it.")
    return sentences


def _mistakes(paired: dict[str, Any], does: str, noun: str) -> str:
    units, a, b = paired["units"], paired["a"]["count"], paired["b"]["count"]
    if not units:
        return f"There is no {noun} to compare on."
    of = f"{units} {noun}" if units == 1 else f"{units} {noun}s"
    if not a and not b:
        return f"Neither {does} any of {of}."
    if not paired["only_a"] and not paired["only_b"]:
        return f"Both {does.replace('lets', 'let').replace('holds', 'hold')} the same {a} of {of}."
    if a == b:
        return f"B {does} as many of {of} as A ({a}), though not the same ones; {_chance(paired['p_value'])}."
    change = f"{abs(b - a)} {'fewer' if b < a else 'more'}"
    return f"B {does} {change} of {of} ({b} against {a}); {_chance(paired['p_value'])}."


def _chance(p_value: float) -> str:
    shown = "p < 0.0001" if p_value < 0.0001 else f"p = {p_value:.2g}"
    return f"cannot tell it from chance: {shown}" if p_value >= CHANCE else f"more than chance: {shown}"


def _words(left_out: dict[str, int]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in left_out.items())
