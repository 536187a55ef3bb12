"""One plot of everything that was measured: images/s per core, and what the machine could do at most as a line.

Reads benchmarks/results/engine.json, layers.json, cascade_*.json and ray_engine.json (those that are there), writes
docs/images/rates.png. Runs of different days stood on a machine of different speed: only bars of one group compare.

    python benchmarks/rates_plot.py
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt

RESULTS = Path(__file__).parent / "results"
OUT = Path(__file__).parents[1] / "docs" / "images" / "rates.png"
CORES = 2
INK, LIMIT = "#0b5a8f", "#b3541e"
Bar = tuple[str, float, float | None]  # what, images/s, at most


def held(name: str) -> dict[str, Any] | None:
    path = RESULTS / name
    return json.loads(path.read_text("utf-8")) if path.is_file() else None


def groups() -> list[tuple[str, list[Bar]]]:
    made: list[tuple[str, list[Bar]]] = []
    found = held("engine.json")
    for network in ("resnet50", "resnet18", "efficientnet_lite0"):
        if found:
            one = found["speed"][network]
            most = one["images/s"]["engine alone"] / one["share of int8 peak"]
            bars = [(name, rate, most if "script" not in name and "eager" not in name else None)
                    for name, rate in one["images/s"].items() if "no map" not in name]  # fmt: skip
            made.append((f"{network}, 224 px", bars))
    for name, title in (("elpv", "cascade on solar cells"), ("tape", "cascade on the look-alike")):
        if (one := held(f"cascade_{name}.json")) is not None:
            made.append((f"{title}, ResNet-50", [(what, rate, None) for what, rate in one["images/s"].items()]))
    if (one := held("ray_engine.json")) is not None:
        made.append((f"cluster, {one['workers']} workers on this machine",
                     [(what, rate, None) for what, rate in one["images/s"].items()]))  # fmt: skip
    return made


def main() -> None:
    parts = groups()
    sizes = [len(bars) for _, bars in parts]
    figure, axes = plt.subplots(len(parts), 1, figsize=(8.5, 0.34 * sum(sizes) + 0.55 * len(parts) + 0.6), sharex=True,
                                gridspec_kw={"height_ratios": sizes}, squeeze=False)  # fmt: skip
    for axis, (title, bars) in zip(axes[:, 0], parts, strict=True):
        for row, (_, rate, most) in enumerate(bars):
            axis.barh(row, rate / CORES, color=INK, height=0.62)
            right = max(rate, most if most and most < 1.5 * rate else 0)  # clear of the line
            axis.text(right / CORES * 1.06, row, f"{rate / CORES:.3g}", va="center", fontsize=8)
            if most:
                axis.plot([most / CORES] * 2, [row - 0.42, row + 0.42], color=LIMIT, linewidth=2)
        axis.set_yticks(range(len(bars)), [name for name, *_ in bars], fontsize=8.5)
        axis.set_title(title, fontsize=9.5, loc="left", pad=3)
        axis.invert_yaxis()
        axis.set_xscale("log")
        axis.spines[["top", "right"]].set_visible(False)
        axis.set_xlim(2, 2000)
    axes[-1, 0].set_xlabel(
        "images/s per core (orange: the measured int8 peak of the machine for this network)", fontsize=9
    )
    figure.tight_layout()
    figure.savefig(OUT, dpi=110)


if __name__ == "__main__":
    main()
