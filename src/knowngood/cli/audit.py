"""knowngood audit: images that do not belong, labels that are doubtful; a person decides."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from knowngood.cli.answering import Json, answer_json, at_work, show_table


def register(app: typer.Typer) -> None:
    """Adds the verb."""
    app.command()(audit)


def audit(
    data: Annotated[str, typer.Argument(help="Folder, manifest, or the word of a source, such as elpv.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for the results.")],
    backbone: Annotated[str, typer.Option(help="Pretrained network whose features are used.")] = "resnet50",
    weights: Annotated[Path | None, typer.Option(help="File or folder with its weights.")] = None,
    source: Annotated[str | None, typer.Option(help="Data source; guessed if not given.")] = None,
    detector: Annotated[
        list[str] | None, typer.Option(help="A further outlier detector to ask (may be repeated).")
    ] = None,
    one_sided: Annotated[
        bool, typer.Option("--one-sided", help="List doubts about images labelled bad apart.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Seed of folds and of everything drawn.", min=0)] = 0,
    json: Json = False,
) -> None:
    """Find outliers and suspected wrong labels; nothing is removed or changed.

    Fill in the column verdict of verdicts.csv (good, bad, drop, keep) and give it to `knowngood train --verdicts`.
    """
    with at_work():
        from knowngood.study.auditing import audit as work

        done = work(
            data,
            out,
            backbone=backbone,
            weights=weights,
            source=source,
            detectors=detector or (),
            one_sided=one_sided,
            seed=seed,
        )
    if json:
        answer_json({"out": str(done.folder), "images": done.table.height, "counts": done.counts})
        return
    show_table(f"Doubts about {done.table.height} images", ("list", "images"), list(done.counts.items()))
    typer.echo(f"Look: {done.folder / 'audit.html'}\nDecide: {done.folder / 'verdicts.csv'}")
