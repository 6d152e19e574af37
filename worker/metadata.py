"""What this deployment's image files say about their making, by its settings."""

from perfusion_core.errors import CredentialsError
from perfusion_core.imaging.content_credentials import ContentCredentials
from perfusion_core.imaging.metadata import Metadata
from service.settings.provenance import ProvenanceSettings


def metadata_of(settings: ProvenanceSettings) -> Metadata:
    """Return what files say; raises CredentialsError if the certificate and key cannot sign."""
    certificate, key = settings.c2pa_certificate, settings.c2pa_key
    if (certificate is None) != (key is None):
        raise CredentialsError(
            "PERFUSION_C2PA_CERTIFICATE and PERFUSION_C2PA_KEY belong together: set both or none."
        )
    credentials = None
    if certificate is not None and key is not None:
        credentials = ContentCredentials(
            certificate=certificate,
            private_key=key,
            timestamp_url=settings.c2pa_timestamp_url,
        )
    return Metadata(prompts=settings.metadata_prompts, credentials=credentials)
