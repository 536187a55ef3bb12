"""knowngood synthesize: bad images from few, and a verdict on whether they helped."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from knowngood.cli.options import (
    Bad,
    Data,
    Force,
    Good,
    Source,
    Verb,
    data_option,
    images_to_read,
    out_folder,
    to_read,
    with_device,
    with_options,
)
from knowngood.cli.output import Json, answer_json, at_work, percent, show_made, show_table
from knowngood.experiments.configs import JudgeConfig
from knowngood.synthesis.config import SamplingParameters
from knowngood.workflows.configs import GeneratorConfig, TransplantConfig

if TYPE_CHECKING:
    from knowngood.synthesis.writing import GeneratedSet

app = typer.Typer(
    name="synthesize",
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
Out = Annotated[Path, out_folder("Folder for the images and their manifest; must be empty.")]


def register(verbs: typer.Typer) -> None:
    """Adds the verb."""
    verbs.add_typer(app, name="synthesize", short_help="Make bad images from few, and judge whether they help.")


@app.callback()
def _synthesize() -> None:
    """Make bad images from few, and judge whether they help."""


@app.command(cls=Verb, short_help="Train a StyleGAN on the bad images of a set.")
@with_options(GeneratorConfig, basic=("class_", "resolution", "kimg", "good_kimg", "by_defect", "seed"))
@with_device
def train(
    data: Data,
    out: Annotated[Path, out_folder("Folder for the run.")],
    config: GeneratorConfig,
    source: Source = None,
    good: Good = None,
    bad: Bad = None,
    force: Force = False,
    json: Json = False,
) -> None:
    """Train a StyleGAN on the bad images of the training split. A call that was killed goes on when it is given again.

    A grid of the same samples is kept at each tick: look at grids/, and stop when it gets no better.
    """
    with at_work():
        from knowngood.workflows.generate import train_generator

        done = train_generator(data, out, config, source=source, good=good or (), bad=bad or (), force=force)
    last = done.figures["history"][-1]
    if json:
        answer_json({"out": str(done.folder), "images": done.figures["images"], "last": last})
        return
    typer.echo(f"Trained on {done.figures['images']} images of class {done.figures['class']}, {last['kimg']:g} kimg.")
    typer.echo(f"Look: {done.folder / 'grids'}")
    typer.echo(f"Make images: knowngood synthesize sample {done.folder} --count 3000 --out DIR")


@app.command(cls=Verb, short_help="Blend defects of bad training images into good ones.")
@with_options(TransplantConfig, basic=("blend", "seed"))
def transplant(
    data: Data,
    out: Out,
    config: TransplantConfig,
    count: Annotated[int, typer.Option(min=1, help="How many images.")] = 3000,
    recipe: Annotated[
        Path | None, to_read("Run or recipe whose maps say where a defect is that has no mask and no box.")
    ] = None,
    source: Source = None,
    good: Good = None,
    bad: Bad = None,
    force: Force = False,
    json: Json = False,
) -> None:
    """Cut defects out of bad training images and blend them into good training images.

    Give the folder to `knowngood train`: originals are listed where they are, and generated images only train.
    A call that was killed goes on when it is given again.
    """
    with at_work():
        from knowngood.workflows.generate import transplant as work

        given: dict[str, Any] = {"source": source, "good": good or (), "bad": bad or ()}
        done = work(data, out, count, config, recipe=recipe, **given, force=force)
    _tell(done, json)


@app.command(cls=Verb, short_help="Write samples of a trained generator.")
@with_options(SamplingParameters)
@with_device
def sample(  # noqa: PLR0913, PLR0917  (an option each)
    run: Annotated[Path, images_to_read("Folder of `knowngood synthesize train`.", "RUN")],
    out: Out,
    config: SamplingParameters,
    count: Annotated[int, typer.Option(min=1, help="How many images.")] = 3000,
    seed: Annotated[int, typer.Option(min=0, help="With its number it decides each image.")] = 0,
    data: Annotated[
        str | None, data_option("Photographs to list beside the samples, to train on both as they are.")
    ] = None,
    source: Source = None,
    good: Good = None,
    bad: Bad = None,
    force: Force = False,
    json: Json = False,
) -> None:
    """Write samples of a trained generator; each can be made again from the seed and its number."""
    with at_work():
        from knowngood.workflows.generate import sample as work

        given: dict[str, Any] = {"data": data, "source": source, "good": good or (), "bad": bad or ()}
        done = work(run, out, count, seed=seed, **given, force=force, **config.model_dump())
    _tell(done, json)


def _tell(done: GeneratedSet, json: bool) -> None:
    if json:
        facts = {"manifest": str(done.manifest), "generator": done.generator, "made": done.made, "counts": done.counts}
        answer_json({"out": str(done.folder), **facts, "notes": list(done.notes)})
        return
    show_made(f"{done.made} images made", done.counts, done.notes)
    if sum(counts["good"] for counts in done.counts.values()):
        typer.echo(f"Train on it: knowngood train {done.folder} --out RUN")
    else:
        typer.echo(
            f"Try it: knowngood compare DATA --training-sets as-is,generated --generated {done.folder} --out RUN"
        )


@app.command(cls=Verb, short_help="Are generated images like real ones, and are they new?")
@with_options(JudgeConfig, basic=("model", "image_size", "classifier", "seed"))
@with_device
def judge(
    generated: Annotated[Path, images_to_read("Folder or manifest of generated images.", "GENERATED")],
    data: Data,
    out: Annotated[Path, out_folder("Folder for judge.json, judge.html and drop.csv.")],
    config: JudgeConfig,
    source: Source = None,
    good: Good = None,
    bad: Bad = None,
    json: Json = False,
) -> None:
    """Compare generated bad images with real ones that their generator did not see; test images are not used.

    Give the splits and --seed that they were made with. drop.csv lists copies, repeats and broken ones.
    """
    with at_work():
        from knowngood.experiments.synthesis import judge as work

        done = work(generated, data, out, config, source=source, good=good or (), bad=bad or ())
    if json:
        answer_json({"out": str(done.folder), **done.document})
        return
    rows = []
    for row in done.document["likeness"]:
        figures = (row["kid"]["value"], *row["kid"]["interval"])
        rows.append((row["what"], *(f"{value:.4g}" for value in figures), row["precision"], row["recall"]))
    names = ("against unseen real bads", "KID", "from", "to", "precision", "recall")
    show_table("Likeness", names, rows, right=range(1, 6))
    for sentence in (*done.document["sentences"], *done.document["notes"]):
        typer.echo(sentence)
    if "classifier" in done.document:
        _tell_trial(done.document["classifier"])
    typer.echo(f"Look: {done.folder / 'judge.html'}\nDrop: {done.folder / 'drop.csv'}")


def _tell_trial(document: dict[str, Any]) -> None:
    names = ("real bads", "training set", "generated images", "AUC", "overkill at\nTPR 99.5 %")
    rows = [
        (arm["regime"], arm["arm"], f"{arm['added']:.0f}", f"{arm['auroc']:.4f}", percent(arm["overkill"]))
        for arm in document["arms"]
    ]
    tested = f"{document['counts']['good']} good and {document['counts']['bad']} bad real test images"
    show_table(f"A classifier with them, {document['seeds']} seeds, {tested}", names, rows, right=(0, 2, 3, 4))
    for effect in document["effects"]:
        typer.echo(effect["sentence"])
    for note in document["notes"]:
        typer.echo(note)
    typer.echo(document["verdict"])
