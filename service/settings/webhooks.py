"""The settings of webhooks: where they may go, and how long the service tries."""

from pydantic import BaseModel, Field


class WebhookSettings(BaseModel):
    """How webhooks are sent; `Settings` inherits these fields."""

    webhooks_private: bool = Field(
        default=False,
        description="Whether webhooks may go to private addresses: loopback and local networks.",
        examples=["true", "false"],
    )
    webhook_attempts: int = Field(
        default=16,
        ge=1,
        le=50,
        description="How often a webhook is sent at most.",
        examples=["16"],
    )
    webhook_retry_seconds: float = Field(
        default=5,
        ge=0.001,
        le=3600,
        description="Pause after a webhook's first failure; each pause is three times the last.",
        examples=["5"],
    )
    webhook_seconds: float = Field(
        default=15,
        ge=1,
        le=60,
        description="How long a receiver has to answer a webhook.",
        examples=["15"],
    )
