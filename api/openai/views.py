"""OpenAI's answers: images and models."""

from typing import Annotated, Literal

from pydantic import Field

from service.views import View, is_none


class OpenAIImage(View):
    """A generated image."""

    url: Annotated[
        str | None,
        Field(exclude_if=is_none, description="A link that needs no key, for 10 to 15 minutes."),
    ] = None
    b64_json: Annotated[
        str | None, Field(exclude_if=is_none, description="The PNG file in base64.")
    ] = None
    seed: Annotated[int, Field(description="An extension: the seed that makes it again.")]


class OpenAIImages(View):
    """The images of one request."""

    created: Annotated[int, Field(description="Seconds since 1970.")]
    data: tuple[OpenAIImage, ...]
    background: Literal["opaque"] = "opaque"
    output_format: Literal["png"] = "png"
    size: Annotated[str, Field(examples=["512x512"])]


class OpenAIModel(View):
    """A base model."""

    id: Annotated[str, Field(description="Its name, for `model`.")]
    object: Literal["model"] = "model"
    created: Annotated[int, Field(description="Always 0: base models tell no date.")] = 0
    owned_by: Literal["perfusion"] = "perfusion"


class OpenAIModels(View):
    """The served base model, as a list."""

    object: Literal["list"] = "list"
    data: tuple[OpenAIModel, ...]
