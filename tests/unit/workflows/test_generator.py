"""A StyleGAN taught by a set: its training split alone, gone on with, refused where it cannot work."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image

from knowngood.data.loading import load
from knowngood.data.records import BAD, Records
from knowngood.data.splits import split
from knowngood.errors import ConfigError, DataError
from knowngood.models.weights.search import preferred
from knowngood.workflows.generate import sample, train_generator

FEW = {"kimg": 0.032, "tick_kimg": 0.016, "batch_size": 8, "resolution": 32, "base": 128, "most": 16, "latent": 16}
FEW |= {"model": "efficientnet_lite0"}


@pytest.fixture(scope="module")
def divided(tmp_path_factory: pytest.TempPathFactory, make_set: Callable[..., Path]) -> Records:
    return split(load(make_set(tmp_path_factory.mktemp("set"), good=44, bad=44)))


def test_it_learns_from_the_training_split_alone(divided: Records, tmp_path: Path) -> None:
    done = train_generator(divided, tmp_path, **FEW)
    bad = divided.frame.filter((pl.col("split") == "train") & (pl.col("label") == BAD))
    assert done.figures["images"] == bad.height
    assert set(pl.read_parquet(tmp_path / "training_images.parquet")["image"]) == set(bad["image"])
    written = sample(tmp_path, tmp_path / "samples", 5)
    made = load(written.folder)
    assert made.frame["generated"].all()
    assert (made.frame["split"] == "train").all()
    assert made.frame.select("height", "width").unique().rows() == [(96, 96)]


def test_a_longer_training_goes_on_from_a_finished_one(divided: Records, tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    train_generator(divided, one, **FEW)
    before = (one / "generator.safetensors").read_bytes()
    assert train_generator(divided, one, **FEW).figures["kimg"] == 0.032
    assert (one / "generator.safetensors").read_bytes() == before
    longer = train_generator(divided, one, **FEW | {"kimg": 0.064})
    assert [row["kimg"] for row in longer.figures["history"]] == [0.016, 0.032, 0.048, 0.064]
    train_generator(divided, two, **FEW | {"kimg": 0.064})
    assert (one / "generator.safetensors").read_bytes() == (two / "generator.safetensors").read_bytes()
    with pytest.raises(ConfigError, match="other options"):
        train_generator(divided, one, **FEW | {"seed": 1})


def test_what_a_run_will_not_reach_is_told_and_the_network_looked_through_is_kept(
    divided: Records, tmp_path: Path
) -> None:
    unnamed = {name: value for name, value in FEW.items() if name != "model"}
    few = train_generator(divided, tmp_path / "few", **unnamed)
    assert any("not in this run" in note for note in few.figures["notes"])
    kept = json.loads((tmp_path / "few" / "config.json").read_text(encoding="utf-8"))
    assert kept["config"]["model"] == preferred()
    joined = train_generator(divided, tmp_path / "joined", **FEW, join_kimg=0.016)
    assert not any("not in this run" in note for note in joined.figures["notes"])
    assert "projected" in joined.figures["history"][-1]


def test_good_photographs_first_and_defects_told(divided: Records, tmp_path: Path) -> None:
    done = train_generator(divided, tmp_path, **FEW, good_kimg=0.032, freeze_blocks=1, by_defect=True)
    assert done.figures["history"][-1]["kimg"] == 0.064
    assert done.generator.facts.defects == ("chip", "scratch")
    taught = pl.read_parquet(tmp_path / "training_images.parquet")
    assert set(taught["label"]) == {0, 1}
    written = sample(tmp_path, tmp_path / "samples", 4, defect="scratch")
    assert set(load(written.folder).frame["defect"]) == {"scratch"}
    with pytest.raises(ConfigError, match="chip, scratch"):
        sample(tmp_path, tmp_path / "other", 4, defect="scrach")


def test_too_few_images_are_refused_unless_insisted(divided: Records, tmp_path: Path) -> None:
    few = divided.with_frame(pl.concat([divided.frame.filter(pl.col("label") == k).head(12) for k in (0, 1)]))
    with pytest.raises(DataError, match="at least 20"):
        train_generator(few, tmp_path, **FEW)
    assert train_generator(few, tmp_path, allow_few_images=True, **FEW).figures["images"] < 20


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"resolution": 96}, "32, 64, 128, 256"),
        ({"class_": "scrach"}, "good, bad, chip, scratch"),
        ({"freeze_blocks": 2}, "--good-kimg"),
        ({"batch_size": 8, "devices": 3}, "divided"),
    ],
)
def test_wrong_options_say_what_would_be_right(
    options: dict[str, object], message: str, divided: Records, tmp_path: Path
) -> None:
    with pytest.raises((ConfigError, DataError)) as error:
        train_generator(divided, tmp_path / "run", **FEW | options)
    assert message in str(error.value)


def test_photographs_of_several_sizes_and_colours_are_brought_together(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for kind, height, width in (("good", 40, 60), ("chip", 40, 60), ("scratch", 80, 50)):
        folder = tmp_path / "set" / kind
        folder.mkdir(parents=True)
        for number in range(24):
            pixels = rng.integers(0, 255, (height, width, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"{number}.png")
    done = train_generator(tmp_path / "set", tmp_path / "run", **FEW)
    assert done.generator.facts.networks.channels == 3
    assert any("differ in size" in note for note in done.figures["notes"])
    assert done.generator.pictures(0, [1]).shape == (1, 32, 32, 3)
