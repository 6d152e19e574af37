"""The edit of a generation job: the picture that it starts from, and what is painted anew."""

from PIL import Image

from perfusion_core.callbacks import RunOnDevice
from perfusion_core.editing.edit import Edit
from perfusion_core.editing.masks import mask_of_boxes, mask_of_subject
from service.blobs.store import BlobNotFound
from service.errors import NotFound
from service.execution.leases import ClaimedJob
from service.jobs import use_cases as jobs
from service.jobs.payloads import EditPayload, GeneratePayload
from worker.context import WorkerContext
from worker.errors import FileGone, NoSegmenter
from worker.jobs import options, pictures
from worker.models import segmenter

# A segmenter sees a picture at a few hundred pixels a side, however large the picture is.
_SEEN_SIDE_PIXELS = 1024


def edit_of(
    context: WorkerContext,
    claimed: ClaimedJob,
    payload: GeneratePayload,
    *,
    run_on_device: RunOnDevice,
) -> Edit | None:
    """Return the edit of a job; None if the job starts from no picture.

    Raise FileGone if the picture or mask is missing, NoSegmenter if no segmenter can be loaded, and
    EditError if the segmenter finds no subject.
    """
    if payload.edit is None:
        return None
    asked = payload.edit
    config = options.edit_config(asked.options)
    picture = _picture(context, claimed, asked)
    mask = None
    if asked.mask_key is not None:
        mask = _stored(context, asked.mask_key)
    elif asked.boxes:
        mask = mask_of_boxes(picture.size, asked.boxes)
    elif asked.subject is not None:
        mask = _mask_of_subject(
            context, picture, subject=asked.subject, run_on_device=run_on_device
        )
    return Edit(picture=picture, mask=mask, config=config)


def _picture(context: WorkerContext, claimed: ClaimedJob, asked: EditPayload) -> Image.Image:
    if asked.picture_key is not None:
        return _stored(context, asked.picture_key)
    try:
        image = jobs.read_image(context.service, claimed.owner_id, image_id=asked.image_id or "")
    except NotFound:
        raise FileGone(
            "The image that this edit starts from was deleted before the job started. Choose "
            "another one."
        ) from None
    return pictures.opened(image.data).convert("RGB")


def _stored(context: WorkerContext, blob_key: str) -> Image.Image:
    try:
        return pictures.load(context.service, blob_key)
    except BlobNotFound:
        raise FileGone("The picture of this edit is not there any more. Send it again.") from None


def _mask_of_subject(
    context: WorkerContext, picture: Image.Image, *, subject: str, run_on_device: RunOnDevice
) -> Image.Image:
    device = context.model_loader.base().placed.side_device
    name = context.service.settings.segmenter
    find = segmenter.find([picture], [None], name=name, device=device)
    if find is None:
        raise NoSegmenter("No segmenter is served here. Give boxes, or send a mask.")

    def find_in_turn(whole: Image.Image, named: str) -> Image.Image:
        seen = whole.copy()
        seen.thumbnail((_SEEN_SIDE_PIXELS, _SEEN_SIDE_PIXELS))
        found: Image.Image = run_on_device(lambda: find(seen, named))
        return found

    return mask_of_subject(picture, subject, find_in_turn)
