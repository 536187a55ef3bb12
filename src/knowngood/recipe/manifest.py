"""Documents that decide, on disk: read within limits, sealed with a hash so that a flipped byte is noticed.

A seal finds accidents; anybody can compute it again. What an attacker may have written is therefore held to limits
here (size, depth, lengths, finite numbers) and to ranges in the models, and a signature (`knowngood.recipe.signing`)
says who stands behind it.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from knowngood.data.preprocessing import Preprocessing
from knowngood.errors import RecipeError
from knowngood.files import sha256_of, write_json
from knowngood.metrics.calibration import Calibration
from knowngood.models.classifier import NetworkConfig
from knowngood.recipe.input_check import InputFacts

if TYPE_CHECKING:
    from typing_extensions import Self

    from knowngood.metrics.thresholds import Thresholds

MOST_BYTES = 4 << 20  # of a document; honest ones have tens of kilobytes
MOST_VALUES = 200_000  # of a document, its names included
MOST_LETTERS = 65_536  # of one text in it
DEEPEST = 24  # levels of nesting
_LARGEST = 2**63  # of a whole number
_ROUNDED = 1 + 1e-9  # the cut just above a score of 1

Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Rate = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0, le=10**9)]


class Fixed(dict[str, Any]):
    """A dictionary that nobody changes: cuts are set with `Recipe.with_thresholds`, which certifies them."""

    def _refuse(self, *_: object, **__: object) -> NoReturn:
        raise TypeError("The threshold of a recipe is fixed; recipe.with_thresholds(accept_below=...) makes another.")

    __setitem__ = __delitem__ = __ior__ = update = setdefault = pop = popitem = clear = _refuse

    def __reduce__(self) -> tuple[Any, ...]:
        return (Fixed, (dict(self),))


class _Cuts(BaseModel):
    """The fields of `knowngood.metrics.thresholds.Threshold`; a document may have more."""

    model_config = ConfigDict(frozen=True, extra="allow", allow_inf_nan=False, strict=True)

    threshold: float = Field(ge=0, le=_ROUNDED)
    reject_from: float = Field(ge=0, le=_ROUNDED)
    basis: str = Field("", max_length=100)
    confidence: float = Field(0.95, gt=0, lt=1)
    certified: bool = False
    escape_budget: Rate | None = None
    certified_escape_rate: Rate | None = None
    overkill_budget: Rate | None = None
    certified_overkill_rate: Rate | None = None
    escapes: Count = 0
    bads: Count = 0
    goods: Count = 0
    overkill: Rate | None = None
    sentence: str = Field("", max_length=4096)

    @model_validator(mode="after")
    def _in_order(self) -> _Cuts:
        if self.reject_from < self.threshold:
            raise ValueError("reject_from is below threshold")
        return self


def _checked_cuts(cuts: dict[str, Any]) -> dict[str, Any]:
    _Cuts.model_validate(cuts)
    return Fixed(cuts)


CertifiedCuts = Annotated[dict[str, Any], Field(max_length=64), AfterValidator(_checked_cuts)]


class SealedDocument(BaseModel):
    """Something that decides, with thresholds of its own, sealed like a recipe.

    Attributes:
        threshold: `Threshold.to_dict()` of it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    threshold: CertifiedCuts

    @property
    def thresholds(self) -> Thresholds:
        """The two cuts between accept, review and reject, on its own scores."""
        from knowngood.metrics.thresholds import Thresholds

        return Thresholds(self.threshold["threshold"], self.threshold["reject_from"])

    @property
    def stamp(self) -> str:
        """First 8 hex digits of the seal."""
        return seal(self.model_dump(mode="json"))[:8]

    def save_as(self, path: Path) -> None:
        """Writes it with its seal."""
        document = self.model_dump(mode="json")
        write_json(path, document | {"seal": seal(document)})

    @classmethod
    def read(cls, path: Path) -> Self:
        """Reads one and checks that it is as it was saved.

        Raises:
            OSError: It cannot be read.
            ValueError: It is damaged.
        """
        return cls.model_validate_json(json.dumps(unsealed(read_document(path))), strict=True)


def seal(document: dict[str, Any]) -> str:
    """Returns the hex SHA-256 of a document in one canonical form."""
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def unsealed(document: dict[str, Any]) -> dict[str, Any]:
    """Returns a document without its seal.

    Raises:
        ValueError: The seal is missing or belongs to other contents.
    """
    rest = {name: value for name, value in document.items() if name != "seal"}
    if document.get("seal") != seal(rest):
        raise ValueError("its contents are not those that were saved")
    return rest


def read_document(path: Path) -> dict[str, Any]:
    """Reads one JSON object that may come from anybody.

    Args:
        path: Of a file of at most `MOST_BYTES`.

    Returns:
        The object: finite numbers, text that is Unicode, no name twice, nested at most `DEEPEST` deep.

    Raises:
        OSError: It cannot be read.
        ValueError: It is no such object; the text says why.
    """
    with path.open("rb") as handle:
        data = handle.read(MOST_BYTES + 1)
    if len(data) > MOST_BYTES:
        raise ValueError(f"it has more than {MOST_BYTES >> 20} MiB")
    try:
        document = json.loads(data.decode("utf-8"), parse_constant=_no_constant, object_pairs_hook=_once)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not isinstance(document, dict):
        raise ValueError(f"it holds a {type(document).__name__} and no object")
    _check_values(document)
    return document


def _check_values(document: dict[str, Any]) -> None:
    """Raises ValueError where a value lies beyond the limits; goes level by level, so that depth cannot hurt."""
    level: list[Any] = [document]
    count = 0
    for _ in range(DEEPEST):
        inside: list[Any] = []
        for value in level:
            if isinstance(value, dict):
                inside += [*value, *value.values()]
            elif isinstance(value, list):
                inside += value
            else:
                _check_plain(value)
        count += len(inside)
        if count > MOST_VALUES:
            raise ValueError(f"it has more than {MOST_VALUES:,} values")
        level = inside
        if not level:
            return
    raise ValueError(f"it is nested more than {DEEPEST} levels deep")


def _check_plain(value: Any) -> None:
    if isinstance(value, str):
        if len(value) > MOST_LETTERS:
            raise ValueError(f"a text in it has {len(value):,} letters")
        if any("\ud800" <= letter <= "\udfff" for letter in value):
            raise ValueError("a text in it is no Unicode")
    elif isinstance(value, float) and not math.isfinite(value):
        raise ValueError("a number in it is not finite")
    elif isinstance(value, int) and abs(value) > _LARGEST:
        raise ValueError("a whole number in it is too large")


def _no_constant(name: str) -> Any:
    raise ValueError(f"it holds {name}, which is no number of JSON")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueError("a name stands twice in it")
    return made


__all__ = ["FORMAT", "RecipeManifest", "seal"]

FORMAT = 3  # raised when an older knowngood could no longer read what is written
_SINCE = {  # fields that older formats do not have
    "preprocessing": 2,
    "evidence_sha256": 3,
    "parent": 3,
    "input_check": 3,
}
_MEMORIES = ("patch_memory", "knn")

Line = Annotated[str, Field(max_length=255)]
Text = Annotated[str, Field(max_length=4096)]


class RecipeManifest(BaseModel):
    """Everything of a recipe but its tensors."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    format: int = Field(FORMAT, ge=1, le=1000, description="Version of this layout.")
    kind: Literal["classifier", "one-class"] = Field(
        "classifier", description="What sort of inspector this is: trained on both classes, or on good images alone."
    )
    name: Line = Field(description="Name for people; the run's folder unless given.")
    created: Line = Field(description="When, ISO 8601 with zone.")
    classes: tuple[Line, Line] = Field(("good", "bad"), description="Classes; the second is positive.")
    networks: tuple[NetworkConfig, ...] = Field(min_length=1, max_length=16, description="Members of the inspector.")
    preprocessing: Preprocessing = Field(
        default_factory=Preprocessing, description="What is done to a photograph before it is brought to size."
    )
    calibration: Calibration = Field(description="Raw score to defect score.")
    threshold: CertifiedCuts = Field(description="`Threshold.to_dict()`: the cuts and how they were set.")
    metrics: dict[Line, Any] = Field(max_length=16, description="Figures of each split at the time of training.")
    seed: int = Field(ge=0, lt=2**63, description="Seed of the training.")
    config: dict[Line, Any] = Field(max_length=1000, description="Resolved configuration of the training.")
    data: dict[Line, Any] = Field(
        max_length=100, description="Source, counts, hash of the data that it was trained on."
    )
    licences: tuple[Text, ...] = Field(
        (), max_length=100, description="Terms that come with the data and the starting weights."
    )
    provenance: dict[Line, Text] = Field(max_length=100, description="Origin of the starting weights.")
    versions: dict[Line, Line] = Field(max_length=1000, description="Package to version.")
    weights_sha256: str = Field(max_length=64, description="Of weights.safetensors.")
    evidence_sha256: Sha256 | None = Field(
        None, description="Of evidence.safetensors: calibration scores, hashes of the images learned from; if there."
    )
    parent: Line | None = Field(None, description="Revision of the recipe that this one was made of with other cuts.")
    input_check: InputFacts | None = Field(
        None, description="What was learned of the photographs themselves; None for a recipe that compares nothing."
    )

    @property
    def revision(self) -> str:
        """First 12 hex digits of the seal: names this exact recipe in every row that it scores."""
        return seal(self.document())[:12]

    @property
    def frozen_only(self) -> bool:
        """Whether all networks are frozen under an SVM head: these learn from the validation images as well."""
        return all(one.head in ("kernel", "kernel+cells") for one in self.networks)

    def document(self) -> dict[str, Any]:
        """Returns what is saved and sealed; of an older recipe exactly what it was sealed with."""
        newer = {name for name, version in _SINCE.items() if self.format < version}
        return self.model_dump(mode="json", exclude=newer)

    @classmethod
    def from_document(cls, document: dict[str, Any]) -> RecipeManifest:
        """Returns the manifest that a document without its seal holds, its types as they stand.

        Raises:
            ValueError: A field is missing, unknown, of another type or out of its range, or fields do not go together.
        """
        return cls.model_validate_json(json.dumps(document), strict=True)

    @model_validator(mode="after")
    def _heads_that_can_score(self) -> RecipeManifest:
        """Refuses heads that do not suit the kind of recipe: networks of one kind fail in the other's maps."""
        for one in self.networks:
            if (one.head in _MEMORIES) != (self.kind == "one-class"):
                raise ValueError(f"a head {one.head!r} in a recipe of kind {self.kind!r}")
        return self


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
