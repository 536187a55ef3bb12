"""Turns a configuration model into command-line options: field descriptions become the help.

What can be looked at without heavy packages is: names in registries, paths that are read, places that are written. So a
slip of the pen is answered at once, and nothing is computed for a place that cannot be written.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from enum import Enum
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import typer
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from knowngood.errors import DataError
from knowngood.parameters import checked_parameters

# Options that name something registered, and where; "auto" and what is empty are nobody's name.
_NAMES = {
    "model": "knowngood.models.backbones:BACKBONES",
    "models": "knowngood.models.backbones:BACKBONES",
    "backbone": "knowngood.models.backbones:BACKBONES",
    "outlier_backbone": "knowngood.models.backbones:BACKBONES",
    "student": "knowngood.models.backbones:BACKBONES",
    "ClassicalConfig.models": "knowngood.training.config:CLASSIFIERS",
    "conventional": "knowngood.training.config:CLASSIFIERS",
    "method": "knowngood.cam.methods:METHODS",
    "source": "knowngood.data.sources:SOURCES",
    "runtime": "knowngood.recipe.runtimes:RUNTIMES",
}


def check_name(option: str, value: Any, model: str = "") -> None:
    """Looks whether what an option names is registered.

    Args:
        option: Name of the field or parameter.
        value: One name, or several with commas or in a list; None, "" and "auto" pass.
        model: Class that the field belongs to.

    Raises:
        UnknownNameError: It is not; those that are are named.
    """
    if option == "augment" and value:
        from knowngood.data.config import names_in

        names_in(value)
    where = _NAMES.get(f"{model}.{option}") or _NAMES.get(option)
    if where is None or not value:
        return
    module, _, attribute = where.partition(":")
    registry = getattr(import_module(module), attribute)
    for name in value.split(",") if isinstance(value, str) else value:
        if name.strip() not in ("", "auto") and name.strip() not in registry:
            registry.get(name.strip())  # it says which there are


def _there(context: typer.Context, param: typer.CallbackParam, value: Any) -> Any:
    """Looks whether files and folders that are to be read are there."""
    if not context.resilient_parsing and value is not None:
        for one in value if isinstance(value, (list, tuple)) else [value]:
            check_there(one, _flag(param), getattr(param, "help", None))
    return value


def _flag(param: typer.CallbackParam) -> str:
    """Returns what people know a parameter by: its flag, or the name of an argument."""
    flags = [*param.opts, *param.secondary_opts]
    return next((flag for flag in flags if flag.startswith("-")), param.metavar or str(param.name).upper())


def check_there(place: str | Path, flag: str, what: str | None = None) -> None:
    """Looks whether something that is to be read is there; of a URL only its protocol is looked at, "-" passes.

    Args:
        place: Of it.
        flag: That names it, for the message.
        what: What it should be, for the message.

    Raises:
        DataError: It is not.
    """
    if isinstance(place, str) and "://" in place:
        from knowngood.recipe.remote import check_url

        check_url(place)
        return
    if place == "-":
        return
    from knowngood.data.pages import file_of

    try:
        there = file_of(place).exists()  # stack.tif#page=2 names a page of stack.tif
    except OSError:  # too long for a name
        there = False
    if not there:
        raise DataError(
            f"There is no {place} ({flag}).", expected=what or "a file or folder that is there", fix="Check the path."
        )


def _recipe(context: typer.Context, value: Path) -> Path:
    if not context.resilient_parsing:
        from knowngood.recipe.folder import recipe_at

        recipe_at(value)
    return value


def _data(context: typer.Context, param: typer.CallbackParam, value: str | None) -> str | None:
    if not context.resilient_parsing and value is not None:
        from knowngood.data.sources import check_data

        check_data(value, _flag(param))
    return value


def _named(option: str) -> Callable[[typer.Context, Any], Any]:
    def check(context: typer.Context, value: Any) -> Any:
        if not context.resilient_parsing:
            check_name(option, value)
        return value

    return check


def _place(context: typer.Context, param: typer.CallbackParam, value: Path | None) -> Path | None:
    if not context.resilient_parsing and value is not None:
        from knowngood.files import check_writable

        check_writable(value, folder=True, flag=_flag(param))
    return value


def out_folder(description: str) -> Any:
    """Returns the option --out of a verb that writes a folder; it is refused at once where that cannot be written."""
    return typer.Option("--out", help=description, callback=_place)


def out_argument(description: str) -> Any:
    """Returns the argument of a verb that writes a folder; see `out_folder`."""
    return typer.Argument(help=description, callback=_place)


def to_read(description: str) -> Any:
    """Returns an option that names files or folders to be read; it is refused at once where there are none."""
    return typer.Option(help=description, callback=_there)


def images_to_read(description: str, metavar: str = "IMAGES") -> Any:
    """Returns an argument that names files or folders to be read; see `to_read`."""
    return typer.Argument(metavar=metavar, help=description, callback=_there)


# What verbs share.
Data = Annotated[
    str, typer.Argument(metavar="DATA", help="Folder, manifest, or a source's word such as elpv.", callback=_data)
]
RecipePath = Annotated[
    Path,
    typer.Argument(metavar="RECIPE", help="Folder of a recipe, or of the run that made it.", callback=_recipe),
]
Run = Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a finished run of train.", callback=_recipe)]
Backbone = Annotated[str, typer.Option(help="Pretrained network whose features are used.", callback=_named("backbone"))]
Weights = Annotated[Path | None, to_read("File or folder with its weights.")]
ImageSize = Annotated[int | None, typer.Option(help="Side in pixels; the network's own if not given.", min=32)]
MaxErrors = Annotated[
    int, typer.Option(min=0, help="Photographs that may be unreadable before the exit code is 1; all rows are written.")
]
RequireSignature = Annotated[
    list[Path] | None,
    to_read("Public key (PEM file or folder of them) that must have signed the recipe; may be repeated."),
]
Source = Annotated[
    str | None,
    typer.Option(help="Data source; guessed from the folder if not given.", callback=_named("source")),
]


def data_option(description: str) -> Any:
    """Returns an option that names a data set."""
    return typer.Option(help=description, callback=_data)


UnitFrom = Annotated[
    str | None,
    typer.Option(
        help="What says which photographs show the same part: a regex on the images' names (its group unit, or first "
        "group), a column of the manifest, or none to look for near copies only."
    ),
]
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
            checked = checked_parameters(model, fields)
            for one in model.model_fields:
                value = getattr(checked, one)
                check_name(one, value, model.__name__)
                for place in value if isinstance(value, tuple) else ():
                    if isinstance(place, Path):
                        check_there(place, "--" + one.replace("_", "-"))
            verb(**{name: checked}, **given)

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
    read = _there if Path in (kind, *get_args(kind)) else None  # no field names a place to write
    option = typer.Option(*flags, help=field.description, show_default=default is not None, callback=read)
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
