"""How like real bad images generated ones are: the sets that are compared, the figures, and sentences on them."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import cv2
import numpy as np
import numpy.typing as npt
import polars as pl

from knowngood.data.duplicates import near_clusters
from knowngood.data.images import decode
from knowngood.data.loading import inspected
from knowngood.data.processes import write_png
from knowngood.data.records import BAD, GOOD, Records, table
from knowngood.errors import DataError, ImageError
from knowngood.files import storage_errors
from knowngood.synthesis.likeness import K, Memory, Strange, kid, memory, overlap, spread, strange, vendi
from knowngood.wording import counted, percent

Pixels: TypeAlias = npt.NDArray[np.uint8]
LEAST = 5  # real bads that the generator did not know: fewer say nothing about likeness
_GOODS = 1000  # a reference point needs no more
BLUR = 0.04  # standard deviation of the blur, share of the shorter side


@dataclass(frozen=True)
class Sets:
    """What is compared. Test images are in none of them.

    Attributes:
        made: The made images.
        known: Real bads that the generator learned from.
        unseen: Real bads that it did not learn from: the measure of likeness.
        good: Real good images.
        notes: How they came about.
    """

    made: Records
    known: Records
    unseen: Records
    good: Records
    notes: tuple[str, ...]


def sets_of(made: Records, divided: Records, trained_on: pl.DataFrame | None, most: int, seed: int) -> Sets:
    """Finds the sets.

    Args:
        made: Made images, labelled; only the bad ones are judged.
        divided: Photographs with splits; test images are left out.
        trained_on: Images that the generator was trained on; None for the whole training split.
        most: Images of each kind.
        seed: Which are drawn where there are more.

    Raises:
        DataError: No made image is bad, or too few real bads were kept from the generator.
    """
    frame = divided.frame.filter(
        ~pl.col("generated") & pl.col("split").is_in(["train", "val", "calibration"]) & pl.col("error").is_null()
    )
    bads = frame.filter(pl.col("label") == BAD)
    learned = (
        pl.col("split") == "train" if trained_on is None else pl.col("sha256").is_in(trained_on["sha256"].to_list())
    )
    known, unseen = bads.filter(learned), bads.filter(~learned)
    shown = made.frame.filter(pl.col("label") == BAD)
    if not shown.height:
        raise DataError("None of the made images is labelled bad.", expected="made bad images")
    if trained_on is not None and bads.height and not known.height:
        raise DataError(
            "The made images were made of other photographs: their generator was trained on none of these real bads.",
            expected="the photographs, and the splits and --seed, that they were made with",
        )
    if unseen.height < LEAST or known.height < 2:
        raise DataError(
            f"Of {bads.height} real bad images outside of the test the generator was trained on {known.height} and not "
            f"on {unseen.height}.",
            expected=f"at least 2 and {LEAST}: likeness is measured on real bads that the generator did not see",
            fix="Train the generator with a larger --val and --calibration, or give the splits it was trained with.",
        )
    whose = unseen["split"].unique().sort().to_list()
    notes = [
        f"Likeness is measured against {unseen.height} real bads that the generator did not see ({', '.join(whose)})."
    ]
    if trained_on is None:
        notes.append("What the generator learned from is not written down: the whole training split is taken for it.")
    goods = frame.filter((pl.col("label") == GOOD) & ~learned)
    return Sets(
        made.with_frame(_some(shown, most, seed)),
        divided.with_frame(_some(known, most, seed)),
        divided.with_frame(_some(unseen, most, seed)),
        divided.with_frame(_some(goods, min(most, _GOODS), seed)),
        (*notes, "No test image was looked at for this."),
    )


def _some(frame: pl.DataFrame, most: int, seed: int) -> pl.DataFrame:
    if frame.height <= most:
        return frame
    chosen = np.sort(np.random.default_rng(seed).permutation(frame.height)[:most])
    return frame.sort("image")[chosen]


def blurred(pixels: Pixels) -> Pixels:
    """Returns a picture that is clearly too blurred: what a made one has to be better than."""
    return np.asarray(cv2.GaussianBlur(pixels, (0, 0), BLUR * min(pixels.shape[:2])), np.uint8)


def sized(height: int, width: int) -> Callable[[Pixels], Pixels]:
    """Returns what brings a picture to a size, area averages."""

    def change(pixels: Pixels) -> Pixels:
        if pixels.shape[:2] == (height, width):
            return pixels
        return np.asarray(cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA), np.uint8)

    return change


def changed(records: Records, change: Callable[[Pixels], Pixels], folder: Path) -> Records:
    """Returns the same images changed, written as PNG into a folder; those that cannot be decoded are left out."""
    rows: dict[str, list[object]] = {"image": [], "path": [], "label": [], "defect": []}
    with storage_errors(folder):
        for number, row in enumerate(records.frame.iter_rows(named=True)):
            try:
                pixels = decode(row["path"])
            except ImageError:
                continue
            target = folder / f"{number:06d}.png"
            write_png(target, change(pixels), 1)
            for name, value in (("image", row["image"]), ("path", os.fspath(target.absolute()))):
                rows[name].append(value)
            rows["label"].append(row["label"])
            rows["defect"].append(row["defect"])
    return records.with_frame(inspected(table(rows)))


def joined(parts: Mapping[str, Records]) -> Records:
    """Returns several sets as one, each image's name behind the set's: a network sees them at one size."""
    first = next(iter(parts.values()))
    frames = [
        one.frame.with_columns(image=pl.lit(f"{name}/") + pl.col("image"), split=pl.lit(None), generated=pl.lit(False))
        for name, one in parts.items()
    ]
    return first.with_frame(table(pl.concat([table(frame) for frame in frames])))


Rows: TypeAlias = npt.NDArray[np.float32]
Ids: TypeAlias = npt.NDArray[np.int64]
NAMES = {
    "made": "the made images",
    "known": "real bads that the generator knew",
    "good": "real good images",
    "blurred": "real bads, heavily blurred",
}
KINDS = ("copy", "repeat", "broken")


@dataclass(frozen=True)
class Looked:
    """What was found.

    Attributes:
        document: Figures, JSON-ready.
        table: One row for each generated image: nearest training image of the generator, distances, and why it should
            be dropped, or null.
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


BY_HEART, ODD = 0.75, 0.05  # nearer to known bads than three of four real ones; one image in twenty


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
    text = f"KID {made:.4g} ({low:.4g} to {high:.4g}) to {counted(document['images']['unseen'], 'unseen real bad')}"
    points = [f"{row['what']} {row['kid']['value']:.4g}" for name, row in by.items() if name != "made"]
    nearer = [row["what"] for name, row in by.items() if name in ("good", "blurred") and made >= row["kid"]["value"]]
    reference = f"; for comparison: {', '.join(points)}." if points else "."
    if nearer:
        return f"{text}{reference} The made images are no more like real bads than {' and '.join(nearer)}."
    return text + reference


def _memory(document: dict[str, Any]) -> str:
    found = document["memory"]
    nearer = found["nearer"]
    text = (
        f"A made image is nearer to a bad that its generator knew than a new real bad is with a chance of {nearer:.2f}"
    )
    if nearer > BY_HEART:
        return f"{text} (0.5 is as new as real ones): much of it is learned by heart."
    return f"{text} (0.5 is as new as real ones, 1 is learned by heart)."


def _variety(document: dict[str, Any]) -> str:
    found = document["variety"]
    text = f"Variety: {found['vendi']:.1f} different images in effect, of real ones {found['real_vendi']:.1f}"
    return f"{text}, in {counted(found['images'], 'image')} each; spread {found['spread']:.2f} of that of real bads."


def _broken(document: dict[str, Any]) -> str:
    found = document["broken"]
    text = f"{counted(found['images'], 'made image lies', 'made images lie')} farther from all real bads than these "
    text += f"from each other ({percent(found['share'])}; of real bads {percent(found['real_share'])})"
    return text + (": many are broken, or of a kind that is not real." if found["share"] > ODD else ".")


def _drop(document: dict[str, Any]) -> str:
    drop, count = document["drop"], document["images"]["made"]
    if not drop["all"]:
        return f"None of {counted(count, 'made image')} has to be dropped."
    parts = (("copy", "copies of known bads"), ("repeat", "repeats of each other"), ("broken", "broken"))
    kinds = ", ".join(f"{drop[kind]} {word}" for kind, word in parts if drop[kind])
    return f"To be dropped, see drop.csv: {drop['all']} of {counted(count, 'made image')} ({kinds})."
