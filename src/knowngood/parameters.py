"""Checks parameters against their pydantic model and names the flag that is wrong."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from knowngood.errors import ConfigError

M = TypeVar("M", bound=BaseModel)

# Fields that are shares of 1, so that who gives 5 means 5 %.
_SHARES = frozenset(
    {
        *("escape_budget", "overkill_budget", "review_overkill", "confidence", "test", "val", "calibration"),
        *("overkill_loss", "certainty", "cam_threshold", "max_overkill", "max_auc_loss", "max_score"),
        *("bad_rate", "label_noise", "abnormal", "shift", "brightness", "contrast", "saturation", "inside"),
        *("largest", "mixing", "contamination", "share", "nu", "min_likeness", "min_correlation"),
    }
)

# Fields of configurations that version 0.1 saved, by the name that they have now.
_RENAMED = {
    "conventional": "classifiers",
    "freeze": "freeze_blocks",
    "memory": "coreset_size",
    "outlier_backbone": "feature_model",
    "projector": "model",
    "variants": "training_sets",
    "watch": "cam_history",
}


def renamed_fields(model: type[BaseModel], saved: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a saved configuration with the names that its fields have now.

    Args:
        model: That the fields are of.
        saved: As an earlier version of knowngood wrote it.
    """
    fields = model.model_fields
    names = {old: new for old, new in _RENAMED.items() if old not in fields and new in fields}
    found = {names.get(name, name): value for name, value in saved.items()}
    return found | ({"preset": "best"} if found.get("preset") == "paper" else {})


def checked_parameters(model: type[M], fields: Mapping[str, Any]) -> M:
    """Returns the validated model.

    Raises:
        ConfigError: A value is out of its range or of the wrong kind, or there is no such parameter.
    """
    try:
        return model.model_validate(dict(fields))
    except ValidationError as error:
        first, *others = error.errors()
        flag = "--" + "-".join(str(part).rstrip("_") for part in first["loc"][:1]).replace("_", "-")
        said = [first["msg"], *(one["msg"] for one in others if one["loc"][:1] == first["loc"][:1] != ())]
        value = f"{flag} {first['input']!r}" if first["loc"] else "These options do not go together"
        share, fix = None, "See the command's --help for what it takes."
        if first["loc"] and first["loc"][0] in _SHARES:
            share, fix = _of_percent(model, str(first["loc"][0]), first["input"], flag, fix)
        message = "; or: ".join(one.removeprefix("Value error, ") for one in said)
        raise ConfigError(f"{value}: {message}.", expected=share, fix=fix) from error


def configured(model: type[M], config: M | None, given: Mapping[str, Any]) -> M:
    """Returns the configuration of a call that takes it whole, in keywords, or both.

    Args:
        model: Of the configuration.
        config: The whole one, or None.
        given: Arguments of the call (`locals()` at its start); what is no field of the model is left alone, and what
            equals the field's default does not change `config`.

    Raises:
        ConfigError: A value is out of its range or of the wrong kind.
    """
    fields = {name: given[name] for name in model.model_fields}
    if config is None:
        return checked_parameters(model, fields)
    changed = {name: value for name, value in fields.items() if value != model.model_fields[name].default}
    return checked_parameters(model, config.model_dump() | changed)


def _of_percent(model: type[BaseModel], name: str, given: Any, flag: str, fix: str) -> tuple[str | None, str]:
    """Returns what is expected and what to type where a share of 1 is given in percent."""
    try:
        percent = float(str(given).strip().removesuffix("%"))
    except ValueError:
        return None, fix
    if not 1 <= percent <= 100:
        return None, fix
    try:
        model.model_validate({name: percent / 100})
    except ValidationError as error:
        if any(one["loc"] == (name,) for one in error.errors()):
            return "a share of 1: 0.01 means 1 %", fix
    return "a share of 1: 0.01 means 1 %", f"{flag} {percent / 100:g}"
