"""The KID curves of benchmarks/results/stylegan_tape.json and _residual.json, as docs/images/stylegan-kid.png.

python benchmarks/stylegan_figure.py
"""

from __future__ import annotations

import json
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt

ROOT = Path(__file__).parents[1]
CURVES = {  # words beside it, colour, marker
    "stylegan_tape": ("projected discriminator", "#0b5a8f", "o"),
    "stylegan_tape_residual": ("residual discriminator", "#6f6f6f", "s"),
}


def main() -> None:
    figure, axis = plt.subplots(figsize=(8.5, 3.8))
    for name, (words, colour, marker) in CURVES.items():
        document = json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text("utf-8"))
        shown, found = zip(*((row["kimg"], row["kid"]) for row in document["history"]), strict=True)
        axis.plot(shown, found, color=colour, marker=marker, markersize=3.5, label=words)
        if name == "stylegan_tape":
            for line, each in {"untrained network": document["untrained"], **document["references"]}.items():
                axis.axhline(each["value"], color="#b3541e", linewidth=1, linestyle="--")
                under = line.startswith("held-out")  # the two uppermost lines lie close together
                at = {"x": 1.01, "y": each["value"] * (0.85 if under else 1.1), "va": "top" if under else "bottom"}
                axis.text(s=line, transform=axis.get_yaxis_transform(), fontsize=8, color="#7a3a14", **at)
    axis.set_yscale("log")
    axis.set_ylim(5e-4, 8)
    axis.set_xlabel("photographs shown, thousands")
    axis.set_ylabel("KID to held-out bads")
    axis.legend(frameon=False, loc="lower left", fontsize=9)
    axis.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(ROOT / "docs" / "images" / "stylegan-kid.png", dpi=110)


if __name__ == "__main__":
    main()
