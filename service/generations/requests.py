"""The body of a request for images."""

from typing import Annotated

from pydantic import Field, StringConstraints

from perfusion_core.config import MAX_PROMPT_LENGTH
from perfusion_core.text.prompt import NAME_PATTERN
from service.options import GenerationOptions, Inbound

MAX_CONCEPTS = 16
_Name = Annotated[
    str,
    StringConstraints(pattern=f"^{NAME_PATTERN}$", max_length=63),
    Field(description="The concept's name; `<name>` is its placeholder.", examples=["rex"]),
]
_Id = Annotated[str, StringConstraints(min_length=1, max_length=64)]


class ConceptChoice(Inbound):
    """A concept's values for the images of one request; they override the values in the prompt."""

    name: _Name | None = None
    id: Annotated[_Id | None, Field(description="Instead of `name`.")] = None
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


class _Prompted(Inbound):
    prompt: Annotated[
        str,
        Field(
            description="The scene; concepts by placeholder, `<name>`, or `<name:0.9>` with a "
            "strength.",
            examples=["a photo of <teddy> next to <rex>"],
            # Checked by validation.check_prompt, as the command's prompt is.
            json_schema_extra={"minLength": 1, "maxLength": MAX_PROMPT_LENGTH},
        ),
    ]
    concepts: Annotated[
        tuple[ConceptChoice, ...],
        Field(
            max_length=MAX_CONCEPTS,
            strict=False,
            description="Explicit values; they override the strengths in `prompt`. Without any, "
            "local locking takes "
            "a concept's recommended strength (else beta 0.7), global locking beta 0.5.",
        ),
    ] = ()
    attention_maps: Annotated[
        bool,
        Field(description="Also map where each word acts; the images stay the same, bit by bit."),
    ] = False


class GenerateRequest(GenerationOptions, _Prompted):
    """A request for images. An option that is left out takes the base model's own default."""
