"""What figures about made images mean, in sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl

from knowngood.data.duplicates import near_clusters
from knowngood.data.records import Records
from knowngood.experiments.configs import ALL
from knowngood.experiments.synthesis_arms import ALONE, NONE, joined
from knowngood.metrics.comparisons import Combined, auroc_covariance, compare_auroc, over_seeds
from knowngood.metrics.figures import fpr_at_tpr
from knowngood.synthesis.judging import K, Memory, Strange, kid, memory, overlap, spread, strange, vendi
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


Rows: TypeAlias = npt.NDArray[np.float32]
Ids: TypeAlias = npt.NDArray[np.int64]
NAMES = {
    "made": "the made images",
    "known": "real bads that the maker knew",
    "good": "real good images",
    "blurred": "real bads, heavily blurred",
}
KINDS = ("copy", "repeat", "broken")


@dataclass(frozen=True)
class Looked:
    """What was found.

    Attributes:
        document: Figures, JSON-ready.
        table: A row a made image: nearest taught image, distances, and why it should be dropped, or null.
    """

    document: dict[str, Any]
    table: pl.DataFrame


def look(parts: Mapping[str, Records], rows: Mapping[str, Rows], seed: int) -> Looked:
    """Judges made images by their features and their pixels.

    Args:
        parts: The sets made, known, unseen, good, blurred.
        rows: Features (N, D) of each, finite.
        seed: Of subsets.
    """
    real = np.concatenate([rows["known"], rows["unseen"]])
    broken = strange(rows["made"], real)
    learned = memory(rows["made"], rows["known"], rows["unseen"])
    copies, repeats = _pixel_copies(parts["made"], parts["known"])
    table = _table(parts, learned, copies, repeats, broken)
    why = table["drop"].drop_nulls()
    document = {
        "images": {name: len(one) for name, one in parts.items()},
        "likeness": [_likeness_figures(name, rows, seed) for name in NAMES if len(rows[name]) > K],
        "memory": {
            "nearer": learned.nearer,
            "copies": int((learned.copy | (copies >= 0)).sum()),
            "level": learned.level,
            "distance": float(np.median(learned.distance)),
            "real_distance": float(np.median(learned.real)),
        },
        "variety": _variety_figures(rows, seed) | {"repeats": int((repeats >= 0).sum())},
        "broken": {
            "images": int(broken.odd.sum()),
            "share": float(broken.odd.mean()),
            "real_share": broken.real_share,
            "distance": broken.level,
        },
        "drop": {
            "all": len(why),
            **{kind: int(why.str.starts_with(kind).sum()) for kind in ("copy", "repeat", "broken")},
        },
    }
    return Looked(document, table)


def _likeness_figures(name: str, rows: Mapping[str, Rows], seed: int) -> dict[str, Any]:
    both = overlap(rows[name], rows["unseen"], seed=seed) if len(rows["unseen"]) > K else None
    return {
        "set": name,
        "what": NAMES[name],
        "kid": kid(rows[name], rows["unseen"]).to_dict(),
        "precision": None if both is None else both.precision,
        "recall": None if both is None else both.recall,
        "at": None if both is None else both.images,
    }


def _variety_figures(rows: Mapping[str, Rows], seed: int) -> dict[str, Any]:
    """Compares the spread of made images with that of the known ones, at one number of images."""
    size = min(len(rows["made"]), len(rows["known"]))
    rng, centre = np.random.default_rng(seed), rows["known"].mean(axis=0)
    one, two = (rows[name][rng.permutation(len(rows[name]))[:size]] - centre for name in ("made", "known"))
    return {
        "images": size,
        "spread": spread(one) / max(spread(two), 1e-12),
        "vendi": vendi(one),
        "real_vendi": vendi(two),
    }


def _pixel_copies(made: Records, known: Records) -> tuple[Ids, Ids]:
    """Returns for each made image the known one, and the earlier made one, that it is a near copy of by pixels; -1."""
    clusters = near_clusters(joined({"made": made, "known": known}))
    first: dict[int, int] = {}
    for row, cluster in enumerate(clusters[len(made) :].tolist()):
        first.setdefault(cluster, row)
    copies = np.array([first.get(cluster, -1) for cluster in clusters[: len(made)].tolist()], np.int64)
    seen: dict[int, int] = {}
    repeats = np.full(len(made), -1, np.int64)
    for row, cluster in enumerate(clusters[: len(made)].tolist()):
        repeats[row] = seen.get(cluster, -1)
        seen.setdefault(cluster, row)
    return copies, repeats


def _table(
    parts: Mapping[str, Records],
    learned: Memory,
    copies: Ids,
    repeats: Ids,
    broken: Strange,
) -> pl.DataFrame:
    made, known = parts["made"].frame, parts["known"].frame
    nearest = np.where(copies >= 0, copies, learned.nearest)
    names, paths = known["image"].to_list(), known["path"].to_list()
    copied = learned.copy | (copies >= 0)
    images = made["image"].to_list()
    why: list[str | None] = []
    for row in range(len(images)):
        if copied[row]:
            why.append(f"copy of {names[nearest[row]]}")
        elif repeats[row] >= 0:
            why.append(f"repeat of {images[repeats[row]]}")
        else:
            why.append("broken: far from all real bads" if broken.odd[row] else None)
    return made.select("image", "path", "label", "defect").with_columns(
        drop=pl.Series(why, dtype=pl.String),
        nearest=pl.Series([names[i] for i in nearest]),
        nearest_path=pl.Series([paths[i] for i in nearest]),
        nearest_distance=pl.Series(learned.distance),
        real_distance=pl.Series(broken.distance),
    )


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
