"""One plot of everything that was measured: images/s per core, and what the machine could do at most as a line.

Reads the files of benchmarks/results/ that hold rates (those that are there), writes docs/images/rates.png. Runs of
different days stood on a machine of different speed: only bars of one group compare.

    python benchmarks/rates_plot.py
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

RESULTS = Path(__file__).parent / "results"
OUT = Path(__file__).parents[1] / "docs" / "images" / "rates.png"
CORES = 2
INK, LIMIT = "#0b5a8f", "#b3541e"
Bar = tuple[str, float, float | None]  # what, images/s, at most
Group = tuple[str, list[Bar]]


def held(name: str) -> dict[str, Any] | None:
    path = RESULTS / name
    return json.loads(path.read_text("utf-8")) if path.is_file() else None


def networks() -> list[Group]:
    """What single networks do."""
    made: list[Group] = []
    found = held("engine.json")
    for network in ("resnet50", "resnet18", "efficientnet_lite0"):
        if found:
            one = found["speed"][network]
            most = one["images/s"]["engine alone"] / one["share of int8 peak"]
            bars = [(name, rate, most if "script" not in name and "eager" not in name else None)
                    for name, rate in one["images/s"].items() if "no map" not in name]  # fmt: skip
            made.append((f"{network}, 224 px", bars))
    if (one := held("fast_networks.json")) is not None:
        rows = one["speed"]["found"]["networks"].items()
        bars = [(name, row["images/s"], row["images/s"] / row["share of the int8 peak"]) for name, row in rows]
        made.append(("small networks, engine alone (3-4: blocks of stages)", bars))
    return made


def whole_ways() -> list[Group]:
    """What is built around them."""
    made: list[Group] = []
    for name, title in (("elpv", "cascade on solar cells"), ("tape", "cascade on the look-alike")):
        if (one := held(f"cascade_{name}.json")) is not None:
            made.append((f"{title}, ResNet-50", unlimited(one)))
    if (one := held("anomalib_inferencer.json")) is not None:
        made += [(f"beside anomalib, {network}", unlimited(one[network])) for network in ("resnet50", "resnet18")]
    for name, title in (("ray_engine", "predict"), ("ray_features", "features")):
        if (one := held(f"{name}.json")) is not None:
            made.append((f"{title} on a cluster of {one['workers']} workers, this machine", unlimited(one)))
    return made


def unlimited(one: dict[str, Any]) -> list[Bar]:
    return [(what, rate, None) for what, rate in one["images/s"].items()]


def drawn(axis: Axes, title: str, bars: list[Bar]) -> None:
    for row, (_, rate, most) in enumerate(bars):
        axis.barh(row, rate / CORES, color=INK, height=0.62)
        right = max(rate, most if most and most < 2 * rate else 0)  # clear of the line
        said = f"{rate / CORES:.0f}" if rate / CORES >= 100 else f"{rate / CORES:.3g}"
        axis.text(right / CORES * 1.12, row, said, va="center", fontsize=8)
        if most:
            axis.plot([most / CORES] * 2, [row - 0.42, row + 0.42], color=LIMIT, linewidth=2)
    axis.set_yticks(range(len(bars)), [name for name, *_ in bars], fontsize=8.5)
    axis.set_title(title, fontsize=9.5, loc="left", pad=3)
    axis.invert_yaxis()
    axis.set_xscale("log")
    axis.spines[["top", "right"]].set_visible(False)
    axis.set_xlim(2, 4000)


def main() -> None:
    columns = [networks(), whole_ways()]
    heights = [sum(0.32 * len(bars) + 0.62 for _, bars in column) for column in columns]
    figure = plt.figure(figsize=(13.5, max(heights) + 0.5), layout="constrained")
    for part, column in zip(figure.subfigures(1, 2), columns, strict=True):
        sizes = [len(bars) + 0.6 for _, bars in column]
        axes = part.subplots(len(column), 1, sharex=True, squeeze=False, gridspec_kw={"height_ratios": sizes})
        for axis, (title, bars) in zip(axes[:, 0], column, strict=True):
            drawn(axis, title, bars)
        axes[-1, 0].set_xlabel("images/s per core", fontsize=9)
    figure.suptitle("orange: what the machine's measured int8 peak allows this network", fontsize=9, color=LIMIT)
    figure.savefig(OUT, dpi=90)


if __name__ == "__main__":
    main()
