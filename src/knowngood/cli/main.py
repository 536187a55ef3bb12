"""Puts the verbs together. Nothing heavy is imported here, so that help and version answer at once."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from knowngood.cli import (
    audit,
    augment,
    bench,
    cascade,
    check,
    classical,
    compare,
    compare_recipes,
    evaluate,
    explain,
    export,
    features,
    predict,
    serve,
    sign,
    study,
    synthesize,
    tape,
    train,
    weights,
)
from knowngood.cli.output import guarded

# Read by OpenMP when torch is imported: threads that wait give their core away, which on a computer that does other
# work too was worth a factor of four, and on an idle one nothing.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

app = typer.Typer(
    name="knowngood",
    help="Visual inspection of parts: train an inspector on photographs, trust it, use it.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # in its boxes the help of an option is 18 letters wide on an 80-column terminal
    context_settings={"help_option_names": ["-h", "--help"]},
)
for verb in (
    check,
    study,
    augment,
    bench,
    synthesize,
    train,
    predict,
    evaluate,
    explain,
    export,
    cascade,
    compare,
    compare_recipes,
    classical,
    audit,
    features,
    tape,
    weights,
    serve,
    sign,
):
    verb.register(app)


def _version(wanted: bool) -> None:
    if wanted:
        from knowngood import __version__

        typer.echo(f"knowngood {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    _: Annotated[bool, typer.Option("--version", help="Show the version.", callback=_version, is_eager=True)] = False,
) -> None:
    pass


def run() -> None:
    """Entry point of the `knowngood` command."""
    guarded(app)
