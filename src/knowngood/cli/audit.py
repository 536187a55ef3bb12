"""knowngood audit: images that do not belong, labels that may be wrong; a person decides."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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
    UnitFrom,
    Verb,
    Weights,
    out_folder,
    with_device,
    with_options,
)
from knowngood.cli.output import Json, answer_json, percent, show_table
from knowngood.errors import ConfigError
from knowngood.experiments.configs import RemovalConfig
from knowngood.scale.config import ClusterConfig
from knowngood.wording import counted

if TYPE_CHECKING:
    from knowngood.experiments.audit import Audit


def register(app: typer.Typer) -> None:
    """Adds the verb."""
    app.command(cls=Verb, short_help="Find outliers and suspected wrong labels.")(audit)


@with_options(ClusterConfig, "cluster", basic=("engine",))
@with_options(RemovalConfig, basic=())
@with_device
def audit(  # noqa: PLR0913, PLR0917  (an option each)
    data: Data,
    out: Annotated[Path, out_folder("Folder for the results.")],
    config: RemovalConfig,
    cluster: ClusterConfig,
    model: FeatureModel = "resnet50",
    weights: Weights = None,
    image_size: ImageSize = None,
    source: Source = None,
    unit_from: UnitFrom = None,
    good: Good = None,
    bad: Bad = None,
    detectors: Annotated[
        str, typer.Option(help="Further outlier detectors to ask, with commas between them.", rich_help_panel=ADVANCED)
    ] = "",
    one_sided: Annotated[
        bool,
        typer.Option(
            "--one-sided", help="List suspects among images labelled bad separately.", rich_help_panel=ADVANCED
        ),
    ] = False,
    fine_tune: Annotated[
        int,
        typer.Option(
            min=0,
            max=1000,
            help="Epochs of three trainings that decide which labels are suspect; 0 for a classifier on features, "
            "which takes seconds.",
            rich_help_panel=ADVANCED,
        ),
    ] = 0,
    seed: Annotated[
        int, typer.Option(help="Seed of folds and of everything drawn.", min=0, rich_help_panel=ADVANCED)
    ] = 0,
    test_removal: Annotated[
        bool, typer.Option("--test-removal", help="Measure whether removing or relabelling the suspects helps.")
    ] = False,
    json: Json = False,
) -> None:
    """Find outliers and suspected wrong labels; nothing is removed or changed.

    Fill in the column verdict of verdicts.csv (good, bad, drop, keep) and give it to `knowngood train --verdicts`.
    """
    if not test_removal and config != RemovalConfig():
        raise ConfigError("--seeds, --preset and --verdicts belong to the removal trial.", fix="--test-removal")
    check_folder(cluster, out)
    with at_work_on(cluster):
        from knowngood.experiments.audit import audit as work

        done = work(
            data,
            out,
            model=model,
            weights=weights,
            image_size=image_size,
            source=source,
            unit_from=unit_from,
            good=good or (),
            bad=bad or (),
            detectors=[name.strip() for name in detectors.split(",") if name.strip()],
            one_sided=one_sided,
            seed=seed,
            fine_tune=fine_tune,
            trial=config if test_removal else None,
            cluster=cluster,
        )
    if json:
        answer_json(_answer(done))
        return
    show_table(f"Suspects among {counted(done.table.height, 'image')}", ("list", "images"), list(done.counts.items()))
    if done.trial is not None:
        _show_trial(done.trial.document)
    typer.echo(f"Look: {done.folder / 'audit.html'}\nDecide: {done.folder / 'verdicts.csv'}")


def _answer(done: Audit) -> dict[str, Any]:
    answer = {"out": str(done.folder), "images": done.table.height, "counts": done.counts}
    if done.trial is not None:
        answer["removal"] = {name: done.trial.document[name] for name in ("arms", "effects", "notes")}
    return answer


def _show_trial(document: dict[str, Any]) -> None:
    for judge in dict.fromkeys(arm["judged_by"] for arm in document["arms"]):
        rows = [
            (arm["arm"], f"{arm['removed'] + arm['relabelled']:.0f}", f"{arm['auroc']:.4f}", percent(arm["overkill"]))
            for arm in document["arms"]
            if arm["judged_by"] == judge
        ]
        title = f"Training part changed, test untouched; {len(document['seeds'])} seeds, tested on the {judge} labels"
        show_table(title, ("training part", "images changed", "AUC", "overkill at TPR 99.5 %"), rows, right=(1, 2, 3))
        for effect in document["effects"]:
            if effect["judged_by"] == judge:
                typer.echo(effect["sentence"])
    for note in document["notes"]:
        typer.echo(note)
