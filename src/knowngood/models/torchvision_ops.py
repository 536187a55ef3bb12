"""Makes torchvision importable beside a torch that its wheel was not built for; import this before timm or Lightning.

Some package indexes carry a CPU build of torch and no matching build of torchvision, whose import then fails
because its compiled operators are absent. We use none of them, so declaring the two that torchvision's Python
code refers to is enough. On a matching pair of wheels nothing is touched.
"""

from __future__ import annotations

import importlib
import sys

import torch

_SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
_declared: torch.library.Library | None = None  # operators vanish when their library object is collected


def make_importable() -> bool:
    """Imports torchvision, declaring its missing operators if that is what the import lacks.

    Returns:
        Whether operators had to be declared.

    Raises:
        RuntimeError: torchvision fails for another reason; its own message is kept.
    """
    global _declared
    try:
        importlib.import_module("torchvision")
        return _declared is not None
    except RuntimeError as error:
        if "torchvision::nms" not in str(error):
            raise
    for name in [n for n in sys.modules if n == "torchvision" or n.startswith("torchvision.")]:
        del sys.modules[name]
    _declared = torch.library.Library("torchvision", "DEF")
    for operator in ("nms", "qnms"):
        _declared.define(operator + _SCHEMA)
    importlib.import_module("torchvision")
    return True


make_importable()
