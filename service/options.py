"""Models of what callers send, which refuse unknown fields; options of training and generation.

Options, their bounds and their defaults are defined in perfusion_core.config alone; the request
models are derived from that module. OpenAPI shows no defaults of options, because the defaults
depend on the base model: `GET /models` returns the current defaults.
"""

from collections.abc import Mapping
from copy import copy
from dataclasses import fields
from typing import TYPE_CHECKING, Any, Self, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError, create_model, model_validator
from pydantic.fields import FieldInfo

from perfusion_core.config import EditConfig, GenerateConfig, TrainConfig, without_auto
from perfusion_core.defaults.bounds import too_large, too_many_steps
from service.errors import FieldProblem, Invalid
from service.field_problems import field_problems

C = TypeVar("C", TrainConfig, GenerateConfig)


def whole_numbers(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values with 20 in place of 20.0, which JSON Schema also calls an integer."""
    return {
        name: int(value) if isinstance(value, float) and value.is_integer() else value
        for name, value in given.items()
    }


class Inbound(BaseModel):
    """The base of what callers send: no type conversion, no unknown fields, finite numbers."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _take_whole_numbers(cls, given: Any) -> Any:
        return whole_numbers(given) if isinstance(given, dict) else given

    @classmethod
    def read(cls, given: Mapping[str, Any]) -> Self:
        """Return `given` as a model, or raise Invalid with the pointer of each wrong field."""
        try:
            return cls.model_validate(given)
        except ValidationError as error:
            found = error.errors(include_url=False, include_input=False)
            raise Invalid(field_problems(found)) from None


def fields_of(
    config: type[Any], *, shows_defaults: bool = False
) -> dict[str, tuple[Any, FieldInfo]]:
    """Return the fields of a configuration class; their defaults are not part of the schema.

    With `shows_defaults` the schema has them, because no base model changes them.
    """
    infos: Mapping[str, FieldInfo] = config.__pydantic_fields__
    options = {}
    for each in fields(config):
        info = copy(infos[each.name])
        if not shows_defaults:
            info.json_schema_extra = _remove_default
        options[each.name] = (info.annotation, info)
    return options


def _remove_default(schema: dict[str, Any]) -> None:
    schema.pop("default", None)


if TYPE_CHECKING:

    class TrainingOptions(Inbound):
        """The fields of TrainConfig, which a type checker cannot see."""

    class GenerationOptions(Inbound):
        """The fields of GenerateConfig, which a type checker cannot see."""

    class EditOptions(Inbound):
        """The fields of EditConfig, which a type checker cannot see."""

else:
    TrainingOptions = create_model(
        "TrainingOptions",
        __base__=Inbound,
        __doc__="Training options. What is left out takes the base model's own default.",
        **fields_of(TrainConfig),
    )
    GenerationOptions = create_model(
        "GenerationOptions", __base__=Inbound, **fields_of(GenerateConfig)
    )
    EditOptions = create_model(
        "EditOptions", __base__=Inbound, **fields_of(EditConfig, shows_defaults=True)
    )


def known_defaults(kind: type[C], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Return the defaults of a base model that this release knows.

    A worker of a newer release may have registered other defaults. The newer worker itself applies
    these other defaults to every request.
    """
    try:
        kind(**defaults)
    except ValidationError as error:
        unknown = {item["loc"][0] for item in error.errors(include_url=False) if item["loc"]}
        return {name: value for name, value in defaults.items() if name not in unknown}
    return dict(defaults)


def check(
    kind: type[C],
    given: Mapping[str, Any],
    *,
    defaults: Mapping[str, Any],
    resolution: int | None,
    pointer: str,
) -> C:
    """Return the configuration of `given` over the base model's `defaults`, or raise Invalid.

    `resolution` is the base model's side in pixels, if the side is known; this side limits the
    options of size. `pointer` is the place of the options in the request: `/training`, or empty for
    the body itself.
    """
    try:
        config = kind(**{**defaults, **without_auto(whole_numbers(given))})
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False)
        # A name that is not valid Unicode has no place in pydantic's findings.
        placed = ({**item, "loc": item["loc"] or ("",)} for item in found)
        raise Invalid(field_problems(placed, under=pointer)) from None
    wrong = too_many_steps(config)
    if resolution:
        wrong |= too_large(config, resolution=resolution)
    if wrong:
        raise Invalid([FieldProblem(f"{pointer}/{name}", why) for name, why in wrong.items()])
    return config
