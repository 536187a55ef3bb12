"""knowngood tape: draws a look-alike of real parts, with the truth about every pixel."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from knowngood.cli.options import Force, Verb, out_argument, with_options
from knowngood.cli.output import Json, answer_json, at_work, show_table
from knowngood.lookalike.config import TapeConfig


def register(app: typer.Typer) -> None:
    """Adds the verb."""
    app.command(cls=Verb)(tape)


@with_options(TapeConfig, basic=("train", "test", "seed", "family", "bad_rate"))
def tape(
    out: Annotated[Path, out_argument("Folder for the pictures and their manifest; must be empty.")],
    config: TapeConfig,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; one a core if not given.")] = None,
    force: Force = False,
    json: Json = False,
) -> None:
    """Draw a look-alike of parts in carrier tape, to try the whole study without anybody's photographs."""
    with at_work():
        from knowngood.lookalike.generate import generate, summary

        manifest = generate(out, config, workers=workers, force=force)
        counts = summary(manifest)
    if json:
        answer_json({"manifest": str(manifest), "counts": counts})
        return
    rows = [(name, *numbers.values()) for name, numbers in counts.items()]
    show_table("A look-alike, not photographs", ("", *next(iter(counts.values()))), rows, right=range(1, 6))
    typer.echo(f"Manifest: {manifest}")
