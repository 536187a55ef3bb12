"""Prediction on a cluster: parts that are not whole yet go to workers, and their rows agree in the end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from knowngood.data.loading import refuse_in_data
from knowngood.files import check_writable
from knowngood.recipe.bundle import ERROR, Recipe
from knowngood.recipe.cascade.opening import opened
from knowngood.recipe.cascade.runtime import CascadeRuntime
from knowngood.recipe.cluster.agreeing import agreed
from knowngood.recipe.cluster.config import EngineConfig
from knowngood.recipe.cluster.listing import listed
from knowngood.recipe.cluster.workers import PartScorer, ScoringTask
from knowngood.recipe.folder import place_of
from knowngood.recipe.predicting import folders_among, say_unchecked
from knowngood.recipe.runtimes.choosing import AUTO, announce
from knowngood.scale.connecting import look
from knowngood.scale.parts import prepared
from knowngood.scale.spreading import Spread, spread

if TYPE_CHECKING:
    from knowngood.recipe.signing import Keys

_ASKED = EngineConfig(engine="ray")


@dataclass(frozen=True)
class ClusterRun(Spread):
    """What a prediction on a cluster left.

    Attributes:
        images: Rows; they have the columns of `knowngood.predict`.
        counts: Decision to images, and "unreadable".
    """

    images: int
    counts: dict[str, int]


def predict_on_cluster(
    recipe: str | Path,
    images: str | Path | Sequence[str | Path],
    out: str | Path,
    config: EngineConfig = _ASKED,
    *,
    runtime: str = AUTO,
    fresh: bool = False,
    signed_by: Keys | None = None,
) -> ClusterRun:
    """Scores photographs on a Ray cluster, a Parquet file a part; the same call goes on after a kill.

    Args:
        recipe: Folder that all machines of the cluster see.
        images: As in `knowngood.predict`; what they name must be seen by all machines too.
        out: Folder for the parts, seen by all machines.
        config: Address, size of a part, cores a worker.
        runtime: As in `knowngood.predict`.
        fresh: Score everything again.
        signed_by: Public keys of which one must have signed the recipe, as in `Recipe.load`.

    Raises:
        ConfigError: No cluster answers, workers have other versions, the folder belongs to something else.
        DataError: There is no photograph, the workers do not see them, or a part kills its workers.
        MissingExtraError: Ray is not installed.
        RecipeError: The recipe cannot be loaded, or the workers do not see it.
        StorageError: The rows cannot be written.
    """
    refuse_in_data(out, folders_among(images))
    look(config.address)
    folder, place = Path(out).absolute(), place_of(recipe).absolute()
    check_writable(folder, folder=True)
    loaded = Recipe.load(place, signed_by=signed_by)
    scoring = opened(loaded, runtime, cascade=config.cascade, any_product=config.any_product)
    announce(scoring)
    say_unchecked(scoring.recipe, config.any_product)
    revision = scoring.revision
    job = prepared(folder, f"rows 2, recipe {revision}", config.part, lambda: listed(images, config.part), fresh=fresh)
    chosen = AUTO if scoring.runtime.name == CascadeRuntime.name else scoring.runtime.name
    task = ScoringTask(
        out=str(folder),
        cores=config.cores,
        recipe=str(place),
        runtime=chosen,
        revision=revision,
        any_product=config.any_product,
    )
    del scoring  # the workers have theirs
    done = spread(PartScorer, task, job, config.address, "score")
    agreed(done.files, job.images)
    return ClusterRun(**vars(done), images=job.images, counts=_counts(done.files))


def _counts(files: list[Path]) -> dict[str, int]:
    found = pl.scan_parquet(files).group_by("decision").len().collect(engine="streaming")
    counts = dict(found.iter_rows())
    return {name: counts.get(name, 0) for name in ("accept", "review", "reject")} | {"unreadable": counts.get(ERROR, 0)}
