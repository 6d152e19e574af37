"""OpenAI's official client generates images with a running server."""

import base64
import io
from collections.abc import Iterator

import httpx2 as httpx
import openai
import pytest
from openai import OpenAI
from PIL import Image, ImageChops

from tests.integration.clients.conftest import KEY
from tests.integration.stack.deployment import Api


@pytest.fixture
def client(api: Api) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"http://127.0.0.1:{api.port}/v1", api_key=KEY, max_retries=0) as client:
        yield client


def opened(png: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(png))
    image.load()
    return image


def test_the_client_generates_images_of_a_concept(client: OpenAI, rex: str) -> None:
    answer = client.images.generate(
        model="tiny",
        prompt=f"a photo of <{rex}:0.8> at night",
        n=2,
        size="32x32",  # type: ignore[arg-type]  # OpenAI's own sizes only
        quality="hd",
        style="vivid",
        user="someone",
        extra_body={"seed": 7},
    )
    assert (answer.size, answer.output_format, len(answer.data or ())) == ("32x32", "png", 2)
    for number, image in enumerate(answer.data or ()):
        assert image.url is not None and image.b64_json is not None
        assert image.seed == 7 + number  # type: ignore[attr-defined]  # our extension
        png = base64.b64decode(image.b64_json)
        assert httpx.get(image.url).content == png  # without a key
        assert opened(png).size == (32, 32)


def test_the_client_lists_the_base_model(client: OpenAI) -> None:
    (model,) = client.models.list()
    assert (model.id, model.object) == ("tiny", "model")
    assert client.models.retrieve("tiny") == client.models.retrieve("default") == model
    with pytest.raises(openai.NotFoundError) as refused:
        client.models.retrieve("someone/dall-e-9")
    assert (refused.value.code, refused.value.type) == ("model_not_found", "invalid_request_error")


def test_refusals_reach_the_client_as_its_own_errors(client: OpenAI, rex: str) -> None:
    def refused(kind: type[openai.APIStatusError], **asked: object) -> openai.APIStatusError:
        with pytest.raises(kind) as error:
            client.images.generate(**{"prompt": "a boat", **asked})  # type: ignore[call-overload]
        return error.value

    error = refused(openai.UnprocessableEntityError, prompt="a photo of <rexx>")
    assert (error.code, error.param) == ("unknown_placeholder", "prompt")
    assert "<rex>" in error.message
    error = refused(openai.NotFoundError, model="gpt-image-2")
    assert error.code == "model_not_found"
    assert "tiny" in error.message
    error = refused(openai.UnprocessableEntityError, n=17)
    assert (error.code, error.param) == ("invalid", "n")
    error = refused(openai.UnprocessableEntityError, size="1000x1000")
    assert error.param == "size"
    error = refused(openai.UnprocessableEntityError, stream=True)
    assert error.param == "stream"


def test_a_wrong_key_reaches_the_client_as_its_own_error(client: OpenAI) -> None:
    with pytest.raises(openai.AuthenticationError) as refused:
        client.with_options(api_key=f"{KEY}x").images.generate(prompt="a boat")
    assert refused.value.code == "invalid_api_key"


def test_the_client_edits_a_picture_inside_its_mask_alone(client: OpenAI, rex: str) -> None:
    photo = Image.linear_gradient("L").resize((120, 90)).convert("RGB")
    mask = Image.new("RGBA", photo.size, "black")
    mask.paste((0, 0, 0, 0), (30, 20, 80, 70))  # transparent: painted anew
    answer = client.images.edit(
        image=("photo.png", png_of(photo)),
        mask=("mask.png", png_of(mask)),
        prompt=f"a <{rex}>",
        n=2,
        size="120x90",
        response_format="b64_json",
        extra_body={"seed": 1},
    )
    assert (answer.size, len(answer.data or ())) == ("120x90", 2)
    for image in answer.data or ():
        assert image.url is None
        edited = opened(base64.b64decode(image.b64_json or ""))
        changed = ImageChops.difference(edited.convert("RGB"), photo).getbbox()
        assert changed is not None
        left, top, right, bottom = changed
        assert 30 <= left < right <= 80
        assert 20 <= top < bottom <= 70


def test_the_client_changes_a_whole_picture_without_a_mask(client: OpenAI) -> None:
    photo = Image.linear_gradient("L").resize((120, 90)).convert("RGB")
    answer = client.images.edit(image=[("photo.png", png_of(photo))], prompt="a boat")
    (image,) = answer.data or ()
    assert answer.size == "{}x{}".format(*opened(base64.b64decode(image.b64_json or "")).size)


def test_a_wrong_edit_is_refused_by_the_name_of_its_part(client: OpenAI) -> None:
    photo = png_of(Image.new("RGB", (64, 64)))
    opaque, small = (png_of(Image.new("RGBA", size, "black")) for size in ((64, 64), (32, 32)))
    for asked, param in (
        ({"mask": ("mask.png", opaque)}, "mask"),
        ({"mask": ("mask.png", small)}, "mask"),
        ({"image": [("a.png", photo), ("b.png", photo)]}, "image"),
        ({"n": 17}, "n"),
        ({"stream": True}, "stream"),
        ({"extra_body": {"colour": "red"}}, "colour"),
    ):
        with pytest.raises(openai.UnprocessableEntityError) as refused:
            client.images.edit(
                **{"image": ("a.png", photo), "prompt": "a boat", **asked}  # type: ignore[call-overload]
            )
        assert refused.value.param == param, refused.value.message


def png_of(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()
