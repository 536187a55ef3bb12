"""Whether made images helped a classifier: the verdict, a table by real bads and arm, whiskers."""

from __future__ import annotations

from typing import Any

from knowngood.report.page import Section, render
from knowngood.report.sections.removal import whisker

_LEAD = (
    "Real bads are thinned in the training split only, the test is always the same real images. Differences are to the "
    "same real bads without made images, paired over seeds, with 95 % intervals over seeds and test images."
)


def classifier_section(document: dict[str, Any]) -> Section:
    """Makes the section out of what judge.json holds under `classifier`."""
    effects = {(one["regime"], one["arm"]): one for one in document["effects"]}
    reach = max((abs(end) for one in effects.values() for end in one["overkill"]["interval"]), default=0.0) or 1.0
    blocks = []
    for regime in dict.fromkeys(arm["regime"] for arm in document["arms"]):
        arms = [arm for arm in document["arms"] if arm["regime"] == regime]
        found = [effects.get((regime, arm["arm"]), {}) for arm in arms]
        rows = [(arm, one, whisker(_better_right(one), reach)) for arm, one in zip(arms, found, strict=True)]
        blocks.append((regime, rows, [one["sentence"] for one in found if one]))
    body = render("sections/synthesis_classifier.html", document=document, blocks=blocks)
    return Section("classifier", "Do they help?", body, _LEAD)


def _better_right(effect: dict[str, Any]) -> dict[str, Any] | None:
    """Turns an overkill's difference round, so that better is to the right."""
    if not effect:
        return None
    overkill = effect["overkill"]
    low, high = overkill["interval"]
    return {**overkill, "difference": -overkill["difference"], "interval": [-high, -low]}
