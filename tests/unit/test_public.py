"""The public interface: one sorted list, every name of it documented and typed."""

from __future__ import annotations

import inspect
import pkgutil

import pytest

import knowngood


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


def test_no_public_name_is_that_of_a_module() -> None:
    modules = {module.name for module in pkgutil.iter_modules(knowngood.__path__)}
    assert not modules & set(knowngood.__all__)  # importing such a module would replace the name


def test_other_names_are_missing_as_python_says_it() -> None:
    with pytest.raises(AttributeError, match="nonsense"):
        knowngood.nonsense  # noqa: B018
    assert set(knowngood.__all__) <= set(dir(knowngood))
