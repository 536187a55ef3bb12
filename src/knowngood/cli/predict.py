"""knowngood predict: a recipe and photographs in, a row a photograph out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from knowngood.cli.answering import Json, answer_json, at_work, one_line, percent, show_table
from knowngood.cli.clustering import at_work_on, check_folder
from knowngood.cli.options import with_options
from knowngood.errors import ConfigError
from knowngood.recipe.cluster.config import EngineConfig

SHOWN = 20


def register(app: typer.Typer) -> None:
    """Adds the verb."""
    app.command(short_help="Score photographs with a recipe.")(predict)


@with_options(EngineConfig)
def predict(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE", help="Folder of a recipe, or of the run that made it.")],
    images: Annotated[
        list[str],
        typer.Argument(
            metavar="IMAGES", help="Image files, folders, archives, tables, URLs; - reads paths from stdin."
        ),
    ],
    config: EngineConfig,
    out: Annotated[Path | None, typer.Option("--out", help="File for the scores: .csv or .parquet.")] = None,
    sample: Annotated[
        Path | None, typer.Option(help="Sample submission whose columns and ids --out shall have.")
    ] = None,
    submission: Annotated[
        bool, typer.Option("--submission", help="Write --out as id,label, as contests want it.")
    ] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Score everything, also what --out has already.")] = False,
    runtime: Annotated[
        str, typer.Option(help="auto, torch, openvino or onnxruntime; auto takes the recipe's quickest export.")
    ] = "auto",
    profile: Annotated[bool, typer.Option("--profile", help="Tell how busy each stage was.")] = False,
    json: Json = False,
) -> None:
    """Score photographs: defect score (0 to 1, higher is more likely bad) and accept, review or reject.

    A file that cannot be read costs its own row. A second run scores only what is new.
    """
    _refused(config, out, {"--sample": sample, "--submission": submission, "--profile": profile})
    if config.engine != "local":
        _on_cluster((recipe, images, out, config), json, runtime=runtime, fresh=fresh)
        return
    with at_work():
        from knowngood.data.records import PassedOver
        from knowngood.recipe.engine.profile import Profile
        from knowngood.recipe.predicting import predict as work

        stages, passed = Profile(), PassedOver()
        kept: dict[str, Any] = {"out": out, "sample": sample, "submission": submission, "fresh": fresh}
        frame = work(
            recipe, images, **kept, runtime=runtime, cascade=config.cascade, profile=stages, passed_over=passed
        )
    counts = {
        "images": len(frame),
        **{name: int((frame["decision"] == name).sum()) for name in ("accept", "review", "reject")},
        "unreadable": int(frame["error"].is_not_null().sum()),
    }
    if json:
        told = {"profile": stages.document()} if profile else {}
        answer_json(
            {**counts, **passed.to_dict(), **told, "out": None if out is None else str(out), "rows": frame.to_dicts()}
        )
        return
    broken = frame.filter(frame["error"].is_not_null())
    if len(broken):
        listed = [(one_line(name), error) for name, error in broken.select("image", "error").head(SHOWN).iter_rows()]
        show_table(f"Unreadable ({len(listed)} of {len(broken)})", ("image", "error"), listed)
    scored = frame.filter(frame["defect_score"].is_not_null()).sort("defect_score", descending=True)
    if len(scored):
        worst = scored.select("image", "defect_score", "decision").head(SHOWN)
        rows = [(one_line(name), *rest) for name, *rest in worst.iter_rows()]
        show_table(f"Highest scores ({len(rows)} of {len(scored)})", ("image", "defect score", "decision"), rows)
    typer.echo(", ".join(f"{number} {name}" for name, number in counts.items()))
    for sentence in passed.sentences():
        typer.echo(one_line(sentence))
    if profile:
        show_profile(stages.document())
    if out is not None:
        typer.echo(f"Scores: {out}")


def _refused(config: EngineConfig, out: Path | None, others: dict[str, object]) -> None:
    """Looks whether the options go together.

    Raises:
        ConfigError: They do not.
    """
    wrong = next((flag for flag, given in others.items() if given), None)
    if config.engine != "local" and wrong is not None:
        raise ConfigError(f"{wrong} does not go with --engine {config.engine}.", fix="Leave one of them out.")
    check_folder(config, out)


def _on_cluster(given: tuple[Any, ...], json: bool, **more: Any) -> None:
    with at_work_on(given[3]):
        from knowngood.recipe.cluster.running import predict_on_cluster

        done = predict_on_cluster(*given, **more)
    facts = {"images": done.images, **done.counts}
    if json:
        parts = {"parts": done.parts, "taken_over": done.taken_over, "workers": done.workers}
        answer_json({**facts, **parts, "out": str(done.folder)})
        return
    worst = done.rows().select("image", "defect_score", "decision").drop_nulls("defect_score")
    rows = worst.top_k(SHOWN, by="defect_score").collect(engine="streaming").rows()
    shown = sorted(((one_line(name), *rest) for name, *rest in rows), key=lambda row: -float(str(row[1])))
    show_table(f"Highest scores ({len(shown)})", ("image", "defect score", "decision"), shown)
    typer.echo(", ".join(f"{number} {name}" for name, number in facts.items()))
    typer.echo(f"Scores: {given[2]}/rows/*.parquet, {done.parts} parts")


def show_profile(document: dict[str, Any]) -> None:
    """Prints how busy each stage was."""
    rows = [(name, one["seconds"], one["threads"], percent(one["busy"])) for name, one in document["stages"].items()]
    rate = f"{document['images']} images in {document['seconds']:.1f} s, {document['images_per_second']:.1f} a second"
    show_table(rate, ("stage", "seconds", "threads", "busy"), rows, right=(3,))
