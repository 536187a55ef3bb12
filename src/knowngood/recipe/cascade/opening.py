"""Opens a recipe with its cascade: both networks in the very runtimes that the certificate was made with."""

from __future__ import annotations

from pathlib import Path

from knowngood.errors import KnownGoodError, RecipeError
from knowngood.recipe.bundle import Recipe
from knowngood.recipe.cascade.document import DOCUMENT, FOLDER, STUDENT, CascadeDocument, Part
from knowngood.recipe.cascade.rule import Rule
from knowngood.recipe.cascade.runtime import CascadeRuntime
from knowngood.recipe.folder import place_of
from knowngood.recipe.runtimes.choosing import AUTO, Scoring, scoring

_KEPT = 4  # runtimes that are kept open with a recipe


def has_cascade(recipe: Recipe | str | Path) -> bool:
    """Says whether a recipe on disk has a cascade."""
    place = recipe.folder if isinstance(recipe, Recipe) else place_of(recipe)
    return place is not None and (place / FOLDER / DOCUMENT).is_file()


def opened(
    recipe: Recipe | str | Path,
    runtime: str = AUTO,
    *,
    cascade: bool = True,
    threads: int | None = None,
    any_product: bool = False,
) -> Scoring:
    """Opens a recipe: its cascade, where there is one and nothing else is asked for, or its own network.

    Args:
        recipe: Its folder, or loaded.
        runtime: As in `scoring`; the cascade is taken with "auto" only.
        cascade: Whether it may be taken.
        threads: How many each runtime may use; all cores by default.
        any_product: Whether photographs are not compared with those that the recipe learned from.

    Raises:
        Those of `scoring` and `cascade_scoring`.
    """
    if cascade and runtime == AUTO and has_cascade(recipe):
        found = cascade_scoring(recipe, threads)
    else:
        found = scoring(recipe, runtime, threads=threads)
    return found.of_any_product() if any_product else found


def kept_open(recipe: Recipe, runtime: str = AUTO, *, cascade: bool = True, any_product: bool = False) -> Scoring:
    """Returns what `opened` does, and keeps it with the recipe until an export or a cascade comes or goes."""
    places = (
        [] if recipe.folder is None else [*recipe.folder.glob("exports/*/*.json"), *recipe.folder.glob("cascade/*")]
    )
    key = (runtime, cascade, any_product, tuple(sorted((str(one), one.stat().st_mtime_ns) for one in places)))
    found: Scoring | None = recipe.sessions.get(key)
    if found is None:
        found = opened(recipe, runtime, cascade=cascade, any_product=any_product)
        if len(recipe.sessions) >= _KEPT:
            recipe.sessions.clear()
        recipe.sessions[key] = found
    return found


def cascade_scoring(recipe: Recipe | str | Path, threads: int | None = None) -> Scoring:
    """Opens the cascade of a recipe.

    Args:
        recipe: Its folder, or loaded from one.
        threads: How many each runtime may use; all cores by default.

    Raises:
        RecipeError: It is damaged, or was certified with other graphs than there are now.
        MissingExtraError: A runtime that it was certified with is not installed.
    """
    loaded = recipe if isinstance(recipe, Recipe) else Recipe.load(recipe)
    if loaded.folder is None:
        raise RecipeError("A recipe in memory has no cascade.", fix="Load it from its folder.")
    if loaded.signed_by is not None:  # it may have come after the recipe was loaded
        from knowngood.recipe.signing import verify

        verify(loaded.folder, loaded.signed_by)
    folder = loaded.folder / FOLDER
    document = CascadeDocument.load(folder)
    large = _part(loaded, document.large, folder, threads)
    student = _part(Recipe.load(folder / STUDENT), document.student, folder, threads)
    runtime = CascadeRuntime(student.runtime, large.runtime, rule_of(document, student, large), sees(student))
    return Scoring(loaded, runtime, document.thresholds, document.revision, large.precision, stamp=document.stamp)


def rule_of(document: CascadeDocument, student: Scoring, large: Scoring) -> Rule:
    """Returns who decides what."""
    calibrations = student.recipe.manifest.calibration, large.recipe.manifest.calibration
    return Rule(document.low, document.high, document.thresholds.accept_below, *calibrations)


def sees(student: Scoring) -> tuple[int, int]:
    """Returns height and width that the student sees."""
    return student.recipe.input_shape[1:]


def _part(recipe: Recipe, part: Part, folder: Path, threads: int | None) -> Scoring:
    fix = "Certify it again with `knowngood cascade RUN`, or score with --no-cascade."
    try:
        plain = part.runtime == "torch"
        found = scoring(recipe, part.runtime, None if plain else part.precision, threads)
    except KnownGoodError as error:
        raise type(error)(error.what, expected=error.expected, fix=f"{error.fix or ''} {fix}".strip()) from error
    if found.revision != part.revision:
        raise RecipeError(
            f"The cascade {folder} was certified with {part.revision}; there is {found.revision} now.",
            expected="the very networks and graphs of its certificate",
            fix=fix,
        )
    return found
