"""knowngood compare-recipes: two recipes and labelled photographs in, which one decides better out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from knowngood.cli.options import Source, Verb, with_device
from knowngood.cli.output import Json, answer_json, at_work, one_line, percent_range, show_table

SHOWN = 20
_Recipe = Annotated[Path, typer.Argument(help="Folder of a recipe, or of the run that made it.")]


def register(app: typer.Typer) -> None:
    """Adds the verb."""
    app.command("compare-recipes", cls=Verb, short_help="Compare two recipes on photographs that neither has seen.")(
        compare_recipes
    )


@with_device
def compare_recipes(
    a: _Recipe,
    b: _Recipe,
    data: Annotated[str, typer.Argument(metavar="DATA", help="Labelled photographs: folder, manifest, or a source.")],
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder for the page, with every flipped unit as a picture.")
    ] = None,
    source: Source = None,
    all_images: Annotated[
        bool, typer.Option("--all-images", help="Count all photographs, also those that a recipe learned from.")
    ] = False,
    runtime: Annotated[str, typer.Option(help="auto, torch, openvino or onnxruntime, for both.")] = "auto",
    confidence: Annotated[float, typer.Option(min=0.5, max=0.9999, help="Of the intervals.")] = 0.95,
    json: Json = False,
) -> None:
    """Compare two recipes on the same labelled photographs: AUC (DeLong), decisions (McNemar), escapes, overkill.

    Only photographs count that neither recipe learned from or was calibrated on. Each decides at its own thresholds.
    """
    with at_work():
        from knowngood.experiments.recipe_comparison import PAGE
        from knowngood.experiments.recipe_comparison import compare_recipes as work

        options: dict[str, Any] = {"source": source, "all_images": all_images, "runtime": runtime}
        done = work(a, b, data, out, **options, confidence=confidence)
    flipped = done.rows.filter("flipped")
    if json:
        rows = flipped.drop("path").to_dicts()
        answer_json({**done.document, "flipped_units": rows, "out": None if out is None else str(out)})
        return
    document = done.document
    facts = document["recipes"]
    recipes = [(key.upper(), facts[key]["name"], facts[key]["runtime"], facts[key]["accept_below"]) for key in facts]
    show_table("Recipes", ("", "name", "decided by", "accepts below"), recipes)
    show_table(_title(document), ("", "A", "B", "p"), _figures(document), right=(1, 2, 3))
    if len(flipped):
        columns = ("image", "label", "A", "B")
        listed = [
            (one_line(r["image"]), "bad" if r["label"] else "good", _said(r, "a"), _said(r, "b"))
            for r in flipped.head(SHOWN).iter_rows(named=True)
        ]
        show_table(f"Flipped units ({len(listed)} of {len(flipped)})", columns, listed)
    typer.echo("\n".join(document["sentences"]))
    if done.folder is not None:
        typer.echo(f"Page: {done.folder / PAGE}")


def _title(document: dict[str, Any]) -> str:
    left_out = ", ".join(f"{count} {reason}" for reason, count in document["left_out"].items())
    return f"On {document['images']} photographs (left out: {left_out or 'none'})"


def _figures(document: dict[str, Any]) -> list[tuple[str, ...]]:
    auroc = document["auroc"]
    rows: list[tuple[str, ...]] = []
    if auroc is not None:
        rows.append(("AUC", f"{auroc['a']:.4f}", f"{auroc['b']:.4f}", f"{auroc['p_value']:.2g}"))
    for key in ("escapes", "overkill"):
        found = document[key]
        cells = (
            f"{found[one]['count']} of {found['units']}\n{percent_range(found[one]['interval'])}" for one in ("a", "b")
        )
        rows.append((key, *cells, f"{found['p_value']:.2g}"))
    right = document["accuracy"]
    rows.append(("alone right", str(right["only_a_right"]), str(right["only_b_right"]), f"{right['p_value']:.2g}"))
    return rows


def _said(row: dict[str, Any], key: str) -> str:
    return f"{row[f'{key}_decision']} {row[f'{key}_score']:.4f}"
