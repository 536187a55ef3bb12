"""Where a recipe lies: its own folder or the folder of its run, found before anything heavy is imported."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path

from knowngood.errors import RecipeError
from knowngood.files import clean, recover

MANIFEST, WEIGHTS = "recipe.json", "weights.safetensors"
_LOOKED_AT = 200  # names in a folder that is searched for recipes to suggest


def place_of(folder: str | Path) -> Path:
    """Returns the folder of a recipe, given that or the folder of the run that made it.

    A recipe that a killed process had renamed to replace it is put back first.
    """
    place = Path(folder)
    for one in (place / "recipe", place):
        recover(one)
    return place / "recipe" if (place / "recipe" / MANIFEST).is_file() else place


def recipe_at(folder: str | Path) -> Path:
    """Returns the folder of a recipe, as `place_of` does, where there is one.

    Raises:
        RecipeError: There is none; the message says what a recipe is, and which one lies near by.
    """
    given = Path(folder)
    try:
        place = place_of(given)
        if (place / MANIFEST).is_file():
            for one in (place.parent, place, place / "exports"):
                clean(one)
            return place
        what, near = _instead(given), _near(given)
    except OSError as error:
        what, near = f"{given} cannot be opened: {error.strerror}.", []
    raise RecipeError(
        what,
        expected=f"a recipe: a folder with {MANIFEST} and {WEIGHTS}, as `knowngood train` writes it, or its run's",
        fix=" or ".join(map(str, near)) or "Give the folder that `knowngood train` wrote, such as RUN/recipe.",
    )


def _instead(given: Path) -> str:
    """Says what is there instead of a recipe."""
    if not given.exists():
        return f"There is no recipe at {given}."
    if not given.is_dir():
        return f"{given} is a file, no recipe."
    if (given / "config.json").is_file() and not (given / "metrics.json").is_file():
        return f"{given} is a run that is not finished: the command that began it goes on with it."
    return f"{given} is a folder without a recipe."


def _near(given: Path) -> list[Path]:
    """Returns the recipes, or their runs, that were perhaps meant: below a folder, around a file, of a like name."""
    if given.is_dir():
        wanted = sorted(one for _, one in zip(range(_LOOKED_AT), given.iterdir(), strict=False) if one.is_dir())
    elif given.exists():
        wanted = list(given.absolute().parents[:3])
    elif given.parent.is_dir():
        names = (one.name for _, one in zip(range(_LOOKED_AT), given.parent.iterdir(), strict=False))
        wanted = [given.parent / name for name in get_close_matches(given.name, names, 3)]
    else:
        wanted = []
    return [one for one in wanted if (one / MANIFEST).is_file() or (one / "recipe" / MANIFEST).is_file()][:3]
