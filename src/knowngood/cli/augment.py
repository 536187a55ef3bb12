"""knowngood augment: transformed copies of the rarer class, as a set that can be trained on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from knowngood.cli.options import Bad, Data, Force, Good, Source, Verb, out_folder, with_options
from knowngood.cli.output import Json, answer_json, at_work, show_made
from knowngood.data.config import AugmentConfig


def register(app: typer.Typer) -> None:
    """Adds the verb."""
    app.command(cls=Verb, short_help="Write transformed copies of the rarer class.")(augment)


@with_options(AugmentConfig, basic=("total", "class_", "augment", "seed"))
def augment(
    data: Data,
    out: Annotated[Path, out_folder("Folder for the copies and the manifest; must be empty.")],
    config: AugmentConfig,
    source: Source = None,
    good: Good = None,
    bad: Bad = None,
    force: Force = False,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; one a core if not given.")] = None,
    json: Json = False,
) -> None:
    """Write transformed copies of training images until the set has as many images as wanted.

    Give the folder to `knowngood train`: its splits are kept, and copies only train. Originals are listed where they
    are, not copied or changed. A call that was killed goes on when it is given again.
    """
    with at_work():
        from knowngood.data.augment import augment as work

        done = work(data, out, config, source=source, good=good or (), bad=bad or (), force=force, workers=workers)
    if json:
        facts = {"manifest": str(done.manifest), "made": done.made, "cut": done.cut, "counts": done.counts}
        answer_json({"out": str(done.folder), **facts, "notes": list(done.notes)})
        return
    show_made(f"{done.made} copies made", done.counts, done.notes)
    typer.echo(f"Train on it: knowngood train {done.folder} --out RUN")
