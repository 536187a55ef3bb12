"""Settings of the station."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class Settings(BaseModel):
    """Limits and switches of the station."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    shelf: Path = Field(description="Folder for photographs that were sent.")
    user: str = Field("local", description="Name of who works without a token, on this computer only.")
    open: bool = Field(True, description="Whether this computer may do without a token.")
    allow_unapproved: bool = Field(
        False, description="Whether the newest revision is served though nobody has approved it."
    )
    any_product: bool = Field(False, description="Whether the input check against the training photographs is off.")
    replay_only: bool = Field(False, description="Whether the record is only read, to repeat what is in it.")
    allow_own_approval: bool = Field(
        False, description="Whether an engineer may approve a revision that they made; the record then says so."
    )
    require_signature: tuple[Path, ...] = Field(
        (), description="Public keys (files or folders); a recipe that none of them signed is refused."
    )
    keep: Literal["all", "doubtful"] = Field("all", description="Which photographs are kept.")
    max_mb: int = Field(32, ge=1, le=1024, description="Largest photograph, MB; a request may be twice as large.")
    max_megapixels: int = Field(50, ge=1, le=100, description="Most pixels of a photograph, millions.")
    max_images: int = Field(64, ge=1, le=1024, description="Most photographs of one request.")
    queue_size: int = Field(128, ge=1, description="Most photographs that wait; more are answered 503.")
    batch: int = Field(16, ge=1, le=256, description="Most photographs that are scored at once.")
    max_json_values: int = Field(
        4_000_000, ge=1, description="Most values of a request in JSON; larger tensors are sent as bytes."
    )
    max_request_bytes: int = Field(
        512_000_000,
        ge=1_000_000,
        description="Most bytes of requests that are being received at once; more are answered 503.",
    )
    rate: float = Field(200.0, gt=0, description="Requests a second of one sender.")

    @property
    def max_body(self) -> int:
        """Largest request in bytes."""
        return 2 * self.max_mb * 1_000_000

    @property
    def max_pixels(self) -> int:
        """Most pixels of a photograph."""
        return self.max_megapixels * 1_000_000
