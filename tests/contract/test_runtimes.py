"""Every runtime: equal raw_scores in order, batches of any size, none included; nothing runs on for nobody."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from knowngood.environment import cores, installed
from knowngood.recipe.export_formats import EXPORTERS
from knowngood.recipe.graphs import Scorer, map_kind
from knowngood.recipe.options import RUNTIMES
from knowngood.recipe.runtimes import Graph


@pytest.fixture(scope="module", params=RUNTIMES.names())
def runtime(request, grey_inspector, tmp_path_factory):
    kind = RUNTIMES.get(request.param)
    if not installed(kind.package):
        pytest.skip(f"the extra {kind.extra} is not installed")
    if not kind.takes_graph:
        return kind(grey_inspector, None)
    exporter = next(e for _, e in EXPORTERS.items() if e.runtime == request.param)()
    folder = tmp_path_factory.mktemp(request.param)
    exporter.save(exporter.graph(Scorer(grey_inspector, fold=False)), folder)
    return kind(None, Graph(folder, "fp32", map_kind(grey_inspector) is not None))


@pytest.fixture(scope="module")
def wanted(grey_inspector, grey_photographs):
    return RUNTIMES.get("torch")(grey_inspector, None).run(grey_photographs, maps=True)


def test_raw_scores_and_maps_are_those_of_the_recipe(runtime, grey_photographs, wanted):
    got = runtime.run(grey_photographs, maps=True)
    assert got.raw_scores.dtype == got.maps.dtype == np.float32
    np.testing.assert_allclose(got.raw_scores, wanted.raw_scores, atol=1e-5)
    np.testing.assert_allclose(got.maps, wanted.maps, atol=1e-4)
    assert runtime.maps
    assert runtime.run(grey_photographs).maps is None
    assert runtime.busy > 0


@pytest.mark.parametrize("sizes", [[1, 1, 1], [7, 1, 16], [24], [0, 5, 0, 0, 3, 0], []])
def test_batches_of_any_size_come_out_in_order(runtime, grey_photographs, wanted, sizes):
    ends = np.cumsum([0, *sizes])
    alone = np.concatenate([runtime.run(one[None]).raw_scores for one in grey_photographs])
    batches = [grey_photographs[a:b] for a, b in pairwise(ends)]
    for maps in (False, True):
        made = list(runtime.stream(iter(batches), maps=maps))
        assert [len(one.raw_scores) for one in made] == sizes
        for one, (a, b) in zip(made, pairwise(ends), strict=True):
            np.testing.assert_array_equal(one.raw_scores, alone[a:b])
            assert one.maps is None if not maps else one.maps.shape == (b - a, *wanted.maps.shape[1:])


def test_views_and_many_batches(runtime, grey_photographs, wanted):
    backwards = runtime.run(grey_photographs[::-1]).raw_scores
    np.testing.assert_allclose(backwards[::-1], wanted.raw_scores, atol=1e-5)
    many = list(runtime.stream(grey_photographs[i % 24][None] for i in range(60)))
    np.testing.assert_allclose([one.raw_scores[0] for one in many], wanted.raw_scores[np.arange(60) % 24], atol=1e-5)


def test_a_consumer_that_leaves_stops_it(runtime, grey_photographs, wanted):
    taken = []

    def batches():
        for number in range(100):
            taken.append(number)
            yield grey_photographs[number % 24][None]

    running = runtime.stream(batches())
    next(running)
    running.close()
    assert len(taken) <= cores() + 4
    np.testing.assert_allclose(runtime.run(grey_photographs).raw_scores, wanted.raw_scores, atol=1e-5)


def test_a_batch_that_cannot_be_made_is_raised_and_forgotten(runtime, grey_photographs, wanted):
    def batches():
        yield grey_photographs[:2]
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        list(runtime.stream(batches()))
    np.testing.assert_allclose(runtime.run(grey_photographs).raw_scores, wanted.raw_scores, atol=1e-5)
