"""Turns a configuration model into command-line options: field descriptions become the help.

What can be looked at without heavy packages is: names in registries, paths that are read, places that are written. So a
slip of the pen is answered at once, and nothing is computed for a place that cannot be written.
"""

from __future__ import annotations

import functools
import inspect
import json
import sys
from collections.abc import Callable, Collection
from difflib import get_close_matches
from enum import Enum
from importlib import import_module
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import typer
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from typer.core import TyperCommand

from knowngood.cli.suggesting import renamed
from knowngood.errors import ConfigError, DataError
from knowngood.parameters import checked_parameters

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FEW = 9  # options with --help; no more of them are one list
MANY = 12  # options; a verb with more of them takes a file of options too
ADVANCED = "Advanced options"
# Options that name something registered, and where; "auto" and what is empty are nobody's name.
_NAMES = {
    "model": "knowngood.models.backbones:BACKBONES",
    "models": "knowngood.models.backbones:BACKBONES",
    "classifier_model": "knowngood.models.backbones:BACKBONES",
    "feature_model": "knowngood.models.backbones:BACKBONES",
    "student_model": "knowngood.models.backbones:BACKBONES",
    "classifiers": "knowngood.training.config:CLASSIFIERS",
    "method": "knowngood.cam.methods:METHODS",
    "source": "knowngood.data.sources:SOURCES",
    "runtime": "knowngood.recipe.options:RUNTIMES",
}


def check_name(option: str, value: Any) -> None:
    """Looks whether what an option names is registered.

    Args:
        option: Name of the field or parameter.
        value: One name, or several with commas or in a list; None, "" and "auto" pass.

    Raises:
        UnknownNameError: It is not; those that are are named.
    """
    if option == "augment" and value:
        from knowngood.data.config import names_in

        names_in(value)
    where = _NAMES.get(option)
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


def to_read(description: str, panel: str | None = None) -> Any:
    """Returns an option that names files or folders to be read; it is refused at once where there are none."""
    return typer.Option(help=description, callback=_there, rich_help_panel=panel)


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
FeatureModel = Annotated[
    str, typer.Option(help="Pretrained network whose features are used.", callback=_named("model"))
]
Weights = Annotated[Path | None, to_read("File or folder with its weights.", ADVANCED)]
ImageSize = Annotated[int | None, typer.Option(help="Side in pixels; the network's own if not given.", min=32)]
AcceptBelow = Annotated[
    float | None,
    typer.Option(
        help="For a try: accept below this score; alone it also moves the reject cut.", rich_help_panel=ADVANCED
    ),
]
RejectFrom = Annotated[
    float | None,
    typer.Option(help="For a try: reject from this score; what lies between is reviewed.", rich_help_panel=ADVANCED),
]
MaxErrors = Annotated[
    int, typer.Option(min=0, help="Photographs that may be unreadable before the exit code is 1; all rows are written.")
]
RequireSignature = Annotated[
    list[Path] | None,
    to_read("Public key (PEM file or folder of them) that must have signed the recipe; may be repeated.", ADVANCED),
]
Source = Annotated[
    str | None,
    typer.Option(
        help="Data source; guessed from the folder if not given.", callback=_named("source"), rich_help_panel=ADVANCED
    ),
]
Force = Annotated[bool, typer.Option("--force", help="Replace what an earlier call wrote there; never other files.")]


def data_option(description: str) -> Any:
    """Returns an option that names a data set."""
    return typer.Option(help=description, callback=_data)


UnitFrom = Annotated[
    str | None,
    typer.Option(
        help="What says which photographs show the same part: a regex on the images' names (its group unit, or first "
        "group), a column of the manifest, or none to look for near copies only.",
        rich_help_panel=ADVANCED,
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


class Verb(TyperCommand):
    """A verb whose help shows the usual options first and the others under "Advanced options"."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Writes the arguments, then the options by section."""
        sections: dict[str, list[tuple[str, str]]] = {"Arguments": [], "Options": [], ADVANCED: []}
        for param in self.get_params(ctx):
            row = param.get_help_record(ctx)
            if row is not None:
                panel = getattr(param, "rich_help_panel", None) or "Options"
                sections["Arguments" if param.param_type_name == "argument" else panel].append(row)
        if len(sections["Options"]) + len(sections[ADVANCED]) <= FEW:
            sections["Options"] += sections.pop(ADVANCED)
        for title, rows in sections.items():
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows)


def _from_file(context: typer.Context, value: Path | None) -> None:
    """Takes the options of a file as defaults of this call: what is typed beats them."""
    if value is not None and not context.resilient_parsing:
        context.default_map = {**(context.default_map or {}), **_options_in(value, context)}


def _options_in(path: Path, context: typer.Context) -> dict[str, Any]:
    """Returns the parameters of a verb that a file names, with their values.

    Args:
        path: TOML file, one `option = value` a line, or config.json of a run folder.
        context: Of the verb.

    Raises:
        ConfigError: The file cannot be read, or has a key that is no option of the verb.
    """
    verb = context.command_path.partition(" ")[2]
    known = {str(param.name).rstrip("_"): param for param in context.command.params}
    found: dict[str, Any] = {}
    for key, value in _document(path).items():
        name = key.replace("-", "_")
        if path.suffix.lower() == ".json" and name not in known:
            name = str(renamed(verb, key) or key).replace("-", "_")  # written by an older knowngood
        if name not in known or name in _NOT_IN_A_FILE:
            now = renamed(verb, key)
            near = [now] if now else get_close_matches(name, [n for n in known if n not in _NOT_IN_A_FILE], 2, 0.6)
            raise ConfigError(
                f"{path}: {key!r} is no option of {context.command_path}.",
                expected="names of its options, with - or _",
                fix=f"did you mean {' or '.join(near)}?" if near else f"{context.command_path} --help",
            )
        found[str(known[name].name)] = _as_typed(value, known[name])
    return found


def _as_typed(value: Any, param: Any) -> Any:
    """Returns a value of a file as the command line would give it: several with commas, or as a list."""
    several = getattr(param, "multiple", False) or param.nargs != 1
    if isinstance(value, list):
        return value if several else ",".join(map(str, value))
    return [value] if several else value


def _choose_device(context: typer.Context, value: str) -> str:
    if not context.resilient_parsing:
        from knowngood.environment import use_device

        use_device(value)
    return value


_NOT_IN_A_FILE = ("config_file", "help")


def _document(path: Path) -> dict[str, Any]:
    """Returns the options that a file holds, those of a run's config.json without what was left at None."""
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix.lower() == ".json":
            held = json.loads(text)
            options = {**held["config"], **held.get("repeat", {})}
        else:
            options = tomllib.loads(text)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"{path} (--config) cannot be read: {error}.",
            expected="a TOML file of options (epochs = 8), or config.json of a run folder",
            fix="Check the path and the line that is named.",
        ) from error
    return {name: value for name, value in options.items() if value is not None}


_CONFIG_FILE = inspect.Parameter(
    "config_file",
    inspect.Parameter.KEYWORD_ONLY,
    default=None,
    annotation=Annotated[
        Path | None,
        typer.Option(
            "--config",
            metavar="FILE",
            is_eager=True,
            callback=_from_file,
            help="TOML file of options (epochs = 8), or config.json of a run folder; what is typed beats it.",
        ),
    ],
)


_DEVICE = inspect.Parameter(
    "device",
    inspect.Parameter.KEYWORD_ONLY,
    default="auto",
    annotation=Annotated[
        Literal["auto", "cpu", "cuda"],
        typer.Option(
            callback=_choose_device,
            help="Where networks run: auto takes a GPU if there is one.",
            rich_help_panel=ADVANCED,
        ),
    ],
)


def with_config(verb: Callable[..., None]) -> Callable[..., None]:
    """Gives a verb the option --config, which reads its other options from a file."""
    return _with(_CONFIG_FILE, verb)


def with_device(verb: Callable[..., None]) -> Callable[..., None]:
    """Gives a verb the option --device, which says whether networks run on a GPU."""
    return _with(_DEVICE, verb)


def _with(parameter: inspect.Parameter, verb: Callable[..., None]) -> Callable[..., None]:
    """Returns the verb with an option more whose callback does all there is to do."""
    own = inspect.signature(verb, eval_str=True)
    if parameter.name in own.parameters:
        return verb

    @functools.wraps(verb)
    def run(**given: Any) -> None:
        given.pop(parameter.name)
        verb(**given)

    return _signed(run, [*own.parameters.values(), parameter])


def with_options(
    model: type[BaseModel], name: str = "config", *, basic: Collection[str] | None = None
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Gives a verb one option a field of `model`; the verb receives the validated model as one argument.

    A verb that then has more than a dozen options also takes --config.

    Args:
        model: A frozen pydantic model whose fields have descriptions.
        name: Of that argument.
        basic: Fields whose options stand with the usual ones in the help, the others under "Advanced options"; None
            for all.
    """

    def decorate(verb: Callable[..., None]) -> Callable[..., None]:
        own = inspect.signature(verb, eval_str=True)
        kept = [p for p in own.parameters.values() if p.name != name]
        made = [
            _parameter(one, field, ADVANCED if basic is not None and one not in basic else None)
            for one, field in model.model_fields.items()
        ]

        @functools.wraps(verb)
        def run(**given: Any) -> None:
            fields = {one: _plain(given.pop(one)) for one in model.model_fields}
            for one, field in model.model_fields.items():
                if _takes_a_word_too(field.annotation) and str(fields[one]).isdecimal():
                    fields[one] = int(fields[one])
            checked = checked_parameters(model, fields)
            for one in model.model_fields:
                value = getattr(checked, one)
                check_name(one, value)
                for place in value if isinstance(value, tuple) else ():
                    if isinstance(place, Path):
                        check_there(place, "--" + one.replace("_", "-"))
            verb(**{name: checked}, **given)

        done = _signed(run, [*kept, *made])
        return with_config(done) if len(kept) + len(made) > MANY else done

    return decorate


def _signed(run: Callable[..., None], parameters: list[inspect.Parameter]) -> Callable[..., None]:
    """Returns the verb with the signature that typer makes options of: without a default first."""
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {p.name: p.annotation for p in parameters}
    return run


def _parameter(name: str, field: FieldInfo, panel: str | None) -> inspect.Parameter:
    kind, default = _typer_type(name, field.annotation), field.get_default()
    if isinstance(default, tuple):
        default = ",".join(default)
    if isinstance(kind, type) and issubclass(kind, Enum) and default is not None:
        default = kind(default)
    flag = "--" + name.rstrip("_").replace("_", "-")  # class_ is --class
    flags = (f"{flag}/--no-{flag[2:]}",) if kind is bool else (flag,)
    read = _there if Path in (kind, *get_args(kind)) else None  # no field names a place to write
    option = typer.Option(
        *flags, help=field.description, show_default=default is not None, callback=read, rich_help_panel=panel
    )
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, option])


def _typer_type(name: str, annotation: Any) -> Any:
    """Literal types become enumerations, since that is what typer lists in its help; lists are text with commas."""
    if get_origin(annotation) is tuple:
        return str
    if get_origin(annotation) is Literal:
        return Enum(name, {str(v): v for v in get_args(annotation)}, type=str)
    if _takes_a_word_too(annotation):
        return str
    return annotation


def _takes_a_word_too(annotation: Any) -> bool:
    """Returns whether a field takes a number or one of some words."""
    several = get_args(annotation) if get_origin(annotation) in (UnionType, Union) else ()
    return any(get_origin(one) is Literal for one in several)


def _plain(value: Any) -> Any:
    return value.value if isinstance(value, Enum) else value
