"""What an inspection found, as its job's row stores it and as its owner sees it."""

from collections.abc import Sequence
from typing import Any

from service.database.tables import JobRow
from service.jobs.lease_types import NewInspectedPicture
from service.jobs.views import FindingView, InspectedPictureView


def to_row(pictures: Sequence[NewInspectedPicture]) -> list[dict[str, Any]]:
    """Return what an inspection found, JSON-ready."""
    return [
        {
            "findings": [finding.to_json() for finding in picture.findings],
            "crop": list(picture.crop),
            "mask_source": picture.mask_source,
            "mask_key": picture.mask_key,
            "mask_sha256": picture.mask_sha256,
        }
        for picture in pictures
    ]


def views_of(job: JobRow) -> tuple[InspectedPictureView, ...] | None:
    """Return what a job found in each picture; None if the job is no finished inspection."""
    if job.inspection is None:
        return None
    return tuple(
        InspectedPictureView(
            index=index,
            findings=tuple(FindingView(**finding) for finding in stored["findings"]),
            crop=tuple(stored["crop"]),
            mask_source=stored["mask_source"],
            mask_url=stored["mask_key"] and f"/jobs/{job.id}/pictures/{index}/mask",
        )
        for index, stored in enumerate(job.inspection)
    )


def mask_keys_of(inspection: Sequence[dict[str, Any]] | None) -> list[str]:
    """Return the keys of the masks that an inspection stored."""
    return [stored["mask_key"] for stored in inspection or () if stored["mask_key"]]
