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
_declared: list[torch.library.Library] = []  # operators vanish when their library object is collected


def make_importable() -> bool:
    """Imports torchvision, declaring its missing operators if that is what the import lacks.

    Returns:
        Whether operators had to be declared.

    Raises:
        RuntimeError: torchvision fails for another reason; its own message is kept.
    """
    try:
        importlib.import_module("torchvision")
        return bool(_declared)
    except RuntimeError as error:
        if "torchvision::nms" not in str(error):
            raise
    for name in [n for n in sys.modules if n == "torchvision" or n.startswith("torchvision.")]:
        del sys.modules[name]
    library = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]
    for operator in ("nms", "qnms"):
        library.define(operator + _SCHEMA)  # type: ignore[no-untyped-call]
    _declared.append(library)
    importlib.import_module("torchvision")
    return True


make_importable()
