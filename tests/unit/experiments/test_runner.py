"""The runner: every arm with every seed, resumed after a kill; and effects, paired by seed and by test image."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from knowngood.errors import DataError, TrainingError
from knowngood.experiments.effects import effect_of, mean_of, pair, relabelled, table_of
from knowngood.experiments.runner import Arm, Outcome, SeedPlan, run_arms, scored
from knowngood.metrics.comparisons import compare_auroc, over_seeds

IMAGES = [f"{row:03}" for row in range(300)]
LABELS = np.repeat([0, 1], [200, 100]).astype(np.uint8)


def outcome(seed: int, skill: float) -> Outcome:
    random = np.random.default_rng([seed, int(100 * skill)])
    scores = np.random.default_rng(seed).normal(size=300) + skill * LABELS + random.normal(0, 0.1, 300)
    return scored(seed, IMAGES, LABELS, scores, {"added": 10, "how": "some way"})


class Lab:
    """Arms of two skills that count their trainings and stop after some."""

    def __init__(self, stop_after: int = 1000) -> None:
        self.trained: list[tuple[str, int]] = []
        self.planned: list[int] = []
        self.stop_after = stop_after

    def plan(self, seed: int) -> SeedPlan:
        self.planned.append(seed)
        arms = [Arm(name, lambda n=name, s=skill: self.train(n, seed, s)) for name, skill in (("a", 1.0), ("b", 2.0))]
        return SeedPlan(arms, [f"planned {seed}"])

    def train(self, name: str, seed: int, skill: float) -> Outcome:
        if len(self.trained) >= self.stop_after:
            raise KeyboardInterrupt
        self.trained.append((name, seed))
        return outcome(seed, skill)


def test_every_arm_is_trained_with_every_seed() -> None:
    lab = Lab()
    done = run_arms([3, 4], lab.plan)
    assert lab.trained == [("a", 3), ("b", 3), ("a", 4), ("b", 4)]
    assert {name: [one.seed for one in found] for name, found in done.outcomes.items()} == {"a": [3, 4], "b": [3, 4]}
    assert done.notes == ("planned 3", "planned 4")
    assert done.outcomes["a"][0].scores.equals(outcome(3, 1.0).scores)


@pytest.mark.parametrize("after", [0, 1, 2, 3, 4])
def test_a_killed_experiment_goes_on_and_equals_an_unbroken_one(tmp_path: Path, after: int) -> None:
    unbroken = run_arms([0, 1, 2], Lab().plan)
    with pytest.raises(KeyboardInterrupt):
        run_arms([0, 1, 2], Lab(after).plan, work=tmp_path, key=["k"])
    second = Lab()
    done = run_arms([0, 1, 2], second.plan, work=tmp_path, key=["k"])
    assert len(second.trained) == 6 - after
    assert second.planned == list(range(after // 2, 3))  # complete seeds are not planned again
    assert done.notes == unbroken.notes
    for name, found in unbroken.outcomes.items():
        assert table_of({name: done.outcomes[name]}) == table_of({name: found})
        assert all(one.scores.equals(two.scores) for one, two in zip(found, done.outcomes[name], strict=True))


def test_outcomes_of_other_facts_are_not_used(tmp_path: Path) -> None:
    run_arms([0], Lab().plan, work=tmp_path, key=["k"])
    lab = Lab()
    run_arms([0], lab.plan, work=tmp_path, key=["other"])
    assert len(lab.trained) == 2


@pytest.mark.parametrize("error", [DataError("too few images"), TrainingError("loss became nan")])
def test_an_arm_that_cannot_be_trained_is_left_out_with_its_reason(tmp_path: Path, error: Exception) -> None:
    tries = []

    def plan(seed: int) -> SeedPlan:
        def fails() -> Outcome:
            tries.append(seed)
            if seed == 1:
                raise error
            return outcome(seed, 1.0)

        return SeedPlan([Arm("whole", lambda: outcome(seed, 1.0)), Arm("broken", fails)])

    done = run_arms([0, 1, 2], plan, work=tmp_path, key=[])
    assert list(done.outcomes) == ["whole"]
    assert "seed 1" in done.refused["broken"]
    assert str(error).split(".")[0] in done.refused["broken"]
    assert tries == [0, 1]
    assert run_arms([0, 1, 2], plan, work=tmp_path, key=[]).refused == done.refused
    assert tries == [0, 1]


def test_an_effect_is_the_paired_differences_over_the_seeds() -> None:
    base, changed = ([outcome(seed, skill) for seed in range(3)] for skill in (1.0, 1.5))
    found = effect_of(changed, base)
    tests = [compare_auroc(*pair(one, two)) for one, two in zip(changed, base, strict=True)]
    expected = over_seeds([test.difference for test in tests], [test.error for test in tests])
    areas = [[roc_auc_score(one.scores["label"], one.scores["score"]) for one in arm] for arm in (changed, base)]
    assert found["auroc"]["difference"] == pytest.approx(np.mean(areas[0]) - np.mean(areas[1]))
    assert found["auroc"]["interval"] == list(expected.interval)
    assert (found["auroc"]["outcome"], found["outcome"]) == ("helped", "helped")
    opposite = effect_of(base, changed)
    assert opposite["outcome"] == "hurt"
    assert opposite["overkill"]["difference"] == -found["overkill"]["difference"]
    same = effect_of(base, base)
    assert (same["auroc"]["outcome"], same["outcome"]) == ("cannot tell", "cannot tell")


def test_what_does_not_pair_is_refused() -> None:
    base = [outcome(seed, 1.0) for seed in range(2)]
    with pytest.raises(DataError, match="seeds"):
        effect_of(base[:1], base)
    shorter = Outcome(0, base[0].scores.head(299), {})
    with pytest.raises(DataError, match="different images"):
        effect_of([shorter, base[1]], base)


def test_means_are_over_the_seeds_and_keep_what_is_counted() -> None:
    found = [outcome(seed, 1.0) for seed in range(3)]
    mean, rows = mean_of("arm", found), table_of({"arm": found})
    assert mean["auroc"] == pytest.approx(np.mean([row["auroc"] for row in rows]))
    assert mean["auroc_ci"][0] < mean["auroc"] < mean["auroc_ci"][1]
    assert (mean["added"], mean["seeds"], "how" in mean) == (10, 3, False)


def test_other_labels_may_evaluate_the_same_scores() -> None:
    one = outcome(0, 1.0)
    turned = relabelled(one, {image: 1 - int(label) for image, label in zip(IMAGES[:299], LABELS, strict=False)})
    assert turned.scores.height == 299
    area = table_of({"arm": [turned]})[0]["auroc"]
    assert area == pytest.approx(1 - roc_auc_score(LABELS[:299], one.scores["score"][:299]))


def test_images_without_a_score_are_left_out() -> None:
    scores = np.arange(300.0)
    scores[7] = np.nan
    assert scored(0, IMAGES, LABELS, scores, {}).scores["image"].to_list() == IMAGES[:7] + IMAGES[8:]
