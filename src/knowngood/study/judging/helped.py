"""What made images did to a classifier: differences with intervals, a sentence for each, and one that says it all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl

from knowngood.decide.compare import auroc_covariance, compare_auroc
from knowngood.decide.metrics import fpr_at_tpr
from knowngood.decide.over_seeds import Combined, over_seeds
from knowngood.study.judging.arms import ALONE, NONE
from knowngood.study.judging.config import ALL

Floats: TypeAlias = npt.NDArray[np.float64]
Labels: TypeAlias = npt.NDArray[np.uint8]
TPR = 0.995
_RESAMPLES = 300  # of the test images, for the error of an overkill
FIGURES = {"auroc": 1, "overkill": -1}  # and which way is better


def helped(rows: Sequence[dict[str, Any]], labels: Labels, maker: str) -> dict[str, Any]:
    """Compares every arm with the arm without made images, of the same regime and seeds.

    Args:
        rows: A row a regime, seed and arm, with the margins (T,) of the test images.
        labels: (T,) of the test images.
        maker: Whose images the verdict is about.

    Returns:
        `arms` (means over seeds with intervals), `effects`, `verdict` and `notes`.
    """
    arms, effects = [], []
    table = pl.DataFrame([{name: row[name] for name in ("regime", "arm", "seed")} for row in rows])
    for regime, arm in table.select("regime", "arm").unique(maintain_order=True).iter_rows():
        own = _of(rows, regime, arm)
        arms.append(_arm(regime, arm, list(own.values()), labels))
        base = _of(rows, regime, NONE)
        if arm != NONE and set(base) == set(own) and len(own) > 1:
            effects.append(_effect(regime, arm, [(own[s], base[s]) for s in sorted(own)], labels))
    bads, notes = int(labels.sum()), []
    if bads * (1 - TPR) < 1:
        notes.append(f"With {bads} bad test images a TPR of {100 * TPR:g} % means that none may escape: one decides.")
    if len(effects) > 1:
        notes.append(f"{len(effects)} differences at 95 %: about one in twenty would seem real by chance.")
    return {"arms": arms, "effects": effects, "verdict": _verdict(effects, maker), "notes": notes}


def _of(rows: Sequence[dict[str, Any]], regime: str, arm: str) -> dict[int, dict[str, Any]]:
    return {row["seed"]: row for row in rows if (row["regime"], row["arm"]) == (regime, arm)}


def _arm(regime: str, arm: str, rows: Sequence[dict[str, Any]], labels: Labels) -> dict[str, Any]:
    errors = [float(np.sqrt(max(auroc_covariance(labels, row["margins"])[1][0, 0], 0.0))) for row in rows]
    combined = over_seeds([row["auroc"] for row in rows], errors)
    means = {name: float(np.mean([row[name] for row in rows])) for name in ("bads", "added", "auroc", "overkill")}
    low, high = combined.interval
    return {"regime": regime, "arm": arm, **means, "auroc_ci": [max(low, 0.0), min(high, 1.0)], "seeds": len(rows)}


def _effect(
    regime: str, arm: str, pairs: Sequence[tuple[dict[str, Any], dict[str, Any]]], labels: Labels
) -> dict[str, Any]:
    """Combines over seeds the paired differences, each with the error that the test images give it."""
    delong = [compare_auroc(labels, with_them["margins"], without["margins"]) for with_them, without in pairs]
    found = {
        "auroc": over_seeds([one.difference for one in delong], [one.error for one in delong]),
        "overkill": over_seeds(
            [with_them["overkill"] - without["overkill"] for with_them, without in pairs],
            [overkill_error(labels, np.array(one["margins"]), np.array(two["margins"])) for one, two in pairs],
        ),
    }
    outcomes = {name: _outcome(found[name], better) for name, better in FIGURES.items()}
    added = round(float(np.mean([with_them["added"] for with_them, _ in pairs])))
    one: dict[str, Any] = {"regime": regime, "arm": arm, "seeds": len(pairs), "added": added}
    for name, each in found.items():
        one[name] = {"difference": each.mean, "interval": list(each.interval), "outcome": outcomes[name]}
    one["outcome"] = _together(found, outcomes)
    return one | {"sentence": _sentence(one)}


def overkill_error(labels: Labels, first: Floats, second: Floats, tpr: float = TPR, seed: int = 0) -> float:
    """Returns the standard error of the difference of two overkills on the same images, goods and bads resampled."""
    rng = np.random.default_rng(seed)
    goods, bads = np.flatnonzero(labels == 0), np.flatnonzero(labels == 1)
    differences = []
    for _ in range(_RESAMPLES):
        drawn = np.concatenate([rng.choice(goods, len(goods)), rng.choice(bads, len(bads))])
        one, two = (fpr_at_tpr(labels[drawn], scores[drawn], tpr) for scores in (first, second))
        assert one is not None
        assert two is not None
        differences.append(one - two)
    return float(np.std(differences, ddof=1))


def _outcome(found: Combined, better: int) -> str:
    low, high = found.interval
    if low > 0 or high < 0:
        return "helped" if (found.mean > 0) == (better > 0) else "hurt"
    return "cannot tell"


def _together(found: Mapping[str, Combined], outcomes: Mapping[str, str]) -> str:
    """Says helped or hurt where one figure shows it and the other does not even lean the other way."""
    told = {word for word in outcomes.values() if word != "cannot tell"}
    means = {name: found[name].mean * better for name, better in FIGURES.items()}
    leanings = {"helped" if mean > 0 else "hurt" for mean in means.values() if mean}
    return next(iter(told)) if len(told) == 1 and leanings <= told else "cannot tell"


def _sentence(one: dict[str, Any]) -> str:
    with_bads = "all real bads" if one["regime"] == ALL else f"{one['regime']} real bads"
    if one["arm"].endswith(ALONE):
        start = f"{one['arm'].capitalize()} instead of {with_bads} ({one['added']} images)"
    else:
        start = f"{one['arm'].capitalize()} beside {with_bads} ({one['added']} images)"
    return f"{start}: {one['outcome']}; {_clauses(one)}; {one['seeds']} seeds."


def _clauses(one: dict[str, Any]) -> str:
    overkill, auc = one["overkill"], one["auroc"]
    low, high = (f"{100 * end:+.1f}" for end in overkill["interval"])
    first = f"overkill at TPR {100 * TPR:g} % {100 * overkill['difference']:+.1f} points ({low} to {high})"
    low, high = (f"{end:+.4f}" for end in auc["interval"])
    return f"{first}, AUC {auc['difference']:+.4f} ({low} to {high})"


def _verdict(effects: Sequence[dict[str, Any]], maker: str) -> str:
    """Says in one sentence whether the images of a maker helped beside all real bads, or else beside the most."""
    own = [one for one in effects if one["arm"] == maker]
    if not own:
        return f"Cannot tell whether the images of {maker} help: no pair of trainings was possible."
    one = max(own, key=lambda each: float("inf") if each["regime"] == ALL else int(each["regime"]))
    beside = "all real bads" if one["regime"] == ALL else f"{one['regime']} real bads"
    said = f"{one['added']} images of {maker} beside {beside}"
    said = f"Cannot tell whether {said} help" if one["outcome"] == "cannot tell" else f"{said} {one['outcome']}"
    return f"{said}: {_clauses(one)}; {one['seeds']} paired seeds, 95 % intervals."
