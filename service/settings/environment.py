"""Settings, read from the environment (prefix PERFUSION_) only in this file and passed on.

A wrong value ends the start with sentences that name the variable, the problem and a correct value,
without a trace. Values that may contain a secret are never repeated.
"""

import os
import re
from collections.abc import Mapping
from importlib.util import find_spec
from ipaddress import ip_network
from pathlib import Path
from typing import Any, Literal

from pydantic import (
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

import models
from service.settings.devices import DeviceSettings
from service.settings.limits import Limits
from service.settings.provenance import ProvenanceSettings
from service.settings.sentences import DRIVERS, FORMS, PREFIX, misspelt, sentence, variable_of
from service.settings.webhooks import WebhookSettings

__all__ = ["PREFIX", "Settings", "SettingsError", "load", "variable_of"]

SHIPPED_BASE_MODEL = models.folder() / "base"
_MAY_HOLD_A_SECRET = frozenset(
    {"database_url", "queue_url", "blobs_url", "bootstrap_key", "link_secret"}
)


class SettingsError(Exception):
    """The environment contains a wrong value; the message says what to change."""


class Settings(Limits, DeviceSettings, ProvenanceSettings, WebhookSettings):
    """The settings of this deployment. Three URLs choose its kind: database, blobs, queue."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    data_dir: str = Field(
        default="data",
        description="Folder of the default database and blobs, and of what a worker caches.",
        examples=["data"],
    )
    database_url: str = Field(
        default="",
        description="Where rows live. Default: SQLite in the data folder.",
        examples=["sqlite:///data/perfusion.db", "postgresql+psycopg://user:password@host/name"],
    )
    database_pool_size: int = Field(
        default=10,
        ge=1,
        le=200,
        description="Connections to PostgreSQL that one process opens at most.",
        examples=["10"],
    )
    blobs_url: str = Field(
        default="",
        description="Where pictures, concept files and images live. Default: the data folder.",
        examples=["file:data/blobs", "s3://bucket/prefix", "sql:"],
    )
    queue_url: str = Field(
        default="memory://",
        description="The broker of job messages; memory:// runs the worker inside the server.",
        examples=["memory://", "redis://localhost:6379/0"],
    )
    s3_endpoint_url: str | None = Field(
        default=None,
        description="S3 service other than AWS; credentials come from the usual AWS_ variables.",
        examples=["http://localhost:8333"],
    )
    s3_region: str = Field(
        default="us-east-1", description="Region of the S3 bucket.", examples=["us-east-1"]
    )
    base_model: str = Field(
        default=str(SHIPPED_BASE_MODEL),
        description="Folder or hub name of the base model. Default: the shipped one.",
        examples=["stable-diffusion-v1-5/stable-diffusion-v1-5", "NAME@REVISION"],
    )
    evaluator: str = Field(
        default="auto",
        description="CLIP model that judges concepts: auto (the shipped one), none, or a name.",
        examples=["auto", "none", "openai/clip-vit-large-patch14"],
    )
    segmenter: str = Field(
        default="CIDAS/clipseg-rd64-refined",
        description="CLIPSeg that finds the object in pictures without a mask, or none.",
        examples=["none", "models/clipseg"],
    )
    concept_cache_bytes: int = Field(
        default=1024**3,
        ge=2 * 1024**2,
        le=1024**4,
        description="Memory for concepts that a worker keeps after use.",
        examples=["1073741824"],
    )
    auth: Literal["auto", "required", "off"] = Field(
        default="auto",
        description="Whether callers need an API key; auto: on every address but loopback.",
        examples=["auto", "required", "off"],
    )
    bootstrap_key: SecretStr | None = Field(
        default=None,
        description="A first API key that you choose: sk_ and at least 32 more characters.",
        examples=["sk_ and 43 random characters"],
    )
    link_secret: SecretStr | None = Field(
        default=None,
        min_length=32,
        description="Signs links to images; default: a new one for each process.",
        examples=["64 random hexadecimal digits"],
    )
    cors_origins: tuple[str, ...] = Field(
        default=(),
        description="Web origins that may call the API from a browser, separated by commas.",
        examples=["https://studio.example.org,http://localhost:3000"],
    )
    trusted_proxies: tuple[str, ...] = Field(
        default=(),
        description="Addresses of proxies whose X-Forwarded-For is trusted, comma-separated.",
        examples=["127.0.0.1", "10.0.0.0/8,172.16.0.1"],
    )
    lease_seconds: float = Field(
        default=30,
        ge=1,
        le=3600,
        description="How long a silent worker keeps its job.",
        examples=["30"],
    )
    heartbeat_seconds: float = Field(
        default_factory=lambda given: min(5.0, given.get("lease_seconds", 30.0) / 3),
        ge=0.1,
        le=600,
        description="How often a worker renews its lease; at most a third of the lease.",
        examples=["5"],
    )
    reconcile_seconds: float = Field(
        default=2,
        ge=0.1,
        le=600,
        description="How often lost jobs and lost messages are looked for.",
        examples=["2"],
    )
    max_attempts: int = Field(
        default=3,
        ge=1,
        le=100,
        description="Times that a job may end its worker without progress before it fails.",
        examples=["3"],
    )
    checkpoint_seconds: float = Field(
        default=10,
        ge=0.1,
        le=3600,
        description="How often a training saves its state.",
        examples=["10"],
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Least serious messages that are logged.", examples=["info"]
    )
    log_format: Literal["console", "json"] = Field(
        default="console",
        description="Logs for people or for machines.",
        examples=["console", "json"],
    )

    @model_validator(mode="before")
    @classmethod
    def _fill_in_urls(cls, values: dict[str, Any]) -> dict[str, Any]:
        folder = values.get("data_dir", "data")
        return {
            "database_url": f"sqlite:///{folder}/perfusion.db",
            "blobs_url": f"file:{folder}/blobs",
            "spool_dir": f"{folder}/spool",
            **values,
        }

    @field_validator("log_level", "log_format", "auth", mode="before")
    @classmethod
    def _lower(cls, value: object) -> object:
        return value.lower() if isinstance(value, str) else value

    @field_validator("cors_origins", "trusted_proxies", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        return tuple(part.strip() for part in value.split(",") if part.strip())

    @field_validator("cors_origins")
    @classmethod
    def _check_origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for origin in value:
            if not re.fullmatch(r"https?://[A-Za-z0-9.\-\[\]:]+", origin):
                raise ValueError(f"{origin!r} is no origin: scheme and host, no path, never *")
        return value

    @field_validator("trusted_proxies")
    @classmethod
    def _check_proxies(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for address in value:
            try:
                ip_network(address)
            except ValueError:
                raise ValueError(f"{address!r} is neither an address nor a network") from None
        return value

    @field_validator(*FORMS)
    @classmethod
    def _check_form(cls, value: str | None, info: ValidationInfo) -> str | None:
        form, wrong = FORMS[info.field_name or ""]
        if value is None or re.match(form, value):
            return value
        raise ValueError(wrong)

    @field_validator("database_url", "blobs_url")
    @classmethod
    def _check_driver(cls, value: str) -> str:
        for scheme, driver in DRIVERS.items():
            if value.startswith(scheme) and find_spec(driver) is None:
                raise ValueError(f"{driver} is not installed: install perfusion[server]")
        return value

    @field_validator("bootstrap_key")
    @classmethod
    def _check_bootstrap_key(cls, value: SecretStr | None) -> SecretStr | None:
        if value is None or re.fullmatch(r"sk_[A-Za-z0-9_-]{32,}", value.get_secret_value()):
            return value
        raise ValueError("it is not sk_ followed by at least 32 letters, digits, - or _")

    @field_validator("heartbeat_seconds")
    @classmethod
    def _check_heartbeat(cls, value: float, info: ValidationInfo) -> float:
        lease = info.data.get("lease_seconds")
        if lease is not None and value * 3 > lease:
            raise ValueError(f"it is more than a third of PERFUSION_LEASE_SECONDS ({lease:g})")
        return value

    @property
    def browser_page_dir(self) -> Path:
        """The folder that `perfusion browser-page` writes and the API serves as /play."""
        return Path(self.data_dir) / "play"


def load(environment: Mapping[str, str] | None = None) -> Settings:
    """Read the settings from `environment` (the process's own by default).

    Raise SettingsError with one sentence per wrong value.
    """
    chosen = os.environ if environment is None else environment
    values = {
        name: chosen[variable]
        for name in Settings.model_fields
        # An empty variable counts as unset, because compose files pass unset variables on as empty.
        if chosen.get(variable := variable_of(name))
    }
    sentences = misspelt(chosen, Settings.model_fields)
    try:
        settings = Settings.model_validate(values)
    except ValidationError as error:
        for item in error.errors(include_url=False):
            name = str(item["loc"][0])
            if name not in values:
                continue  # derived from another wrong value, which gets its own sentence
            given = None if name in _MAY_HOLD_A_SECRET else values[name]
            sentences.append(sentence(item, given=given, field=Settings.model_fields[name]))
    if sentences:
        raise SettingsError("\n".join(sentences))
    return settings
