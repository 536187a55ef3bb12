"""The public interface: one sorted list, every name of it documented and typed."""

from __future__ import annotations

import inspect
import pkgutil
import sys

import pytest

import knowngood
from knowngood.errors import ConfigError
from knowngood.parameters import configured
from knowngood.training.config import TrainConfig


def test_the_list_is_sorted_and_every_name_has_a_home() -> None:
    assert sorted(set(knowngood.__all__)) == knowngood.__all__
    assert set(knowngood.__all__) == set(knowngood._HOMES)


@pytest.mark.parametrize("name", knowngood.__all__)
def test_every_name_is_there_documented_and_typed(name: str) -> None:
    thing = getattr(knowngood, name)
    assert inspect.getdoc(thing)
    assert thing.__module__.startswith("knowngood.")
    if inspect.isfunction(thing):
        signature = inspect.signature(thing)
        assert signature.return_annotation is not inspect.Signature.empty
        for parameter in signature.parameters.values():
            assert parameter.annotation is not inspect.Parameter.empty


@pytest.mark.parametrize("name", sorted(vars(knowngood)["_HOMES"]))
def test_every_option_is_written_out(name: str) -> None:
    thing = getattr(knowngood, name)
    methods = inspect.getmembers(thing, inspect.isroutine) if inspect.isclass(thing) else []
    ours = [
        one
        for label, one in methods
        if not label.startswith("_") and getattr(one, "__module__", "").startswith("knowngood.")
    ]
    for function in [thing] if inspect.isfunction(thing) else ours:
        kinds = {parameter.kind for parameter in inspect.signature(function).parameters.values()}
        assert inspect.Parameter.VAR_KEYWORD not in kinds, function


@pytest.mark.parametrize("name", [name for name in knowngood.__all__ if inspect.isfunction(getattr(knowngood, name))])
def test_keywords_are_the_fields_of_the_configuration(name: str) -> None:
    function = getattr(knowngood, name)
    parameters = inspect.signature(function).parameters
    named = str(parameters["config"].annotation).partition(" ")[0] if "config" in parameters else ""
    model = getattr(sys.modules[function.__module__], named, None)
    if model is None or not set(model.model_fields) & set(parameters):
        return  # it takes its configuration whole
    for field, facts in model.model_fields.items():
        assert parameters[field].default == facts.default, field
        assert parameters[field].kind is inspect.Parameter.KEYWORD_ONLY


def test_keywords_beat_a_configuration_that_is_given_whole() -> None:
    given = {**{name: field.default for name, field in TrainConfig.model_fields.items()}, "epochs": 3, "out": "x"}
    made = configured(TrainConfig, TrainConfig(preset="best", epochs=5), given)
    assert (made.preset, made.epochs) == ("best", 3)
    with pytest.raises(ConfigError, match="--epochs"):
        configured(TrainConfig, None, given | {"epochs": -1})


def test_no_public_name_is_that_of_a_module() -> None:
    modules = {module.name for module in pkgutil.iter_modules(knowngood.__path__)}
    assert not modules & set(knowngood.__all__)  # importing such a module would replace the name


def test_other_names_are_missing_as_python_says_it() -> None:
    with pytest.raises(AttributeError, match="nonsense"):
        knowngood.nonsense  # noqa: B018
    assert set(knowngood.__all__) <= set(dir(knowngood))
