"""knowngood sign: who stands behind a recipe; keys are made, recipes signed, signatures verified."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from knowngood.cli.options import Verb
from knowngood.cli.output import Json, answer_json, at_work
from knowngood.errors import ConfigError


def register(app: typer.Typer) -> None:
    """Adds the verb."""
    app.command(cls=Verb, short_help="Sign a recipe, or verify who signed it.")(sign)


def sign(
    recipe: Annotated[
        Path | None, typer.Argument(metavar="RECIPE", help="Folder of a recipe, or of the run that made it.")
    ] = None,
    key: Annotated[
        Path | None, typer.Option(help="Private key (PEM); with --verify public keys: a PEM file or a folder of them.")
    ] = None,
    verify: Annotated[bool, typer.Option("--verify", help="Verify the signature instead of making one.")] = False,
    new_key: Annotated[
        Path | None, typer.Option(help="File for a new private key; the public one goes beside it, ending in .pub.")
    ] = None,
    json: Json = False,
) -> None:
    """Sign everything of a recipe that decides (weights, calibration, thresholds, exports, cascade) with Ed25519.

    `predict --require-signature PUBLIC_KEYS` then refuses a recipe that was changed, or that somebody else made.
    """
    if new_key is not None:
        if recipe is not None or key is not None or verify:
            raise ConfigError("--new-key makes a key and signs nothing.", fix=f"knowngood sign --new-key {new_key}")
        _make(new_key, json)
        return
    if recipe is None or key is None:
        missing = "RECIPE" if recipe is None else "--key"
        raise ConfigError(
            f"There is no {missing}.",
            expected="a recipe and a key",
            fix="knowngood sign RECIPE --key PRIVATE_KEY; knowngood sign --new-key FILE makes one.",
        )
    with at_work():
        from knowngood.recipe import signing
        from knowngood.recipe.folder import place_of

        place = place_of(recipe)
        if verify:
            found = signing.verify(place, key)
            facts: dict[str, Any] = {"recipe": str(place), "verified": True, "key": found.key, "signed": found.signed}
            text = f"{place} is as it was when the key {found.key[:16]} signed it on {found.signed}."
        else:
            made = signing.sign(place, key)
            last = made.signatures[-1]
            facts = {"recipe": str(place), "digest": made.digest, "key": last.key, "parts": len(made.parts)}
            text = f"Signed {len(made.parts)} files with the key {last.key[:16]}: {place / 'signature.json'}"
    if json:
        answer_json(facts)
    else:
        typer.echo(text)


def _make(path: Path, json: bool) -> None:
    from knowngood.recipe.signing import new_key

    public, mark = new_key(path)
    if json:
        answer_json({"private_key": str(path), "public_key": str(public), "key": mark})
        return
    typer.echo(f"Private key: {path}; keep it where only its owner reads.\nPublic key: {public} ({mark[:16]})")
