"""What an image file says besides its pixels."""

from dataclasses import dataclass
from typing import Final

from perfusion_core.imaging.content_credentials import ContentCredentials


@dataclass(frozen=True, kw_only=True)
class Metadata:
    """Whether files contain their prompts, and what signs them; None: they are not signed."""

    prompts: bool = True
    credentials: ContentCredentials | None = None


EVERYTHING: Final = Metadata()
