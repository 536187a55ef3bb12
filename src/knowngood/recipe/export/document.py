"""What export.json holds: which recipe the graph is of, in which precision, how like it, and its own thresholds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from knowngood.errors import RecipeError
from knowngood.files import sha256_of
from knowngood.recipe.runtimes import Graph
from knowngood.recipe.sealed import CertifiedCuts, SealedDocument, Sha256
from knowngood.recipe.tolerance import Tolerance

FOLDER, DOCUMENT = "exports", "export.json"
FORMAT = 1
_Side = Annotated[int, Field(ge=1, le=4096)]
_Line = Annotated[str, Field(max_length=255)]
_File = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,100}$")]  # beside the document, nowhere else


class ExportDocument(SealedDocument):
    """Everything of an export but its graph."""

    format: int = Field(FORMAT, ge=1, le=1000, description="Version of this layout.")
    recipe: str = Field(max_length=255, description="Revision of the recipe that the graph was made of.")
    exporter: str = Field(max_length=64, description="Name of the format.")
    precision: Literal["fp32", "bf16", "int8"] = Field(description="What its convolutions are computed in.")
    created: str = Field(max_length=255, description="When, ISO 8601 with zone.")
    shape: tuple[_Side, _Side, _Side] = Field(description="Channels, height, width of its input, uint8.")
    map_kind: Literal["cam", "distances"] | None = Field(description="What its output `map` is, if there is one.")
    folded: bool = Field(description="Whether normalisation lies in the first convolution.")
    wide: tuple[_Line, ...] = Field(
        (), max_length=10_000, description="Layers that were kept in float to stay within the tolerance."
    )
    threshold: CertifiedCuts = Field(description="`Threshold.to_dict()`, certified on scores of this graph.")
    tolerance: Tolerance = Field(description="What was allowed.")
    parity: dict[str, Any] = Field(description="What was measured, with the rejected attempts.")
    sample: int = Field(ge=0, le=10**9, description="Training images from which the ranges of int8 were taken.")
    versions: dict[_Line, _Line] = Field(max_length=1000, description="Package to version.")
    files: dict[_File, Sha256] = Field(min_length=1, max_length=64, description="File beside it to SHA-256.")

    @property
    def revision(self) -> str:
        """Names recipe and graph in every row that is scored: their scores differ, if little."""
        return f"{self.recipe}+{self.exporter}-{self.precision}-{self.stamp}"

    def graph(self, folder: Path) -> Graph:
        """Returns the graph beside the document."""
        return Graph(folder, self.precision, self.map_kind is not None)

    def save(self, folder: Path) -> None:
        """Writes export.json."""
        self.save_as(folder / DOCUMENT)

    @classmethod
    def load(cls, folder: Path, revision: str) -> ExportDocument:
        """Reads an export and checks that it is whole and of this very recipe.

        Args:
            folder: With export.json.
            revision: Of the recipe that it lies in.

        Raises:
            RecipeError: It is damaged, or of another revision.
        """
        try:
            made = cls.read(folder / DOCUMENT)
            unnamed = sorted({one.name for one in folder.iterdir() if one.is_file()} - {*made.files, DOCUMENT})
            if unnamed := [name for name in unnamed if not name.startswith(".")]:
                raise ValueError(f"{unnamed[0]} is not among the files that were saved")
            for name, digest in made.files.items():
                if sha256_of(folder / name) != digest:
                    raise ValueError(f"the bytes of {name} are not those that were saved")
        except (OSError, ValueError) as error:
            raise RecipeError(
                f"The export {folder} is damaged: {error}.",
                expected="the bytes that `knowngood export` saved",
                fix="Export again, or use --runtime torch.",
            ) from error
        if made.recipe != revision:
            raise RecipeError(
                f"The export {folder} was made of revision {made.recipe}; this recipe is {revision}.",
                expected="an export of this very recipe",
                fix=f"Delete {folder}, or export again: knowngood export RECIPE --to {made.exporter}.",
            )
        return made


def folder_of(recipe: Path, exporter: str, precision: str) -> Path:
    """Returns where in a recipe's folder an export lies."""
    return recipe / FOLDER / f"{exporter}-{precision}"
