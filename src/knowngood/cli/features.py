"""knowngood features: one row of deep features a photograph, kept by content."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from knowngood.cli.answering import Json, answer_json, at_work
from knowngood.cli.options import Backbone, Data, ImageSize, Source, Weights


def register(app: typer.Typer) -> None:
    """Adds the verb."""
    app.command()(features)


def features(
    data: Data,
    out: Annotated[Path, typer.Option("--out", help="Table to write, .parquet: image, sha256, features.")],
    backbone: Backbone = "resnet50",
    weights: Weights = None,
    image_size: ImageSize = None,
    source: Source = None,
    json: Json = False,
) -> None:
    """Compute the penultimate features of every photograph; a second run reads them from the cache."""
    with at_work():
        from knowngood.data.loading import load
        from knowngood.models.features import features as work
        from knowngood.models.features import write_features

        records = load(data, source).usable()
        made = work(records, backbone, weights=weights, image_size=image_size)
        write_features(records, made, out)
    facts = {
        "out": str(out),
        "images": len(records),
        "features": made.rows.shape[1],
        "computed": made.computed,
        "unreadable": len(made.failed),
        "backbone": backbone,
        "weights": made.origin,
        "size": list(made.size),
    }
    if json:
        answer_json(facts)
        return
    typer.echo(
        f"{facts['images']} rows of {facts['features']} features, {made.computed} computed now, "
        f"{len(made.failed)} photographs unreadable: {out}"
    )
