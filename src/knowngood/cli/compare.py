"""knowngood compare: several models by the same recipe of training, in one table."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from knowngood.cli.options import Bad, Data, Force, Good, Source, Verb, out_folder, with_device, with_options
from knowngood.cli.output import Json, answer_json, at_work, show_table
from knowngood.errors import ConfigError
from knowngood.experiments.configs import CompareConfig
from knowngood.recipe.folder import place_of

_TPRS = ("0.991", "0.995", "0.997", "1")


def register(app: typer.Typer) -> None:
    """Adds the verb."""
    app.command(cls=Verb, short_help="Compare models, training sets, freezing and balance in one table.")(compare)


@with_options(CompareConfig, basic=("models", "training_sets", "classifiers", "seeds", "epochs", "image_size", "seed"))
@with_device
def compare(
    data: Data,
    config: CompareConfig,
    more: Annotated[list[str] | None, typer.Argument(hidden=True)] = None,
    out: Annotated[Path | None, out_folder("Folder for the comparison; always needed.")] = None,
    source: Source = None,
    good: Good = None,
    bad: Bad = None,
    force: Force = False,
    json: Json = False,
) -> None:
    """Train several models in the same way on the same splits and say which differences are real.

    Rows are models x training sets x freeze x balance. A comparison that was killed goes on when the same command is
    given again; with more models, training sets or seeds it uses the finished trainings again.
    """
    given = [data, *(more or ())]
    if len(given) > 1 or (place_of(data) / "recipe.json").is_file():
        raise ConfigError(
            f"`compare` trains models on one data set; {' '.join(given)} is something else.",
            expected="knowngood compare DATA --out FOLDER",
            fix="For two recipes that are trained already: knowngood compare-recipes A B DATA",
        )
    if out is None:
        raise ConfigError("No --out says where the comparison goes.", fix=f"knowngood compare {data} --out FOLDER")
    with at_work():
        from knowngood.experiments.compare import compare as work

        done = work(data, out, config, source=source, good=good or (), bad=bad or (), force=force)
    if json:
        answer_json({"out": str(done.folder), **done.document})
        return
    rows = done.document["rows"]
    tested = rows[0]["seeds"][0]["test"]
    seeds = len(rows[0]["seeds"])
    title = (
        f"How well, in %, on {tested['n_good']} good and {tested['n_bad']} bad test images (seeds: {seeds}).\n"
        "FPR is the overkill when so many % of the bads are caught."
    )
    names = ("row", "starts\nfrom", "train\nacc.", "test\nacc.", "AUC,\ninterval")
    overkill = [f"FPR\n{100 * float(tpr):g}" for tpr in _TPRS]
    show_table(title, (*names, *overkill), map(_skill, rows), right=range(2, 9))
    cost = ("row", "M parameters", "GFLOPs", "images/s", "minutes")
    show_table("What it costs", cost, map(_cost, rows), right=range(1, 5))
    left_out = done.document["left_out"]
    for why in dict.fromkeys(left_out.values()):
        typer.echo(f"Left out, {why}: {', '.join(key for key, reason in left_out.items() if reason == why)}")
    typer.echo("\n".join([done.document["verdict"], *(f"- {sentence}" for sentence in done.document["sentences"])]))
    typer.echo(f"Page: {done.folder / 'compare.html'}\nTrainings: {done.folder / 'models'}")


def _name(row: Mapping[str, Any]) -> str:
    model, _, rest = row["name"].partition(" (")
    return "\n".join([model, *rest.removesuffix(")").split(", ")]) if rest else str(model)


def _skill(row: Mapping[str, Any]) -> list[str]:
    low, high = row["auroc_ci"]
    shares = [row["train_accuracy"], row["accuracy"]]
    return [
        _name(row),
        "ImageNet" if row["pretrained"] else "random",
        *("" if share is None else f"{100 * share:.2f}" for share in shares),
        f"{100 * row['auroc']:.2f}\n{100 * low:.2f}-{100 * high:.2f}",
        *(f"{100 * row['fpr_at_tpr'][tpr]:.1f}" for tpr in _TPRS),
    ]


def _cost(row: Mapping[str, Any]) -> list[str]:
    known = [
        (row["parameters"], 1e6, ".1f"),
        (row["flops"], 1e9, ".2f"),
        (row["images_per_second"], 1, ".0f"),
        (row["minutes"], 1, ".1f"),
    ]
    return [_name(row), *("" if value is None else format(value / unit, form) for value, unit, form in known)]
