"""Checks parameters against their pydantic model and names the flag that is wrong."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from knowngood.errors import ConfigError

M = TypeVar("M", bound=BaseModel)


def checked_parameters(model: type[M], fields: Mapping[str, Any]) -> M:
    """Returns the validated model.

    Raises:
        ConfigError: A value is out of its range or of the wrong kind, or there is no such parameter.
    """
    try:
        return model.model_validate(dict(fields))
    except ValidationError as error:
        first = error.errors()[0]
        flag = "--" + "-".join(str(part).rstrip("_") for part in first["loc"]).replace("_", "-")
        value = f"{flag} {first['input']!r}" if first["loc"] else "These options do not go together"
        raise ConfigError(
            f"{value}: {first['msg'].removeprefix('Value error, ')}.", fix="See the command's --help for what it takes."
        ) from error
