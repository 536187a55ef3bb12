"""knowngood check: what is wrong with a data set before anything is trained on it."""

from __future__ import annotations

import typer

from knowngood.cli.options import Bad, Data, Good, Source, UnitFrom, Verb
from knowngood.cli.output import Json, answer_json, at_work, one_line, show_folders, show_table


def register(app: typer.Typer) -> None:
    """Adds the verb."""
    app.command(cls=Verb, short_help="Find what would spoil a training.")(check)


def check(
    data: Data,
    source: Source = None,
    unit_from: UnitFrom = None,
    good: Good = None,
    bad: Bad = None,
    json: Json = False,
) -> None:
    """Look for what would spoil a training: unreadable files, duplicates, conflicting labels, lots on both sides.

    Nothing is changed or deleted. Exits 1 when something would spoil a training.
    """
    with at_work():
        from knowngood.data.health import check as work

        health = work(data, source, good=good or (), bad=bad or (), unit_from=unit_from)
    if json:
        answer_json(health.to_dict())
    else:
        counts = ", ".join(f"{number} {name}" for name, number in health.records.counts().items())
        typer.echo(f"{len(health.records)} images from source {health.records.source}: {counts}")
        show_folders(health.to_dict())
        passed_over = health.records.passed_over.sentences()
        for sentence in filter(None, (health.records.licence, *health.records.notes)):
            if sentence not in passed_over:
                typer.echo(one_line(sentence))
        rows = [(f.severity, f.count, f.message, "\n".join(map(one_line, f.examples))) for f in health.findings]
        if rows:
            show_table("Findings, the worst first", ("severity", "count", "what", "for instance"), rows)
        else:
            typer.echo("Nothing to complain of.")
    if health.spoils_training:
        raise typer.Exit(1)
