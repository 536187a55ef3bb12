"""Which nodes of a graph stay in float: what comes after its last convolution, and what belongs to wide layers."""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from knowngood.progress import reporter
from knowngood.telemetry import switch_off


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

    A raw score is a small difference of large sums, and a kernel or a distance of large squares: 8 bits are too few for
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


def quantised(
    graph: Any,
    sample: Sequence[npt.NDArray[np.uint8]],
    wide: Collection[str],
    prepare: Callable[[npt.NDArray[np.uint8]], Any] | None = None,
) -> Any:
    """Returns a graph in int8.

    Args:
        graph: Of a library that NNCF knows.
        sample: Batches (B, C, H, W) uint8.
        wide: Names of the nodes that stay in float.
        prepare: Makes of a batch what the graph takes.

    Reference:
        NNCF's `quantize`: ranges of activations from the sample, per-channel weights, fast bias correction.
    """
    switch_off()
    import nncf

    nncf.set_log_level(logging.ERROR)
    to = reporter()
    task = to.start("ranges", len(sample))

    def counted(batch: npt.NDArray[np.uint8]) -> Any:
        to.advance(task)
        return batch if prepare is None else prepare(batch)

    try:
        with contextlib.redirect_stdout(io.StringIO()):  # its progress bars: stdout belongs to the command's answer
            return nncf.quantize(
                graph,
                nncf.Dataset(sample, counted),
                subset_size=len(sample),
                preset=nncf.QuantizationPreset.MIXED,  # activations after others than ReLU may be of both signs
                ignored_scope=nncf.IgnoredScope(names=sorted(wide), validate=False),  # NNCF drops nodes that do nothing
            )
    finally:
        to.finish(task)
