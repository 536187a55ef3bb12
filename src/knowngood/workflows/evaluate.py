"""`knowngood evaluate`: a recipe on a labelled set, as figures, tables and a page; nothing is trained."""

from __future__ import annotations

import datetime
import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl

from knowngood.data.loading import refuse_in_data
from knowngood.data.records import Records
from knowngood.errors import ConfigError
from knowngood.files import check_writable, whole_folder, write_json
from knowngood.recipe.bundle import Recipe
from knowngood.recipe.evaluating import Evaluation, evaluate_recipe
from knowngood.recipe.session import AUTO
from knowngood.report.evaluation import evaluation_page
from knowngood.report.run_summary import RunSummary
from knowngood.tables import write_table
from knowngood.workflows.maps import map_sections
from knowngood.workflows.runs import shown, versions

DOCUMENT, ROWS, PAGE = "evaluation.json", "scores.parquet", "report.html"


def evaluate(  # noqa: PLR0913  (named, and each with a default)
    recipe: Recipe | str | Path,
    data: str | Path | Records,
    out: str | Path | None = None,
    *,
    source: str | None = None,
    good: Sequence[str] = (),
    bad: Sequence[str] = (),
    unit_from: str | None = None,
    golden: str | Path | None = None,
    max_escape_rate: float | None = None,
    max_overkill_rate: float | None = None,
    runtime: str = AUTO,
    any_product: bool = False,
    accept_below: float | None = None,
    reject_from: float | None = None,
    confidence: float = 0.95,
    force: bool = False,
) -> Evaluation:
    """Measures a recipe on any labelled set; nothing is trained and no threshold is chosen.

    Photographs are scored as `predict` does. Those that the recipe was trained or calibrated on (the same bytes) count
    only where there are no others; copies count once. An escape is a bad that is accepted, overkill a good that is
    rejected.

    Args:
        recipe: A loaded recipe or its folder.
        data: Folder, manifest, the word of a source, or records, with labels; one class alone will do.
        out: Folder for report.html, evaluation.json and scores.parquet.
        source: Data source, when it should not be guessed.
        good: Names of folders, or values of a label column, that mean good.
        bad: The same for bad.
        unit_from: As in `knowngood.load`; decisions are then also counted by part.
        golden: Table with columns image and verdict (good or bad), the agreed truth: only its photographs count.
        max_escape_rate: Share of the bads that may escape, in [0, 1]; decides on `Evaluation.passed`.
        max_overkill_rate: Share of the goods that may be rejected, in [0, 1]; the same.
        runtime: As in `knowngood.predict`.
        any_product: As in `knowngood.predict`.
        accept_below: Another threshold, for a try.
        reject_from: Another upper threshold, for a try.
        confidence: Of the intervals, in (0, 1).
        force: Replace an evaluation that is in `out`.

    Returns:
        The figures, and a row a photograph.

    Raises:
        DataError: There is no labelled photograph, or none can be read.
        ConfigError: `out` holds something else, or an evaluation without `force`; a rate or a threshold is no share.
        RecipeError: The recipe or its export cannot be loaded.
        MissingExtraError: The runtime asked for is not installed.
        StorageError: `out` cannot be written; what was there before is unchanged.
    """
    folder = None if out is None else Path(out)
    if folder is not None:
        check_writable(folder, folder=True)
        _check_free(folder, force)
        refuse_in_data(folder, [] if isinstance(data, Records) else [data])
    loaded = recipe if isinstance(recipe, Recipe) else Recipe.load(recipe)
    wanted: dict[str, Any] = {"source": source, "good": good, "bad": bad, "unit_from": unit_from, "golden": golden}
    wanted |= {"max_escape_rate": max_escape_rate, "max_overkill_rate": max_overkill_rate, "runtime": runtime}
    wanted |= {"any_product": any_product, "accept_below": accept_below, "reject_from": reject_from}
    wanted["confidence"] = confidence
    done = evaluate_recipe(loaded, data, **wanted)
    if folder is None:
        return done
    place = shown(loaded.folder) if loaded.folder is not None else "RECIPE"
    run = _summary(done, loaded, Path(shown(data)).name, _command(place, data, folder, wanted))
    with whole_folder(folder) as scratch:
        write_json(scratch / DOCUMENT, done.document)
        write_table(done.rows, scratch / ROWS)
        html = evaluation_page(done.document, run, map_sections(loaded, run.scores))
        (scratch / PAGE).write_text(html, encoding="utf-8")
    return replace(done, folder=folder)


def _check_free(folder: Path, force: bool) -> None:
    """Looks whether `folder` may be written.

    Raises:
        ConfigError: It is a file, holds something else, or an evaluation without `force`.
    """
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    if not (folder / DOCUMENT).is_file():
        raise ConfigError(
            f"{folder} holds something that `knowngood evaluate` did not write.",
            expected="an empty folder, or none",
            fix="Choose another --out (--force replaces evaluations, not other files).",
        )
    if not force:
        raise ConfigError(f"{folder} holds an evaluation.", fix="Choose another --out, or replace it with --force.")


def _summary(done: Evaluation, recipe: Recipe, data: str, command: str) -> RunSummary:
    """Returns what the sections of a report take: every photograph that counts is one of the split "test"."""
    counted = done.rows.filter(pl.col("left_out").is_null())
    document = done.document
    return RunSummary(
        title=f"{recipe.manifest.name} on {data}",
        command=command,
        created=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        metrics={
            "test": document["figures"],
            "threshold": document["threshold"],
            "data": {"source": document["data"]["source"], "notes": document["data"]["notes"]},
        },
        history=[],
        versions=versions(),
        seed=0,
        config={"one_class": recipe.manifest.kind == "one-class", "recipe": document["recipe"]},
        scores=counted.rename({"defect_score": "score"}).with_columns(split=pl.lit("test")),
    )


def _command(recipe: str, data: str | Path | Records, folder: Path, options: dict[str, Any]) -> str:
    """Returns the command that repeats the evaluation."""
    parts = ["knowngood", "evaluate", recipe, shown(data), "--out", str(folder)]
    for name, value in options.items():
        given = value is not None and value is not False and value not in ((), [])  # 0 is given
        if not given or (name, value) in (("runtime", AUTO), ("confidence", 0.95)):
            continue
        parts.append("--" + name.replace("_", "-"))
        if value is not True:
            parts.append(",".join(value) if isinstance(value, (list, tuple)) else str(value))
    return shlex.join(parts)
