"""Turns a configuration model into command-line options: field descriptions become the help."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import typer
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from knowngood.parameters import checked_parameters

# What verbs that look at a set through a pretrained network share.
Data = Annotated[str, typer.Argument(metavar="DATA", help="Folder, manifest, or a source's word such as elpv.")]
Backbone = Annotated[str, typer.Option(help="Pretrained network whose features are used.")]
Weights = Annotated[Path | None, typer.Option(help="File or folder with its weights.")]
ImageSize = Annotated[int | None, typer.Option(help="Side in pixels; the network's own if not given.", min=32)]
Source = Annotated[str | None, typer.Option(help="Data source; guessed from the folder if not given.")]
Good = Annotated[
    list[str] | None,
    typer.Option("--good", metavar="NAME", help="Folder (or label in a table) of good units; several with commas."),
]
Bad = Annotated[
    list[str] | None,
    typer.Option("--bad", metavar="NAME", help="Folder (or label in a table) of bad units; several with commas."),
]


def with_options(model: type[BaseModel], name: str = "config") -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Gives a verb one option a field of `model`; the verb receives the validated model as one argument.

    Args:
        model: A frozen pydantic model whose fields have descriptions.
        name: Of that argument.
    """

    def decorate(verb: Callable[..., None]) -> Callable[..., None]:
        own = inspect.signature(verb, eval_str=True)
        kept = [p for p in own.parameters.values() if p.name != name]
        made = [_parameter(one, field) for one, field in model.model_fields.items()]

        @functools.wraps(verb)
        def run(**given: Any) -> None:
            fields = {one: _plain(given.pop(one)) for one in model.model_fields}
            verb(**{name: checked_parameters(model, fields)}, **given)

        run.__signature__ = own.replace(parameters=[*kept, *made])  # type: ignore[attr-defined]
        run.__annotations__ = {p.name: p.annotation for p in (*kept, *made)}
        return run

    return decorate


def _parameter(name: str, field: FieldInfo) -> inspect.Parameter:
    kind, default = _typer_type(name, field.annotation), field.get_default()
    if isinstance(default, tuple):
        default = ",".join(default)
    if isinstance(kind, type) and issubclass(kind, Enum) and default is not None:
        default = kind(default)
    flag = "--" + name.rstrip("_").replace("_", "-")  # class_ is --class
    flags = (f"{flag}/--no-{flag[2:]}",) if kind is bool else (flag,)
    option = typer.Option(*flags, help=field.description, show_default=default is not None)
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, option])


def _typer_type(name: str, annotation: Any) -> Any:
    """Literal types become enumerations, since that is what typer lists in its help; lists are text with commas."""
    if get_origin(annotation) is tuple:
        return str
    if get_origin(annotation) is Literal:
        return Enum(name, {str(v): v for v in get_args(annotation)}, type=str)
    return annotation


def _plain(value: Any) -> Any:
    return value.value if isinstance(value, Enum) else value
