"""The public interface: one sorted list, every name of it documented and typed."""

from __future__ import annotations

import inspect

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


def test_importing_a_floor_does_not_hide_the_function_of_its_name() -> None:
    from knowngood.explain import maps
    from knowngood.workflows import train as training

    assert knowngood.explain.__module__ == "knowngood.workflows.explain"
    assert knowngood.study.__module__ == "knowngood.experiments.study"
    assert maps.__name__ == "knowngood.explain.maps"
    assert training.__name__ == "knowngood.workflows.train"


def test_other_names_are_missing_as_python_says_it() -> None:
    with pytest.raises(AttributeError, match="nonsense"):
        knowngood.nonsense  # noqa: B018
    assert set(knowngood.__all__) <= set(dir(knowngood))
