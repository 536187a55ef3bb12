"""The one error tree: every message says what was wrong, what was expected and what to do next."""

from __future__ import annotations

_LONGEST = 4000  # letters of one part of a message: a cell of a million letters is not shown whole


class KnownGoodError(Exception):
    """Root of all errors that knowngood raises on purpose.

    Args:
        what: What was wrong, naming the file, column or value.
        expected: What would have been right.
        fix: What the user can do now, naming the flag or command.
    """

    exit_code = 2

    def __init__(self, what: str, *, expected: str | None = None, fix: str | None = None) -> None:
        self.what = _shortened(what)
        self.expected = None if expected is None else _shortened(expected)
        self.fix = None if fix is None else _shortened(fix)
        parts = [self.what]
        if self.expected:
            parts.append(f"Expected: {self.expected}")
        if self.fix:
            parts.append(f"Try: {self.fix}")
        super().__init__("\n".join(parts))


def _shortened(text: str) -> str:
    """Returns a text that any terminal takes, of at most `_LONGEST` letters: of a longer one its two ends."""
    text = text.encode("utf-8", "backslashreplace").decode()  # halves of characters, from JSON
    half = _LONGEST // 2
    return text if len(text) <= _LONGEST else f"{text[: half - 10]} [...] {text[10 - half :]}"


class ConfigError(KnownGoodError):
    """An option or parameter has a value that cannot work."""


class UnknownNameError(ConfigError):
    """A name that is not in a registry."""


class ReadOnlyError(ConfigError, AttributeError):
    """An attribute is set that is read only, or that there is none of."""


class DataError(KnownGoodError):
    """The photographs, their layout or their labels cannot be used."""


class ImageError(DataError):
    """One image cannot be decoded; it never stops a run over many images."""


class WeightsError(KnownGoodError):
    """Pretrained weights cannot be had or do not fit the network."""


class RecipeError(KnownGoodError):
    """A saved recipe is missing, damaged, or from another version."""


class CalibrationError(KnownGoodError):
    """A decision was asked for that the calibration data cannot support."""


class TrainingError(KnownGoodError):
    """Training could not go on, for instance because the loss became NaN."""


class StorageError(KnownGoodError):
    """Something could not be written, most often a full disk or missing permissions."""


class ConflictError(KnownGoodError):
    """Somebody else was quicker: what was to be changed is no longer as it was seen."""


class UnsignedError(KnownGoodError):
    """Nobody has approved what was to be served."""


class MissingExtraError(KnownGoodError):
    """An optional package is needed and not installed."""


class ParityError(KnownGoodError):
    """An exported graph does not decide as the recipe that it was made of."""
