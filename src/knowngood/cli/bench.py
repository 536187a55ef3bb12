"""knowngood bench: what this machine does with a recipe, stage by stage, and what bounds it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from knowngood.cli.options import RecipePath, Verb, images_to_read, with_device
from knowngood.cli.output import Json, answer_json, at_work, percent, show_table


def register(app: typer.Typer) -> None:
    """Adds the verb."""
    app.command(cls=Verb, short_help="Measure a recipe on this machine, stage by stage.")(bench)


@with_device
def bench(
    recipe: RecipePath,
    images: Annotated[Path | None, images_to_read("Photographs to use; drawn ones by default.", "[IMAGES]")] = None,
    rounds: Annotated[int, typer.Option(help="How often each way has its turn.", min=1)] = 3,
    count: Annotated[int, typer.Option(help="Photographs that the whole pipeline is measured on.", min=1)] = 64,
    json: Json = False,
) -> None:
    """Measure decoding, resizing, inference in every exported precision, all of it together, and the machine's peak."""
    with at_work():
        from knowngood.recipe.bench import bench as work

        done = work(recipe, images, rounds=rounds, count=count)
    if json:
        answer_json(done)
        return
    rows = [(f"{name} (one core)", rate, "") for name, rate in done["stages"].items()]
    rows += [
        (f"infer: {name}", one["images_per_second"], percent(one["share_of_roofline"]))
        for name, one in done["inference"].items()
    ]
    rows.append((f"files to decisions: {done['pipeline']['with']}", done["pipeline"]["images_per_second"], ""))
    if "cascade" in done:
        one = done["cascade"]
        rows.append((f"files to decisions: cascade, {percent(one['passed_on'])} go up", one["images_per_second"], ""))
    title = (
        f"{done['cores']} cores, input {'x'.join(map(str, done['input']))}, {done['gflop_per_image']} GFLOP an image"
    )
    show_table(title, ("stage", "images/s", "of the peak"), [(n, f"{r:.1f}", s) for n, r, s in rows], right=(1, 2))
    limits = [(name, f"{rate:.0f}") for name, rate in done["roofline"].items()]
    show_table("Peaks of this machine", ("precision", "GFLOP/s"), limits, right=(1,))
    busy = [(name, percent(one["busy"])) for name, one in done["pipeline"]["stages"].items()]
    show_table("Pipeline", ("stage", "busy"), busy, right=(1,))
    typer.echo(done["bound_by"])
