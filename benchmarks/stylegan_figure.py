"""The KID curve of benchmarks/results/stylegan_tape.json, as docs/images/stylegan-kid.png.

python benchmarks/stylegan_figure.py
"""

from __future__ import annotations

import json
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt

ROOT = Path(__file__).parents[1]


def main() -> None:
    document = json.loads((ROOT / "benchmarks" / "results" / "stylegan_tape.json").read_text("utf-8"))
    history = document["history"]
    figure, axis = plt.subplots(figsize=(8.5, 3.6))
    axis.plot(
        [row["kimg"] for row in history], [row["kid"] for row in history], color="#0b5a8f", marker="o", markersize=4
    )
    lines = {"untrained network": document["untrained"], **document["references"]}
    for name, found in lines.items():
        axis.axhline(found["value"], color="#b3541e", linewidth=1, linestyle="--")
        under = name.startswith("held-out")  # the two uppermost lines lie close together
        at = {"x": 1.01, "y": found["value"] * (0.85 if under else 1.1), "va": "top" if under else "bottom"}
        axis.text(s=name, transform=axis.get_yaxis_transform(), fontsize=8, color="#7a3a14", **at)
    axis.set_yscale("log")
    axis.set_ylim(5e-4, 8)
    axis.set_xlabel("photographs shown, thousands")
    axis.set_ylabel("KID to held-out bads")
    axis.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(ROOT / "docs" / "images" / "stylegan-kid.png", dpi=110)


if __name__ == "__main__":
    main()
