"""The size is chosen on the training split: as large as small defects need, and no larger."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image

from knowngood.data.loading import loaded
from knowngood.data.preprocessing import Preprocessing
from knowngood.data.records import Records
from knowngood.data.units import groups_of, with_units
from knowngood.models.backbones import LITE0
from knowngood.models.classifier import network_for
from knowngood.models.weights.search import find
from knowngood.training.config import TrainConfig
from knowngood.training.image_size import SizeChoice, choose_size
from knowngood.training.start import chosen_size

OWN, SIDE, COUNT = 32, 128, 30


def records_of(folder: Path, spot: int, count: int = COUNT, side: int = SIDE) -> Records:
    """Grainy parts; bad ones have a large dark spot, or a small one with dots that vanish when they are averaged."""
    random = np.random.default_rng(0)
    for kind in ("good", "bad"):
        (folder / kind).mkdir(parents=True)
        for number in range(count):
            pixels = random.normal(128, 10, (side, side))
            if kind == "bad":
                y, x = random.integers(8, side - spot - 8, 2)
                dots = 120 * (np.indices((spot, spot)).sum(0) % 2) - 60
                pixels[y : y + spot, x : x + spot] += dots if spot < SIDE // 4 else -90
            Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(folder / kind / f"{number:02}.png")
    records = with_units(loaded(folder), "none")
    return records.with_frame(records.frame.with_columns(split=pl.lit("train")))


def choose(records: Records, folder: Path, most_pixels: float = 1e12) -> SizeChoice:
    weights = find("efficientnet_lite0", None)
    return choose_size(
        records,
        groups_of(records),
        OWN,
        lambda side: network_for("efficientnet_lite0", weights, side, side, 1),
        weights,
        Preprocessing(),
        folder / "work",
        photographs=len(records),
        most_pixels=most_pixels,
        seed=0,
    )


def test_a_small_defect_takes_a_larger_size_and_nothing_is_left_behind(tmp_path: Path) -> None:
    made = choose(records_of(tmp_path / "set", spot=12), tmp_path)
    aucs = {row["image_size"]: row["auroc"] for row in made.table}
    assert list(aucs) == [32, 64, 96, 128]  # up to their own
    assert made.side > OWN
    assert aucs[made.side] > aucs[OWN] + 0.1
    assert "out of fold" in made.sentence
    assert not (tmp_path / "work" / "sizes").exists()


def test_a_large_defect_keeps_the_networks_own_size(tmp_path: Path) -> None:
    made = choose(records_of(tmp_path / "set", spot=64), tmp_path)
    assert made.side == OWN
    assert made.table[0]["auroc"] > 0.95
    perfect = [row["auroc"] == 1 for row in made.table]
    assert not any(perfect[:-1])  # nothing larger is tried where nothing can be better
    assert len(made.table) == 4 or perfect[-1]


def test_a_size_that_takes_too_long_is_named_and_not_tried(tmp_path: Path) -> None:
    made = choose(records_of(tmp_path / "set", spot=12), tmp_path, most_pixels=2 * COUNT * 70**2)
    assert [row["image_size"] for row in made.table] == [32, 64]
    assert "96 and more would take too long" in made.sentence


def test_nothing_is_tried_where_nothing_can_be_said(tmp_path: Path) -> None:
    few = records_of(tmp_path / "few", spot=12, count=6)
    assert choose(few, tmp_path).side == OWN
    assert "6 training photographs of the rarer class" in choose(few, tmp_path).sentence
    tiny = records_of(tmp_path / "tiny", spot=12, side=OWN)
    assert choose(tiny, tmp_path) == SizeChoice(OWN, [], "the photographs are no larger than what the network sees")


def test_only_the_training_split_is_looked_at_and_the_choice_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = records_of(tmp_path / "set", spot=12)
    every = np.arange(len(records))
    test = records.with_frame(records.frame.with_columns(split=pl.Series(np.where(every % 2, "train", "test"))))
    seen: list[Records] = []

    def tried(sample: Records, *_: object) -> np.ndarray:
        seen.append(sample)
        return np.linspace(0, 1, len(sample))

    monkeypatch.setattr("knowngood.training.image_size._out_of_fold", tried)
    config = TrainConfig(model="efficientnet_lite0")
    monkeypatch.setattr(
        "knowngood.training.start.BACKBONES",
        {"efficientnet_lite0": replace(LITE0, size=OWN)},
    )
    first = chosen_size(test, groups_of(test), config, tmp_path / "work")
    assert first is not None
    assert {split for one in seen for split in one.frame["split"]} == {"train"}
    count = len(seen)
    assert chosen_size(test, groups_of(test), config, tmp_path / "work") == first
    assert len(seen) == count
    assert chosen_size(test, groups_of(test), config.model_copy(update={"pretrained": False}), tmp_path) is None
