"""`knowngood synthesize`: trains generators on the training split of a set, and writes generated images."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl

from knowngood.cam.regions import FRACTION
from knowngood.data.config import SplitConfig
from knowngood.data.loading import loaded, refuse_in_data
from knowngood.data.pixels import needs_colour, store_pixels
from knowngood.data.records import BAD, GOOD, Records
from knowngood.data.splits import split
from knowngood.data.units import groups_of, with_units
from knowngood.errors import ConfigError, DataError
from knowngood.files import check_writable, write_json
from knowngood.models.weights.search import find, preferred
from knowngood.parameters import configured
from knowngood.progress import reporter
from knowngood.recipe.bundle import Recipe
from knowngood.synthesis.config import TransplantParameters
from knowngood.synthesis.generators import open_image_generator
from knowngood.synthesis.stylegan.config import FEWEST, NetworksConfig, Widths
from knowngood.synthesis.stylegan.generators import GeneratorFacts, TrainedGenerator, open_generator
from knowngood.synthesis.stylegan.losses import Square
from knowngood.synthesis.stylegan.stepping import Shown
from knowngood.synthesis.transplant import Bools, Regions, Transplant
from knowngood.synthesis.writing import TRAINING_IMAGES, GeneratedSet, write_set
from knowngood.tables import write_table
from knowngood.workflows.configs import GeneratorConfig, TransplantConfig
from knowngood.workflows.runs import FIGURES, call_of, fingerprint_of, open_run, versions

MOST_GOOD = 20_000  # good images of the first phase, at most
_MIXED = 1.15  # larger ratios of image sizes get a note


@dataclass(frozen=True)
class TrainedGan:
    """A finished training of a generator.

    Attributes:
        folder: With generator.safetensors, generator.json, history.json, metrics.json, grids/ and grids.gif.
        generator: Ready to make pictures.
        figures: What is in metrics.json.
    """

    folder: Path
    generator: TrainedGenerator
    figures: dict[str, Any]


def train_generator(  # noqa: PLR0913  (a keyword a field of GeneratorConfig)
    data: str | Path | Records,
    out: str | Path,
    config: GeneratorConfig | None = None,
    *,
    source: str | None = None,
    good: Sequence[str] = (),
    bad: Sequence[str] = (),
    force: bool = False,
    watcher: Callable[[TrainedGenerator, float], dict[str, float]] | None = None,
    test: float = 0.25,
    val: float = 0.1,
    calibration: float = 0.2,
    resplit: bool = False,
    unit_from: str | None = None,
    seed: int = 0,
    latent: int = 256,
    mapping_layers: int = 4,
    base: int = 2048,
    most: int = 256,
    class_: str = "bad",
    resolution: int = 64,
    kimg: float = 100.0,
    good_kimg: float = 0.0,
    freeze_blocks: int = 0,
    by_defect: bool = False,
    shape: Literal["pad", "crop", "stretch"] = "pad",
    discriminator: Literal["residual", "projected", "both"] = "both",
    join_kimg: float = 10.0,
    model: str | None = None,
    batch_size: int = 16,
    learning_rate: float = 0.002,
    r1: float | None = None,
    path_length: float = 0.0,
    mixing: float = 0.9,
    ada_target: float = 0.6,
    ada_kimg: float = 100.0,
    ema_kimg: float = 5.0,
    tick_kimg: float = 2.0,
    precision: Literal["auto", "bf16", "fp32"] = "auto",
    devices: int = 1,
    allow_few_images: bool = False,
) -> TrainedGan:
    """Trains a StyleGAN on the bad images of the training split.

    A call that was killed goes on when it is made again, and a finished one when it is made with a larger `kimg`.

    Args:
        data: Folder, manifest, the word of a source, or records.
        out: Folder for the run.
        config: What to train; keywords below, its fields, beat it where they differ from their defaults.
        source: Data source, when it should not be guessed.
        good: Names of folders, or values of a label column, that mean good.
        bad: The same for bad.
        force: Replace the run in `out`.
        watcher: Called with the averaged generator and the kimg after each tick; its figures are added to the history.

    Raises:
        ConfigError: An option is out of range, or `out` holds something else.
        DataError: There are too few images of the class.
        TrainingError: A loss is no longer finite.
        WeightsError: There are no weights for the network of a projected discriminator.
    """
    from knowngood.synthesis.stylegan.training import train_stylegan, write_animation

    config = configured(GeneratorConfig, config, locals())
    if config.discriminator != "residual":
        config = config.model_copy(update={"model": config.model or preferred()})  # kept with the run
        find(str(config.model))  # says what is missing before images are read
    folder = Path(out)
    check_writable(folder, folder=True)  # before anything is computed
    whole = loaded(data, source, good=good, bad=bad, unit_from=config.unit_from, out=out)
    records = with_units(whole, config.unit_from).usable()
    divided = _divided(records, config)
    learned = _chosen(divided, config.class_)
    if learned.height < FEWEST and not config.allow_few_images:
        raise DataError(
            f"There are {learned.height} images of class {config.class_!r} in the training split.",
            expected=f"at least {FEWEST}: a generator trained on fewer repeats its training images",
            fix="Try `knowngood synthesize transplant`, gather more, or insist with --allow-few-images.",
        )
    shown_before = _shown_kimg(folder)
    finished = shown_before is not None and shown_before >= config.kimg + config.good_kimg
    if open_run(
        folder,
        config,
        fingerprint_of(divided),
        force,
        finished=finished,
        grows=("kimg", "tick_kimg", "allow_few_images"),
        call=call_of(data, source, good, bad),
    ):
        return _read(folder)
    frames = ({"good": _first(divided, config)} if config.good_kimg else {}) | {config.class_: learned}
    notes = _notes(divided, learned, config)
    for note in notes:
        reporter().say(note)
    defects = _defects(learned, config)
    facts = _facts(learned, defects, config, 3 if needs_colour(divided) else 1, notes)
    shown = {name: _shown(divided.with_frame(frame), facts, folder / "work") for name, frame in frames.items()}
    trained_on = (
        pl.concat(list(frames.values())).select("image", "sha256", "label").unique("image", maintain_order=True)
    )
    write_table(trained_on, folder / TRAINING_IMAGES)
    history = train_stylegan(shown, facts, folder, config, watcher)
    write_animation(folder)
    figures = {
        "images": learned.height,
        "class": config.class_,
        "kimg": config.kimg + config.good_kimg,
        "history": history,
        "notes": notes,
        "versions": versions(),
    }
    write_json(folder / FIGURES, figures)
    return _read(folder)


def _shown_kimg(folder: Path) -> float | None:
    """Returns the thousands of images of the finished training in a folder, from which a longer one continues."""
    try:
        figures = json.loads((folder / FIGURES).read_text(encoding="utf-8"))
        return float(figures["kimg"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _read(folder: Path) -> TrainedGan:
    return TrainedGan(folder, open_generator(folder), json.loads((folder / FIGURES).read_text(encoding="utf-8")))


def _divided(records: Records, config: GeneratorConfig) -> Records:
    known = records.labelled()
    classes = [label for label in (GOOD, BAD) if (known.frame["label"] == label).any()]
    return split(known, config, seed=config.seed, groups=groups_of(known), classes=classes)


def _chosen(records: Records, name: str) -> pl.DataFrame:
    """Returns the images of one class in the training split: good, bad, or one defect."""
    frame = records.frame.filter((pl.col("split") == "train") & ~pl.col("generated"))
    if name in ("good", "bad"):
        return frame.filter(pl.col("label") == (BAD if name == "bad" else GOOD))
    known = frame.filter(pl.col("label") == BAD)["defect"].drop_nulls().unique().sort().to_list()
    if name not in known:
        raise DataError(
            f"There is no defect {name!r} among the training images.",
            expected=f"good, bad{''.join(', ' + each for each in known)}",
            fix="Choose another --class.",
        )
    return frame.filter(pl.col("defect") == name)


def _notes(records: Records, learned: pl.DataFrame, config: GeneratorConfig) -> list[str]:
    """Returns sentences on image sizes, discriminators and licence, for the start of the training."""
    notes = []
    heights, widths = learned["height"].to_numpy().astype(float), learned["width"].to_numpy().astype(float)
    ratio = widths / heights
    if max(np.ptp(np.log(values)) for values in (heights, widths)) > np.log(_MIXED):
        notes.append(
            f"The photographs differ in size, {widths.min():.0f}x{heights.min():.0f} to {widths.max():.0f}x"
            f"{heights.max():.0f}: all are brought to {config.resolution}x{config.resolution} (--shape "
            f"{config.shape}), and samples are written at their median size."
        )
    elif (ratio != 1).any():
        notes.append(
            f"Photographs of {widths[0]:.0f}x{heights[0]:.0f} are brought to {config.resolution}x{config.resolution} "
            f"(--shape {config.shape})."
        )
    if config.discriminator == "both" and config.join_kimg >= config.kimg + config.good_kimg:
        notes.append(
            f"The projected discriminator joins after {config.join_kimg:g} thousand photographs (--join-kimg): not in "
            "this run."
        )
    if records.licence:
        notes.append(f"Licence of the data, and of what is made of them: {records.licence}")
    return notes


def _first(records: Records, config: GeneratorConfig) -> pl.DataFrame:
    """Returns the good images of the first phase."""
    good = _chosen(records, "good")
    if good.height < FEWEST:
        raise DataError(f"There are {good.height} good images for the first phase.", fix="Leave --good-kimg out.")
    return good.sample(MOST_GOOD, seed=config.seed) if good.height > MOST_GOOD else good


def _shown(part: Records, facts: GeneratorFacts, work: Path) -> Shown:
    """Returns the decodable images at the size of the networks, with the class of each."""
    side, defects = facts.networks.resolution, facts.defects
    store = store_pixels(part, work, side, side, facts.networks.channels, facts.square)
    sound = np.array([row not in store.failed for row in range(len(store))])
    classes = None
    if defects:
        places = {name: place for place, name in enumerate(defects)}
        classes = np.array([places.get(name, 0) for name in part.frame["defect"].to_list()], np.int64)[sound]
    return Shown(store.pixels if sound.all() else store.pixels[sound], classes)


def _facts(
    learned: pl.DataFrame, defects: tuple[str, ...], config: GeneratorConfig, channels: int, notes: list[str]
) -> GeneratorFacts:
    networks = NetworksConfig(
        resolution=config.resolution,
        channels=channels,
        classes=len(defects),
        **config.model_dump(include=set(Widths.model_fields)),
    )
    products = learned["product"].drop_nulls().unique().to_list()
    return GeneratorFacts(
        networks=networks,
        square=Square(rule=config.shape),
        height=int(np.median(learned["height"].to_numpy())),
        width=int(np.median(learned["width"].to_numpy())),
        label=GOOD if config.class_ == "good" else BAD,
        defect=None if config.class_ in ("good", "bad") else config.class_,
        defects=defects,
        product=products[0] if len(products) == 1 else None,
        notes=tuple(notes),
    )


def _defects(learned: pl.DataFrame, config: GeneratorConfig) -> tuple[str, ...]:
    if not config.by_defect:
        return ()
    names = learned["defect"]
    known = tuple(names.drop_nulls().unique().sort().to_list())
    if names.null_count() or len(known) < 2:
        raise DataError(
            f"--by-defect needs the defect of every image: {names.null_count()} of {len(names)} have none, and "
            f"{len(known)} are named.",
            fix="Leave --by-defect out.",
        )
    return known


def transplant(  # noqa: PLR0913  (a keyword a field of TransplantConfig)
    data: str | Path | Records,
    out: str | Path,
    count: int,
    config: TransplantConfig | None = None,
    *,
    recipe: str | Path | None = None,
    source: str | None = None,
    good: Sequence[str] = (),
    bad: Sequence[str] = (),
    force: bool = False,
    test: float = 0.25,
    val: float = 0.1,
    calibration: float = 0.2,
    resplit: bool = False,
    unit_from: str | None = None,
    seed: int = 0,
    blend: Literal["poisson", "feather"] = "poisson",
    margin: int = 3,
    shift: float = 0.03,
    rotate: float = 5.0,
    zoom: float = 1.15,
    flip: bool = False,
    largest: float = 0.5,
) -> GeneratedSet:
    """Writes bad images: defects of bad training images, cut out and blended into good training images.

    The set is split first, as a training with the same seed would split it; only training images are used. The
    manifest lists the originals where they are, with their splits, and the made images with mask or box.

    Args:
        data: Folder, manifest, the word of a source, or records; the splits that they come with are kept.
        out: Folder to write, empty or not there.
        count: How many images.
        config: How they are made; keywords below, its fields, beat it where they differ from their defaults.
        recipe: Run or recipe whose maps locate the defects that have neither mask nor box.
        source: Data source, when it should not be guessed.
        good: Names of folders, or values of a label column, that mean good.
        bad: The same for bad.
        force: Replace the generated set that is in `out`.

    Raises:
        ConfigError: `out` holds something else, or an option is impossible.
        DataError: No bad training image has a located defect.
        StorageError: The disk is full; what was made is kept.
    """
    config = configured(TransplantConfig, config, locals())
    check_writable(Path(out), folder=True)  # before anything is computed
    regions = None if recipe is None else regions_by(recipe)
    records = loaded(data, source, good=good, bad=bad, unit_from=config.unit_from, out=out)
    divided = divided_by(records, config)
    parameters = TransplantParameters(**config.model_dump(include=set(TransplantParameters.model_fields)))
    generator = Transplant(divided, parameters, config.seed, regions)
    return write_set("transplant", generator, out, count, config.seed, beside=divided, force=force)


def sample(  # noqa: PLR0913
    run: str | Path,
    out: str | Path,
    count: int = 3000,
    *,
    seed: int = 0,
    data: str | Path | Records | None = None,
    source: str | None = None,
    good: Sequence[str] = (),
    bad: Sequence[str] = (),
    generator: str = "stylegan",
    force: bool = False,
    truncation: float = 1.0,
    defect: str | None = None,
    parameters: Mapping[str, Any] | None = None,
) -> GeneratedSet:
    """Writes samples of a trained generator; each can be made again from the seed and its number.

    Args:
        run: Folder of the training.
        out: Folder to write, empty or not there.
        count: How many images.
        seed: Of everything drawn.
        data: Photographs to list in the manifest beside the samples, so that the set can be trained on as it is; they
            need splits, which an augmented set or a manifest brings.
        source: Data source of `data`, when it should not be guessed.
        good: Names of folders, or values of a label column, that mean good.
        bad: The same for bad.
        generator: Registered generator that reads the run.
        force: Replace the generated set that is in `out`.
        truncation: Of StyleGAN: below 1 samples are nearer to the mean, less varied, fewer broken ones.
        defect: Of StyleGAN: only samples of this defect.
        parameters: Of another generator, by name.

    Raises:
        ConfigError: There is no such run, `out` holds something else, or a parameter is impossible.
        DataError: The generator learned from images that are held out in `data`.
        StorageError: The disk is full; what was made is kept.
    """
    refuse_in_data(out)
    place = Path(run)
    if not place.is_dir():
        raise ConfigError(f"There is no run in {run}.", fix="knowngood synthesize train DATA --out RUN")
    check_writable(Path(out), folder=True)  # before anything is computed
    own = {"truncation": truncation, "defect": defect} if generator == "stylegan" else {}
    opened = open_image_generator(generator, place, seed, **(own if parameters is None else parameters))
    beside = None
    if data is not None:
        whole = loaded(data, source, good=good, bad=bad, out=out)
        beside = divided_by(whole, SplitConfig(seed=seed))
        held_out = beside.frame.filter(beside.frame["split"] != "train")["sha256"].drop_nulls().to_list()
        seen = opened.training_images.filter(opened.training_images["sha256"].is_in(held_out)).height
        if seen:
            raise ConfigError(
                f"The generator learned from {seen} images that are held out in these splits.",
                fix="Give the splits (and --seed) that it was trained with, or train it again.",
            )
    return write_set(generator, opened, out, count, seed, beside=beside, force=force)


def divided_by(records: Records, config: SplitConfig) -> Records:
    """Returns the readable rows of a set with the splits that a training with these shares gives them."""
    if records.licence:
        reporter().say(f"Licence of the data, and of what is made of them: {records.licence}")
    records = with_units(records, config.unit_from)
    return split(records, config, seed=config.seed).usable()


def regions_by(recipe: str | Path) -> Regions:
    """Returns a function that locates a defect: the largest region above 0.4 of the maximum of a recipe's map.

    Raises:
        RecipeError: There is no recipe.
        ConfigError: It draws no maps.
    """
    loaded = Recipe.load(recipe)

    def region(path: str, image: str) -> Bools | None:
        found = next(iter(loaded.maps([path], [image], fraction=FRACTION)))
        return np.asarray(found.regions[0].mask, np.bool_) if found.regions else None

    return region
