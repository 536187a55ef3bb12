"""What the arms of a removal trial did to the figures, with paired intervals and in sentences."""

from __future__ import annotations

from typing import Any

import polars as pl

from knowngood.decide.repeats import RepeatedDifference, compare_repeats
from knowngood.study.removal_arms import AS_IT_IS
from knowngood.wording import counted

TPR = 0.995
FIGURES = {"auroc": True, "overkill": False}  # and whether higher is better
JUDGES = {"given": "the given labels", "corrected": "labels as a person corrected them", "true": "the true labels"}


def effects(table: pl.DataFrame, overlap: float) -> dict[str, Any]:
    """Compares every arm with the set as it is.

    Args:
        table: A row a seed, an arm and a judge.
        overlap: Test images for each training image.

    Returns:
        `arms` (means over seeds), `effects` (difference, interval, outcome and sentence of each arm and judge) and
        `notes`.
    """
    arms, found, notes = [], [], []
    for (judge, arm), rows in table.group_by("judged_by", "arm", maintain_order=True):
        trouble = [text for text in rows["trouble"].to_list() if text]
        if trouble:
            notes.append(f"{str(arm).capitalize()}: no training was possible ({trouble[0]})")
            continue
        means = {name: rows[name].mean() for name in (*FIGURES, "removed", "relabelled")}
        arms.append({"arm": arm, "judged_by": judge, **means})
        if arm != AS_IT_IS:
            before = table.filter(judged_by=judge, arm=AS_IT_IS)
            found.append(_effect(str(arm), str(judge), rows, before, overlap))
    bads = table["bad"].min()
    if isinstance(bads, int) and bads * (1 - TPR) < 1:
        notes.append(
            f"With {bads} bad test images a TPR of {100 * TPR:g} % means that none may escape: one image decides."
        )
    return {"arms": arms, "effects": found, "notes": list(dict.fromkeys(notes))}


def _effect(arm: str, judge: str, rows: pl.DataFrame, before: pl.DataFrame, overlap: float) -> dict[str, Any]:
    compared = {
        name: compare_repeats(rows[name].to_numpy(), before[name].to_numpy(), overlap=overlap, higher_is_better=better)
        for name, better in FIGURES.items()
    }
    touched = float((rows["removed"] + rows["relabelled"]).mean() or 0)  # type: ignore[arg-type]
    one = {"arm": arm, "judged_by": judge, "images": touched, "seeds": rows.height}
    for name, found in compared.items():
        one[name] = {"difference": found.difference, "interval": list(found.interval), "outcome": found.outcome}
    return one | {"sentence": _sentence(arm, judge, touched, compared)}


def _sentence(arm: str, judge: str, touched: float, compared: dict[str, RepeatedDifference]) -> str:
    if not touched:
        return f"{arm.capitalize()}: there was nothing to change."
    auc, overkill = compared["auroc"], compared["overkill"]
    first = _clause("AUC", auc, "{:+.4f}", 1)
    second = _clause(f"overkill at TPR {100 * TPR:g} %", overkill, "{:+.1f}", 100, " points")
    changed = counted(round(touched), "image")
    return f"{arm.capitalize()} ({changed}): {first}; {second}; {auc.repeats} seeds, judged by {JUDGES[judge]}."


def _clause(name: str, found: RepeatedDifference, form: str, scale: float, unit: str = "") -> str:
    low, high = (form.format(scale * end) for end in found.interval)
    return f"{name} {form.format(scale * found.difference)}{unit} ({low} to {high}): {found.outcome}"
