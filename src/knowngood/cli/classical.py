"""knowngood classical: would something simple do as well as a network?"""

from __future__ import annotations

from pathlib import Path
from statistics import fmean
from typing import Annotated, Any

import typer

from knowngood.cli.options import Bad, Data, Good, Source, Verb, out_folder, with_device, with_options
from knowngood.cli.output import Json, answer_json, at_work, percent, show_table
from knowngood.training.config import ClassicalConfig


def register(app: typer.Typer) -> None:
    """Adds the verb."""
    app.command(cls=Verb, short_help="SVM, random forest, LDA ... on deep features; PCA.")(classical)


@with_options(ClassicalConfig, basic=("model", "image_size", "classifiers", "seeds", "seed"))
@with_device
def classical(
    data: Data,
    out: Annotated[Path, out_folder("Folder for the results; earlier ones are replaced.")],
    config: ClassicalConfig,
    source: Source = None,
    good: Good = None,
    bad: Bad = None,
    json: Json = False,
) -> None:
    """Fit conventional classifiers on the features of a pretrained network, and show how the photographs vary (PCA).

    Tested on the same images as `knowngood train` with the same seed.
    """
    with at_work():
        from knowngood.experiments.classical import classical as work

        done = work(data, out, config, source=source, good=good or (), bad=bad or ())
    if json:
        answer_json({"out": str(done.folder), "rows": done.rows})
        return
    rows = [(name, *cells) for name, cells in _cells(done.rows).items()]
    columns = ("model", "train acc.", "test acc.", "test AUC", "FPR at TPR 99.5 %", "at 100 %", "images/s")
    show_table("On the test images", columns, rows, right=range(1, 7))
    pca = done.pca
    if pca.two and pca.whole:
        typer.echo(
            f"A straight line in two principal components: AUC {pca.two[0]:.4f}, accuracy {percent(pca.two[1])}; "
            f"in all features: {pca.whole[0]:.4f}, {percent(pca.whole[1])}; larger class: {percent(pca.larger)}."
        )
    typer.echo(f"Look: {done.folder / 'classical.html'}")


def _cells(rows: list[dict[str, Any]]) -> dict[str, list[str]]:
    """Returns each model's figures in words, the mean over the seeds."""
    cells = {}
    for name in dict.fromkeys(row["model"] for row in rows):
        tests = [row["test"] for row in rows if row["model"] == name]
        cells[name] = [
            percent(fmean(row["train_accuracy"] for row in rows if row["model"] == name)),
            percent(fmean(test["accuracy"] for test in tests)),
            f"{fmean(test['auroc'] for test in tests):.4f}",
            *(percent(fmean(test["fpr_at_tpr"][tpr] for test in tests)) for tpr in ("0.995", "1")),
            f"{fmean(row['images_per_second'] for row in rows if row['model'] == name):.1f}",
        ]
    return cells
