"""Inspections that are queued, and what a worker finds in their pictures."""

from PIL import Image

from service.blobs import keys
from service.execution import leases
from service.execution.leases import ClaimedJob
from service.jobs.lease_types import NewInspectedPicture
from service.jobs.views import FindingView
from service.pictures import inspections
from service.wiring import Service
from tests.unit.service.staging import OWNER, claim, encoded, uploaded


def check_pictures(service: Service, number: int = 2, *, owner_id: str = OWNER) -> str:
    """Queue an inspection; return the id of its job."""
    answer = inspections.request(service, owner_id, pictures=uploaded(number), superclass="bear")
    return str(answer.body["job"]["id"])


def inspected(service: Service, claimed: ClaimedJob) -> list[NewInspectedPicture]:
    """Store masks as a worker does; the last picture has a finding and no mask."""
    found = []
    for index, _ in enumerate(claimed.payload["pictures"][:-1]):
        key = keys.found_mask_key(claimed.id, claimed.attempt, index=index)
        service.blobs.put(key, encoded(Image.new("L", (48, 40), "white")))
        found.append(
            NewInspectedPicture(
                findings=(),
                crop=(0, 0, 40, 40),
                mask_source="segmenter",
                mask_key=key,
                mask_sha256="8" * 64,
            )
        )
    blurred = FindingView(code="blurred", detail="It is blurred.", remedy="Take it again.")
    found.append(
        NewInspectedPicture(
            findings=(blurred,),
            crop=(4, 0, 40, 40),
            mask_source="uniform",
            mask_key=None,
            mask_sha256=None,
        )
    )
    return found


def check_and_finish(service: Service, *, owner_id: str = OWNER) -> str:
    """Queue an inspection and finish it; return the id of its job."""
    claimed = claim(service, check_pictures(service, owner_id=owner_id))
    assert leases.finish_inspection(service, claimed, pictures=inspected(service, claimed))
    return claimed.id
