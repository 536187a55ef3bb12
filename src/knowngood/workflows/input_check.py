"""Fits the input check of a recipe on its training images, and measures its false alarms on the test images."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from knowngood.data.pixels import BLANK, store_pixels
from knowngood.data.records import BAD, Records
from knowngood.metrics.thresholds import escape_upper_bound
from knowngood.models.classifier import common_shape
from knowngood.recipe.input_check import (
    FEWEST,
    MOST,
    NOT_THIS_PRODUCT,
    InputCheck,
    InputFacts,
    described,
    fit_distances,
)
from knowngood.training.fit import Fitted

FALSE_ALARMS = 0.01  # share of the test images above which there is a warning
_HELD_OUT = ("val", "calibration")


@dataclass(frozen=True)
class LearnedInputs:
    """The input check of a training, with its figures.

    Attributes:
        check: For the recipe.
        reasons: (N,) why `predict` decides review whatever the score, or None.
        figures: `input_check` of metrics.json: limit (of the distances, see `InputFacts`; None
            where products are not told apart), held_out (number of distances that it is set on), learned_from,
            and of the test split false_alarms_test (share; None without images), with number and upper bound at 95 %.
        warning: A sentence for the user, or None.
    """

    check: InputCheck
    reasons: tuple[str | None, ...]
    figures: dict[str, Any]
    warning: str | None


def learn_inputs(records: Records, fitted: Fitted, pixels: Path, seed: int) -> LearnedInputs:
    """Fits the input check on a set with splits; generated images are not used.

    Args:
        records: Usable rows with a split in every row.
        fitted: The training on them.
        pixels: Folder with their decoded photographs, see `store_pixels`.
        seed: Of the training.
    """
    frame = records.frame
    channels, height, width = common_shape(fitted.inspector.configs)
    store = store_pixels(records, pixels, height, width, channels, fitted.preprocessing)
    sound = ~np.isin(np.arange(len(records)), list(store.failed))
    blank = [f"{BLANK}: {store.blank[row]}" if row in store.blank else None for row in range(len(records))]
    real = sound & ~frame["generated"].to_numpy() & np.array([reason is None for reason in blank])
    train = np.flatnonzero(real & (frame["split"] == "train").to_numpy())
    held_out = np.flatnonzero(real & frame["split"].is_in(_HELD_OUT).to_numpy())
    crop = fitted.preprocessing.cropped
    learned, others = ([crop(store.pixels[row]) for row in rows] for rows in (train, held_out))
    bads = bool((frame["label"][train] == BAD).any())
    found = fit_distances(learned, others, seed, bads=bads)
    learning = (frame["split"] != "test").to_numpy()
    seen = frame.filter(pl.Series(real & learning))
    shapes = (seen["width"] / seen["height"]).drop_nulls() if len(seen) else pl.Series([1.0])
    facts = InputFacts(
        depths=tuple(sorted({*store.depths[real & learning].tolist()} - {0})),
        colour=channels == 3,
        narrowest=_number(shapes.min()),
        widest=_number(shapes.max()),
        learned_from=min(len(train), MOST),
        held_out=0 if found is None else found[2],
        limits=() if found is None else found[1],
    )
    check = InputCheck(facts, None if found is None else found[0])
    reasons = tuple(_reasons(check, map(crop, store.pixels), blank, sound))
    figures, warning = _figures(check, reasons, real & (frame["split"] == "test").to_numpy())
    return LearnedInputs(check, reasons, figures, warning)


def _reasons(
    check: InputCheck,
    photographs: Iterable[npt.NDArray[np.uint8]],
    blank: list[str | None],
    sound: npt.NDArray[np.bool_],
) -> Iterator[str | None]:
    for one, reason, right in zip(photographs, blank, sound, strict=True):
        times = float(check.times_the_limit(described([one]))[0]) if right and reason is None else 0.0
        yield f"{NOT_THIS_PRODUCT}: {check.in_words(times)}" if times > 1 else reason


def _figures(
    check: InputCheck, reasons: tuple[str | None, ...], test: npt.NDArray[np.bool_]
) -> tuple[dict[str, Any], str | None]:
    facts, count = check.facts, int(test.sum())
    known = bool(facts.limits)
    alarms = sum((reasons[row] or "").startswith(NOT_THIS_PRODUCT) for row in np.flatnonzero(test))
    figures = {
        "limit": list(facts.limits) or None,
        "held_out": facts.held_out,
        "learned_from": facts.learned_from,
        "test": count,
        "alarms_test": alarms,
        "false_alarms_test": alarms / count if count and known else None,
        "false_alarms_test_bound": escape_upper_bound(alarms, count) if count and known else None,
        "depths": list(facts.depths),
    }
    if not known:
        return figures, (
            f"{facts.learned_from} training photographs are too few to tell this product from another ({FEWEST} are "
            "the least): the recipe takes photographs of any product"
        )
    if count and alarms > max(1, FALSE_ALARMS * count):
        return figures, (
            f"{alarms} of the {count} test photographs ({alarms / count:.1%}) do not look like the training "
            "photographs; `predict` sends such ones to a person as not this product (column reason of scores.parquet; "
            "--any-product leaves that out)"
        )
    return figures, None


def _number(value: object) -> float:
    return float(value) if isinstance(value, (int, float)) else 1.0
