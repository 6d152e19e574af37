"""Edits: requests that start from a picture, and what of the picture is painted anew.

The uploaded files lie under the job's folder until the job ends. Nothing but the job's worker reads
them, and no route serves them.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, select

from service.blobs import keys
from service.database.tables import ImageRow
from service.errors import FieldProblem, Invalid, NotFound, Unavailable, invalid
from service.generations.concept_uses import Known
from service.generations.requests import MAX_SUBJECT_LENGTH, GenerateRequest
from service.ids import is_plausible
from service.jobs import transitions
from service.jobs.payloads import EditPayload
from service.options import EditOptions
from service.pictures import edit_uploads
from service.pictures.edit_uploads import EditUpload
from service.validation import check_text
from service.wiring import Service

_OF_MASK = ("mask_feather", "mask_margin", "keep_background")


def check(
    body: GenerateRequest, upload: EditUpload | None, *, concepts: Sequence[str]
) -> EditUpload | None:
    """Return the upload of an edit, which may be empty; None if the request is no edit.

    `concepts` are the names in the prompt. Raise Invalid with every field that does not fit the
    others.
    """
    upload = upload or EditUpload()
    given = body.model_dump(exclude_none=True, exclude_unset=True)
    wrong: list[FieldProblem] = []
    if body.image is not None and upload.picture is not None:
        wrong.append(FieldProblem("/image", "Send the picture as a file or as image_id, not both."))
    if body.mask is not None:
        if upload.mask is not None:
            detail = "Send the mask as a file or describe it here, not both."
            wrong.append(FieldProblem("/mask", detail))
        if (body.mask.boxes is None) == (body.mask.subject is None):
            wrong.append(FieldProblem("/mask", "Say what to paint anew: either boxes or subject."))
        if body.mask.boxes == ():
            wrong.append(FieldProblem("/mask/boxes", "Name at least one box."))
        if body.mask.subject is not None:
            wrong += _wrong_subject(body.mask.subject)
    is_edit = body.image is not None or upload.picture is not None
    has_mask = body.mask is not None or upload.mask is not None
    if not is_edit:
        wrong += [
            FieldProblem(f"/{name}", "This is for edits. Send the picture to start from as image.")
            for name in ("mask", "mask_image", *EditOptions.model_fields)
            if name in given or (name == "mask_image" and upload.mask is not None)
        ]
    elif has_mask:
        detail = "With a mask an image has the size of its picture. Leave this out."
        wrong += [FieldProblem(f"/{name}", detail) for name in ("width", "height") if name in given]
        if given.get("keep_background") and not concepts:
            detail = "Name a concept in the prompt: around what it shows the picture is kept."
            wrong.append(FieldProblem("/keep_background", detail))
    else:
        detail = "This is only valid with a mask."
        wrong += [FieldProblem(f"/{name}", detail) for name in _OF_MASK if name in given]
    if wrong:
        raise Invalid(wrong)
    return upload if is_edit else None


def payload(
    connection: Connection,
    owner_id: str,
    *,
    job_id: str,
    body: GenerateRequest,
    upload: EditUpload,
    served: Known,
) -> EditPayload:
    """Return the edit of a request; raise Invalid or NotFound if the mask or the image is wrong.

    `upload` is what `check` returned, and `served` is what the database knows of the base model.
    """
    size = upload.picture.size if upload.picture else _size_of(connection, owner_id, body=body)
    edit_uploads.check_size(upload, picture=size)
    boxes, subject = (body.mask.boxes or (), body.mask.subject) if body.mask else ((), None)
    for number, box in enumerate(boxes):
        _check_inside(box, size, pointer=f"/mask/boxes/{number}")
    if subject is not None and served.fingerprint is not None and served.segmenter is None:
        raise invalid(
            "/mask/subject",
            "No segmenter is served here. Give boxes, or send a mask.",
            slug="no-segmenter",
        )
    options = body.model_dump(include={*EditOptions.model_fields}, exclude_unset=True)
    files = [file for file in (upload.picture, upload.mask) if file]
    return EditPayload(
        picture_key=keys.edit_picture_key(job_id) if upload.picture else None,
        image_id=body.image.image_id if body.image else None,
        mask_key=keys.edit_mask_key(job_id) if upload.mask else None,
        boxes=boxes,
        subject=subject,
        options={name: value for name, value in options.items() if value is not None},
        size_bytes=sum(len(file.png) for file in files),
    )


@contextmanager
def stored(service: Service, upload: EditUpload | None, *, job_id: str) -> Iterator[None]:
    """Store the files of an edit for the block that adds its job; remove them if it raises."""
    try:
        if upload is not None and upload.picture is not None:
            service.blobs.put(keys.edit_picture_key(job_id), upload.picture.png)
        if upload is not None and upload.mask is not None:
            service.blobs.put(keys.edit_mask_key(job_id), upload.mask.png)
        yield
    except Unavailable:
        # The commit may have succeeded although its answer was lost; then the job reads the files.
        # Otherwise the collector removes them.
        raise
    except BaseException:
        remove(service, upload, job_id=job_id)
        raise


def remove(service: Service, upload: EditUpload | None, *, job_id: str) -> None:
    """Remove the files of an edit whose job was not added."""
    if upload is not None and any(upload.hashes):
        transitions.remove_blobs(service, prefix=keys.job_prefix(job_id))


def identity(upload: EditUpload | None) -> list[Any]:
    """Return the part of a request's identity that its files add, for idempotency keys."""
    return [upload.hashes] if upload is not None and any(upload.hashes) else []


def _wrong_subject(subject: str) -> list[FieldProblem]:
    pointer = "/mask/subject"
    try:
        text = check_text(subject, pointer=pointer, max_length=MAX_SUBJECT_LENGTH)
    except Invalid as error:
        return list(error.errors)
    return [] if text.strip() else [FieldProblem(pointer, "Name what to paint anew, such as cup.")]


def _size_of(connection: Connection, owner_id: str, *, body: GenerateRequest) -> tuple[int, int]:
    """Return the size of the generated image that an edit starts from."""
    image_id = body.image.image_id if body.image else ""
    row = None
    if is_plausible(image_id):
        row = connection.execute(
            select(ImageRow.width, ImageRow.height).where(
                ImageRow.id == image_id, ImageRow.owner_id == owner_id
            )
        ).one_or_none()
    if row is None:
        raise NotFound("image-not-found", "There is no such image.")
    return row.width, row.height


def _check_inside(box: tuple[int, int, int, int], size: tuple[int, int], *, pointer: str) -> None:
    x, y, width, height = box
    if width < 1 or height < 1:
        raise invalid(pointer, "This box is empty: its width and height must be at least 1.")
    if x < 0 or y < 0 or x + width > size[0] or y + height > size[1]:
        raise invalid(
            pointer,
            f"This box is not inside the picture, which has {size[0]} x {size[1]} pixels.",
        )
