"""knowngood evaluate: a recipe and labelled photographs in, how well it decides out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from knowngood.cli.options import (
    ADVANCED,
    AcceptBelow,
    Bad,
    Data,
    Force,
    Good,
    RecipePath,
    RejectFrom,
    Source,
    UnitFrom,
    Verb,
    check_name,
    out_folder,
    to_read,
    with_config,
    with_device,
)
from knowngood.cli.output import Json, answer_json, at_work, one_line, percent, percent_range, show_table

SHOWN = 20  # rows of a table at most
FAILED = 1  # exit code where a requirement is not met


def register(app: typer.Typer) -> None:
    """Adds the verb."""
    app.command(cls=Verb, short_help="Measure a recipe on labelled photographs.")(evaluate)


@with_config
@with_device
def evaluate(  # noqa: PLR0913, PLR0917  (an option each)
    recipe: RecipePath,
    data: Data,
    out: Annotated[Path | None, out_folder("Folder for report.html, evaluation.json and scores.parquet.")] = None,
    source: Source = None,
    good: Good = None,
    bad: Bad = None,
    unit_from: UnitFrom = None,
    golden: Annotated[
        Path | None, to_read("Table with columns image and verdict, the agreed truth: only its photographs count.")
    ] = None,
    max_escape_rate: Annotated[
        float | None, typer.Option(help="Required: at most this share of the bads escapes; else the exit code is 1.")
    ] = None,
    max_overkill_rate: Annotated[
        float | None, typer.Option(help="Required: at most this share of the goods is rejected; else exit code 1.")
    ] = None,
    runtime: Annotated[
        str,
        typer.Option(
            help="auto, torch, openvino or onnxruntime; auto takes the recipe's quickest export.",
            rich_help_panel=ADVANCED,
        ),
    ] = "auto",
    accept_below: AcceptBelow = None,
    reject_from: RejectFrom = None,
    any_product: Annotated[
        bool,
        typer.Option(
            "--any-product",
            help="Decide by the score alone what does not look like the product.",
            rich_help_panel=ADVANCED,
        ),
    ] = False,
    confidence: Annotated[
        float, typer.Option(min=0.5, max=0.9999, help="Of the intervals.", rich_help_panel=ADVANCED)
    ] = 0.95,
    force: Force = False,
    json: Json = False,
) -> None:
    """Measure a recipe on any labelled photographs: escapes, overkill, AUC, and whether its certificate holds here.

    Nothing is trained. Photographs that the recipe was trained or calibrated on do not count. With --max-escape-rate or
    --max-overkill-rate it is a golden-set test: the exit code is 1 where a requirement is not met.
    """
    check_name("runtime", runtime)
    with at_work():
        from knowngood.workflows.evaluate import PAGE
        from knowngood.workflows.evaluate import evaluate as work

        given: dict[str, Any] = {"source": source, "good": good or (), "bad": bad or (), "unit_from": unit_from}
        given |= {"golden": golden, "max_escape_rate": max_escape_rate, "max_overkill_rate": max_overkill_rate}
        given |= {
            "runtime": runtime,
            "any_product": any_product,
            "accept_below": accept_below,
            "reject_from": reject_from,
        }
        done = work(recipe, data, out, **given, confidence=confidence, force=force)
    document = done.document
    if json:
        answer_json({**document, "out": None if out is None else str(out)})
    else:
        _show(document)
        if done.folder is not None:
            typer.echo(f"Report: {done.folder / PAGE}")
    if done.passed is False:
        raise typer.Exit(FAILED)


def _show(document: dict[str, Any]) -> None:
    first = document["sentences"][0] if document["seen"]["count"] or not document["seen"]["known"] else None
    if first is not None:
        typer.secho(one_line(first), fg="yellow", bold=True)
    counts = document["decisions"]
    confusion = [
        (name, *(counts["confusion"][name][decision] for decision in ("accept", "review", "reject")))
        for name in ("good", "bad")
    ]
    title = f"Decisions on {counts['images']} photographs"
    show_table(title, ("", "accept", "review", "reject"), confusion)
    if document["left_out"]:
        reasons = ", ".join(f"{count} {reason}" for reason, count in document["left_out"].items())
        typer.echo(f"Left out of {document['photographs']} photographs: {reasons}")
    columns = ("", "value", f"{100 * document['confidence']:g} % interval")
    show_table("What the recipe does", columns, _figures(document), right=(1, 2))
    for column, title in (("defect", "By defect"), ("lot", "By lot"), ("split", "By split"), ("machine", "By machine")):
        groups = document["groups"].get(column, [])
        if len(groups) > 1 or (groups and column == "defect"):
            listed = [(one_line(str(one["name"])), *_group(one)) for one in groups[:SHOWN]]
            more = f" ({len(listed)} of {len(groups)})" if len(groups) > len(listed) else ""
            show_table(f"{title}{more}", (column, "goods", "bads", "escapes", "overkill"), listed, right=range(1, 5))
    why = [
        (reason if reason != "score" else "score between the thresholds", n)
        for reason, n in document["reviewed_because"].items()
    ]
    if why:
        show_table("To review because of", ("reason", "photographs"), why)
    for sentence in document["sentences"][first is not None :]:
        typer.echo(one_line(sentence))
    if document["requirements"]:
        _show_requirements(document["requirements"])


def _figures(document: dict[str, Any]) -> list[tuple[str, ...]]:
    figures, counts = document["figures"], document["decisions"]
    rows: list[tuple[str, ...]] = []
    for title, key in (("escape rate", "escapes"), ("overkill", "overkill"), ("to review", "reviewed")):
        rows.append((title, percent(counts[key]["rate"]) or "unknown", percent_range(counts[key]["interval"])))
    rows.append(("accuracy at the threshold", percent(figures["accuracy"]), percent_range(figures["accuracy_ci"])))
    for title, key in (("AUC", "auroc"), ("average precision", "average_precision")):
        value, interval = figures[key], figures[f"{key}_ci"]
        shown = f"{interval[0]:.4f} to {interval[1]:.4f}" if interval else ""
        rows.append((title, "undefined: one class only" if value is None else f"{value:.4f}", shown))
    for tpr, rate in figures["fpr_at_tpr"].items():
        if rate is not None:
            rows.append(
                (f"overkill at TPR {100 * float(tpr):g} %", percent(rate), percent_range(figures["fpr_at_tpr_ci"][tpr]))
            )
    place = document["localisation"]
    if place and place["on_defect"]["units"]:
        rows.append(
            (
                "hottest place on the defect",
                percent(place["on_defect"]["rate"]),
                percent_range(place["on_defect"]["interval"]),
            )
        )
    return rows


def _group(one: dict[str, Any]) -> tuple[str, ...]:
    cells = (f"{one[key]['count']} {percent(one[key]['rate'])}".rstrip() for key in ("escapes", "overkill"))
    return (str(one["goods"]), str(one["bads"]), *cells)


def _show_requirements(requirements: dict[str, Any]) -> None:
    for one in requirements["checked"]:
        typer.echo(f"{'met' if one['passed'] else 'NOT MET'}: {one['sentence']}")
    for problem in requirements["problems"]:
        typer.echo(f"NOT MET: {one_line(problem)}")
    passed = requirements["passed"]
    typer.secho("PASSED" if passed else "FAILED", fg="green" if passed else "red", bold=True)
