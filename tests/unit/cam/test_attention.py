"""Shares of attention add up, by stage and by part; an alarm needs a rise that is real and large."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import mannwhitneyu

from knowngood.cam.attention import PARTS, attention, outside_shares, parts_of, stage_attention
from knowngood.cam.drift import attention_drift
from knowngood.cam.maps import stage_names
from knowngood.errors import DataError
from knowngood.models.classifier import Classifier, NetworkConfig


def quarters(size=64):
    values = np.zeros((size, size), np.uint8)
    half = size // 2
    values[:half, :half], values[:half, half:], values[half:, :half] = 255, 128, 64
    return values


def test_a_map_on_one_part_is_all_there():
    heat = np.where(quarters(8) == 255, 3.0, -1.0)
    spread = attention(heat, parts_of(quarters(8)))
    assert {name: one.share for name, one in spread.items()} == {"leads": 1.0, "body": 0, "tape": 0, "rest": 0}
    assert spread["leads"].lift == 4
    assert attention(-np.ones((8, 8)), parts_of(quarters(8))) is None


def test_stages_are_measured_photograph_by_photograph():
    torch.manual_seed(0)
    network = Classifier(NetworkConfig(backbone="resnet18", height=64, width=64, channels=1)).eval()
    pixels = np.random.default_rng(0).integers(0, 256, (3, 1, 64, 64), dtype=np.uint8)
    no_leads = np.where(quarters(128) == 255, 128, quarters(128)).astype(np.uint8)
    found = stage_attention(network, pixels, [quarters(), quarters(), no_leads])
    assert tuple(found) == stage_names(network)
    for shares in found.values():
        assert set(shares) == set(PARTS)
        total = sum(shares[name] for name in PARTS)
        assert np.allclose(total[~np.isnan(total)], 1)
        assert shares["leads"][2] == 0 or np.isnan(shares["leads"][2])
    assert not np.isnan(found[stage_names(network)[0]]["body"]).all()
    alone = stage_attention(network, pixels[1:2], [quarters()])
    for stage, shares in alone.items():
        assert np.allclose(shares["leads"], found[stage]["leads"][1:2], atol=1e-5, equal_nan=True)


def test_the_share_outside_the_part():
    part = np.zeros((10, 10), bool)
    part[2:8, 2:8] = True
    inside, outside = part.astype(float), (~part).astype(float)
    shares = outside_shares([inside, outside, inside * 64 + outside * 36, -inside], [part] * 4)
    assert shares[:3] == pytest.approx([0, 1, 0.5])
    assert np.isnan(shares[3])
    assert outside_shares([inside], [np.ones((10, 10), bool)]).tolist() == [0]


def test_an_alarm_needs_a_rise_that_is_real_and_large():
    rng = np.random.default_rng(0)
    before = rng.beta(2, 8, 200)
    assert attention_drift(before, rng.beta(2, 8, 60) + 0.15).alarm
    assert not attention_drift(before, rng.beta(2, 8, 60)).alarm
    assert not attention_drift(before, before - 0.15).alarm  # looks at the part more: no harm
    small = attention_drift(rng.beta(2, 8, 2000), rng.beta(2, 8, 2000) + 0.02)
    assert small.p_value < 0.01
    assert not small.alarm  # real, and too small to matter
    strange = np.concatenate([rng.beta(2, 8, 55), np.ones(5)])
    assert not attention_drift(before, strange).alarm  # a few strange pictures


def test_p_values_are_those_of_the_exact_rank_sum_test():
    rng = np.random.default_rng(1)
    before, after = rng.random(8), rng.random(7) + 0.25
    exact = mannwhitneyu(after, before, alternative="greater", method="exact").pvalue
    assert attention_drift(before, after).p_value == pytest.approx(exact, abs=0.015)


def test_false_alarms_of_the_test_stay_at_its_level_with_ties():
    rng = np.random.default_rng(2)
    seen = [attention_drift(rng.integers(0, 4, 12), rng.integers(0, 4, 9), least=-9).p_value for _ in range(60)]
    assert np.mean(np.array(seen) <= 0.2) <= 0.2 + 3 * np.sqrt(0.2 * 0.8 / 60)


def test_missing_shares_are_left_out_and_too_few_are_told():
    gaps = [np.nan, 0.1, 0.2, 0.1, 0.2, 0.1]
    assert attention_drift(gaps, gaps).images == (5, 5)
    with pytest.raises(DataError, match="4 new ones"):
        attention_drift(gaps, [0.1, 0.2, np.nan, 0.3, 0.4])
