"""What removing and relabelling did to the figures: a table, whiskers, and a sentence for each."""

from __future__ import annotations

from typing import Any

from markupsafe import Markup

from knowngood.report.page import Section, render

_WIDTH, _HEIGHT = 160, 18
_JUDGES = {
    "given": "Judged by the given labels",
    "corrected": "Judged by labels as a person corrected them",
    "true": "Judged by the true labels",
}
_LEAD = (
    "Each arm changes the training part only, decided without the test images; differences are to the set as it is, "
    "paired over seeds, with a 95 % interval."
)


def removal(document: dict[str, Any]) -> Section:
    """Makes the section out of what removal.json holds."""
    reach = max((abs(end) for effect in document["effects"] for end in effect["auroc"]["interval"]), default=0.0) or 1.0
    blocks = []
    for judge, title in _JUDGES.items():
        arms = [arm for arm in document["arms"] if arm["judged_by"] == judge]
        found = {effect["arm"]: effect for effect in document["effects"] if effect["judged_by"] == judge}
        if arms:
            rows = [
                (arm, found.get(arm["arm"]), whisker((found.get(arm["arm"]) or {}).get("auroc"), reach)) for arm in arms
            ]
            blocks.append((title, rows, [effect["sentence"] for effect in found.values()]))
    body = render(
        "sections/removal.html",
        blocks=blocks,
        seeds=len(document["seeds"]),
        preset=document["config"]["train_preset"],
        notes=document["notes"],
    )
    return Section("removal", "Does removing or relabelling help?", body, _LEAD)


def whisker(change: dict[str, Any] | None, reach: float) -> Markup:
    """Draws a difference with its interval around nought.

    Args:
        change: With `difference`, `interval` and `outcome` (helped, hurt or cannot tell); None draws nothing.
        reach: Value at the right end; that at the left is its negative.
    """
    if change is None:
        return Markup("")
    low, high = change["interval"]
    middle, scale = _WIDTH / 2, (_WIDTH / 2 - 6) / reach
    places = [middle + scale * value for value in (low, high, change["difference"])]
    tone = {"helped": "good", "hurt": "bad"}.get(change["outcome"], "ink")
    return Markup(
        '<svg viewBox="0 0 {w} {h}" class="effect" aria-hidden="true">'
        '<line x1="{m}" x2="{m}" y1="0" y2="{h}" class="axis"/>'
        '<line x1="{a:.1f}" x2="{b:.1f}" y1="{y}" y2="{y}" class="line {t}"/>'
        '<circle cx="{c:.1f}" cy="{y}" r="4" class="{t}"/></svg>'
    ).format(w=_WIDTH, h=_HEIGHT, m=middle, y=_HEIGHT / 2, a=places[0], b=places[1], c=places[2], t=tone)
