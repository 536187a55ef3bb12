"""Ways of making a map of where a network looked: one function each; add one line to register another.

A map is made of what one layer put out and of what the margin of bad over good owes to it. It is kept raw: nothing
is scaled to the picture at hand, so that maps of different photographs can be compared.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

from knowngood.registry import Registry

if TYPE_CHECKING:  # too heavy where only a name is looked up
    from torch import Tensor

Needs: TypeAlias = Literal["weights", "gradients", "nothing"]


@dataclass(frozen=True)
class Method:
    """One way of making maps.

    Attributes:
        summary: One line for tables and help.
        needs: What `make` gets besides the layer's output: "weights" of the last layer, bad minus good, (C,);
            "gradients" of the margin, (B, C, h, w); "nothing": None.
        make: Takes the output (B, C, h, w) float32 and what it needs; returns raw maps (B, h, w) float32, higher
            where the photograph looks bad.
        signed: Whether values below 0 mean something: what speaks for good.
    """

    summary: str
    needs: Needs
    make: Callable[[Tensor, Tensor | None], Tensor]
    signed: bool = False


METHODS: Registry[Method] = Registry(
    "map method",
    "knowngood.map_methods",
    {
        "cam": "knowngood.explain.methods.cam:CAM",
        "gradcam": "knowngood.explain.methods.gradcam:GRADCAM",
        "gradcam++": "knowngood.explain.methods.gradcam_plus_plus:GRADCAM_PLUS_PLUS",
        "layercam": "knowngood.explain.methods.layercam:LAYERCAM",
        "hirescam": "knowngood.explain.methods.hirescam:HIRESCAM",
        "eigencam": "knowngood.explain.methods.eigencam:EIGENCAM",
    },
)
