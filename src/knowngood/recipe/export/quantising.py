"""Post-training quantisation by NNCF, the same for every format that it takes."""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from knowngood.progress import reporter
from knowngood.telemetry import switch_off


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
