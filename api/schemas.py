"""The JSON that enters, as OpenAPI shows it: strict types, no unknown field, every number bounded.

The hyper-parameters are not written here; they are read off the dataclasses in
`perfusion_core.config`, with their bounds, defaults and descriptions. What leaves are the views of
the service, see `service/views.py`.
"""

from collections.abc import Mapping
from dataclasses import fields as dataclass_fields
from typing import TYPE_CHECKING, Annotated, Any, Literal

from fastapi import Path
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, create_model, model_validator
from pydantic.fields import FieldInfo

from perfusion_core.config import GenerateConfig, TrainConfig
from perfusion_core.text.prompt import NAME_PATTERN
from service.generations.strengths import MAX_CONCEPTS
from service.options import whole_numbers
from service.validation import MAX_PROMPT_LENGTH
from service.views import View

ConceptName = Annotated[
    str,
    StringConstraints(pattern=f"^{NAME_PATTERN}$", max_length=63),
    Field(description="The concept's name; `<name>` is its placeholder.", examples=["rex"]),
]
Identifier = Annotated[str, StringConstraints(min_length=1, max_length=64)]
ConceptRef = Annotated[str, Path(description="The concept's id or name.")]


class _Inbound(BaseModel):
    """What a caller sends: strict, closed, finite."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _take_whole_numbers(cls, given: Any) -> Any:
        return whole_numbers(given) if isinstance(given, dict) else given


def _config_fields(config: type[Any]) -> dict[str, tuple[Any, FieldInfo]]:
    """The fields of a config dataclass, for a model of our own."""
    infos: Mapping[str, FieldInfo] = config.__pydantic_fields__
    names = [each.name for each in dataclass_fields(config)]
    return {name: (infos[name].annotation, infos[name]) for name in names}


if TYPE_CHECKING:

    class TrainingOptions(_Inbound):
        """The fields of TrainConfig, which a type checker cannot see."""

else:
    TrainingOptions = create_model(
        "TrainingOptions",
        __base__=_Inbound,
        __doc__="Training options. What is left out takes the base model's own default.",
        **_config_fields(TrainConfig),
    )


class TrainAgainRequest(TrainingOptions):
    """Training options for another training, and whether its file replaces the one before.

    What is left out takes the base model's own default.
    """

    replace: Annotated[
        Literal["if-better", "always"],
        Field(
            description="`if-better`: the new file replaces the old one where that is of another "
            "base model, where its verdict is better (`good` above the others), or where verdicts "
            "are equal and the balance at its recommended strength is higher or was measured in "
            "another way; without an evaluator it always does."
        ),
    ] = "if-better"


class ConceptUse(_Inbound):
    """How one concept enters an image; its values win over the prompt's."""

    name: ConceptName | None = None
    id: Annotated[Identifier | None, Field(description="Instead of `name`.")] = None
    strength: Annotated[
        float | None, Field(gt=0, lt=1, description="The gate's value at the concept itself.")
    ] = None
    beta: Annotated[
        float | None,
        Field(
            ge=-10,
            le=10,
            description="The gate's bias, from 0.9 (faint) to 0.3 (strong); not with `strength`.",
        ),
    ] = None
    tau: Annotated[
        float | None,
        Field(gt=0, le=10, description="The gate's temperature; only with `beta`."),
    ] = None


class _Prompted(_Inbound):
    prompt: Annotated[
        str,
        Field(
            min_length=1,
            max_length=MAX_PROMPT_LENGTH,
            description="The scene; concepts by placeholder, `<name>`, or `<name:0.9>` with a "
            "strength.",
            examples=["a photo of <teddy> next to <rex>"],
        ),
    ]
    concepts: Annotated[
        tuple[ConceptUse, ...],
        Field(
            max_length=MAX_CONCEPTS,
            strict=False,
            description="Explicit values; they win over `prompt`. Without any, local locking takes "
            "a concept's recommended strength (else beta 0.7), global locking beta 0.5.",
        ),
    ] = ()
    attention_maps: Annotated[
        bool,
        Field(description="Also tell where each word acts; the images stay the same, bit by bit."),
    ] = False


if TYPE_CHECKING:

    class GenerateRequest(_Prompted):
        """The fields of GenerateConfig, which a type checker cannot see."""

else:
    GenerateRequest = create_model(
        "GenerateRequest",
        __base__=_Prompted,
        __doc__="What to generate. What is left out takes the base model's own default.",
        **_config_fields(GenerateConfig),
    )


class BaseModelInfo(View):
    """The base model that the workers serve, with its own defaults and every bound."""

    name: str
    family: str
    fingerprint: str
    covariance_fingerprint: str
    resolution: Annotated[dict[str, int] | None, Field(description="Width and height in pixels.")]
    max_pixels: Annotated[
        dict[str, int] | None,
        Field(
            description="`generate`: the most of width times height. `train`: the most of "
            "train_batch_size times resolution squared."
        ),
    ]
    defaults: dict[str, dict[str, Any]]
    bounds: dict[str, dict[str, Any]]
