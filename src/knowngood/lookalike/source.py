"""The `tape` source: a look-alike set that is drawn into the user's cache when it is first asked for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from knowngood.data.sources import Listing
from knowngood.data.sources.manifest import ManifestSource
from knowngood.errors import ConfigError
from knowngood.files import cache_folder, cache_key
from knowngood.lookalike.config import GENERATOR_VERSION, TapeConfig
from knowngood.parameters import checked_parameters

WORD = "tape"
_NOTES = (
    "This is a look-alike, drawn by a program after real parts in carrier tape: no picture of it is a photograph.",
    "Its manifest knows the truth: true_label, true_defect, severity, mask, lead_mask.",
)


class TapeSource:
    """Reads `tape` or `tape:train=2000,test=500,seed=1`, any field of `TapeConfig`; draws what is not there yet."""

    summary = "the word tape, or tape:train=2000,test=500,seed=1: look-alike parts, drawn when first asked for"

    def recognises(self, path: Path) -> bool:
        """Returns whether `path` is the word tape, with or without options."""
        text = str(path)
        return (text == WORD or text.startswith(f"{WORD}:")) and not path.exists()

    def read(self, path: Path) -> Listing:
        """Lists the set, which is drawn first if the cache does not hold it.

        Raises:
            ConfigError: An option is not known or impossible.
            StorageError: The cache cannot be written.
        """
        from knowngood.lookalike.generate import MANIFEST, generate, is_complete

        config = config_of(str(path))
        folder = folder_of(config)
        if not is_complete(folder, config):
            generate(folder, config, force=True)
        return replace(ManifestSource().read(folder / MANIFEST), notes=_NOTES, root=folder)


def config_of(text: str) -> TapeConfig:
    """Reads the options behind the word.

    Args:
        text: "tape" or "tape:name=value,name=value".

    Raises:
        ConfigError: An option is not known or impossible.
    """
    _, _, options = text.partition(":")
    fields: dict[str, str] = {}
    for option in filter(None, (part.strip() for part in options.split(","))):
        name, equals, value = option.partition("=")
        name = name.strip().replace("-", "_")
        if not equals or name not in TapeConfig.model_fields:
            raise ConfigError(
                f"{option!r} in {text!r} is no option of the look-alike.",
                expected="name=value, with one of the names " + ", ".join(TapeConfig.model_fields),
                fix="For example tape:train=2000,test=500,seed=1",
            )
        fields[name] = value.strip()
    return checked_parameters(TapeConfig, fields)


def folder_of(config: TapeConfig) -> Path:
    """Returns where a set of this configuration is kept in the user's cache."""
    return cache_folder(WORD) / cache_key(GENERATOR_VERSION, config.model_dump(mode="json"))[:16]
