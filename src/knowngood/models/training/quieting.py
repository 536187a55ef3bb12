"""What Lightning says of itself is for its developers: our users are told by our reporter."""

from __future__ import annotations

import logging
import warnings


def quieten() -> None:
    """Leaves of Lightning's messages, in this process, the errors only."""
    for name in (
        "lightning.pytorch",
        "lightning.fabric",
        "lightning.pytorch.utilities.rank_zero",
        "lightning.fabric.utilities.rank_zero",
    ):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")
