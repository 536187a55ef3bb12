"""Which rows make a batch."""

import pickle

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from knowngood.training.batches import EpochBatches, FittedImages
from knowngood.training.targets import NO_KIND, NO_MASK, Targets, class_weighted


def epoch(bad, number=0, **options):
    sampler = EpochBatches(bad, 8, seed=3, **{"balanced": True, **options})
    sampler.set_epoch(number)
    return list(sampler)


def test_half_of_a_balanced_epoch_is_bad():
    bad = np.arange(200) < 10
    rows = np.concatenate(epoch(bad))
    assert abs(bad[rows].mean() - 0.5) < 0.01
    good_seen = rows[~bad[rows]]
    assert len(set(good_seen.tolist())) == len(good_seen)  # no good image twice while another waits


def test_unbalanced_epochs_see_every_row_once():
    rows = np.concatenate(epoch(np.arange(64) < 5, balanced=False))
    assert sorted(rows.tolist()) == list(range(64))


def test_the_same_epoch_is_the_same_and_the_next_is_another():
    bad = np.arange(100) % 3 == 0
    assert epoch(bad, 1) == epoch(bad, 1)
    assert epoch(bad, 1) != epoch(bad, 2)


@given(world=st.integers(1, 4), count=st.integers(40, 90))
def test_processes_share_an_epoch_without_overlap(world, count):
    bad = np.arange(count) % 4 == 0
    sampler = EpochBatches(bad, 8, balanced=False, seed=3, world=world)
    rows = np.arange(8 * world)
    parts = [sampler.share(rows, rank) for rank in range(world)]
    assert {len(part) for part in parts} == {8}
    assert sorted(np.concatenate(parts).tolist()) == rows.tolist()
    assert len(sampler) == max(1, count // (8 * world))


def test_another_process_maps_the_same_file(tmp_path):
    stored = np.memmap(tmp_path / "pixels", np.uint8, "w+", shape=(5, 1, 2, 2))
    stored[:] = np.arange(5, dtype=np.uint8)[:, None, None, None]
    targets = Targets(np.zeros(5, np.float32), np.ones(5, np.float32))
    sent = pickle.dumps(FittedImages(stored, targets, np.arange(5)))
    received = pickle.loads(sent)
    assert isinstance(received.pixels, np.memmap)
    assert received.__getitems__([3])[0].flatten().tolist() == [3, 3, 3, 3]


def test_a_set_smaller_than_a_batch_still_makes_one():
    assert len(epoch(np.array([True, False, False]))) == 1


def test_rows_of_a_subset_are_those_of_the_whole():
    pixels = np.arange(10, dtype=np.uint8).reshape(10, 1, 1, 1)
    targets = Targets(np.arange(10, dtype=np.float32) / 10, np.ones(10, np.float32))
    batch = FittedImages(pixels, targets, np.array([7, 2, 5])).__getitems__([0, 2])
    assert batch.images.flatten().tolist() == [7, 5]
    assert np.allclose(batch.bad.numpy(), [0.7, 0.5])
    assert batch.weight.tolist() == [1, 1]
    assert batch.kind.tolist() == [NO_KIND, NO_KIND]
    assert batch.masks.shape == (2, 0, 0)


def test_kinds_and_masks_come_with_their_rows():
    pixels = np.zeros((4, 1, 2, 3), np.uint8)
    mask = np.array([[0, 1, 0], [0, 0, 1]], np.uint8)
    kind = np.array([NO_KIND, 0, 1, NO_KIND])
    targets = Targets(np.array([0, 1, 1, 1], np.float32), np.ones(4, np.float32), kind, {2: mask})
    batch = FittedImages(pixels, targets, np.array([3, 2, 1, 0])).__getitems__([0, 1, 3])
    assert batch.kind.tolist() == [NO_KIND, 1, NO_KIND]
    assert batch.masks[1].tolist() == mask.tolist()
    assert (batch.masks[[0, 2]] == NO_MASK).all()


def test_class_weights_let_both_classes_count_the_same():
    bad = (np.arange(100) < 10).astype(np.float32)
    targets = Targets(bad, np.where(np.arange(100) == 99, 0.5, 1).astype(np.float32))
    rows = np.arange(5, 95)  # 5 bad, 85 good
    weighted = class_weighted(targets, rows)
    assert np.isclose(weighted.weight[rows][bad[rows] == 1].sum(), weighted.weight[rows][bad[rows] == 0].sum())
    assert np.isclose(weighted.weight[99], weighted.weight[98] / 2)
    assert class_weighted(targets, np.arange(20, 60)) is targets
