"""The settings of what image files say about their making."""

from pydantic import BaseModel, Field


class ProvenanceSettings(BaseModel):
    """Prompts in files, and the certificate that signs files; `Settings` inherits these fields."""

    metadata_prompts: bool = Field(
        default=True,
        description="Whether image files contain their prompts.",
        examples=["true", "false"],
    )
    c2pa_certificate: str | None = Field(
        default=None,
        description="PEM file with the chain of certificates that signs images (C2PA).",
        examples=["certificates/chain.pem"],
    )
    c2pa_key: str | None = Field(
        default=None,
        description="PEM file with the private key of the first certificate of that chain.",
        examples=["certificates/key.pem"],
    )
    c2pa_timestamp_url: str | None = Field(
        default=None,
        description="RFC 3161 authority that time-stamps signatures; default: none.",
        examples=["http://timestamp.example.org"],
    )
