"""Every export format: the recipe's raw_scores and maps for any batch, int8 nearly so, wide layers in float."""

from __future__ import annotations

import numpy as np
import pytest

from knowngood.environment import installed
from knowngood.recipe.export_formats import EXPORTERS
from knowngood.recipe.graphs import Scorer, folds_exactly, map_kind
from knowngood.recipe.options import RUNTIMES
from knowngood.recipe.runtimes import Graph


@pytest.fixture(params=EXPORTERS.names())
def exporter(request):
    made = EXPORTERS.get(request.param)()
    if not all(map(installed, (*made.packages, *made.int8_packages))):
        pytest.skip(f"the extra {made.extra} is not installed")
    return made


def opened(exporter, graph, folder, precision, maps):
    folder.mkdir()
    exporter.save(graph, folder)
    return RUNTIMES.get(exporter.runtime)(None, Graph(folder, precision, maps))


def test_it_says_what_it_is(exporter):
    assert exporter.summary
    assert exporter.runtime in RUNTIMES
    assert set(exporter.precisions) <= {"fp32", "bf16", "int8"}
    assert exporter.extra == RUNTIMES.get(exporter.runtime).extra


def test_float_graphs_give_the_recipes_raw_scores_and_maps(exporter, inspector, photographs, tmp_path):
    maps = map_kind(inspector) is not None
    want = RUNTIMES.get("torch")(inspector, None).run(photographs, maps=maps)
    for fold in [False, True] if folds_exactly(inspector) else [False]:
        graph = exporter.graph(Scorer(inspector, fold=fold))
        runtime = opened(exporter, graph, tmp_path / str(fold), "fp32", maps)
        got = runtime.run(photographs, maps=maps)
        assert got.raw_scores.shape == (24,)
        np.testing.assert_allclose(got.raw_scores, want.raw_scores, atol=1e-4 * np.abs(want.raw_scores).max())
        if maps:
            np.testing.assert_allclose(got.maps, want.maps, atol=1e-4 * np.abs(want.maps).max())


def test_int8_keeps_the_order_and_wide_layers_bring_it_nearer(exporter, grey_inspector, grey_photographs, tmp_path):
    want = RUNTIMES.get("torch")(grey_inspector, None).run(grey_photographs).raw_scores
    plain = exporter.graph(Scorer(grey_inspector, fold=False))
    names = exporter.convolutions(plain)
    assert len(names) == 20
    sample = [grey_photographs[:12], grey_photographs[12:]]
    graph = exporter.quantised(plain, sample, ())
    got = opened(exporter, graph, tmp_path / "int8", "int8", True).run(grey_photographs).raw_scores
    assert 0 < np.abs(got - want).max() < want.std()
    assert np.corrcoef(got, want)[0, 1] > 0.97
    graph = exporter.quantised(plain, sample, names)  # all wide: nothing is int8
    wide = opened(exporter, graph, tmp_path / "wide", "int8", True).run(grey_photographs).raw_scores
    np.testing.assert_allclose(wide, want, atol=1e-4 * np.abs(want).max())
    graph = exporter.quantised(plain, sample, names[:10])
    half = opened(exporter, graph, tmp_path / "half", "int8", True).run(grey_photographs).raw_scores
    assert 0 < np.abs(half - want).mean() < np.abs(got - want).mean()


def test_folding_grey_strays_only_a_little(exporter, grey_inspector, grey_photographs, tmp_path):
    assert not folds_exactly(grey_inspector)
    want = RUNTIMES.get("torch")(grey_inspector, None).run(grey_photographs).raw_scores
    graph = exporter.graph(Scorer(grey_inspector, fold=True))
    got = opened(exporter, graph, tmp_path / "folded", "fp32", True).run(grey_photographs).raw_scores
    assert np.corrcoef(got, want)[0, 1] > 0.9
