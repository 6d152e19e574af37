"""A wrong value in the environment stops the start with a sentence that says what to change."""

from pathlib import Path
from typing import Any

import pytest

from service import wiring
from service.settings import environment as settings
from service.settings.environment import Settings, SettingsError, load, variable_of


def complaint(**environment: str) -> str:
    with pytest.raises(SettingsError) as caught:
        load({f"PERFUSION_{name}": value for name, value in environment.items()})
    return str(caught.value)


def test_without_an_environment_everything_lies_in_one_folder() -> None:
    options = load({})
    assert options.database_url == "sqlite:///data/perfusion.db"
    assert options.blobs_url == "file:data/blobs"
    assert options.queue_url == "memory://"
    moved = load({"PERFUSION_DATA_DIR": "/srv/perfusion"})
    assert moved.database_url == "sqlite:////srv/perfusion/perfusion.db"
    assert moved.blobs_url == "file:/srv/perfusion/blobs"


def test_every_setting_can_be_given_by_its_variable() -> None:
    options = load(
        {
            "PERFUSION_DATABASE_URL": "postgresql+psycopg://u:p@db/perfusion",
            "PERFUSION_BLOBS_URL": "s3://pictures/prod",
            "PERFUSION_QUEUE_URL": "redis://queue:6379/0",
            "PERFUSION_DEVICE": "cuda:1",
            "PERFUSION_AUTH": "Required",
            "PERFUSION_BOOTSTRAP_KEY": "sk_" + "a" * 43,
            "PERFUSION_CORS_ORIGINS": "https://a.example, http://localhost:3000",
            "PERFUSION_TRUSTED_PROXIES": "127.0.0.1, 10.0.0.0/8",
            "PERFUSION_LEASE_SECONDS": "60",
            "PERFUSION_MAX_ATTEMPTS": "5",
            "PERFUSION_LOG_LEVEL": "WARNING",
            "PERFUSION_S3_ENDPOINT_URL": "",
            "HOME": "/root",
        }
    )
    assert options.cors_origins == ("https://a.example", "http://localhost:3000")
    assert options.trusted_proxies == ("127.0.0.1", "10.0.0.0/8")
    assert (options.lease_seconds, options.max_attempts) == (60.0, 5)
    assert (options.auth, options.log_level, options.s3_endpoint_url) == (
        "required",
        "warning",
        None,
    )
    assert "a" * 43 not in repr(options)


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("LEASE_SECONDS", "soon", "it must be a number"),
        ("LEASE_SECONDS", "nan", "it must be a finite number"),
        ("LEASE_SECONDS", "0", "it must be at least 1"),
        ("MAX_ATTEMPTS", "2.5", "it must be a whole number"),
        ("MAX_ATTEMPTS", "many", "it must be a whole number"),
        ("MAX_ATTEMPTS", "1000", "it must be at most 100"),
        ("HEARTBEAT_SECONDS", "20", "more than a third of PERFUSION_LEASE_SECONDS"),
        ("LOG_FORMAT", "xml", "it must be one of 'console', 'json'"),
        ("AUTH", "no", "it must be one of"),
        ("DEVICE", "gpu", "it is no device"),
        ("DTYPE", "half", "it must be one of"),
        ("OFFLOAD", "all", "it must be one of"),
        ("TRUSTED_PROXIES", "proxy.example.org", "neither an address nor a network"),
        ("DATABASE_URL", "mysql://u:p@h/d", "sqlite:/// and postgresql+psycopg://"),
        ("DATABASE_URL", "sqlite://", "sqlite:/// and postgresql+psycopg://"),
        ("BLOBS_URL", "/data", "none of file:FOLDER, s3://BUCKET/PREFIX and sql:"),
        ("BLOBS_URL", "s3://", "none of file:FOLDER, s3://BUCKET/PREFIX and sql:"),
        ("BLOBS_URL", "sql:///blobs.db", "none of file:FOLDER, s3://BUCKET/PREFIX and sql:"),
        ("QUEUE_URL", "amqp://h", "memory://, redis:// and rediss://"),
        ("S3_ENDPOINT_URL", "localhost:8333", "http:// or https://"),
        ("CORS_ORIGINS", "*", "never *"),
        ("CORS_ORIGINS", "https://a.example/path", "no path"),
        ("BOOTSTRAP_KEY", "secret", "sk_ followed by at least 32"),
    ],
)
def test_a_wrong_value_is_answered_with_variable_problem_and_advice(
    name: str, value: str, reason: str
) -> None:
    sentence = complaint(**{name: value})
    assert sentence.startswith(f"PERFUSION_{name} has a wrong value")
    assert reason in sentence
    assert "Set it to something like" in sentence
    assert len(sentence.splitlines()) == 1


def test_exact_batches_compute_in_float32_and_refuse_another_precision() -> None:
    assert load({"PERFUSION_BATCHES": "exact"}).device_options.dtype == "float32"
    assert load({"PERFUSION_DTYPE": "bfloat16"}).device_options.dtype == "bfloat16"
    assert "computes in float32" in complaint(BATCHES="exact", DTYPE="float16")


def test_float16_is_refused_on_a_cpu() -> None:
    assert "a CPU computes float16 slowly" in complaint(DEVICE="cpu", DTYPE="float16")


def test_a_short_lease_shortens_a_heartbeat_that_is_not_set() -> None:
    assert load({}).heartbeat_seconds == 5
    assert load({"PERFUSION_LEASE_SECONDS": "3"}).heartbeat_seconds == 1


@pytest.mark.parametrize(
    ("name", "value"),
    [("DATABASE_URL", "postgresql+psycopg://me@host/name"), ("BLOBS_URL", "s3://bucket/prefix")],
)
def test_a_server_whose_driver_is_not_installed_is_refused_with_the_extra_that_has_it(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    load({f"PERFUSION_{name}": value})
    monkeypatch.setattr(settings, "find_spec", lambda driver: None)
    assert "is not installed: install perfusion[server]" in complaint(**{name: value})
    load({})


def test_all_wrong_values_are_named_at_once() -> None:
    assert len(complaint(AUTH="no", LOG_LEVEL="loud", MAX_ATTEMPTS="x").splitlines()) == 3


def test_a_misspelt_variable_is_not_silently_ignored() -> None:
    sentence = complaint(DATABSE_URL="sqlite:///x.db")
    assert sentence == (
        "PERFUSION_DATABSE_URL is not a setting. Write PERFUSION_DATABASE_URL instead."
    )
    load({"PERFUSION_SOMETHING_OF_ANOTHER_PROGRAM": "1"})


@pytest.mark.parametrize("name", ["DATABASE_URL", "QUEUE_URL", "BLOBS_URL", "BOOTSTRAP_KEY"])
def test_secrets_are_never_repeated(name: str) -> None:
    assert "hunter2" not in complaint(**{name: "amqp://user:hunter2@host"})


def test_every_setting_is_described_and_has_an_example() -> None:
    for name, field in Settings.model_fields.items():
        assert field.description, name
        assert field.examples, name


def test_the_examples_of_single_values_are_valid() -> None:
    for name, field in Settings.model_fields.items():
        for example in field.examples or []:
            if " " not in str(example):
                load({variable_of(name): str(example)})


def test_settings_cannot_be_changed_or_invented() -> None:
    options: Any = load({})
    with pytest.raises(ValueError, match="frozen"):
        options.device = "cpu"
    with pytest.raises(ValueError, match="Extra inputs"):
        settings.Settings(devise="cpu")  # type: ignore[call-arg]


def test_a_data_folder_that_cannot_be_made_is_a_sentence_too(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    options = load({"PERFUSION_DATA_DIR": f"{tmp_path}/file/data"})
    with pytest.raises(SettingsError, match="PERFUSION_DATA_DIR"):
        wiring.build(options)
