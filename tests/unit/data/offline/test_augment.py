"""Augmented sets: only training images are copied, traceably, the same bytes with any workers, kill or no kill."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import polars as pl
import pytest
import torch

from knowngood.data import augment as augmenting
from knowngood.data import copies as making
from knowngood.data.augment import augment
from knowngood.data.augmentation import augment as on_the_fly
from knowngood.data.augmentation import draw, policy_named
from knowngood.data.config import AugmentConfig
from knowngood.data.copies import copy_of
from knowngood.data.images import decode
from knowngood.data.labels import with_verdicts, without_outliers
from knowngood.data.loading import load
from knowngood.data.splits import Shares, groups_of, kfold, split, trains_on
from knowngood.errors import ConfigError, DataError, StorageError


def digests(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def made(parts, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("augmented") / "set"
    done = augment(parts, out, total=130, shift=0.06, workers=1)
    assert (done.made, done.folder) == (40, out)
    return out


def test_the_set_has_the_wanted_size_and_copies_only_train(made, parts):
    records = load(made)
    assert len(records) == 130
    assert records.frame["error"].null_count() == 130
    copies = records.frame.filter("generated")
    assert copies.height == 40
    assert copies["split"].unique().to_list() == ["train"]
    assert copies["label"].unique().to_list() == [1]
    real = records.frame.filter(~pl.col("generated"))
    assert set(real["path"]) == {str(path) for path in parts.rglob("*.png")}  # referenced, not copied
    assert set(real["image"]) == {path.relative_to(parts).as_posix() for path in parts.rglob("*.png")}


def test_its_splits_are_those_of_a_training_without_copies(made, parts):
    real = load(made).frame.filter(~pl.col("generated")).select("image", "split")
    assert dict(real.iter_rows()) == dict(split(load(parts)).frame.select("image", "split").iter_rows())
    again = split(load(made)).frame  # what train does with it, with any seed
    assert again["split"].to_list() == load(made).frame["split"].to_list()


def test_every_copy_can_be_traced_and_made_again(made, parts):
    table = pl.read_parquet(made / "manifest.parquet").filter("generated")
    splits = dict(split(load(parts)).frame.select("image", "split").iter_rows())
    config = AugmentConfig(shift=0.06)
    policy = policy_named("study", {"shift": 0.06})
    for row in table.sample(6, seed=0).iter_rows(named=True):
        original = parts / row["made_from"]
        assert splits[row["made_from"]] == "train"
        assert hashlib.sha256(original.read_bytes()).hexdigest() == row["source_sha256"]
        again = copy_of(decode(original), None, [], policy, config, row["number"])
        np.testing.assert_array_equal(decode(made / row["image"]), again.pixels)
        told = dict(json.loads(row["transforms"]))
        assert list(told) == ["rotate", "shift", "brightness", "contrast", "saturation"]
        np.testing.assert_allclose(told["shift"], again.parameters[1][0].numpy(), atol=1e-6)
        assert abs(told["rotate"][0]) <= 3
    used = table["made_from"].value_counts()["count"]
    assert used.max() - used.min() <= 1  # every original in turn


@pytest.mark.parametrize("channels", [1, 3])
def test_it_is_what_training_does_on_the_fly(channels):
    rng = np.random.default_rng(3)
    image = cv2.resize(rng.integers(0, 256, (7, 9, 3), dtype=np.uint8), (60, 44), interpolation=cv2.INTER_LINEAR)
    pixels = image[..., 0].copy() if channels == 1 else image
    policy = policy_named("strong")
    config = AugmentConfig(augment="strong", seed=5)
    offline = copy_of(pixels, None, [], policy, config, 17)
    planes = pixels[None] if channels == 1 else pixels.transpose(2, 0, 1)
    seed = int(np.random.SeedSequence([5, 17]).generate_state(1, np.uint64)[0] >> np.uint64(1))
    live = on_the_fly(torch.from_numpy(planes.copy())[None], policy, torch.Generator().manual_seed(seed))[0].numpy()
    stored = offline.pixels[None] if channels == 1 else offline.pixels.transpose(2, 0, 1)
    assert np.abs(live - stored).max() <= 0.5 + 1e-3
    assert offline.pixels.shape == pixels.shape
    assert offline.pixels.dtype == np.uint8


def test_workers_and_totals_change_no_copy(made, parts, tmp_path, monkeypatch):
    monkeypatch.setattr(augmenting, "CHUNK", 7)
    augment(parts, tmp_path / "two", total=130, shift=0.06, workers=2)
    whole = digests(made)
    assert digests(tmp_path / "two") == whole
    augment(parts, tmp_path / "few", total=100, shift=0.06, workers=1)
    few = {name: digest for name, digest in digests(tmp_path / "few").items() if name.endswith(".png")}
    assert len(few) == 10
    assert few.items() <= whole.items()


def test_a_set_that_was_stopped_is_gone_on_with(made, parts, tmp_path, monkeypatch):
    real, count = making.write_png, 0

    def until_full(path: Path, pixels, compression) -> None:
        nonlocal count
        count += 1
        if count > 23:
            raise OSError(28, "No space left on device")
        real(path, pixels, compression)

    monkeypatch.setattr(augmenting, "CHUNK", 10)
    monkeypatch.setattr(making, "write_png", until_full)
    out = tmp_path / "set"
    with pytest.raises(StorageError, match="disk is full"):
        augment(parts, out, total=130, shift=0.06, workers=1)
    assert not (out / "manifest.parquet").exists()  # whole, or no data source
    before = {path: path.stat().st_mtime_ns for path in (out / "augmented").rglob("*.png")}
    monkeypatch.setattr(making, "write_png", real)
    augment(parts, out, total=130, shift=0.06, workers=1)
    assert digests(out) == digests(made)
    assert sum(path.stat().st_mtime_ns == then for path, then in before.items()) == 20  # two chunks were whole
    again = augment(parts, out, total=130, shift=0.06, workers=1)
    assert (again.made, digests(out)) == (40, digests(made))


def test_nothing_of_somebody_else_is_replaced(made, parts, tmp_path):
    with pytest.raises(ConfigError, match=r"other options \(total\)"):
        augment(parts, made, total=140, shift=0.06)
    more = tmp_path / "more"
    shutil.copytree(parts, more)
    shutil.copytree(made, tmp_path / "set")
    (more / "good" / "good_000.png").unlink()
    with pytest.raises(ConfigError, match="other images"):
        augment(more, tmp_path / "set", total=130, shift=0.06)
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("years of work")
    for force in (False, True):
        with pytest.raises(ConfigError, match="holds no augmented set"):
            augment(parts, mine, total=130, force=force)
    done = augment(parts, tmp_path / "set", total=95, force=True, workers=1)
    assert done.made == 5
    assert len(list((tmp_path / "set").rglob("*.png"))) == 5


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"total": 90}, "the set has 90 images"),
        ({"zoom": 1.2}, "--augment rotate"),
        ({"augment": "none"}, "none"),
        ({"augment": "studdy"}, "studdy"),
        ({"rotate": -1}, "--rotate"),
        ({"class_": "rare"}, "--class 'rare'"),
    ],
)
def test_impossible_wishes_are_named(parts, tmp_path, options, words):
    with pytest.raises(ConfigError, match=words):
        augment(parts, tmp_path / "set", **options)
    assert not (tmp_path / "set").exists()


def test_copies_are_never_put_among_the_photographs(parts):
    with pytest.raises(ConfigError, match="inside of the data"):
        augment(parts, parts / "augmented", total=130)
    assert not (parts / "augmented").exists()


def test_given_splits_stay_and_the_class_can_be_chosen(parts, tmp_path):
    frame = load(parts).frame
    split_of = ["test" if name.endswith(("0.png", "5.png")) else "train" for name in frame["image"]]
    listing = frame.select(image="path", label="label").with_columns(split=pl.Series(split_of), lot=pl.lit(None))
    listing.write_csv(tmp_path / "parts.csv")
    augment(tmp_path / "parts.csv", tmp_path / "set", total=120, class_="good", workers=1)
    records = load(tmp_path / "set").frame
    real = records.filter(~pl.col("generated"))
    assert [s == "test" for s in real["split"]] == [s == "test" for s in split_of]
    assert records.filter("generated")["label"].to_list() == [0] * 30
    trained = set(real.filter(pl.col("split") == "train")["image"])
    assert set(records.filter("generated")["made_from"]) <= trained


def test_an_original_that_cannot_be_decoded_is_passed_over(parts, tmp_path):
    shutil.copytree(parts, tmp_path / "parts")
    lot = tmp_path / "parts.csv"
    names = sorted(path.relative_to(tmp_path).as_posix() for path in (tmp_path / "parts").rglob("*.png"))
    lot.write_text("image,label,lot\n" + "\n".join(f"{n},{'good' if '/good/' in n else 'bad'},{n}" for n in names))
    records = split(load(lot))
    victim = records.frame.filter((pl.col("split") == "train") & (pl.col("label") == 1))["path"][0]
    Path(victim).write_bytes(Path(victim).read_bytes()[:40])  # after it was listed
    done = augment(records, tmp_path / "set", total=130, workers=1)
    assert done.made == 40
    assert any("could not be copied" in note and Path(victim).name in note for note in done.notes)
    assert victim not in pl.read_parquet(done.manifest)["made_from"].to_list()


def test_the_licence_goes_with_the_copies(parts, tmp_path):
    augment(replace(load(parts), licence="Not for sale."), tmp_path / "set", total=95, workers=1)
    records = load(tmp_path / "set")
    assert records.licence == "Not for sale."
    assert any("transformed copies" in note for note in records.notes)


def test_one_class_is_said(parts, tmp_path):
    records = load(parts)
    goods = records.with_frame(records.frame.filter(pl.col("label") == 0))
    with pytest.raises(DataError, match="no bad images"):
        augment(goods, tmp_path / "set")
    assert not (tmp_path / "set").exists()


def test_copies_stay_with_their_source_wherever_it_goes(made):
    records = load(made)
    groups = groups_of(records)
    row = {name: i for i, name in enumerate(records.frame["image"])}
    copies = [(row[i], row[m]) for i, m in records.frame.filter("generated").select("image", "made_from").iter_rows()]
    assert all(groups[copy] == groups[source] for copy, source in copies)
    anew = split(records, Shares(resplit=True), seed=3)
    plain = split(records.with_frame(records.frame.filter(~pl.col("generated"))), Shares(resplit=True), seed=3)
    real = anew.frame.filter(~pl.col("generated"))
    assert real["split"].to_list() == plain.frame["split"].to_list()  # copies pull nothing across
    splits = anew.frame["split"].to_list()
    assert all(splits[copy] == ("train" if splits[source] == "train" else None) for copy, source in copies)
    assert any(splits[copy] is None for copy, _ in copies)
    assert any("copies are left out" in note for note in anew.notes)


def test_no_copy_teaches_while_its_source_is_held_out(made):
    records = load(made).of_split("train")
    folds = kfold(records, 3)
    row = {name: i for i, name in enumerate(records.frame["image"])}
    generated = records.frame["generated"].to_numpy()
    assert (folds[generated] < 0).all()
    assert (folds[~generated] >= 0).all()
    for image, source in records.frame.filter("generated").select("image", "made_from").iter_rows():
        out = int(folds[row[source]])
        assert not trains_on(folds, out)[row[image]]
        assert trains_on(folds, (out + 1) % 3)[row[image]]


def test_what_a_person_said_of_an_image_holds_for_its_copies(made, tmp_path):
    records = load(made)
    source = records.frame.filter("generated")["made_from"][0]
    copies = records.frame.filter(pl.col("made_from") == source)["image"].to_list()
    said = pl.DataFrame(
        {"image": [source], "verdict": ["good"], "defect": [None]}, schema_overrides={"defect": pl.String}
    )
    frame = with_verdicts(records, said).frame
    assert frame.filter(pl.col("image").is_in([source, *copies]))["label"].to_list() == [0] * (1 + len(copies))
    dropped = with_verdicts(records, said.with_columns(verdict=pl.lit("drop"))).frame
    assert dropped.height == len(records) - 1 - len(copies)
    pl.DataFrame({"image": [source], "outlier": [True]}).write_parquet(tmp_path / "audit.parquet")
    assert len(without_outliers(records, tmp_path / "audit.parquet")) == len(records) - 1 - len(copies)


def test_drawing_is_geometry_first_and_repeats():
    policy = policy_named("brightness+rotate")
    first, second = (draw(policy, 3, torch.Generator().manual_seed(1)) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert first[1].abs().max() > 0.5  # degrees
    assert (first[0] - 1).abs().max() <= 0.15
