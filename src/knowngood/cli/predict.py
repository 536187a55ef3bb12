"""knowngood predict: a recipe and photographs in, a row a photograph out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from knowngood.cli.clustering import at_work_on, check_folder
from knowngood.cli.options import (
    ADVANCED,
    AcceptBelow,
    MaxErrors,
    RecipePath,
    RejectFrom,
    RequireSignature,
    Verb,
    check_name,
    images_to_read,
    to_read,
    with_device,
    with_options,
)
from knowngood.cli.output import Json, answer_json, at_work, end_for_errors, one_line, percent, show_table
from knowngood.errors import ConfigError
from knowngood.recipe.options import EngineConfig

SHOWN = 20


def register(app: typer.Typer) -> None:
    """Adds the verb."""
    app.command(cls=Verb, short_help="Score photographs with a recipe.")(predict)


@with_options(EngineConfig, basic=("engine", "any_product"))
@with_device
def predict(  # noqa: PLR0913, PLR0917  (an option each)
    recipe: RecipePath,
    images: Annotated[
        list[str],
        images_to_read("Image files, folders, archives, tables, URLs; - reads paths from stdin."),
    ],
    config: EngineConfig,
    out: Annotated[Path | None, typer.Option("--out", help="File for the scores: .csv or .parquet.")] = None,
    sample: Annotated[
        Path | None, to_read("Sample submission whose columns and ids --out shall have.", ADVANCED)
    ] = None,
    submission: Annotated[
        bool,
        typer.Option("--submission", help="Write --out as id,label, as contests want it.", rich_help_panel=ADVANCED),
    ] = False,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Score everything, also what --out has already.", rich_help_panel=ADVANCED)
    ] = False,
    runtime: Annotated[
        str, typer.Option(help="auto, torch, openvino or onnxruntime; auto takes the recipe's quickest export.")
    ] = "auto",
    accept_below: AcceptBelow = None,
    reject_from: RejectFrom = None,
    max_errors: MaxErrors = 0,
    require_signature: RequireSignature = None,
    profile: Annotated[
        bool, typer.Option("--profile", help="Show how busy each stage was.", rich_help_panel=ADVANCED)
    ] = False,
    json: Json = False,
) -> None:
    """Score photographs: defect score (0 to 1, higher is more likely bad) and accept, review or reject.

    A file that cannot be read has a row with decision "error", and the exit code is then 1, all rows being written;
    --max-errors N allows N of them. A second run scores only what is new.
    """
    check_name("runtime", runtime)
    local = {"--sample": sample is not None, "--submission": submission, "--profile": profile}
    tries = {"--accept-below": accept_below is not None, "--reject-from": reject_from is not None}
    _refused(config, out, local | tries)
    if config.engine != "local":
        counts = _on_cluster(
            (recipe, images, out, config), json, runtime=runtime, fresh=fresh, signed_by=require_signature or None
        )
        end_for_errors(counts["unreadable"], counts["images"], max_errors)
        return
    with at_work():
        from knowngood.data.records import PassedOver
        from knowngood.recipe.engine import Profile
        from knowngood.recipe.predicting import predict as work

        stages, passed = Profile(), PassedOver()
        kept: dict[str, Any] = {"out": out, "sample": sample, "submission": submission, "fresh": fresh}
        kept |= {"cascade": config.cascade, "any_product": config.any_product, "passed_over": passed}
        cuts: dict[str, Any] = {
            "accept_below": accept_below,
            "reject_from": reject_from,
            "signed_by": require_signature,
        }
        frame = work(recipe, images, **kept, **cuts, runtime=runtime, profile=stages)
    counts = {
        "images": len(frame),
        **{name: int((frame["decision"] == name).sum()) for name in ("accept", "review", "reject")},
        "unreadable": int(frame["error"].is_not_null().sum()),
    }
    if json:
        more: dict[str, Any] = {"profile": stages.document()} if profile else {}
        more |= {"runtime": sorted(set(frame["runtime"])), "recipe": sorted(set(frame["recipe"])), **passed.to_dict()}
        answer_json({**counts, **more, "out": None if out is None else str(out), "rows": frame.to_dicts()})
        end_for_errors(counts["unreadable"], len(frame), max_errors)
        return
    broken = frame.filter(frame["error"].is_not_null())
    if len(broken):
        listed = [(one_line(name), error) for name, error in broken.select("image", "error").head(SHOWN).iter_rows()]
        show_table(f"Unreadable ({len(listed)} of {len(broken)})", ("image", "error"), listed)
    unusual = frame.filter(frame["reason"].is_not_null())
    if len(unusual):
        shown = unusual.select("image", "defect_score", "reason").head(SHOWN)
        title = f"For a person, whatever the score ({len(shown)} of {len(unusual)})"
        listed = [(one_line(name), *rest) for name, *rest in shown.iter_rows()]
        show_table(title, ("image", "defect score", "reason"), listed)
    scored = frame.filter(frame["defect_score"].is_not_null()).sort("defect_score", descending=True)
    if len(scored):
        worst = scored.select("image", "defect_score", "decision").head(SHOWN)
        rows = [(one_line(name), *rest) for name, *rest in worst.iter_rows()]
        show_table(f"Highest scores ({len(rows)} of {len(scored)})", ("image", "defect score", "decision"), rows)
    typer.echo(", ".join(f"{number} {name}" for name, number in counts.items()))
    typer.echo(f"Decided by {' and '.join(sorted(set(frame['runtime'])))}, recipe {' and '.join(set(frame['recipe']))}")
    for sentence in passed.sentences():
        typer.echo(one_line(sentence))
    if profile:
        show_profile(stages.document())
    if out is not None:
        typer.echo(f"Scores: {out}")
    end_for_errors(counts["unreadable"], len(frame), max_errors)


def _refused(config: EngineConfig, out: Path | None, others: dict[str, bool]) -> None:
    """Looks whether the options go together.

    Raises:
        ConfigError: They do not.
    """
    wrong = next((flag for flag, given in others.items() if given), None)
    if config.engine != "local" and wrong is not None:
        raise ConfigError(f"{wrong} does not go with --engine {config.engine}.", fix="Leave one of them out.")
    check_folder(config, out, (".csv", ".parquet"))


def _on_cluster(given: tuple[Any, ...], json: bool, **more: Any) -> dict[str, int]:
    with at_work_on(given[3]):
        from knowngood.recipe.cluster import predict_on_cluster

        done = predict_on_cluster(*given, **more)
    facts = {"images": done.images, **done.counts}
    if json:
        parts = {"parts": done.parts, "taken_over": done.taken_over, "workers": done.workers}
        answer_json({**facts, **parts, "out": str(done.folder)})
        return facts
    worst = done.rows().select("image", "defect_score", "decision").drop_nulls("defect_score")
    rows = worst.top_k(SHOWN, by="defect_score").collect(engine="streaming").rows()
    shown = sorted(((one_line(name), *rest) for name, *rest in rows), key=lambda row: -float(str(row[1])))
    show_table(f"Highest scores ({len(shown)})", ("image", "defect score", "decision"), shown)
    typer.echo(", ".join(f"{number} {name}" for name, number in facts.items()))
    typer.echo(f"Scores: {given[2]}/rows/*.parquet, {done.parts} parts")
    return facts


def show_profile(document: dict[str, Any]) -> None:
    """Prints how busy each stage was."""
    rows = [(name, one["seconds"], one["threads"], percent(one["busy"])) for name, one in document["stages"].items()]
    rate = f"{document['images']} images in {document['seconds']:.1f} s, {document['images_per_second']:.1f} a second"
    show_table(rate, ("stage", "seconds", "threads", "busy"), rows, right=(3,))
