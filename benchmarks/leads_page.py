"""Writes what benchmarks/leads.py measured into docs/explanation/leads.md, between its two marks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from knowngood.files import write_text

BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"
SHOWN = ("AUC", "overkill at TPR 99.5 %", "pointing game", "box IoU")
FIGURES = {
    "leads-differences.png": "Paired differences with intervals",
    "leads-attention.png": "Share of Grad-CAM on the leads through epochs, stage by stage",
    "leads-strip.png": "One chipped part: Grad-CAM of the four stages of each arm",
}


def write_page(document: dict[str, Any], page: Path, images: Path) -> None:
    """Replaces the measured part of the page; the words around it are a person's."""
    text = page.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    after = rest.partition(END)[2]
    write_text(page, f"{before}{BEGIN}\n\n{measured(document, images)}\n{END}{after}")


def measured(document: dict[str, Any], images: Path) -> str:
    """Returns tables, what their intervals allow to say, and the figures that exist."""
    found, runs = document["summary"], document["runs"]
    first, pairs = runs[0], {}
    lines = [
        f"Measured {document['date'][:10]} with `{document['command']}`; {len(runs)} runs, seeds "
        f"{', '.join(map(str, found['seeds']))}; each `{first['source'].rsplit(',', 1)[0]}` with its own seed, "
        f"{first['epochs']} epochs, {first['test']['good']} good and {first['test']['bad']} bad test images "
        f"(true labels). The numbers are in `benchmarks/results/leads.json`.",
        "",
    ]
    for name, gaps in found["differences"].items():
        arm = name.split(" - ", maxsplit=1)[0]
        pairs[name] = gaps
        lines += [f"| | as it is | {arm.replace('_', ' ')} | difference | 95 % interval |", "|---|---|---|---|---|"]
        stages = list(first["attention"][1]["shares"])
        last = max(row["epoch"] for row in first["attention"][1:])
        rows = [n for n in SHOWN if n in gaps] + sorted(n for n in gaps if n.startswith("AUC, "))
        rows += [n for e in (0, last) for s in stages if (n := f"on leads, {s}, epoch {e}") in gaps]
        lines += [_row(n, found["arms"]["plain"], found["arms"][arm], gaps) for n in rows]
        lines += ["", _said(name, gaps), ""]
    lines += _finder([run["finder"] for run in runs if "finder" in run])
    for file, words in FIGURES.items():
        if (images / file).is_file():
            lines += [f"![{words}](../images/{file})", ""]
    return "\n".join(lines)


def _finder(found: list[dict[str, Any]]) -> list[str]:
    """What the finder behind `--mask-leads` finds, by the true defect of a unit, over all seeds."""
    if not found:
        return []
    lines = ["What `--mask-leads` finds of the leads of test units:", ""]
    lines += ["| unit | units | recall | precision | leads missed |", "|---|---|---|---|---|"]
    for kind in sorted({kind for one in found for kind in one}):
        rows = [one[kind] for one in found if kind in one]
        units = sum(row["units"] for row in rows)
        means = [sum(row["units"] * row[n] for row in rows) / units for n in ("recall", "precision", "missed")]
        lines.append(f"| {kind.replace('_', ' ')} | {units} | " + " | ".join(f"{mean:.2f}" for mean in means) + " |")
    return [*lines, ""]


def _row(name: str, plain: dict[str, Any], arm: dict[str, Any], gaps: dict[str, Any]) -> str:
    gap, interval = gaps[name]["mean"], gaps[name]["interval"]
    reach = "one pair" if interval is None else f"{interval[0]:+.3f} to {interval[1]:+.3f}"
    return f"| {name} | {plain[name]['mean']:.3f} | {arm[name]['mean']:.3f} | {gap:+.3f} | {reach} |"


def _said(name: str, gaps: dict[str, Any]) -> str:
    """One sentence: which of the four main figures differ beyond their interval, and which do not."""
    real = [n for n in SHOWN if n in gaps and (i := gaps[n]["interval"]) and (i[0] > 0 or i[1] < 0)]
    rest = [n for n in SHOWN if n in gaps and n not in real]
    words = []
    if real:
        words.append("beyond chance: " + ", ".join(f"{n} ({gaps[n]['mean']:+.3f})" for n in real))
    if rest:
        words.append("not told from nothing: " + ", ".join(rest))
    return f"{name.replace('_', ' ')}: {'; '.join(words)}."
