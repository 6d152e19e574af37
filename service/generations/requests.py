"""The body of a request for images."""

from typing import Annotated, Any

from pydantic import ConfigDict, Field, PlainValidator, StringConstraints, WithJsonSchema
from pydantic_core import PydanticCustomError

from perfusion_core.config import MAX_PROMPT_LENGTH
from perfusion_core.text.prompt import NAME_PATTERN
from service.options import EditOptions, GenerationOptions, Inbound
from service.webhooks.requests import Webhook

MAX_CONCEPTS = 16
MAX_BOXES = 64
MAX_SUBJECT_LENGTH = 100  # characters
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


def _box(given: Any) -> tuple[int, int, int, int]:
    numbers = given if isinstance(given, (list, tuple)) else ()
    whole = [int(n) for n in numbers if type(n) in (int, float) and n == n // 1 and abs(n) < 2**31]
    if len(numbers) != 4 or len(whole) != 4:
        raise PydanticCustomError("box", "A box is [x, y, width, height] in whole pixels.")
    return whole[0], whole[1], whole[2], whole[3]


Box = Annotated[
    tuple[int, int, int, int],
    PlainValidator(_box),
    WithJsonSchema(
        {
            "type": "array",
            "items": {"type": "integer", "minimum": 0},
            "minItems": 4,
            "maxItems": 4,
            "examples": [[40, 60, 200, 160]],
        }
    ),
]


class PictureChoice(Inbound):
    """The generated image that an edit starts from."""

    image_id: _Id


class MaskChoice(Inbound):
    """What of the picture is painted anew: either `boxes` or `subject`."""

    boxes: Annotated[
        tuple[Box, ...] | None,
        Field(
            max_length=MAX_BOXES,
            strict=False,
            description="Rectangles, each `[x, y, width, height]` in pixels of the picture; all "
            "together are painted anew.",
            # Checked by edits.py: pydantic would count only the boxes that are valid.
            json_schema_extra={"minItems": 1},
        ),
    ] = None
    subject: Annotated[
        str | None,
        Field(
            description="What the served segmenter finds in the picture; `segmenter` of `GET "
            "/models` says whether there is one.",
            examples=["cup"],
            # Checked by edits.py, with a sentence of its own.
            json_schema_extra={"maxLength": MAX_SUBJECT_LENGTH},
        ),
    ] = None


class _Edited(EditOptions):
    image: Annotated[
        PictureChoice | None,
        Field(description="Start from this generated image. To start from a file, send a form."),
    ] = None
    mask: Annotated[
        MaskChoice | None,
        Field(
            description="Paint this part anew and keep every pixel of the rest. Without a mask the "
            "whole picture changes. Not with `width` and `height`."
        ),
    ] = None


class SweepAxis(Inbound):
    """A field of the request, and the values that it takes along a side of the sweep."""

    field: Annotated[
        str,
        Field(
            description="`strength:<name>`, `beta:<name>`, `seed`, `prompt`, `guidance_scale`, "
            "`num_inference_steps`, `locking`, `scheduler`, or, with `image`, "
            "`denoising_strength`.",
            examples=["beta:rex", "seed"],
        ),
    ]
    values: Annotated[
        tuple[int | float | str, ...],
        Field(
            strict=False,
            description="As the field itself takes them.",
            examples=[[0.8, 0.6, 0.4]],
            # Checked by sweeps.py, with a sentence about both axes.
            json_schema_extra={"minItems": 1, "maxItems": 64},
        ),
    ]


class Sweep(Inbound):
    """A grid of images: each cell is the same request with other values."""

    axes: Annotated[
        tuple[SweepAxis, ...],
        Field(
            strict=False,
            description="The columns, and the rows if there are two. At most 64 cells.",
            json_schema_extra={"minItems": 1, "maxItems": 2},
        ),
    ]


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
    webhook: Annotated[
        Webhook | None, Field(description="Where to send the job once it has ended.")
    ] = None
    sweep: Annotated[
        Sweep | None,
        Field(
            description="Generate one image for each cell of a grid, as one job. An axis replaces "
            "the field of its name; all cells have the same seed, unless `seed` is an axis."
        ),
    ] = None


class GenerateRequest(GenerationOptions, _Edited, _Prompted):
    """A request for images. An option that is left out takes the base model's own default."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"prompt": "a cup on a wooden table", "seed": 7}]}
    )
