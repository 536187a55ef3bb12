"""The cell head on a frozen trunk: it finds a square, and what is installed says what the compressed maps said."""

from dataclasses import replace

import numpy as np
import torch

from knowngood.models.cells import marked_cells
from knowngood.models.classifier import Classifier, NetworkConfig, cells_config
from knowngood.training.cell_head import Compression, fit_cell_head
from knowngood.training.targets import NO_KIND, Targets

SIDE, COUNT = 64, 96


def squares() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Noise; every other photograph has a bright or a dark square somewhere, whose mask comes with it."""
    random = np.random.default_rng(0)
    pixels = np.clip(random.normal(120, 8, (COUNT, 1, SIDE, SIDE)), 0, 255)
    masks = np.zeros((COUNT, SIDE, SIDE), np.uint8)
    for row in range(0, COUNT, 2):
        y, x = random.integers(8, SIDE - 20, 2)
        pixels[row, 0, y : y + 12, x : x + 12] = 230 if row % 4 else 10
        masks[row, y : y + 12, x : x + 12] = 1
    return pixels.astype(np.uint8), masks, (np.arange(COUNT) % 2 == 0)


def fitted(tmp_path, masks: bool, kinds: tuple[str, ...] = ("bad",)):
    torch.manual_seed(0)
    pixels, drawn, bad = squares()
    base = NetworkConfig(backbone="resnet18", channels=1, height=SIDE, width=SIDE)
    classifier = Classifier(cells_config(base, (1, 2), kinds)).eval()
    rows = np.arange(COUNT)
    kind = np.where(bad, (rows % 4 == 0).astype(np.int64), NO_KIND) if len(kinds) > 1 else None
    targets = Targets(bad.astype(np.float32), np.ones(COUNT, np.float32), kind)
    if masks:
        targets = replace(targets, masks={int(row): drawn[row] for row in rows[bad][:16]})
    compression = Compression(classifier, pixels, rows, 0)
    maps = compression.maps(pixels, rows, tmp_path / "maps.f16")
    return classifier, pixels, drawn, bad, fit_cell_head(compression, maps, targets, rows, rows % 3, 0)


def test_it_tells_squares_apart_and_the_network_says_what_the_maps_said(tmp_path) -> None:
    classifier, pixels, _, bad, fit = fitted(tmp_path, masks=False)
    with torch.inference_mode():
        raw = classifier(torch.from_numpy(pixels)).numpy()
    assert np.abs(raw - fit.fitted).max() < 0.05 * np.ptp(raw)  # maps are kept in float16
    assert np.mean((raw > 0) == bad) > 0.95
    assert max(row["auroc"] for row in fit.table) > 0.9
    assert np.isfinite(fit.out_of_fold).all()


def test_a_few_masks_put_the_hottest_cell_on_the_square(tmp_path) -> None:
    classifier, pixels, drawn, bad, _ = fitted(tmp_path, masks=True)
    unmarked = np.flatnonzero(bad)[16:]
    with torch.inference_mode():
        heat = classifier.scored(torch.from_numpy(pixels[unmarked])).cell_scores
        on = marked_cells(torch.from_numpy(drawn[unmarked]).float(), classifier.cells.position, classifier.cells.size)
    hottest = heat.flatten(1).argmax(1)
    assert on.flatten(1)[torch.arange(len(unmarked)), hottest].mean() > 0.7  # a cell in ten is; the trunk is random


def test_kinds_are_told_apart(tmp_path) -> None:
    classifier, pixels, _, bad, _ = fitted(tmp_path, masks=False, kinds=("bright", "dark"))
    rows = np.flatnonzero(bad)
    with torch.inference_mode():
        kinds = classifier.scored(torch.from_numpy(pixels[rows])).kinds.argmax(1).numpy()
    assert np.mean(kinds == (rows % 4 == 0)) > 0.9
