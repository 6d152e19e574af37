"""A concept's pictures and masks can be looked at until it is deleted."""

import pytest
from PIL import Image

from service.concepts import imports, pictures
from service.concepts import use_cases as concepts
from service.errors import NotFound
from service.pictures.uploads import read_pictures
from service.wiring import Service
from tests.unit.service.staging import (
    OWNER,
    STRANGER,
    core_concept,
    encoded,
    picture,
    register_base_model,
)


def test_pictures_and_masks_are_those_of_the_training_until_the_concept_is_deleted(
    service: Service,
) -> None:
    sent = [encoded(picture(seed=n)) for n in range(2)]
    masks = [encoded(Image.new("L", (48, 40), 255 * n)) for n in (1, 1)]
    read = read_pictures(service, images=sent, masks=masks)
    answer = concepts.create(
        service, OWNER, name="teddy", superclass="bear", pictures=read, training={}
    )
    concept_id = answer.body["concept"]["id"]
    listed = pictures.list_all(service, OWNER, ref="teddy").to_json()
    assert listed == {
        "items": [
            {
                "url": f"/concepts/{concept_id}/pictures/{n}",
                "mask_url": f"/concepts/{concept_id}/pictures/{n}/mask",
                "width": 48,
                "height": 40,
            }
            for n in range(2)
        ]
    }
    for number in range(2):
        for ref, owner in (("teddy", OWNER), (concept_id, OWNER), (concept_id, None)):
            for mask in (False, True):
                file = pictures.read(service, owner, concept_id=ref, number=number, mask=mask)
                assert file.data.startswith(b"\x89PNG")
    for owner, ref, number in (
        (STRANGER, concept_id, 0),
        (OWNER, "teddy", 2),
        (None, "teddy", 0),  # a link names the concept's id
    ):
        with pytest.raises(NotFound):
            pictures.read(service, owner, concept_id=ref, number=number)
    concepts.delete(service, OWNER, ref="teddy")
    for owner in (OWNER, None):
        with pytest.raises(NotFound):
            pictures.read(service, owner, concept_id=concept_id, number=0)


def test_an_imported_concept_has_no_pictures(service: Service) -> None:
    register_base_model(service)
    imports.import_file(service, OWNER, data=core_concept("rex").to_bytes())
    assert pictures.list_all(service, OWNER, ref="rex").items == ()
