"""Which nodes of a graph come after its last convolution: pooling, heads, distances. They stay in float."""

from __future__ import annotations

from collections.abc import Iterable, Mapping


def tail_of(inputs: Mapping[str, Iterable[str]], heavy: Iterable[str]) -> list[str]:
    """Returns the nodes from which no heavy node can be reached.

    A margin is a small difference of large sums, and a kernel or a distance of large squares: 8 bits are too few for
    them, and they cost nothing next to the convolutions.

    Args:
        inputs: Node to the nodes whose outputs it takes.
        heavy: Nodes that int8 is for.

    Returns:
        In the order of `inputs`, none that is heavy itself.
    """
    heavy = set(heavy)
    before: set[str] = set(heavy)
    waiting = list(heavy)
    while waiting:
        for name in inputs.get(waiting.pop(), ()):
            if name not in before:
                before.add(name)
                waiting.append(name)
    return [name for name in inputs if name not in before]
