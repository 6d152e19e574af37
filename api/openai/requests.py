"""OpenAI's requests for images, translated to ours.

Their fields without a meaning here are ignored. A field that the answer would contradict, such as
another file format, is refused.
"""

import re
from typing import Annotated, Any, Final, Literal

from pydantic import ConfigDict, Field

from service.errors import FieldProblem, Invalid
from service.generations.requests import GenerateRequest
from service.options import Inbound

DEFAULT_MODEL: Final = "default"
_SIZE: Final = re.compile(r"([1-9][0-9]{0,4})x([1-9][0-9]{0,4})")
_Ignored = Annotated[Any, Field(description="Ignored.")]


class ImagesRequest(Inbound):
    """A request for images, as OpenAI's clients send it; `seed` is an extension."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"prompt": "a cup on a wooden table", "n": 1}]}
    )

    prompt: Annotated[
        str,
        Field(
            description="Concepts by placeholder, as in `POST /generate`.",
            examples=["a photo of <rex:0.8> on the beach"],
        ),
    ]
    model: Annotated[
        str | None, Field(description="The base model's name, `default`, or left out.")
    ] = None
    n: Annotated[int | None, Field(description="How many images, 1 to 16.")] = None
    size: Annotated[
        str | None,
        Field(
            description="`WIDTHxHEIGHT` in pixels; `auto`, or left out: the base model's own. With "
            "a mask, the size of the picture.",
            examples=["auto", "512x512"],
        ),
    ] = None
    response_format: Annotated[
        Literal["url", "b64_json"] | None,
        Field(description="Left out: each image has both."),
    ] = None
    seed: Annotated[int | None, Field(description="Image k uses seed + k.")] = None
    output_format: Annotated[str | None, Field(description="`png`.")] = None
    background: Annotated[str | None, Field(description="`opaque` or `auto`.")] = None
    stream: Annotated[bool | None, Field(description="Only false.")] = None
    partial_images: Annotated[int | None, Field(description="Only 0.")] = None
    quality: _Ignored = None
    style: _Ignored = None
    user: _Ignored = None
    safety_identifier: _Ignored = None
    moderation: _Ignored = None
    complexity: _Ignored = None
    output_compression: _Ignored = None
    input_fidelity: _Ignored = None


def translate(
    asked: ImagesRequest, *, picture_size: tuple[int, int] | None = None
) -> GenerateRequest:
    """Return our request; raise Invalid with their names of the wrong fields.

    `picture_size` is the size of the picture of an edit with a mask, whose image has that size.
    """
    wrong = [
        FieldProblem(f"/{name}", sentence)
        for name, refused, sentence in (
            ("stream", bool(asked.stream), "Images are not streamed here. Leave this out."),
            (
                "partial_images",
                bool(asked.partial_images),
                "Images are not streamed here. Leave this out.",
            ),
            (
                "output_format",
                asked.output_format not in (None, "png"),
                "Images are PNG files. Leave this out, or set it to png.",
            ),
            (
                "background",
                asked.background == "transparent",
                "Images are opaque. Leave this out, or set it to opaque.",
            ),
        )
        if refused
    ]
    size = _size(asked.size, wrong)
    if picture_size is not None and size is not None:
        if size != picture_size:
            detail = "With a mask an image has the size of its picture. Leave this out."
            wrong.append(FieldProblem("/size", detail))
        size = None
    if wrong:
        raise Invalid(wrong)
    width, height = size or (None, None)
    given = {
        "prompt": asked.prompt,
        "num_images": asked.n,
        "seed": asked.seed,
        "width": width,
        "height": height,
    }
    return GenerateRequest.read({name: value for name, value in given.items() if value is not None})


def _size(text: str | None, wrong: list[FieldProblem]) -> tuple[int, int] | None:
    """Return width and height; None for the base model's own."""
    if text is None or text == "auto":
        return None
    parsed = _SIZE.fullmatch(text)
    if parsed is None:
        detail = "Write the size as WIDTHxHEIGHT in pixels, such as 512x512, or auto."
        wrong.append(FieldProblem("/size", detail))
        return None
    return int(parsed[1]), int(parsed[2])
