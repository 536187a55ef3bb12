"""What figures about made images mean, in sentences."""

from __future__ import annotations

from typing import Any

from knowngood.wording import counted, percent

BY_HEART, ODD = 0.75, 0.05  # nearer to taught images than three of four real ones; one in twenty


def sentences(document: dict[str, Any]) -> list[str]:
    """Returns what was found, the likeness first.

    Args:
        document: As in judge.json.
    """
    return [_likeness(document), _memory(document), _variety(document), _broken(document), _drop(document)]


def _likeness(document: dict[str, Any]) -> str:
    by = {row["set"]: row for row in document["likeness"]}
    made = by["made"]["kid"]["value"]
    low, high = by["made"]["kid"]["interval"]
    said = f"KID {made:.4g} ({low:.4g} to {high:.4g}) to {counted(document['images']['unseen'], 'unseen real bad')}"
    points = [f"{row['what']} {row['kid']['value']:.4g}" for name, row in by.items() if name != "made"]
    nearer = [row["what"] for name, row in by.items() if name in ("good", "blurred") and made >= row["kid"]["value"]]
    told = f"; for comparison: {', '.join(points)}." if points else "."
    if nearer:
        return f"{said}{told} The made images are no more like real bads than {' and '.join(nearer)}."
    return said + told


def _memory(document: dict[str, Any]) -> str:
    found = document["memory"]
    nearer = found["nearer"]
    said = f"A made image is nearer to a bad that its maker knew than a new real bad is with a chance of {nearer:.2f}"
    if nearer > BY_HEART:
        return f"{said} (0.5 is as new as real ones): much of it is learned by heart."
    return f"{said} (0.5 is as new as real ones, 1 is learned by heart)."


def _variety(document: dict[str, Any]) -> str:
    found = document["variety"]
    said = f"Variety: {found['vendi']:.1f} different images in effect, of real ones {found['real_vendi']:.1f}"
    return f"{said}, in {counted(found['images'], 'image')} each; spread {found['spread']:.2f} of that of real bads."


def _broken(document: dict[str, Any]) -> str:
    found = document["broken"]
    said = f"{counted(found['images'], 'made image lies', 'made images lie')} farther from all real bads than these "
    said += f"from each other ({percent(found['share'])}; of real bads {percent(found['real_share'])})"
    return said + (": many are broken, or of a kind that is not real." if found["share"] > ODD else ".")


def _drop(document: dict[str, Any]) -> str:
    drop, count = document["drop"], document["images"]["made"]
    if not drop["all"]:
        return f"None of {counted(count, 'made image')} has to be dropped."
    parts = (("copy", "copies of known bads"), ("repeat", "repeats of each other"), ("broken", "broken"))
    kinds = ", ".join(f"{drop[kind]} {word}" for kind, word in parts if drop[kind])
    return f"To be dropped, see drop.csv: {drop['all']} of {counted(count, 'made image')} ({kinds})."
