"""Figures of benchmarks/leads.py: attention through epochs, paired differences, one part seen by four stages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import polars as pl
import torch
from matplotlib import pyplot as plt

from knowngood.cam.maps import method_for, placed_maps
from knowngood.data.images import decode
from knowngood.data.preprocessing import find_leads
from knowngood.recipe.bundle import Recipe
from knowngood.recipe.maps import at_size

mpl.use("Agg")
COLOURS = {
    "plain": "#0072B2",
    "true_masks": "#CC79A7",
    "mask_leads": "#D55E00",
    "roi": "#009E73",
}  # Okabe and Ito, colour-blind safe
LABELS = {
    "plain": "as it is",
    "true_masks": "leads merged, true masks",
    "mask_leads": "--mask-leads",
    "roi": "region of interest",
}
MARKS = {"plain": "o", "true_masks": "D", "mask_leads": "s", "roi": "^"}
SHOWN = ("AUC", "overkill at TPR 99.5 %", "pointing game", "box IoU")


def draw(document: dict[str, Any], runs: Path, images: Path) -> None:
    """Writes docs/images/leads-*.png; the strip only where the runs are still there."""
    images.mkdir(parents=True, exist_ok=True)
    plt.rcParams.update({"font.size": 10, "axes.spines.top": False, "axes.spines.right": False})
    attention(document["runs"], images / "leads-attention.png")
    if document["summary"]["differences"]:
        differences(document["summary"], images / "leads-differences.png")
    if (runs / "plain-0" / "recipe").is_dir():
        strip(document["runs"], runs, images / "leads-strip.png")


def attention(runs: list[dict[str, Any]], target: Path) -> None:
    """Share of attention on the leads, one panel a stage, epochs to the right; a thin line a seed, thick their mean."""
    stages = list(runs[0]["attention"][1]["shares"])
    figure, panels = plt.subplots(1, len(stages), figsize=(11, 3.4), sharey=True, layout="constrained")
    for number, (stage, panel) in enumerate(zip(stages, panels, strict=True), 1):
        for arm in [a for a in COLOURS if any(run["arm"] == a for run in runs)]:
            lines = [_line(run, stage) for run in runs if run["arm"] == arm]
            epochs = [row["epoch"] for row in runs[0]["attention"][1:]]
            for line in lines:
                panel.plot(epochs[: len(line)], line, color=COLOURS[arm], alpha=0.35, linewidth=1)
            mean = np.ma.masked_invalid([line for line in lines if len(line) == len(epochs)]).mean(axis=0)
            panel.plot(epochs, mean, color=COLOURS[arm], marker=MARKS[arm], linewidth=2.2, label=LABELS[arm])
        area = 100 * float(np.mean([run["attention"][0]["area"]["leads"] for run in runs]))
        panel.axhline(area, color="#555555", linestyle="--", linewidth=1, label="share of the area")
        panel.set_title(f"stage {number}")
        panel.set_xlabel("epoch (0: before training)")
        panel.set_ylim(bottom=0)
        panel.set_xticks(epochs)
    panels[0].set_ylabel("Grad-CAM on the leads, %")
    panels[-1].legend(frameon=False, fontsize=9)
    figure.savefig(target, dpi=130)
    plt.close(figure)


def _line(run: dict[str, Any], stage: str) -> list[float]:
    shares = [row["shares"][stage]["leads"] for row in run["attention"][1:]]
    return [np.nan if share is None else 100 * share for share in shares]


def differences(summary: dict[str, Any], target: Path) -> None:
    """Paired differences with their intervals: what is better is to the right, overkill turned round for that."""
    arms = {name.split(" - ", maxsplit=1)[0]: gaps for name, gaps in summary["differences"].items()}
    known = next(iter(arms.values()))
    rows = [n for n in SHOWN if n in known] + sorted(n for n in known if n.startswith("AUC, "))
    figure, panel = plt.subplots(figsize=(8, 0.42 * len(rows) + 1.1), layout="constrained")
    for shift, (arm, gaps) in enumerate(arms.items()):
        for row, name in enumerate(reversed(rows)):
            if name not in gaps:
                continue
            place, sign, one = row - 0.22 * shift, -1 if name.startswith("overkill") else 1, gaps[name]
            if one["interval"]:
                panel.plot([sign * 100 * e for e in one["interval"]], [place, place], color=COLOURS[arm], linewidth=2)
            panel.plot(
                [sign * 100 * v for v in one["values"]], [place] * len(one["values"]), "|", color="#555555", ms=8
            )
            label = LABELS[arm] if row == 0 else None
            panel.plot(sign * 100 * one["mean"], place, MARKS[arm], color=COLOURS[arm], ms=6, label=label)
    figure.legend(*panel.get_legend_handles_labels(), loc="outside upper center", ncols=3, frameon=False)
    panel.set_xlim(
        max(panel.get_xlim()[0], -100), min(panel.get_xlim()[1], 100)
    )  # a few seeds say little of rare types
    panel.axvline(0, color="#555555", linewidth=1)
    labels = [name.replace("overkill", "less overkill") for name in reversed(rows)]
    panel.set_yticks(range(len(rows)), labels)
    panel.set_xlabel("percentage points against plain (right: better); 95 % t interval, a tick a seed")
    figure.savefig(target, dpi=130)
    plt.close(figure)


def strip(document: list[dict[str, Any]], runs: Path, target: Path) -> None:
    """One part with a defect: what each arm sees, and Grad-CAM of its four stages, each scaled to its own maximum."""
    arms = [arm for arm in COLOURS if (runs / f"{arm}-0" / "recipe").is_dir()]
    table = pl.read_parquet(runs / "plain-0" / "scores.parquet").filter(
        (pl.col("split") == "test") & (pl.col("defect") == "chipping")
    )
    order = table.sort("score", descending=True)
    found = (n for n, path in order.select("image", "path").iter_rows() if find_leads(decode(path)).any())
    name = next(found, order["image"][0])  # a part whose leads are found, so that there is something to compare
    figure, panels = plt.subplots(len(arms), 5, figsize=(11, 2.35 * len(arms)), layout="constrained", squeeze=False)
    for row, arm in zip(panels, arms, strict=True):
        recipe = Recipe.load(runs / f"{arm}-0")
        classifier: Any = recipe.inspector.members[0]
        own = pl.read_parquet(runs / f"{arm}-0" / "scores.parquet").filter(pl.col("image") == name)
        image = decode(own["path"][0])  # the arm of true masks has photographs of its own
        seen = recipe.manifest.preprocessing.apply(image)
        pixels = torch.from_numpy(recipe.fitted(image)[None])
        maps = placed_maps(classifier, pixels, method_for(classifier, "gradcam"), "all").maps
        row[0].imshow(seen, cmap="gray", vmin=0, vmax=255)
        row[0].set_ylabel(LABELS[arm])
        row[0].set_title("what the network sees")
        for number, (panel, heat) in enumerate(zip(row[1:], maps.values(), strict=True), 1):
            full = at_size(heat[0].clamp(min=0).numpy(), *seen.shape[:2])
            panel.imshow(seen, cmap="gray", vmin=0, vmax=255)
            shown = panel.imshow(full / max(float(full.max()), 1e-9), cmap="cividis", alpha=0.6, vmin=0, vmax=1)
            panel.set_title(f"stage {number}")
        for panel in row:
            panel.set_xticks([])
            panel.set_yticks([])
    figure.colorbar(shown, ax=panels, label="share of the map's maximum", shrink=0.8)
    figure.savefig(target, dpi=130)
    plt.close(figure)
