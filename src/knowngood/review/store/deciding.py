"""Identity of a recipe in the record: a hash of everything that decides, with and without the thresholds."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from knowngood.recipe.manifest import VOLATILE, deciding_parts, read_document, seal, unsealed

if TYPE_CHECKING:
    from knowngood.recipe.manifest import RecipeManifest

MANIFEST, WEIGHTS = "recipe.json", "weights.safetensors"
_CUTS = "threshold"  # of the manifest: the two cuts and how they were set


@dataclass(frozen=True)
class Decider:
    """All parts of a recipe that decide the result of a photograph.

    Attributes:
        document: recipe.json without its seal.
        files: Path inside the recipe's folder to hex SHA-256 of each file that decides, recipe.json left out.
        recorded: Whether `files` are all that there are; False of revisions from before they were recorded.
    """

    document: dict[str, Any]
    files: dict[str, str]
    recorded: bool = True

    @classmethod
    def in_folder(cls, folder: Path) -> Decider:
        """Returns what a recipe's folder decides by.

        Raises:
            RecipeError: A file cannot be read.
            OSError: The same of recipe.json.
            ValueError: recipe.json is damaged.
        """
        files = {name: digest for name, digest in deciding_parts(folder).items() if name != MANIFEST}
        return cls(unsealed(read_document(folder / MANIFEST)), files)

    @classmethod
    def of_manifest(cls, manifest: RecipeManifest) -> Decider:
        """Returns what a recipe without a folder, or without anything beside its weights, decides by."""
        return cls(manifest.document(), {WEIGHTS: manifest.weights_sha256})

    @classmethod
    def of_row(cls, row: dict[str, Any]) -> Decider:
        """Returns what a revision of the record decides by."""
        files = None if row["parts"] is None else json.loads(row["parts"])
        return cls(json.loads(row["manifest"]), files or {WEIGHTS: row["weights_sha256"]}, files is not None)

    @property
    def hash(self) -> str:
        """Seal of recipe.json: its first 12 digits name the recipe in rows of `predict`."""
        return seal(self.document)

    @property
    def digest(self) -> str:
        """Hex SHA-256 of everything that decides; equal to `decision_digest` of the folder if no graph decides."""
        return seal(self._parts(()))

    @property
    def scoring(self) -> str:
        """Hex SHA-256 of everything that decides but the two thresholds: equal for revisions with equal scores."""
        return seal(self._parts((_CUTS,)))

    def with_cuts(self, threshold: dict[str, Any], created: str) -> Decider:
        """Returns the same recipe with other cuts, `Threshold.to_dict()`, made at a time in ISO 8601."""
        return Decider(self.document | {_CUTS: threshold, "created": created}, self.files, self.recorded)

    def by_graph(self, label: str, threshold: dict[str, Any]) -> Decider:
        """Returns the same recipe where an exported graph or a cascade decides, with its own certified threshold.

        Args:
            label: Names runtime, precision and graph. Scores differ by it, so it is part of both hashes.
            threshold: `Threshold.to_dict()`.
        """
        files = self.files | {f"decided by {label}": seal({"runtime": label})}
        return Decider(self.document | {_CUTS: threshold}, files, self.recorded)

    def differences(self, other: Decider) -> list[str]:
        """Returns what differs from another recipe, for people: "calibration", "preprocessing", "exports/..." ..."""
        names = {name for name in (*self.document, *other.document) if name not in VOLATILE}
        changed = sorted(name for name in names if self.document.get(name) != other.document.get(name))
        if self.recorded and other.recorded:
            files = {*self.files, *other.files}
            changed += sorted(name for name in files if self.files.get(name) != other.files.get(name))
        return changed

    def _parts(self, without: tuple[str, ...]) -> dict[str, str]:
        document = {name: value for name, value in self.document.items() if name not in (*VOLATILE, *without)}
        return {**self.files, MANIFEST: seal(document)}
