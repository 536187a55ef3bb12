"""The KID curves of both discriminators, joined early and late, and of the projected one alone: stylegan-kid.png.

python benchmarks/stylegan_figure.py
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt

ROOT = Path(__file__).parents[1]


def result(name: str) -> Any:
    return json.loads((ROOT / "benchmarks" / "results" / name).read_text("utf-8"))


def main() -> None:
    document = result("stylegan_tape.json")
    curves = (  # history, words beside it, colour, marker
        (document["history"], "both: the projected one from 10 on", "#0b5a8f", "o"),
        (result("stylegan_tape_late.json")["history"], "both: the projected one from 100 on", "#7fb2d6", "o"),
        (result("stylegan_projected_trials.json")["trials"][0]["history"], "projected alone: one picture only",
         "#6f6f6f", "s"),
    )  # fmt: skip
    figure, axis = plt.subplots(figsize=(8.5, 3.8))
    for history, words, colour, marker in curves:
        shown, found = zip(*((row["kimg"], row["kid"]) for row in history), strict=True)
        axis.plot(shown, found, color=colour, marker=marker, markersize=3.5, label=words)
    for line, each in {"untrained network": document["untrained"], **document["references"]}.items():
        axis.axhline(each["value"], color="#b3541e", linewidth=1, linestyle="--")
        under = line.startswith("held-out")  # the two uppermost lines lie close together
        at = {"x": 1.01, "y": each["value"] * (0.85 if under else 1.1), "va": "top" if under else "bottom"}
        axis.text(s=line, transform=axis.get_yaxis_transform(), fontsize=8, color="#7a3a14", **at)
    axis.set_yscale("log")
    axis.set_ylim(5e-4, 8)
    axis.set_xlabel("photographs shown, thousands")
    axis.set_ylabel("KID to held-out bads")
    axis.legend(frameon=False, loc="lower left", bbox_to_anchor=(0.0, 0.12), fontsize=9)
    axis.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(ROOT / "docs" / "images" / "stylegan-kid.png", dpi=110)


if __name__ == "__main__":
    main()
