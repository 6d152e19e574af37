"""Views of images by themselves, outside of their jobs."""

from datetime import datetime
from typing import Annotated

from pydantic import Field

from service.jobs.requested import Requested
from service.jobs.views import ImageView


class LibraryImageView(ImageView):
    """A generated image, and how it was made."""

    job_id: str
    created_at: datetime
    request: Annotated[
        Requested | None,
        Field(description="What its job was asked for; null: by a newer release."),
    ]
