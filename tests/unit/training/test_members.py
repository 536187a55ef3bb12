"""The members of an inspector: the set that is best on validation, and never worse than its best member there."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from sklearn.metrics import roc_auc_score

from knowngood.models.classifier import Classifier, NetworkConfig
from knowngood.training.fit import Member, combine
from knowngood.training.targets import Targets

COUNT = 400
BAD = np.arange(COUNT) % 4 == 0
TARGETS = Targets(BAD.astype(np.float32), np.ones(COUNT, np.float32))
VAL = np.arange(COUNT)


def member(skill: float, seed: int, unit: float = 1.0) -> Member:
    raw = np.random.default_rng(seed).normal(0, 1, COUNT) + skill * BAD
    config = NetworkConfig(backbone="resnet18", channels=1, height=32, width=32)
    return Member(Classifier(config), (unit * raw).astype(np.float32), np.full(COUNT, np.nan))


def made(*members: Member) -> tuple[Any, np.ndarray, dict[str, object]]:
    notes: dict[str, object] = {}
    inspector, combined, _ = combine(list(members), VAL, TARGETS, notes)
    return inspector, combined, notes


def test_two_that_know_different_things_are_added_in_their_own_units() -> None:
    one, other = member(1.5, 0), member(1.5, 1, unit=50)
    inspector, combined, notes = made(one, other)
    assert len(inspector.members) == 2
    assert roc_auc_score(BAD, combined) > max(roc_auc_score(BAD, each.raw_scores) for each in (one, other)) + 0.02
    assert len(notes["members, val AUC"]) == 3
    weights = inspector.scales * torch.tensor([1.0, 50.0])
    assert 0.6 < float(weights[0] / weights[1]) < 1.6


def test_it_is_never_worse_than_its_best_member_and_one_alone_passes_unscaled() -> None:
    left_out = 0
    for seed in range(8):
        good, weak = member(3.0, seed), member(0.3, seed + 100)
        inspector, combined, _ = made(weak, good)
        assert roc_auc_score(BAD, combined) >= roc_auc_score(BAD, good.raw_scores)
        if len(inspector.members) == 1:
            left_out += 1
            assert inspector.scales.tolist() == [1.0]
            np.testing.assert_array_equal(combined, good.raw_scores)
    assert left_out > 0
