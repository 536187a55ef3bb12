"""Sets with made images, in one call: defects transplanted into good images, or samples of a trained generator."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from knowngood.data.loading import loaded, refuse_in_data
from knowngood.data.records import Records
from knowngood.data.units import groups_of, with_units
from knowngood.errors import ConfigError
from knowngood.explain.regions import FRACTION
from knowngood.files import check_writable
from knowngood.parameters import checked_parameters
from knowngood.progress import reporter
from knowngood.recipe.bundle import Recipe
from knowngood.study.dividing import divided_as
from knowngood.study.generating_config import Division, TransplantConfig
from knowngood.synthesis.config import TransplantParameters
from knowngood.synthesis.cutting import Bools, Regions
from knowngood.synthesis.makers import open_maker
from knowngood.synthesis.makers.transplant import Transplant
from knowngood.synthesis.writing import GeneratedSet, write_set


def transplant(
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
    **options: Any,
) -> GeneratedSet:
    """Writes bad images: defects of bad training images, cut out and blended into good training images.

    The set is split first, as a training with the same seed would split it; only training images are used. The
    manifest lists the originals where they are, with their splits, and the made images with mask or box.

    Args:
        data: Folder, manifest, the word of a source, or records; the splits that they come with are kept.
        out: Folder to write, empty or not there.
        count: How many images.
        config: How they are made; or give its fields as `options`.
        recipe: Run or recipe whose maps say where a defect is that has neither mask nor box.
        source: Data source, when it should not be guessed.
        good: Names of folders, or values of a label column, that mean good.
        bad: The same for bad.
        force: Replace the generated set that is in `out`.
        **options: Fields of `TransplantConfig`.

    Raises:
        ConfigError: `out` holds something else, or an option is impossible.
        DataError: No bad training image says where its defect is.
        StorageError: The disk is full; what was made is kept.
    """
    config = checked_parameters(TransplantConfig, (config or TransplantConfig()).model_dump() | options)
    check_writable(Path(out), folder=True)  # before anything is computed
    regions = None if recipe is None else regions_by(recipe)
    records = loaded(data, source, good=good, bad=bad, unit_from=config.unit_from, out=out)
    divided = divided_by(records, config)
    parameters = TransplantParameters(**config.model_dump(include=set(TransplantParameters.model_fields)))
    maker = Transplant(divided, parameters, config.seed, regions)
    return write_set("transplant", maker, out, count, config.seed, beside=divided, force=force)


def sample(
    run: str | Path,
    out: str | Path,
    count: int = 3000,
    *,
    seed: int = 0,
    data: str | Path | Records | None = None,
    source: str | None = None,
    good: Sequence[str] = (),
    bad: Sequence[str] = (),
    maker: str = "stylegan",
    force: bool = False,
    **parameters: Any,
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
        maker: Registered maker that reads the run.
        force: Replace the generated set that is in `out`.
        **parameters: Of the maker.

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
    opened = open_maker(maker, place, seed, **parameters)
    beside = None
    if data is not None:
        whole = loaded(data, source, good=good, bad=bad, out=out)
        beside = divided_by(whole, Division(seed=seed))
        held_out = beside.frame.filter(beside.frame["split"] != "train")["sha256"].drop_nulls().to_list()
        seen = opened.taught.filter(opened.taught["sha256"].is_in(held_out)).height
        if seen:
            raise ConfigError(
                f"The generator learned from {seen} images that are held out in these splits.",
                fix="Give the splits (and --seed) that it was trained with, or train it anew.",
            )
    return write_set(maker, opened, out, count, seed, beside=beside, force=force)


def divided_by(records: Records, config: Division) -> Records:
    """Returns the readable rows of a set with the splits that a training with these shares gives them."""
    if records.licence:
        reporter().say(f"Licence of the data, and of what is made of them: {records.licence}")
    records = with_units(records, config.unit_from)
    return divided_as(records, groups_of(records), config, config.seed).usable()


def regions_by(recipe: str | Path) -> Regions:
    """Returns what points out a defect: the largest region above 0.4 of the maximum of a recipe's map.

    Raises:
        RecipeError: There is no recipe.
        ConfigError: It draws no maps.
    """
    loaded = Recipe.load(recipe)

    def region(path: str, image: str) -> Bools | None:
        found = next(iter(loaded.maps([path], [image], fraction=FRACTION)))
        return np.asarray(found.regions[0].mask, np.bool_) if found.regions else None

    return region
