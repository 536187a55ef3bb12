"""What a recipe knows of its own photographs: another product is found, a defect or another light is none."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import polars as pl
import pytest

from knowngood.data.images import decode
from knowngood.data.pixels import fit
from knowngood.lookalike.config import TapeConfig
from knowngood.lookalike.generate import generate
from knowngood.recipe.input_check import (
    FEWEST,
    INPUT_CHECK,
    InputCheck,
    InputFacts,
    described,
    fit_distances,
)

TILES = Path(__file__).resolve().parents[4] / "shared" / "data" / "magnetic-tile"


def _drawn(folder, family, count):
    config = TapeConfig(train=count, test=0, family=family, bad_rate=0.3, abnormal=0, masks=False)
    frame = pl.read_parquet(generate(folder, config, workers=1))
    kept = frame.filter(pl.col("defect").is_null() | ~pl.col("defect").is_in(["empty_pocket", "pocket_damage"]))
    return [fit(decode(folder / name), 112, 112, 1) for name in kept["image"]]


@pytest.fixture(scope="module")
def diodes(tmp_path_factory):
    return _drawn(tmp_path_factory.mktemp("tape") / "sod", "sod", 240)


@pytest.fixture(scope="module")
def transistors(tmp_path_factory):
    return _drawn(tmp_path_factory.mktemp("tape") / "sot23", "sot23", 150)


def _check(train, held_out, **facts):
    distances, limits, count = fit_distances(train, held_out)
    made = InputFacts(depths=(8,), colour=False, narrowest=1, widest=1, limits=limits, held_out=count)
    return InputCheck(made.model_copy(update=facts), distances)


@pytest.fixture(scope="module")
def check(diodes):
    return _check(diodes[:120], diodes[120:160])


def _flagged(check, photographs):
    return float((check.times_the_limit(described(photographs)) > 1).mean())


def test_another_package_is_another_product(check, transistors):
    assert _flagged(check, transistors) > 0.95


def test_parts_of_the_product_are_none_good_and_bad(check, diodes):
    assert _flagged(check, diodes[160:]) <= 0.03


@pytest.mark.parametrize(
    "changed",
    [
        lambda one: cv2.convertScaleAbs(one, alpha=1.2),
        lambda one: cv2.convertScaleAbs(one, alpha=0.8),
        lambda one: cv2.warpAffine(one, cv2.getRotationMatrix2D((56, 56), 3, 1), (112, 112), borderMode=4),
        lambda one: cv2.warpAffine(one, np.float32([[1, 0, 4], [0, 1, -4]]), (112, 112), borderMode=4),
    ],
    ids=["brighter", "darker", "turned", "moved"],
)
def test_neither_are_they_in_another_light_or_a_little_aside(check, diodes, changed):
    assert _flagged(check, [changed(one[0])[None] for one in diodes[160:]]) <= 0.05


def test_noise_gradients_and_quarter_turns_are(check, diodes):
    random = np.random.default_rng(0)
    noise = [random.integers(0, 256, (1, 112, 112)).astype(np.uint8) for _ in range(5)]
    ramp = np.tile(np.arange(112, dtype=np.uint8) * 2, (1, 112, 1))
    turned = [np.rot90(one, axes=(1, 2)) for one in diodes[160:200]]
    assert _flagged(check, [*noise, ramp, ramp.transpose(0, 2, 1)]) == 1
    assert _flagged(check, turned) > 0.95


@pytest.mark.skipif(not TILES.is_dir(), reason="the magnetic tiles are not here")
def test_real_photographs_both_ways(diodes, check):
    elpv = pytest.importorskip("elpv_dataset.utils", reason="the solar cells are a package")
    paths = sorted((TILES / "good").iterdir())[:120] + sorted((TILES / "bad").iterdir())[:60]
    tiles = [fit(decode(path), 112, 112, 1) for path in paths]
    cells = [fit(np.asarray(one), 112, 112, 1) for one in elpv.load_dataset()[0][::13]]
    assert _flagged(check, tiles) == _flagged(check, cells) == 1
    of_tiles = _check(tiles[::2], tiles[1::4])
    assert _flagged(of_tiles, tiles[3::4]) <= 0.05
    assert min(_flagged(of_tiles, diodes), _flagged(of_tiles, cells)) > 0.95


def test_two_products_mixed_are_both_known(diodes, transistors):
    mixed = _check(diodes[:80] + transistors[:80], diodes[80:110] + transistors[80:110])
    assert _flagged(mixed, diodes[110:]) <= 0.03
    assert _flagged(mixed, transistors[110:]) <= 0.05
    noise = np.random.default_rng(0).integers(0, 256, (4, 1, 112, 112)).astype(np.uint8)
    assert _flagged(mixed, list(noise)) == 1


def test_thirty_photographs_are_enough_not_to_alarm_on_everything(diodes, transistors):
    for seed in range(3):
        chosen = np.random.default_rng(seed).permutation(len(diodes))
        few = _check([diodes[n] for n in chosen[:20]], [diodes[n] for n in chosen[20:30]])
        assert _flagged(few, [diodes[n] for n in chosen[30:]]) <= 0.08
    noise = np.random.default_rng(0).integers(0, 256, (4, 1, 112, 112)).astype(np.uint8)
    assert _flagged(few, list(noise)) == 1


def test_too_few_say_nothing_of_products(diodes):
    assert fit_distances(diodes[: FEWEST - 1], diodes[FEWEST:20]) is None
    check = InputCheck(InputFacts(colour=False, narrowest=1, widest=1))
    noise = np.random.default_rng(0).integers(0, 256, (64, 64)).astype(np.uint8)
    assert check.reason(noise, noise[None]) is None


def test_without_held_out_photographs_the_folds_alone_set_the_limits(diodes):
    distances, limits, count = fit_distances(diodes[:60], [])
    assert count == 60
    assert min(limits) > 0
    assert np.isfinite(distances(described(diodes[60:70]))).all()


def test_the_same_call_learns_the_same(diodes):
    first, again = (fit_distances(diodes[:40], diodes[40:60], seed=3) for _ in range(2))
    assert first[1:] == again[1:]
    for one, other in zip(vars(first[0]).values(), vars(again[0]).values(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_reasons_name_what_differs(check, diodes):
    part = diodes[170][0]
    assert check.reason(part, part[None]) is None
    assert check.reason(part, part[None], 8) is None
    assert check.reason(part, part[None], 12) == "bit depth: 12 bits a sample, learned from 8"
    wide = check.reason(np.hstack([part, part[:, :37]]), part[None])
    assert wide == "not this product: width / height is 1.33, learned from 1"
    tinted = np.stack([part, part // 2, part // 2], axis=2)
    assert check.reason(tinted, part[None]) == "not this product: in colour, learned from grey ones"
    nearly = np.stack([part, part, np.clip(part.astype(int) + 2, 0, 255).astype(np.uint8)], axis=2)
    assert check.reason(nearly, part[None]) is None  # JPEG leaves as much of grey
    noise = np.random.default_rng(0).integers(0, 256, (112, 112)).astype(np.uint8)
    found = check.reason(noise, noise[None])
    assert found.startswith("not this product: distance ")
    assert found.endswith(" times the limit set on held-out photographs")


def test_a_depth_that_is_not_known_is_not_compared(check, diodes):
    several = InputCheck(check.facts.model_copy(update={"depths": (10, 12)}), check.distances)
    part = diodes[170][0]
    assert several.reason(part, part[None], None) is None
    assert several.reason(part, part[None], 12) is None
    assert several.reason(part, part[None], 16) == "bit depth: 16 bits a sample, learned from 10 and 12"


def test_proportions_have_some_play(check, diodes):
    part = diodes[170][0]
    ranged = InputCheck(check.facts.model_copy(update={"narrowest": 0.5, "widest": 1.5}), check.distances)
    for width, known in ((60, True), (48, False), (183, True), (200, False)):
        shown = np.full((112, width), 90, np.uint8)
        assert (ranged.reason(shown, part[None]) is None) == known


def test_saved_and_read_it_measures_the_same(check, diodes, transistors, tmp_path):
    facts = check.save(tmp_path)
    again = InputCheck.load(InputFacts.model_validate_json(facts.model_dump_json()), tmp_path / INPUT_CHECK)
    rows = described([*diodes[:5], *transistors[:5]])
    np.testing.assert_array_equal(again.times_the_limit(rows), check.times_the_limit(rows))


def test_another_byte_is_refused(check, tmp_path):
    facts = check.save(tmp_path)
    path = tmp_path / INPUT_CHECK
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(ValueError, match="not those that were saved"):
        InputCheck.load(facts, path)


def test_arrays_that_do_not_go_together_are_refused(check, tmp_path):
    broken = InputCheck(
        check.facts, type(check.distances)(**vars(check.distances) | {"texture": np.eye(3, dtype="f4")})
    )
    facts = broken.save(tmp_path)
    with pytest.raises(ValueError, match="do not go together"):
        InputCheck.load(facts, tmp_path / INPUT_CHECK)
