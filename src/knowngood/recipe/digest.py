"""One hash over everything in a recipe's folder that decides; imports nothing heavy."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from knowngood.errors import RecipeError
from knowngood.files import sha256_of
from knowngood.recipe.manifest import read_document, seal

SIGNATURE = "signature.json"
VOLATILE = ("seal", "name", "created", "versions")  # of a document: they name it, and decide nothing
_CONTENTS = (".json", ".safetensors")  # of a recipe's own folder


def decision_digest(folder: str | Path) -> str:
    """Returns the hex SHA-256 of everything that decides how a photograph fares with a recipe.

    That is the recipe's document (networks, preprocessing, calibration, thresholds and their certificate, figures,
    data) without its name, date and versions, the bytes of its weights and of all other files beside it, its exports
    and its cascade with the student. Copying or moving the folder changes nothing; a signature beside it neither.

    Args:
        folder: Of a recipe, with recipe.json.

    Raises:
        RecipeError: There is no recipe, or a file of it cannot be read.
    """
    return seal(dict(deciding_parts(folder)))


def deciding_parts(folder: str | Path) -> dict[str, str]:
    """Returns what `decision_digest` is made of: path inside the folder, with "/", to hex SHA-256, sorted.

    Raises:
        RecipeError: There is no recipe, or a file of it cannot be read.
    """
    place = Path(folder)
    if not (place / "recipe.json").is_file():
        raise RecipeError(
            f"There is no recipe at {place}.",
            expected="a folder with recipe.json",
            fix="Give the folder that `knowngood train` wrote, such as RUN/recipe.",
        )
    made = {}
    for path in _files(place):
        try:
            made[path.relative_to(place).as_posix()] = _hashed(path)
        except (OSError, ValueError) as error:
            raise RecipeError(
                f"{path} is damaged: {error}.",
                expected="what knowngood saved there",
                fix="Copy the recipe again from where it came.",
            ) from error
    return dict(sorted(made.items()))


def _files(place: Path) -> Iterator[Path]:
    """Yields the files that decide: those beside recipe.json, of all exports, and of the cascade's student."""
    yield from (one for one in _inside(place) if one.suffix in _CONTENTS and one.name != SIGNATURE)
    for folder in sorted(one for one in (place / "exports").glob("*") if one.is_dir()):
        yield from _inside(folder)
    if cascade := [one for one in _inside(place / "cascade") if one.suffix in _CONTENTS]:
        yield from cascade
        yield from _files(place / "cascade" / "student")


def _inside(folder: Path) -> list[Path]:
    return sorted(one for one in folder.glob("*") if one.is_file() and not one.name.startswith("."))


def _hashed(path: Path) -> str:
    if path.suffix != ".json":
        return sha256_of(path)
    return seal({name: value for name, value in read_document(path).items() if name not in VOLATILE})
