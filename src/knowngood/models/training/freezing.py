"""Which part of a network learns: its stem, its stages and its head told apart by timm's own grouping."""

from __future__ import annotations

import re
from collections.abc import Iterator

from torch import nn

from knowngood.models.classifier import Classifier
from knowngood.models.training.config import Freeze


def freeze(classifier: Classifier, what: Freeze) -> list[nn.Module]:
    """Stops a part of a network from learning and lets the rest learn.

    Args:
        classifier: With a linear head; changed in place.
        what: "none"; "stem", the layers before the first stage; "all-but-head".

    Returns:
        The frozen layers; their batch norms must keep their statistics.
    """
    wanted = {"none": (), "stem": ("stem",), "all-but-head": ("stem", "stages")}[what]
    frozen = []
    for name, layer in classifier.trunk.named_modules():
        own = list(layer.parameters(recurse=False))
        if own:
            held = part_of(classifier, name) in wanted
            for parameter in own:
                parameter.requires_grad_(not held)
            if held:
                frozen.append(layer)
    return frozen


def head_parameters(classifier: Classifier) -> Iterator[nn.Parameter]:
    """Yields the parameters of the head: the last layer, for VGG also the fully connected ones before it."""
    for name, layer in classifier.trunk.named_modules():
        if part_of(classifier, name) == "head":
            yield from layer.parameters(recurse=False)


def part_of(classifier: Classifier, layer: str) -> str:
    """Returns "stem", "stages" or "head" for a layer of the trunk, by timm's `group_matcher`."""
    groups = classifier.trunk.group_matcher()
    stages = groups["blocks"] if isinstance(groups["blocks"], list) else [(groups["blocks"], None)]
    if re.match(groups["stem"], f"{layer}."):
        return "stem"
    return "stages" if any(re.match(pattern, f"{layer}.") for pattern, _ in stages) else "head"
