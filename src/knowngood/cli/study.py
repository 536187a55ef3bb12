"""knowngood study: every question in turn, and one report that reads like a study."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from knowngood.cli.options import Bad, Data, Force, Good, Source, Verb, out_folder, with_device, with_options
from knowngood.cli.output import Json, answer_json, at_work, show_table
from knowngood.experiments.configs import StudyConfig


def register(app: typer.Typer) -> None:
    """Adds the verb."""
    app.command(cls=Verb, short_help="Do all of it: check, train, compare, audit, and one report.")(study)


@with_options(StudyConfig, basic=("preset", "skip", "model", "escape_budget", "seed"))
@with_device
def study(
    data: Data,
    out: Annotated[Path, out_folder("Folder for the study.")],
    config: StudyConfig,
    source: Source = None,
    good: Good = None,
    bad: Bad = None,
    force: Force = False,
    json: Json = False,
) -> None:
    """Check, train, compare, audit and report, in one resumable run.

    A study that was killed goes on when the same command is given again.
    """
    with at_work():
        from knowngood.experiments.study import PAGE
        from knowngood.experiments.study import study as work

        done = work(data, out, config, source=source, good=good or (), bad=bad or (), force=force)
    if json:
        answer_json({"out": str(done.folder), **done.document})
        return
    rows = [(name, f"{took:.0f} s") for name, took in done.document["seconds"].items()]
    show_table("Steps done", ("step", "took"), rows, right=(1,))
    for name, why in done.document["left_out"].items():
        typer.echo(f"Left out, {name}: {why}")
    for number, sentence in enumerate(done.document["next"], 1):
        typer.echo(f"{number}. {sentence}")
    typer.echo(f"Report: {done.folder / PAGE}\nInspector: {done.folder / 'inspector' / 'recipe'}")
