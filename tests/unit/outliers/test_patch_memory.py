"""The patch memory: streams, bounded memory, maps, and a threshold that fitted images do not flatter."""

import numpy as np
import pytest

from knowngood.errors import DataError
from knowngood.outliers.patchcore import PatchCore, k_centres, reservoir


def patches(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, 9, 12)).astype(np.float32)


def test_a_stream_gives_what_the_array_gives():
    rows = patches(60)
    whole = PatchCore(share=0.3).fit(rows)
    streamed = PatchCore(share=0.3).fit(lambda: (rows[i : i + 60] for i in range(0, 60, 60)))
    assert np.array_equal(whole.score(patches(10, 1)), streamed.score(lambda: iter([patches(10, 1)])))
    assert whole.threshold_ == streamed.threshold_
    pieces = PatchCore(share=0.3).fit(lambda: (rows[i : i + 7] for i in range(0, 60, 7)))
    assert np.allclose(pieces.score(rows), whole.score(rows))


def test_a_strange_patch_lights_up_where_it_is():
    memory = PatchCore().fit(patches(60))
    new = patches(4, 1)
    new[2, 5] += 8
    assert np.unravel_index(memory.patch_scores(new).argmax(), (4, 9)) == (2, 5)
    assert memory.predict(new).tolist() == [False, False, True, False]


def test_the_threshold_holds_on_images_that_were_not_fitted():
    """Fitted images remember their own patches; a threshold from those scores would flag nearly all new ones."""
    rows, new = patches(120), patches(400, 1)
    memory = PatchCore(share=1.0, contamination=0.1).fit(rows)
    assert memory.score(rows).max() < 1e-6
    assert memory.predict(new).mean() == pytest.approx(0.1, abs=0.07)


def test_memory_is_bounded_by_pool_and_most():
    memory = PatchCore(share=0.5, most=20, pool=100).fit(patches(80))
    assert memory.memory_.shape == (20, 12)


def test_streams_are_checked_like_arrays():
    with pytest.raises(DataError, match="NaN"):
        PatchCore().fit(lambda: iter([patches(5), patches(5) * np.nan]))
    with pytest.raises(DataError, match="length 11"):
        PatchCore().fit(lambda: iter([patches(5), patches(5)[..., :11]]))
    with pytest.raises(DataError, match="too few"):
        PatchCore().fit(lambda: iter([]))
    with pytest.raises(DataError, match="too few"):
        PatchCore().fit(lambda: iter([patches(1)]))


def test_centres_cover_within_twice_the_best():
    """Gonzalez: the farthest row is at most twice as far as with the best choice; here three tight groups."""
    random = np.random.default_rng(0)
    groups = np.repeat([[0.0, 0], [100, 0], [0, 100]], 50, axis=0) + random.normal(size=(150, 2))
    chosen = k_centres(groups.astype(np.float32), 3, random)
    assert sorted(chosen // 50) == [0, 1, 2]
    assert sorted(k_centres(groups, 500, random)) == list(range(150))
    again = k_centres(np.ones((10, 3), np.float32), 4, random)
    assert len(set(again.tolist())) == 4  # copies are never chosen twice


def test_centres_are_those_of_comparing_all_rows_at_each_step():
    rows = np.random.default_rng(0).normal(size=(6000, 8)).astype(np.float32)
    points = (rows - rows.mean(axis=0)).astype(np.float64)
    wanted = [int(np.square(points).sum(axis=1).argmax())]
    near = np.full(len(rows), np.inf)
    while len(wanted) < 300:
        near = np.minimum(near, np.square(points - points[wanted[-1]]).sum(axis=1))
        wanted.append(int(near.argmax()))
    assert k_centres(rows, 300, np.random.default_rng(0)).tolist() == wanted


def test_centres_in_a_projection_still_cover():
    random = np.random.default_rng(0)
    rows = random.normal(size=(300, 600)).astype(np.float32) * 0.05
    rows[::3, 0] += 5
    rows[1::3, 599] += 5
    assert sorted(k_centres(rows, 3, random) % 3) == [0, 1, 2]


def test_the_reservoir_is_fair():
    counts = np.zeros(20)
    for seed in range(300):
        blocks = (np.arange(i, i + 4, dtype=np.float32).reshape(2, 2, 1) for i in range(0, 20, 4))
        rows, owner, total = reservoir(blocks, 5, np.random.default_rng(seed))
        assert total == 20
        assert np.array_equal(owner, rows[:, 0] // 2)
        counts[rows[:, 0].astype(int)] += 1
    assert counts.sum() == 1500
    assert (np.abs(counts - 75) < 4 * np.sqrt(75)).all()
