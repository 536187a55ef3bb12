"""Documents that lie beside graphs and networks: frozen, with thresholds of their own, sealed like a recipe."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict

from knowngood.decide.threshold import Thresholds
from knowngood.files import write_json
from knowngood.recipe.manifest import seal

if TYPE_CHECKING:
    from typing_extensions import Self


class SealedDocument(BaseModel):
    """Something that decides, on disk.

    Attributes:
        threshold: `Threshold.to_dict()` of it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    threshold: dict[str, Any]

    @property
    def thresholds(self) -> Thresholds:
        """The two cuts between accept, review and reject, on its own scores."""
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
        held = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(held, dict):
            raise ValueError(f"it holds a {type(held).__name__}")
        stamp = held.pop("seal", None)
        if stamp != seal(held):
            raise ValueError("its contents are not those that were saved")
        return cls.model_validate(held)
