"""knowngood train: photographs in, a recipe, its figures and its report out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from knowngood.cli.answering import Json, answer_json, at_work, show_table
from knowngood.cli.options import with_options
from knowngood.models.training.config import TrainConfig


def register(app: typer.Typer) -> None:
    """Adds the verb."""
    app.command()(train)


@with_options(TrainConfig)
def train(
    data: Annotated[str, typer.Argument(help="Folder, manifest, or the word of a source, such as elpv.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for the run.")],
    config: TrainConfig,
    source: Annotated[str | None, typer.Option(help="Data source; guessed from the folder if not given.")] = None,
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
    rows = [_row(name, done.metrics[name]) for name in ("train", "val", "calibration", "test") if name in done.metrics]
    columns = (
        "split",
        "good",
        "bad",
        "AUC",
        "95 % interval",
        "accuracy",
        "overkill at 99.5 % TPR",
        "escapes",
        "overkill",
    )
    show_table("What the inspector does (escapes and overkill at its threshold)", columns, rows)
    typer.echo(done.metrics["threshold"]["sentence"])
    typer.echo(f"Report: {done.folder / 'report.html'}\nRecipe: {done.folder / 'recipe'}")


def _row(name: str, figures: dict[str, Any]) -> list[object]:
    interval = figures.get("auroc_ci")
    return [
        name,
        figures["n_good"],
        figures["n_bad"],
        figures["auroc"],
        f"{interval[0]:.3f} - {interval[1]:.3f}" if interval else "",
        figures["accuracy"],
        figures["fpr_at_tpr"]["0.995"],
        figures["escape_rate"],
        figures["overkill_rate"],
    ]
