"""knowngood features: one row of deep features a photograph, kept by content."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from knowngood.cli.clustering import at_work_on, check_folder
from knowngood.cli.options import (
    ADVANCED,
    Bad,
    Data,
    FeatureModel,
    Good,
    ImageSize,
    Source,
    Verb,
    Weights,
    with_device,
    with_options,
)
from knowngood.cli.output import Json, answer_json
from knowngood.scale.config import ClusterConfig, of_a_cluster


def register(app: typer.Typer) -> None:
    """Adds the verb."""
    app.command(cls=Verb, short_help="Compute deep features of photographs.")(features)


@with_options(ClusterConfig, "cluster", basic=("engine",))
@with_device
def features(  # noqa: PLR0913, PLR0917  (an option each)
    data: Data,
    out: Annotated[Path, typer.Option("--out", help="Table to write, .parquet: image, sha256, features, error.")],
    cluster: ClusterConfig,
    model: FeatureModel = "resnet50",
    weights: Weights = None,
    image_size: ImageSize = None,
    source: Source = None,
    good: Good = None,
    bad: Bad = None,
    fresh: Annotated[
        bool,
        typer.Option(
            "--fresh", help="On a cluster: compute everything, also what --out has already.", rich_help_panel=ADVANCED
        ),
    ] = False,
    json: Json = False,
) -> None:
    """Compute the penultimate features of every photograph; a second run reads them from the cache."""
    if fresh and cluster.engine == "local":
        raise of_a_cluster("--fresh")
    check_folder(cluster, out, (".parquet",))
    from knowngood.data.loading import refuse_in_data  # imported late: it loads the decoders

    refuse_in_data(out, [data])
    asked = {"model": model, "weights": weights, "image_size": image_size}
    work = _here if cluster.engine == "local" else _on_cluster
    with at_work_on(cluster):
        given: dict[str, Any] = {"source": source, "good": good or (), "bad": bad or ()}
        facts = {"out": str(out), **work(data, out, asked, **given, config=cluster, fresh=fresh)}
    if json:
        answer_json(facts)
        return
    done = (
        f"{facts['computed']} computed now" if "computed" in facts else
        f"{facts['parts']} parts, {facts['taken_over']} of them whole before"
    )  # fmt: skip
    typer.echo(
        f"{facts['images']} rows of {facts['features']} features, {done}, "
        f"{facts['unreadable']} photographs unreadable: {out}"
    )


def _here(data: str, out: Path, asked: dict[str, Any], **more: Any) -> dict[str, Any]:
    from knowngood.data.loading import loaded
    from knowngood.models.features import features as work
    from knowngood.models.features import write_features

    given = {name: more[name] for name in ("source", "good", "bad")}
    records = loaded(data, **given, out=out).usable()
    made = work(records, **asked)
    write_features(records, made, out)
    return {
        "images": len(records),
        "features": made.rows.shape[1],
        "computed": made.computed,
        "unreadable": len(made.failed),
        "model": made.model,
        "weights": made.origin,
        "size": list(made.size),
    }


def _on_cluster(data: str, out: Path, asked: dict[str, Any], **more: Any) -> dict[str, Any]:
    from knowngood.models.features_on_cluster import features_on_cluster

    done = features_on_cluster(data, out, more.pop("config"), **asked, **more)
    return {
        "images": done.images,
        "features": done.length,
        "parts": done.parts,
        "taken_over": done.taken_over,
        "workers": done.workers,
        "unreadable": done.unreadable,
        "model": asked["model"],
        "weights": done.origin,
        "size": list(done.size),
    }
