"""knowngood train: photographs in, a recipe, its figures and its report out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from knowngood.cli.answering import Json, answer_json, at_work, percent, show_table
from knowngood.cli.options import Data, Source, with_options
from knowngood.models.training.config import TrainConfig

SPLITS = ("train", "val", "calibration", "test")


def register(app: typer.Typer) -> None:
    """Adds the verb."""
    app.command(short_help="Train an inspector and write its report.")(train)


@with_options(TrainConfig)
def train(
    data: Data,
    out: Annotated[Path, typer.Option("--out", help="Folder for the run.")],
    config: TrainConfig,
    source: Source = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the run that is in --out.")] = False,
    json: Json = False,
) -> None:
    """Train an inspector on good and bad photographs, certify its threshold and write a report.

    A run that was killed goes on when the same command is given again.
    """
    with at_work():
        from knowngood.study.training import train as work

        done = work(data, out, config, source=source, force=force)
    if json:
        answer_json({"run": str(done.folder), "recipe": str(done.folder / "recipe"), **done.metrics})
        return
    splits = [name for name in SPLITS if name in done.metrics]
    columns = [_column(done.metrics[name]) for name in splits]
    rows = [(name, *cells) for name, *cells in zip(_figures(config.confidence), *columns, strict=True)]
    show_table("What the inspector does", ("", *splits), rows, right=range(1, 5))
    typer.echo(done.metrics["threshold"]["sentence"])
    typer.echo(f"Report: {done.folder / 'report.html'}\nRecipe: {done.folder / 'recipe'}")


def _figures(confidence: float) -> list[str]:
    return [
        "images, good / bad",
        "AUC",
        f"  {confidence:.0%} interval",
        "accuracy",
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
        percent(split["accuracy"]),
        percent(split["escape_rate"]),
        percent(split["overkill_rate"]),
        percent(split["fpr_at_tpr"]["0.995"]),
    ]
