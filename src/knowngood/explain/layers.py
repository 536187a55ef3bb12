"""Which layers of a classifier can be looked at, and by which names."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from knowngood.errors import UnknownNameError
from knowngood.models.backbones import BACKBONES
from knowngood.models.classifier import Classifier

LAST, ALL = "last", "all"


def stage_names(classifier: Classifier) -> tuple[str, ...]:
    """Returns the stages, coarse to fine order kept, the last one being what the head sees."""
    backbone = BACKBONES.get(classifier.config.backbone)
    stages = classifier.config.stages or backbone.stages
    names = [str(classifier.trunk.feature_info[index]["module"]) for index in stages]
    if classifier.head is None and backbone.last_maps:
        names[-1] = backbone.last_maps
    return tuple(names)


def layer_names(classifier: Classifier, wanted: str | Sequence[str] = LAST) -> tuple[str, ...]:
    """Returns the dotted names of the layers asked for.

    Args:
        classifier: Whose layers.
        wanted: "last", "all" (every stage), or names, as a list or joined by commas.

    Raises:
        UnknownNameError: There is no such layer; the stages are named.
    """
    names = [n.strip() for n in wanted.split(",")] if isinstance(wanted, str) else list(wanted)
    stages = stage_names(classifier)
    known = dict(classifier.trunk.named_modules())
    found: dict[str, None] = {}
    for name in names:
        if name == ALL:
            found |= dict.fromkeys(stages)
        elif name == LAST:
            found[stages[-1]] = None
        elif name and name in known:
            found[name] = None
        else:
            near = difflib.get_close_matches(name, list(known), n=3, cutoff=0.4)
            raise UnknownNameError(
                f"{classifier.config.backbone} has no layer named {name!r}.",
                expected=f"last, all, or names: its stages are {', '.join(stages)}",
                fix=f"did you mean {' or '.join(near)}?" if near else "choose one of those.",
            )
    return tuple(found)
