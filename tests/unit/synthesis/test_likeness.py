"""The figures of made images by hand: leaving one out, copies, variety, strangers."""

from __future__ import annotations

import numpy as np
import pytest

from knowngood.errors import DataError
from knowngood.synthesis.likeness import among, kid, memory, overlap, spread, strange, vendi


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_the_error_of_kid_is_the_jackknife_by_hand(rng):
    x, y = rng.normal(size=(9, 5)), rng.normal(0.4, 1, (7, 5))
    without_x = np.array([kid(np.delete(x, i, 0), y).value for i in range(9)])
    without_y = np.array([kid(x, np.delete(y, i, 0)).value for i in range(7)])
    variance = 8 / 9 * ((without_x - without_x.mean()) ** 2).sum() + 6 / 7 * ((without_y - without_y.mean()) ** 2).sum()
    assert kid(x, y).error == pytest.approx(np.sqrt(variance))


def test_the_interval_of_kid_holds_what_many_images_show(rng):
    many = kid(rng.normal(size=(4000, 6)), rng.normal(0.5, 1, (4000, 6))).value
    inside = 0
    for _ in range(60):
        found = kid(rng.normal(size=(40, 6)), rng.normal(0.5, 1, (50, 6)))
        inside += found.interval[0] <= many <= found.interval[1]
    assert inside >= 50


def test_kid_of_one_distribution_is_nought_on_average(rng):
    values = [kid(rng.normal(size=(30, 8)), rng.normal(size=(20, 8))).value for _ in range(200)]
    assert abs(np.mean(values)) < 3 * np.std(values) / np.sqrt(200)
    assert min(values) < 0


def test_what_has_no_kid_is_refused(rng):
    with pytest.raises(DataError):
        kid(rng.normal(size=(2, 4)), rng.normal(size=(9, 4)))
    with pytest.raises(DataError, match="finite"):
        kid(np.full((5, 4), np.nan), rng.normal(size=(9, 4)))


def test_precision_falls_with_strange_samples_and_recall_with_missing_ones(rng):
    real = rng.normal(size=(200, 4))
    strange_ones = np.concatenate([rng.normal(size=(100, 4)), rng.normal(30, 1, (100, 4))])
    one_corner = real[real[:, 0] > 0.5] + 1e-3
    assert overlap(strange_ones[:100], real).precision > 0.8
    assert overlap(strange_ones, real).precision < 0.5
    corner = overlap(one_corner, real)
    assert corner.precision > 0.85
    assert corner.recall < 0.6
    assert corner.images == len(one_corner)
    assert among(real, real).all()


def test_copies_are_found_and_new_images_are_not(rng):
    taught, unseen, fresh = (rng.normal(size=(n, 16)) for n in (80, 40, 120))
    samples = np.concatenate([fresh, taught[:30] + rng.normal(0, 0.02, (30, 16))])
    found = memory(samples, taught, unseen)
    assert found.copy[120:].all()
    assert not found.copy[:120].any()
    assert found.nearest[120:].tolist() == list(range(30))
    assert memory(fresh, taught, unseen).nearer == pytest.approx(0.5, abs=0.1)
    assert memory(taught + 0.01, taught, unseen).nearer == 1
    assert memory(fresh, taught).nearer == pytest.approx(0.5, abs=0.1)


def test_variety_counts_different_images(rng):
    assert vendi(np.eye(7)) == pytest.approx(7)
    assert vendi(np.ones((5, 3))) == pytest.approx(1)
    assert vendi(np.repeat(np.eye(3, 9), 4, axis=0)) == pytest.approx(3)
    rows = rng.normal(size=(30, 5))
    by_hand = [((a - b) ** 2).sum() for i, a in enumerate(rows) for j, b in enumerate(rows) if i != j]
    assert spread(rows) == pytest.approx(np.mean(by_hand))


def test_strangers_are_those_farther_out_than_real_images(rng):
    real, far = rng.normal(size=(300, 3)), rng.normal(12, 1, (5, 3))
    found = strange(np.concatenate([rng.normal(size=(100, 3)), far]), real)
    assert found.odd[100:].all()
    assert found.odd[:100].mean() < 0.06
    assert found.real_share < 0.06
    assert (found.distance > found.level).tolist() == found.odd.tolist()
    excused = strange(far, np.concatenate([real, rng.normal(-40, 1, (2, 3))]))
    assert excused.odd.all()  # an odd real image or two change nothing
