"""knowngood cascade: a student before the large network, one certificate for both."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from knowngood.cli.options import Run, Verb, with_device, with_options
from knowngood.cli.output import Json, answer_json, at_work
from knowngood.workflows.configs import CascadeConfig

if TYPE_CHECKING:
    from knowngood.workflows.cascade import Cascaded


def register(app: typer.Typer) -> None:
    """Adds the verb."""
    app.command(cls=Verb, short_help="Put a fast student before a recipe's network.")(cascade)


@with_options(CascadeConfig)
@with_device
def cascade(
    run: Run,
    config: CascadeConfig,
    json: Json = False,
) -> None:
    """Train a small network that decides the clear cases; predict uses both from then on.

    The whole keeps the recipe's escape budget, certified anew. Export first: the student is exported alike.
    """
    with at_work():
        from knowngood.workflows.cascade import cascade as work

        done = work(run, config)
    if json:
        answer_json({"folder": str(done.folder), **done.document.model_dump(mode="json")})
        return
    show_cascade(done)


def show_cascade(done: Cascaded) -> None:
    """Prints what a cascade does."""
    from knowngood.workflows.cascade import sentences

    for sentence in sentences(done.document):
        typer.echo(sentence)
    typer.echo(f"Cascade: {done.folder}\nIts report: {done.page}")
