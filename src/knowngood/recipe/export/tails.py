"""Which nodes of a graph stay in float: what comes after its last convolution, and what belongs to wide layers."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping


def float_nodes(inputs: Mapping[str, Iterable[str]], heavy: Collection[str], wide: Collection[str]) -> list[str]:
    """Returns what quantisation leaves alone: the tail, the wide nodes, and the sums and activations right after them.

    Args:
        inputs: Node to the nodes whose outputs it takes.
        heavy: Nodes that int8 is for.
        wide: Those of them that stay in float.
    """
    after: dict[str, list[str]] = {}
    for name, sources in inputs.items():
        for source in sources:
            after.setdefault(source, []).append(name)
    left = dict.fromkeys([*tail_of(inputs, heavy), *wide])
    narrow = set(heavy) - set(wide)
    waiting = list(wide)
    while waiting:
        for name in after.get(waiting.pop(), ()):
            if name not in left and name not in narrow:
                left[name] = None
                waiting.append(name)
    return list(left)


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
