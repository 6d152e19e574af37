"""The settings that limit what callers may send and store, and how long data is kept."""

from pydantic import BaseModel, Field


class Limits(BaseModel):
    """Limits on one request and on one owner; `Settings` inherits these fields."""

    max_body_bytes: int = Field(
        default=256 * 1024**2,
        ge=64 * 1024,
        le=1024**3,
        description="Largest upload to POST /concepts or /pictures/check, all its files together.",
        examples=["268435456"],
    )
    spool_dir: str = Field(
        default="",
        description="Folder for uploads while they are read. Default: in the data folder.",
        examples=["/tmp/perfusion"],
    )
    spool_bytes: int = Field(
        default=1024**3,
        ge=64 * 1024,
        le=1024**4,
        description="Most bytes of all uploads that one API process reads at the same time.",
        examples=["1073741824"],
    )
    max_picture_bytes: int = Field(
        default=64 * 1024**2,
        ge=1024,
        le=256 * 1024**2,
        description="Largest uploaded picture or mask file.",
        examples=["67108864"],
    )
    max_picture_pixels: int = Field(
        default=40_000_000,
        ge=4096,
        le=400_000_000,
        description="Most pixels (width x height) of an uploaded picture that is not a JPEG.",
        examples=["40000000"],
    )
    max_jpeg_pixels: int = Field(
        default=64_000_000,
        ge=4096,
        le=400_000_000,
        description="Most pixels of an uploaded JPEG, which is shrunk while it is decoded.",
        examples=["64000000"],
    )
    min_picture_side: int = Field(
        default=32,
        ge=1,
        le=1024,
        description="Shortest side of an uploaded picture in pixels.",
        examples=["32"],
    )
    decode_seconds: float = Field(
        default=60,
        ge=1,
        le=600,
        description="Longest processor time that decoding one upload's pictures may take.",
        examples=["60"],
    )
    max_queued_jobs_per_owner: int = Field(
        default=100,
        ge=1,
        le=100_000,
        description="Jobs of one owner that may wait at the same time.",
        examples=["100"],
    )
    max_running_jobs_per_owner: int = Field(
        default=64,
        ge=1,
        le=100_000,
        description="Jobs of one owner that may run at the same time.",
        examples=["64"],
    )
    openai_wait_seconds: float = Field(
        default=300,
        ge=1,
        le=3600,
        description="How long a request to /v1/images waits for its images.",
        examples=["300"],
    )
    requests_per_minute: int = Field(
        default=600,
        ge=1,
        le=1_000_000,
        description="Requests per minute of one caller.",
        examples=["600"],
    )
    max_bytes_per_owner: int | None = Field(
        default=None,
        ge=1024**2,
        le=1024**5,
        description="Most bytes of pictures, concept files and images of one owner.",
        examples=["10737418240"],
    )
    keep_images_days: int | None = Field(
        default=None,
        ge=1,
        le=36_500,
        description="Age at which generated images are deleted; default: never.",
        examples=["90"],
    )
    keep_jobs_days: int | None = Field(
        default=None,
        ge=1,
        le=36_500,
        description="Age at which finished jobs without image and concept are deleted; "
        "default: never.",
        examples=["180"],
    )
