"""Derive command-line options from dataclasses, to write each option only once.

`@with_options(TrainConfig)` adds one option per field to a command, with the field's bounds in the
help. An option that the caller left out is missing from `options`, because the base model decides
the option's default.

Options that several commands share are the fields of a dataclass. A command takes them in one
parameter of that dataclass: `model: ModelOptions`. `@with_options` puts an option for each field in
its place, and `@with_groups` does so for a command without options of the method.
"""

import inspect
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Annotated, Any

import typer
from pydantic import ValidationError
from pydantic.fields import FieldInfo

from service.field_problems import rule

_OPTION_PANEL = "Options of the method (default: the base model's)"
_BOUNDS = {"ge": "≥ {}", "gt": "> {}", "le": "≤ {}", "lt": "< {}"}
# Shorter spellings in addition to the fields' names.
_ALIASES = {
    "max_train_steps": "--steps",
    "train_batch_size": "--batch-size",
    "num_inference_steps": "--steps",
    "guidance_scale": "--guidance",
}


class WrongOption(Exception):
    """An option's value breaks the option's rule; the message is printed for the caller."""


def with_options(config: type[Any]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Replace a command's parameter `options: dict` by one typed option per field of `config`."""

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        names = [each.name for each in fields(config)]

        def run(**arguments: Any) -> None:
            options = {name: arguments.pop(name) for name in names}
            given = {name: value for name, value in options.items() if value is not None}
            check(config, given)
            command(**arguments, options=given)

        own = [each for each in _signed(command) if each.name != "options"]
        return with_groups(_signed_as(run, [*own, *_parameters(config)], told=command))

    return decorate


def with_groups(command: Callable[..., None]) -> Callable[..., None]:
    """Replace each parameter of a dataclass by one option per field of the dataclass."""
    groups = {each.name: each.annotation for each in _signed(command) if _is_group(each)}

    def run(**arguments: Any) -> None:
        given = {
            name: group(**{each.name: arguments.pop(each.name) for each in fields(group)})
            for name, group in groups.items()
        }
        command(**arguments, **given)

    parameters: list[inspect.Parameter] = []
    for each in _signed(command):
        parameters += _group_parameters(each.annotation) if _is_group(each) else [each]
    return _signed_as(run, parameters, told=command)


def _signed(command: Callable[..., None]) -> Iterable[inspect.Parameter]:
    return inspect.signature(command, eval_str=True).parameters.values()


def _is_group(parameter: inspect.Parameter) -> bool:
    return is_dataclass(parameter.annotation)


def _signed_as(
    run: Callable[..., None], parameters: Sequence[inspect.Parameter], *, told: Callable[..., None]
) -> Callable[..., None]:
    """Return `run` with the parameters that typer reads, and the name and help of `told`."""
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {each.name: each.annotation for each in parameters}
    run.__name__ = told.__name__
    run.__doc__ = told.__doc__
    return run


def _group_parameters(group: type[Any]) -> list[inspect.Parameter]:
    annotations = typing.get_type_hints(group, include_extras=True)
    return [
        inspect.Parameter(
            each.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=each.default,
            annotation=annotations[each.name],
        )
        for each in fields(group)
    ]


def check(config: type[Any], given: Mapping[str, Any]) -> None:
    """Raise WrongOption with a sentence unless the dataclass accepts `given`."""
    try:
        config(**given)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise WrongOption(f"{_flag(str(first['loc'][0]))} {rule(first)}.") from None


def _parameters(config: type[Any]) -> list[inspect.Parameter]:
    infos: Mapping[str, FieldInfo] = config.__pydantic_fields__
    return [
        inspect.Parameter(
            each.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=None,
            annotation=Annotated[
                _optional(infos[each.name].annotation),
                typer.Option(
                    *_spellings(each.name),
                    help=_help(infos[each.name]),
                    show_default=False,
                    rich_help_panel=_OPTION_PANEL,
                ),
            ],
        )
        for each in fields(config)
    ]


def _optional(annotation: Any) -> Any:
    """Return `int | None` for `int` and `int | None`; None means that the option was not given."""
    kinds = [kind for kind in typing.get_args(annotation) if kind is not type(None)]
    if typing.get_origin(annotation) is typing.Literal or not kinds:
        return annotation | None
    return kinds[0] | None


def _help(info: FieldInfo) -> str:
    bounds = [
        text.format(getattr(rule, name))
        for rule in info.metadata
        for name, text in _BOUNDS.items()
        if hasattr(rule, name)
    ]
    return f"{info.description}{' ' if bounds else ''}{', '.join(bounds)}"


def _spellings(name: str) -> list[str]:
    """Return the spellings of a switch with an alias; typer derives those of other switches."""
    return [_flag(name), _ALIASES[name]] if name in _ALIASES else []


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")
