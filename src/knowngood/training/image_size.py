"""Chooses how large the network sees photographs: the smallest size that finds as much as the best, cross-validated."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from knowngood.data.pixels import store_pixels
from knowngood.data.preprocessing import Preprocessing
from knowngood.data.records import BAD, Records
from knowngood.errors import DataError
from knowngood.metrics.comparisons import compare_auroc
from knowngood.metrics.figures import auroc
from knowngood.models.classical import at_most
from knowngood.models.classifier import Classifier, NetworkConfig, cells_beside_svm
from knowngood.models.weights.files import Weights
from knowngood.progress import reporter
from knowngood.training.cell_head import fit_frozen_heads
from knowngood.training.targets import Rows, targets_of
from knowngood.wording import counted, decimal

_SAMPLE = 300  # photographs that sizes are tried on, half of them bad where there are so many
_LEAST = 10  # of the rarer class among them
_STEP = 2**0.5  # from one side to the next
_TRIED_PIXELS = 250e6  # of all tries together, some two minutes on two cores


@dataclass(frozen=True)
class SizeChoice:
    """The size that was chosen.

    Attributes:
        side: Of the square with as many pixels.
        table: One row a side that was tried: image_size, auroc (out of fold), error (standard error of its difference
            to the best one; 0 for the best).
        sentence: What was found, for people.
    """

    side: int
    table: list[dict[str, float]]
    sentence: str


def choose_size(
    records: Records,
    groups: Rows,
    own: int,
    network: Callable[[int], NetworkConfig],
    weights: Weights,
    preprocessing: Preprocessing,
    folder: Path,
    *,
    photographs: int,
    most_pixels: float,
    seed: int,
) -> SizeChoice:
    """Tries sizes from the network's own to the photographs' own on a sample of the training split.

    Heads on the frozen network are cross-validated at each size. The smallest size is taken whose AUC is at most one
    standard error of the difference (DeLong) below the best.

    Args:
        records: With splits; only the training split is looked at.
        groups: (N,) what belongs together in cross-validation, from `groups_of`.
        own: The network's own side in pixels.
        network: Side to the configuration of the network.
        weights: Of the network.
        preprocessing: Of the photographs.
        folder: For decoded photographs, which are deleted again.
        photographs: How often a photograph will pass the network in the training.
        most_pixels: That may pass it in the training: sides that need more are not tried.
        seed: Of sample and folds.
    """
    frame = records.frame
    train = (frame["split"] == "train").fill_null(False) & frame["label"].is_not_null() & ~frame["generated"]
    rows = np.flatnonzero(train.to_numpy())
    bad = (frame["label"] == BAD).fill_null(False).to_numpy()
    rows = rows[at_most(_SAMPLE, bad[rows], np.random.default_rng([seed, 21]))]
    rarer = min(int(bad[rows].sum()), int((~bad[rows]).sum()))
    sides = _sides(records, own)
    if len(sides) == 1:
        return SizeChoice(own, [], "the photographs are no larger than what the network sees")
    if rarer < _LEAST:
        return SizeChoice(
            own, [], f"its own: {counted(rarer, 'training photograph')} of the rarer class say too little"
        )
    sample, ids = records.with_frame(frame[rows]), groups[rows]
    scored: dict[int, npt.NDArray[np.float64]] = {}
    spent, left_out = 0.0, ""
    for side in sides:
        spent += len(rows) * side**2
        if side > own and photographs * side**2 > most_pixels:
            left_out = f"; {side} and more would take too long to train with"
            break
        if side > own and spent > _TRIED_PIXELS:
            left_out = f"; {side} and more take too long to try: give --image-size {side} if defects are that small"
            break
        try:
            scored[side] = _out_of_fold(sample, ids, network(side), weights, preprocessing, folder, seed)
        except DataError as error:  # the groups allow no folds
            return SizeChoice(own, [], f"its own: {error.what}")
        held = ~np.isnan(scored[side])
        if side != sides[-1] and auroc(bad[rows][held], scored[side][held]) == 1:
            left_out = "; no larger one can be better"
            break
    return _smallest(scored, bad[rows], left_out)


def _sides(records: Records, own: int) -> list[int]:
    """Returns the network's own side and the larger ones up to the photographs' own."""
    sizes = records.frame.filter(records.frame["error"].is_null()).select("height", "width").rows()
    largest = float(np.median([(high * wide) ** 0.5 for high, wide in sizes]))
    steps = itertools.count(1)
    larger = itertools.takewhile(lambda side: side <= largest, (32 * round(own * _STEP**n / 32) for n in steps))
    return list(dict.fromkeys([own, *larger]))


def _out_of_fold(
    sample: Records,
    groups: Rows,
    network: NetworkConfig,
    weights: Weights,
    preprocessing: Preprocessing,
    folder: Path,
    seed: int,
) -> npt.NDArray[np.float64]:
    """Returns raw scores (M,) of frozen heads out of fold; NaN where no fold held a photograph out."""
    place = folder / "sizes"
    classifier = Classifier(cells_beside_svm(network, ("bad",)))
    classifier.load_trunk(weights)
    height, width, channels = network.height, network.width, network.channels
    reporter().say(f"trying {width} x {height} pixels on {counted(len(sample), 'image')}")
    store = store_pixels(sample, place, height, width, channels, preprocessing)
    rows = np.setdiff1d(np.arange(len(sample)), list(store.failed))
    fit = fit_frozen_heads(
        classifier, store.pixels, sample, groups, rows, targets_of(sample), place / "cells.f16", seed
    )
    made = np.full(len(sample), np.nan)
    made[rows] = fit.out_of_fold
    del store
    shutil.rmtree(place, ignore_errors=True)
    return made


def _smallest(scored: dict[int, npt.NDArray[np.float64]], bad: npt.NDArray[np.bool_], left_out: str) -> SizeChoice:
    held = ~np.isnan(np.stack(list(scored.values()))).any(axis=0)
    aucs = {side: auroc(bad[held], raw[held]) or 0.5 for side, raw in scored.items()}
    best = max(aucs, key=lambda side: aucs[side])  # the smallest of equals
    errors = {side: compare_auroc(bad[held], scored[best][held], raw[held]).error for side, raw in scored.items()}
    chosen = min(side for side in scored if aucs[best] - aucs[side] <= errors[side])
    table = [{"image_size": side, "auroc": aucs[side], "error": errors[side]} for side in scored]
    found = ", ".join(f"{side}: {decimal(aucs[side])}" for side in scored)
    why = "the best" if chosen == best else f"{best} is better by no more than chance"
    return SizeChoice(
        chosen, table, f"{why} of the AUCs out of fold on {counted(int(held.sum()), 'image')} ({found}){left_out}"
    )
