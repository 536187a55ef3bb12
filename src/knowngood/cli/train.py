"""knowngood train: photographs in, a recipe, its figures and its report out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from knowngood.cli.cascade import show_cascade
from knowngood.cli.options import Bad, Data, Force, Good, Source, Verb, out_folder, with_device, with_options
from knowngood.cli.output import Json, answer_json, at_work, one_line, percent, show_folders, show_table
from knowngood.training.config import TrainConfig

if TYPE_CHECKING:
    from knowngood.workflows.cascade import Cascaded

BASIC = ("model", "preset", "epochs", "image_size", "one_class", "escape_budget", "overkill_budget", "roi", "seed")
SPLITS = ("train", "val", "calibration", "test")


def register(app: typer.Typer) -> None:
    """Adds the verb."""
    app.command(cls=Verb, short_help="Train an inspector and write its report.")(train)


@with_options(TrainConfig, basic=BASIC)
@with_device
def train(
    data: Data,
    out: Annotated[Path, out_folder("Folder for the run.")],
    config: TrainConfig,
    source: Source = None,
    good: Good = None,
    bad: Bad = None,
    cascade: Annotated[
        bool, typer.Option("--cascade", help="Also train a fast student network, as `knowngood cascade` does.")
    ] = False,
    force: Force = False,
    json: Json = False,
) -> None:
    """Train an inspector on good and bad photographs, certify its threshold and write a report.

    A run that was killed goes on when the same command is given again.
    """
    with at_work():
        from knowngood.workflows.train import train as work

        done = work(data, out, config, source=source, good=good or (), bad=bad or (), force=force)
        made = _cascaded(done.folder) if cascade else None
    if json:
        more = {} if made is None else {"cascade": made.document.model_dump(mode="json")}
        seen = {name: done.metrics["data"].get(name) for name in ("folders", "passed_over", "passed_over_examples")}
        answer_json({"run": str(done.folder), "recipe": str(done.folder / "recipe"), **done.metrics, **seen, **more})
        return
    show_folders(done.metrics["data"])
    splits = [name for name in SPLITS if name in done.metrics]
    columns = [_column(done.metrics[name]) for name in splits]
    rows = [(name, *cells) for name, *cells in zip(_figures(config.confidence), *columns, strict=True)]
    if config.one_class:
        rows = _known(rows, bads=any(done.metrics[name]["n_bad"] for name in splits))
    for warning in done.metrics.get("warnings") or []:
        typer.secho(f"Warning: {one_line(warning['message'])}", fg="red", bold=True)
    show_table("What the inspector does", ("", *splits), rows, right=range(1, 5))
    typer.echo(done.metrics["threshold"]["sentence"])
    if config.one_class:
        escape_rate = done.metrics["threshold"]["escape_rate"]
        typer.echo(escape_rate[0].upper() + escape_rate[1:])
    typer.echo(f"Report: {done.folder / 'report.html'}\nRecipe: {done.folder / 'recipe'}")
    if made is not None:
        show_cascade(made)


def _cascaded(run: Path) -> Cascaded:
    from knowngood.workflows.cascade import cascade as work

    return work(run)


def _known(rows: list[tuple[str, ...]], bads: bool) -> list[tuple[str, ...]]:
    """Leaves out the figures that do not exist without bad images, and calls the escape rate unknown."""
    rows = [
        (name, *(cell or "unknown" for cell in cells)) if "escapes" in name else (name, *cells) for name, *cells in rows
    ]
    return rows if bads else [row for row in rows if not row[0].startswith("accuracy") and any(row[1:])]


def _figures(confidence: float) -> list[str]:
    return [
        "images, good / bad",
        "AUC",
        f"  {confidence:.0%} interval",
        "accuracy at threshold",
        "accuracy at score 0.5",
        "escapes at threshold",
        "overkill at threshold",
        "overkill at TPR 99.5 %",
    ]


def _column(split: dict[str, Any]) -> list[str]:
    interval = split.get("auroc_ci")
    return [
        f"{split['n_good']} / {split['n_bad']}",
        "" if split["auroc"] is None else f"{split['auroc']:.4f}",
        f"{interval[0]:.3f}-{interval[1]:.3f}" if interval else "",
        percent(split["at_threshold_accuracy"]),
        percent(split["accuracy"]),
        percent(split["escape_rate"]),
        percent(split["overkill_rate"]),
        percent(split["fpr_at_tpr"]["0.995"]),
    ]
