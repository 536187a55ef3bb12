"""knowngood export: a recipe in, a graph for another runtime out, let through only when it decides alike."""

from __future__ import annotations

from typing import Annotated

import typer

from knowngood.cli.options import RecipePath, Verb, data_option, with_device, with_options
from knowngood.cli.output import Json, answer_json, at_work, percent, show_table
from knowngood.recipe.options import Tolerance


def register(app: typer.Typer) -> None:
    """Adds the verb."""
    app.command(cls=Verb, short_help="Export a recipe to OpenVINO or ONNX, checked for parity.")(export)


@with_options(Tolerance, basic=())
@with_device
def export(
    recipe: RecipePath,
    config: Tolerance,
    to: Annotated[str, typer.Option(help="Format: openvino or onnx.")] = "openvino",
    precision: Annotated[str, typer.Option(help="fp32, bf16 or int8.")] = "int8",
    data: Annotated[str | None, data_option("Where the run's images are now, if they were moved.")] = None,
    json: Json = False,
) -> None:
    """Export a recipe into its own folder; predict takes the quickest export from then on.

    The graph is compared with the recipe on held-out images and refused when it differs too much;
    its thresholds are certified anew.
    """
    from knowngood.recipe.export_formats import check_export

    check_export(recipe, to, precision)  # before what is heavy is imported
    with at_work():
        from knowngood.recipe.exporting import export as work

        done = work(recipe, to=to, precision=precision, data=data, tolerance=config)
    document, parity = done.document, done.document.parity
    if json:
        answer_json({"folder": str(done.folder), **document.model_dump(mode="json")})
        return
    before, after = parity["recipe_at_its_threshold"], parity["graph_at_its_own_threshold"]
    auc = parity["auc"] or {"before": None, "after": None}
    rows = [
        ("AUC", auc["before"], auc["after"]),
        ("threshold", before["threshold"], after["threshold"]),
        (f"escapes of {parity['bads']}", before["escapes"], after["escapes"]),
        ("overkill", percent(before["overkill"]), percent(after["overkill"])),
    ]
    show_table(f"{parity['images']} held-out images", ("", "recipe", "export"), rows, right=(1, 2))
    difference = parity["score_difference"]
    typer.echo(
        f"Scores differ by {difference['mean']:.5f} on average, {difference['max']:.5f} at most; "
        f"{parity['changed_decisions']} decisions changed."
    )
    if document.wide:
        typer.echo(f"{len(document.wide)} layers were kept in float.")
    typer.echo(f"Threshold of the export: {document.threshold['sentence']}\nExport: {done.folder}")
