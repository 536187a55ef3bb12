"""The removal trial: planted noise whose removal helps, a control that does not, and no look at the test images."""

import hashlib

import numpy as np
import polars as pl
import pytest
from PIL import Image

from knowngood.data.loading import load
from knowngood.data.splits import Shares, groups_of, split
from knowngood.errors import DataError
from knowngood.experiments import removal as removing
from knowngood.experiments.configs import RemovalConfig
from knowngood.experiments.removal import AS_IT_IS, PART, changed, changes, find_issues, removal_trial
from knowngood.models.classifier import network_for, svm_config
from knowngood.models.features import FeatureCache, features, stages_cache_key
from knowngood.models.weights.search import available, find

COUNT, WIDTH, TELLING, HIDDEN = 480, 30, 4, 0.9
MODEL = "efficientnet_lite0"


@pytest.fixture(scope="module")
def noisy(tmp_path_factory):
    """Photographs of noise whose features are put into the cache: nine in ten of one kind of defect are called good."""
    if available(MODEL) is None:
        pytest.skip(f"the weights of {MODEL} are not on this machine")
    weights = find(MODEL)
    root = tmp_path_factory.mktemp("noisy")
    random = np.random.default_rng(4)
    truth = np.arange(COUNT) % 2 == 1
    hidden_kind = np.arange(COUNT) % 4 == 1
    wrong = np.zeros(COUNT, bool)
    wrong[random.permutation(np.flatnonzero(hidden_kind))[: int(HIDDEN * hidden_kind.sum())]] = True
    names, digests = [], []
    for folder in ("good", "bad"):
        (root / "set" / folder).mkdir(parents=True)
    for number in range(COUNT):
        name = f"{'bad' if truth[number] != wrong[number] else 'good'}/{number:03}.png"
        Image.fromarray(random.integers(0, 256, (32, 32), dtype=np.uint8)).save(root / "set" / name)
        digests.append(hashlib.sha256((root / "set" / name).read_bytes()).hexdigest())
        names.append(name)
    base = network_for(MODEL, weights, 32, 32, 1)
    config = svm_config(base)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KNOWNGOOD_CACHE", str(root / "cache"))
        stages = np.zeros((COUNT, 944), np.float32)
        stages[:, :WIDTH] = random.normal(size=(COUNT, WIDTH))
        stages[truth & ~hidden_kind, :TELLING] += 2
        stages[hidden_kind, TELLING : 2 * TELLING] += 2
        FeatureCache(stages_cache_key(config, weights.origin)).add(digests, stages)
        plain = random.normal(size=(COUNT, 1280)).astype(np.float32)
        FeatureCache(["penultimate", base.model_dump(mode="json"), weights.origin]).add(digests, plain)
        lines = [f"{n},{'bad' if t else 'good'}" for n, t, w in zip(names, truth, wrong, strict=True) if w]
        (root / "said.csv").write_text("image,verdict\n" + "\n".join(lines) + "\n")
        yield root, dict(zip(names, truth.astype(int).tolist(), strict=True))


@pytest.fixture(scope="module")
def tried(noisy):
    root, truth = noisy
    config = RemovalConfig(seeds=4, verdicts=root / "said.csv")
    return removal_trial(root / "set", root / "out", config, model=MODEL, image_size=32, truth=truth)


def effect(tried, arm, judge="true"):
    return next(e for e in tried.document["effects"] if (e["arm"], e["judged_by"]) == (arm, judge))


def test_correcting_planted_noise_helps_and_removing_at_random_does_not(tried):
    corrected, random = effect(tried, "verdicts applied"), effect(tried, "as many removed at random")
    assert corrected["auroc"]["outcome"] == "helped", corrected["sentence"]
    assert "helped" in corrected["sentence"]
    assert random["auroc"]["outcome"] != "helped", random["sentence"]
    assert corrected["auroc"]["difference"] > 0.1
    removed = effect(tried, "verdicts applied", "given")
    assert removed["auroc"]["difference"] < corrected["auroc"]["difference"]  # wrong test labels hide what was won


def test_every_arm_of_a_seed_is_judged_on_the_same_images(tried):
    for _, rows in tried.table.group_by("seed", "judged_by"):
        assert rows["good"].n_unique() == rows["bad"].n_unique() == 1
    for _, rows in tried.table.group_by("seed"):
        removed = dict(rows.filter(judged_by="true").select("arm", "removed").iter_rows())
        assert removed["as many removed at random"] == removed["suspects removed"] > 0
        assert removed[AS_IT_IS] == removed["suspects relabelled"] == 0


def test_differences_are_paired_by_seed(tried):
    rows = tried.table.filter(judged_by="true").pivot("arm", index="seed", values="auroc").sort("seed")
    differences = (rows["verdicts applied"] - rows[AS_IT_IS]).to_numpy()
    found = effect(tried, "verdicts applied")["auroc"]
    assert found["difference"] == pytest.approx(differences.mean())
    low, high = found["interval"]
    assert (low + high) / 2 == pytest.approx(differences.mean())
    assert high - low > 2 * 1.96 * differences.std(ddof=1) / 2  # the error of the images comes on top


def test_a_killed_trial_goes_on_with_the_training_and_equals_an_unbroken_one(tried, noisy, monkeypatch):
    root, truth = noisy
    assert not (root / "out" / "removal.work").exists()
    calls = []

    def recording(*arguments, **options):
        calls.append(arguments)
        if len(calls) == 7:  # a seed has five trainings here
            raise KeyboardInterrupt
        return real(*arguments, **options)

    real = removing.fit_inspector
    monkeypatch.setattr(removing, "fit_inspector", recording)
    call = (root / "set", root / "killed", RemovalConfig(seeds=3))
    options = {"model": MODEL, "image_size": 32, "truth": truth}
    with pytest.raises(KeyboardInterrupt):
        removal_trial(*call, **options)
    assert not (root / "killed" / "removal.json").exists()
    again = removal_trial(*call, **options)
    assert len(calls) == 7 + 9  # six trainings were kept: a whole seed and one of the next
    for arm in ("suspects removed", "as many removed at random"):
        mine, whole = (one.table.filter(pl.col("seed") < 3, judged_by="true", arm=arm) for one in (again, tried))
        assert mine["auroc"].to_list() == whole["auroc"].to_list()
        assert mine["overkill"].to_list() == whole["overkill"].to_list()


def test_labels_outside_the_training_part_decide_nothing(noisy):
    """The arms of a split are the same when every other label, and every other feature, is another one."""
    root, _ = noisy
    records = load(root / "set").usable()
    deep = features(records, MODEL, image_size=32, stages=True)
    groups = groups_of(records)
    divided = split(records, Shares(resplit=True), groups=groups)
    part = np.flatnonzero(divided.frame["split"].is_in(PART).to_numpy())

    def arms(rows):
        learning = divided.with_frame(divided.frame[part])
        found = find_issues(learning, rows.of(part), groups[part], np.arange(len(part)), 0)
        return changes(found, part, len(divided), 0, None)

    first = arms(deep)
    outside = np.setdiff1d(np.arange(len(records)), part)
    deep.rows[outside], deep.stages[outside] = 7.0, -7.0
    second = arms(deep)
    for change, same in zip(first, second, strict=True):
        assert change.name == same.name
        assert np.array_equal(change.removed, same.removed)
        assert not (change.removed | change.relabelled)[outside].any()
        assert len(changed(divided, change).of_split(*PART)) == len(part) - change.removed.sum()
        untouched = changed(divided, change).of_split("test", "calibration").frame
        assert untouched.equals(divided.of_split("test", "calibration").frame)


def test_verdicts_about_other_images_are_refused(noisy, tmp_path):
    (tmp_path / "v.csv").write_text("image,verdict\nnobody.png,bad\n")
    with pytest.raises(DataError, match=r"nobody\.png"):
        removal_trial(
            noisy[0] / "set", tmp_path, RemovalConfig(verdicts=tmp_path / "v.csv"), model=MODEL, image_size=32
        )
