"""knowngood explain: a recipe and photographs in, pictures of where it looked out, with boxes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from knowngood.cli.options import MaxErrors, RecipePath, Verb, images_to_read, out_folder, with_device, with_options
from knowngood.cli.output import Json, answer_json, at_work, end_for_errors, one_line, show_table
from knowngood.workflows.configs import ExplainConfig

SHOWN = 20


def register(app: typer.Typer) -> None:
    """Adds the verb."""
    app.command(cls=Verb, short_help="Show where a recipe looked: heatmaps and boxes.")(explain)


@with_options(ExplainConfig, basic=("method", "cam_threshold", "scale"))
@with_device
def explain(
    recipe: RecipePath,
    images: Annotated[list[Path], images_to_read("Image files and folders.")],
    out: Annotated[Path, out_folder("Folder for the pictures; one of an earlier call is replaced.")],
    config: ExplainConfig,
    max_errors: MaxErrors = 0,
    json: Json = False,
) -> None:
    """Show where a recipe looked in photographs: overlays, boxes (CSV and COCO), on request raw maps and stages.

    A file that cannot be read has a row with decision "error", and the exit code is then 1, all else being written;
    --max-errors N allows N of them.
    """
    with at_work():
        from knowngood.workflows.explain import PAGE
        from knowngood.workflows.explain import explain as work

        done = work(recipe, images, out, config)
    if json:
        answer_json({"out": str(done.folder), **done.document})
    found = done.document["images"]
    if json:
        end_for_errors(sum(i["error"] is not None for i in found), len(found), max_errors)
        return
    broken = [(one_line(i["image"]), i["error"]) for i in found if i["error"]]
    if broken:
        show_table(f"Unreadable ({min(len(broken), SHOWN)} of {len(broken)})", ("image", "error"), broken[:SHOWN])
    seen = sorted((i for i in found if not i["error"]), key=lambda i: -i["defect_score"])
    rows = [
        (one_line(i["image"]), i["defect_score"], i["decision"], len(i["boxes"]), _largest(i["boxes"]))
        for i in seen[:SHOWN]
    ]
    columns = ("image", "defect score", "decision", "boxes", "largest: x0 y0 x1 y1")
    if rows:
        show_table(f"Highest scores ({len(rows)} of {len(seen)})", columns, rows)
    for why, count in done.document["passed_over"].items():
        typer.echo(f"Passed over, {why}: {count}")
    typer.echo(f"Pictures: {done.folder / PAGE}\nBoxes: {done.folder / 'boxes.csv'}")
    end_for_errors(len(broken), len(found), max_errors)


def _largest(boxes: list[dict[str, list[int]]]) -> str:
    return " ".join(map(str, boxes[0]["box"])) if boxes else ""
