"""knowngood weights: which networks have pretrained weights here, and getting them from a package registry."""

from __future__ import annotations

from typing import Annotated

import typer

from knowngood.cli.options import Verb
from knowngood.cli.output import Json, answer_json, at_work, show_table


def register(app: typer.Typer) -> None:
    """Adds the verb."""
    app.command(cls=Verb, short_help="List networks; fetch their ImageNet weights.")(weights)


def weights(
    fetch: Annotated[
        list[str] | None,
        typer.Option(help="Network whose weights to get from its registry package (may be repeated)."),
    ] = None,
    json: Json = False,
) -> None:
    """List the networks and where their ImageNet weights would come from; fetch some into the cache."""
    with at_work():
        from knowngood.models.backbones import BACKBONES
        from knowngood.models.weights import available
        from knowngood.models.weights import fetch as get
        from knowngood.models.weights.files import PACKAGES

        for name in fetch or []:
            BACKBONES.get(name)  # an unknown name is an error with the nearest names
            get(name)
    packages = {p.backbone: {"package": p.requirement, "registry": p.registry, "licence": p.licence} for p in PACKAGES}
    rows = [
        {"model": name, "here": available(name), "what": one.summary, **packages.get(one.weights_of or name, {})}
        for name, one in BACKBONES.items()
    ]
    if json:
        answer_json(rows)
        return
    cells = [
        [r["model"], r["here"] or "no", f"{r['registry']} {r['package']}" if "package" in r else "hub"] for r in rows
    ]
    show_table("Networks and their ImageNet weights", ("model", "here", "to be had from"), cells)
