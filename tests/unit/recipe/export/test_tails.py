"""Which nodes stay in float, on a graph drawn by hand."""

from __future__ import annotations

from knowngood.recipe.quantising import float_nodes, tail_of

# image - centre -> conv1 -> relu1 -> conv2 -> sum(relu1, conv2) -> relu2 -> mean -> head; relu1 -> maximum -> head
GRAPH = {
    "centre": ["image"],
    "conv1": ["centre", "weight1"],
    "relu1": ["conv1"],
    "conv2": ["relu1", "weight2"],
    "sum": ["relu1", "conv2"],
    "relu2": ["sum"],
    "mean": ["relu2"],
    "maximum": ["relu1"],
    "head": ["mean", "maximum"],
}
HEAVY = ["conv1", "conv2"]


def test_the_tail_is_what_no_convolution_follows():
    assert tail_of(GRAPH, HEAVY) == ["sum", "relu2", "mean", "maximum", "head"]
    assert tail_of(GRAPH, []) == list(GRAPH)


def test_wide_layers_take_what_follows_them_along():
    assert set(float_nodes(GRAPH, HEAVY, [])) == {"sum", "relu2", "mean", "maximum", "head"}
    assert set(float_nodes(GRAPH, HEAVY, ["conv1"])) == set(GRAPH) - {"centre", "conv2"}
    assert set(float_nodes(GRAPH, HEAVY, HEAVY)) == set(GRAPH) - {"centre"}
