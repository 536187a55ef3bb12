"""What units are: shares that come out, noise that is one-sided, and nothing that depends on how many are drawn."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from knowngood.lookalike.config import TapeConfig
from knowngood.lookalike.defects import DEFECTS
from knowngood.lookalike.units import BORDER, UNUSABLE, plan_unit


def plans(count: int, **options):
    config = TapeConfig(**options)
    return [plan_unit(index, "train", config) for index in range(count)]


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.23, 1.0])
def test_the_share_of_bad_units_is_exact_in_every_thousand(rate):
    made = plans(2000, bad_rate=rate, abnormal=0)
    for block in (made[:1000], made[1000:]):
        assert sum(plan.bad for plan in block) == round(1000 * rate)


def test_noise_is_one_sided_and_faint_defects_hide_first():
    made = plans(8000, label_noise=0.03, seed=3)
    good = [plan for plan in made if not plan.labelled_bad]
    hidden = [plan for plan in good if plan.bad]
    wronged = [plan for plan in made if plan.labelled_bad and not plan.bad]
    assert 0.024 < len(hidden) / len(good) < 0.037
    assert len(wronged) < 0.2 * len(hidden)
    assert all(0 < plan.severity < BORDER for plan in wronged)
    seen = [plan.severity for plan in made if plan.bad and plan.labelled_bad and plan.defects]
    assert np.median([plan.severity for plan in hidden]) < np.median(seen) - 0.1


def test_without_noise_labels_are_true():
    assert all(plan.bad == plan.labelled_bad for plan in plans(3000, label_noise=0))


def test_types_come_in_real_proportions():
    made = [plan for plan in plans(6000, bad_rate=1) if plan.bad and plan.defects]
    total = sum(kind.count for _, kind in DEFECTS.items())
    first = [plan.defects[0][0] for plan in made if len(plan.defects) == 1]
    for name, kind in DEFECTS.items():
        assert first.count(name) / len(first) == pytest.approx(kind.count / total, abs=0.025)
    assert 0.03 < np.mean([len(plan.defects) > 1 for plan in made]) < 0.09


def test_severity_decides_what_is_bad():
    for plan in plans(4000, bad_rate=0.3):
        if plan.abnormal in UNUSABLE:
            assert plan.bad
            assert plan.labelled_bad
        elif plan.defects:
            assert plan.bad == (plan.severity >= BORDER)


def test_difficulty_makes_defects_fainter():
    def middle(difficulty):
        return np.median([p.severity for p in plans(1000, bad_rate=0.5, difficulty=difficulty) if p.bad])

    assert middle(0.0) > middle(0.5) + 0.1 > middle(1.0) + 0.2


def test_lot_and_machine_say_nothing_of_the_label():
    made = plans(6000, lots=5, machines=4, bad_rate=0.5)
    for of in (lambda plan: plan.lot, lambda plan: plan.machine):
        for value in {of(plan) for plan in made}:
            share = np.mean([plan.bad for plan in made if of(plan) == value])
            assert share == pytest.approx(0.5, abs=0.06)


@settings(max_examples=30, deadline=None)
@given(index=st.integers(0, 10**6), train=st.integers(0, 10**7), seed=st.integers(0, 2**31 - 1))
def test_a_unit_does_not_depend_on_how_many_there_are(index, train, seed):
    few, many = TapeConfig(train=1, seed=seed), TapeConfig(train=train, seed=seed)
    assert plan_unit(index, "train", few) == plan_unit(index, "train", many)


def test_splits_hold_other_units():
    config = TapeConfig()
    assert [plan_unit(i, "train", config) for i in range(20)] != [plan_unit(i, "test", config) for i in range(20)]
