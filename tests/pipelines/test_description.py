"""Descriptions of tasks: help, kinds and choices of every option, and the bounds that they are checked by."""

import inspect
from typing import Any

import pytest

from unclip.diffusion import get_sampler
from unclip.errors import InputError
from unclip.pipelines import DrawOptions, UnClip
from unclip.pipelines.options import TASKS, Option, describe

OPTIONS = [(name, option) for name in TASKS for option in describe(name)]


def test_every_method_that_takes_options_is_a_task() -> None:
    methods = {
        name
        for name, method in inspect.getmembers(UnClip, inspect.isfunction)
        if "options" in inspect.signature(method).parameters and name != "__call__"
    }
    assert methods | {"embed", "fit_basis"} == TASKS.keys()


@pytest.mark.parametrize("name", [*TASKS])
def test_a_task_describes_all_that_it_takes(name: str) -> None:
    _, *parameters = inspect.signature(TASKS[name].function).parameters.values()
    own = [one.name for one in parameters if one.kind is not inspect.Parameter.VAR_KEYWORD]
    shared = [one.name for one in describe(name)[len(own) :]]
    assert [one.name for one in describe(name)[: len(own)]] == own
    assert len(parameters) == len(own) or set(shared) <= set(DrawOptions.__annotations__)
    assert all(option.help.endswith(".") for option in describe(name))


def test_samplers_are_the_choices_of_their_option() -> None:
    (sampler,) = (option for option in describe("text_to_image") if option.name == "sampler")
    assert [get_sampler(name).name for name in sampler.choices] == [*sampler.choices]
    with pytest.raises(InputError) as refused:
        get_sampler("none")
    assert all(name in str(refused.value) for name in sampler.choices)
    allowed = str(refused.value).split("allowed: ")[1].rstrip(".").split(", ")
    assert set(allowed) == set(sampler.choices)


def test_a_series_has_one_seed() -> None:
    seeds = {name: option.help for name, option in OPTIONS if option.name == "seed"}
    assert {name for name, text in seeds.items() if text.startswith("Of all pictures")} == {
        "interpolate", "text_diff", "probe",
    }  # fmt: skip


def out_of_bounds(option: Option) -> list[Any]:
    values: list[Any] = []
    values += [] if option.least is None else [option.least - 1, "1", True, float("nan")]
    values += [] if option.above is None else [option.above, float("nan")]
    values += [] if option.most is None else [option.most + 0.001]
    values += ["none such"] if option.kind == "choice" else []
    return [*values, values[:1], []] if values and option.takes_several else values


BOUNDED = [
    (name, option)
    for name, option in OPTIONS
    if out_of_bounds(option) and option.name not in DrawOptions.__annotations__  # stages check those
]


@pytest.mark.parametrize(("name", "option"), BOUNDED)
def test_what_is_out_of_bounds_is_refused_by_name(pipe: UnClip, name: str, option: Option) -> None:
    for value in out_of_bounds(option):
        with pytest.raises(InputError, match=option.name):
            TASKS[name].function(pipe.model, **{option.name: value})


def test_an_unknown_task_names_the_nearest() -> None:
    with pytest.raises(InputError, match="there is no task 'text_to_imag'; did you mean 'text_to_image'"):
        describe("text_to_imag")
