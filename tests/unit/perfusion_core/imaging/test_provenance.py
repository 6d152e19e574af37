"""What image files say about their making, read by an XML parser and Pillow."""

import io
import json
from dataclasses import replace
from xml.etree import ElementTree

from PIL import Image

from perfusion_core.base_model import BaseModel
from perfusion_core.config import GenerateConfig
from perfusion_core.editing.edit import Edit
from perfusion_core.imaging import provenance
from perfusion_core.imaging.metadata import EVERYTHING, Metadata
from perfusion_core.sampling import png
from perfusion_core.sampling.sample import Sample
from perfusion_core.sampling.sampler import ImageRequest

IPTC = "{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}"


def texts(
    base: BaseModel, request: ImageRequest, metadata: Metadata = EVERYTHING
) -> dict[str, str]:
    photo = Image.new("RGB", (32, 32), (9, 80, 20))
    photo.info |= {"exif": b"Exif\0\0secret", "icc_profile": b"secret", "comment": "secret"}
    data = png.encode(
        Sample(image=photo, seed=1),
        request=request,
        concept_hashes={},
        base=base,
        metadata=metadata,
    )
    assert b"secret" not in data
    opened = Image.open(io.BytesIO(data))
    opened.load()
    found: dict[str, str] = opened.text  # type: ignore[attr-defined]
    return found


def properties(packet: str) -> dict[str, str]:
    tree = ElementTree.fromstring(packet.encode())
    return {each.tag: each.text or "" for each in tree.iter() if each.tag.startswith(IPTC)}


def request(prompt: str) -> ImageRequest:
    return ImageRequest(prompt=prompt, config=GenerateConfig(negative_prompt="fog"))


def test_an_image_says_in_xmp_that_a_model_made_it_and_which(base: BaseModel) -> None:
    found = properties(texts(base, request("a cat & a <dog>\x07"))[provenance.PNG_KEYWORD])
    assert found == {
        f"{IPTC}DigitalSourceType": provenance.MADE_BY_A_MODEL,
        f"{IPTC}AISystemUsed": f"Perfusion with the base model {base.name}",
        f"{IPTC}AISystemVersionUsed": provenance.product_version(),
        f"{IPTC}AIPromptInformation": "a cat & a <dog>",
    }


def test_an_edited_picture_says_that_it_is_composed_with_what_a_model_made(base: BaseModel) -> None:
    edit = Edit(picture=Image.new("RGB", (32, 32)))
    found = texts(base, replace(request("a cat"), edit=edit))
    source = properties(found[provenance.PNG_KEYWORD])[f"{IPTC}DigitalSourceType"]
    assert source == provenance.EDITED_BY_A_MODEL


def test_without_prompts_no_part_of_a_file_repeats_them(base: BaseModel) -> None:
    found = texts(base, request("a cat at night"), Metadata(prompts=False))
    assert not any("cat" in text or "fog" in text for text in found.values())
    assert json.loads(found["perfusion"])["seed"] == 1
    source = properties(found[provenance.PNG_KEYWORD])[f"{IPTC}DigitalSourceType"]
    assert source == provenance.MADE_BY_A_MODEL
