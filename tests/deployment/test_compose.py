"""docker-compose.yml is valid, and each of its promises is checked."""

import re
import subprocess
from pathlib import Path

import pytest

from service.settings.environment import Settings, variable_of
from tests.deployment import stack
from tests.deployment.stack import Service

OURS = {"api", "migrate"}
WORKERS = {"worker-generate", "worker-train", "worker-generate-cpu", "worker-train-cpu"}
PREPARES = {"prepare", "prepare-cpu"}
# The deployment sets these itself; each has one right value in a container.
FIXED = {"PERFUSION_DATA_DIR", "PERFUSION_DEVICE"}
SECRET = re.compile(r"PASSWORD|SECRET|KEY")
# The product or a hub makes these secrets; without one, only its own feature is missing.
OPTIONAL_SECRETS = {"METRICS_KEY", "HF_TOKEN", "PERFUSION_C2PA_KEY"}


@pytest.fixture(scope="module")
def env_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return stack.make_env(tmp_path_factory.mktemp("env"))


@pytest.fixture(scope="module")
def services(env_file: Path) -> dict[str, Service]:
    return stack.resolve(env_file)


def test_compose_takes_the_file_and_every_service_of_it(services: dict[str, Service]) -> None:
    assert {"postgres", "redis", "s3", "prometheus", "grafana", *OURS, *PREPARES, *WORKERS} == set(
        services
    )


def test_what_the_specification_does_not_know_is_refused(env_file: Path, tmp_path: Path) -> None:
    """Otherwise the test above proves nothing."""
    wrong = tmp_path / "docker-compose.yml"
    wrong.write_text(
        stack.FILE.read_text().replace("restart: unless-stopped", "restrat: always", 1)
    )
    with pytest.raises(stack.Refused, match="restrat"):
        stack.resolve(env_file, files=[wrong])


def test_the_example_names_every_variable_and_no_other() -> None:
    used = stack.variables_of_the_file() | {"COMPOSE_PROFILES", "COMPOSE_FILE"}
    assert used == set(stack.variables_of_the_example())


def test_every_setting_of_the_product_can_be_set() -> None:
    read = {name for name in stack.FILE.read_text().split() if name.startswith("PERFUSION_")}
    reached = {name.rstrip(":") for name in read}
    assert {variable_of(name) for name in Settings.model_fields} - reached == FIXED


def test_no_secret_has_a_default() -> None:
    example = stack.variables_of_the_example()
    secrets = {name for name in example if SECRET.search(name)} - OPTIONAL_SECRETS
    assert len(secrets) >= 7
    assert secrets == stack.required()
    assert {example[name] for name in secrets} == {"", "sk_"}
    given = re.findall(r"\$\{(\w+):?-([^}]*)", stack.FILE.read_text())
    assert [pair for pair in given if SECRET.search(pair[0])] == []


@pytest.mark.parametrize("name", sorted(stack.required() - {"PERFUSION_BOOTSTRAP_KEY"}))
def test_a_missing_secret_ends_the_start_with_a_sentence(
    name: str, env_file: Path, tmp_path: Path
) -> None:
    without = tmp_path / ".env"
    without.write_text(re.sub(rf"^{name}=.*$", f"{name}=", env_file.read_text(), flags=re.M))
    with pytest.raises(stack.Refused, match=rf"{name} is missing a value: Set it in \.env"):
        stack.resolve(without)


def test_the_example_itself_is_no_configuration() -> None:
    with pytest.raises(stack.Refused, match="missing a value"):
        stack.resolve(stack.EXAMPLE)


def test_made_secrets_are_long_different_and_for_their_owner_only(env_file: Path) -> None:
    lines = env_file.read_text().splitlines()
    made = dict(line.split("=", 1) for line in lines if line.startswith(tuple(stack.required())))
    assert set(made) == stack.required()
    assert all(re.fullmatch(r"(sk_)?[0-9a-f]{64}", value) for value in made.values())
    assert len(set(made.values())) == len(made)
    assert env_file.stat().st_mode & 0o777 == 0o600


def test_a_file_with_secrets_is_never_overwritten(env_file: Path) -> None:
    before = env_file.read_text()
    with pytest.raises(Exception, match="non-zero exit status"):
        stack.make_env(env_file.parent)
    assert env_file.read_text() == before


def test_a_variable_of_the_env_file_reaches_the_processes(env_file: Path, tmp_path: Path) -> None:
    changed = tmp_path / ".env"
    changed.write_text(env_file.read_text() + "PERFUSION_LEASE_SECONDS=45\n")
    services = stack.resolve(changed)
    for name in (*OURS, *PREPARES, *WORKERS):
        assert services[name]["environment"]["PERFUSION_LEASE_SECONDS"] == "45"


def test_servers_of_ones_own_replace_those_of_the_file(env_file: Path, tmp_path: Path) -> None:
    urls = {
        "PERFUSION_DATABASE_URL": "postgresql+psycopg://u:p@db.example.org/perfusion",
        "PERFUSION_QUEUE_URL": "rediss://:p@redis.example.org:6379/0",
        "PERFUSION_BLOBS_URL": "s3://a-bucket/a-prefix",
        "PERFUSION_S3_ENDPOINT_URL": "",
    }
    changed = tmp_path / ".env"
    lines = [f"{name}={value}\n" for name, value in urls.items()]
    changed.write_text(env_file.read_text() + "".join(lines))
    environment = stack.resolve(changed)["worker-train"]["environment"]
    assert urls.items() <= environment.items()


def test_every_service_is_confined(services: dict[str, Service]) -> None:
    for name, service in services.items():
        user, _, group = service["user"].partition(":")
        assert int(user) > 0 and int(group) > 0, name
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"] and "cap_add" not in service, name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert not service.get("privileged"), name
        assert service["init"] is True, name
        assert service["logging"]["options"] == {"max-size": "10m", "max-file": "5"}, name
        assert service["deploy"]["resources"]["limits"]["pids"] >= 64, name
        for volume in service.get("volumes", []):
            assert volume["type"] == "volume" or volume["read_only"] is True, name


def test_every_service_but_the_one_shot_restarts_and_says_how_it_is(
    services: dict[str, Service],
) -> None:
    one_shots = {"migrate", *PREPARES}
    for name in one_shots:
        assert services[name]["restart"] == "no"
    for name in services.keys() - one_shots:
        service = services[name]
        assert service["restart"] == "unless-stopped", name
        assert service["healthcheck"]["test"][0] in ("CMD", "CMD-SHELL"), name
        assert service["healthcheck"]["retries"] >= 3, name
        assert service["healthcheck"]["timeout"], name


def test_every_image_names_its_version(services: dict[str, Service]) -> None:
    for name, service in services.items():
        _, _, tag = service["image"].rpartition(":")
        assert tag and tag != "latest", name


def test_only_loopback_is_published_and_the_stores_are_not_reached_from_outside(
    services: dict[str, Service],
) -> None:
    published = {
        name: [port["host_ip"] for port in service["ports"]]
        for name, service in services.items()
        if service.get("ports")
    }
    assert published == {"api": ["127.0.0.1"], "grafana": ["127.0.0.1"]}
    assert stack.raw()["networks"]["back"] == {"internal": True}
    for name in ("postgres", "redis", "s3"):
        assert set(services[name]["networks"]) == {"back"}


def test_the_schema_comes_before_the_services_that_need_it(services: dict[str, Service]) -> None:
    assert services["migrate"]["depends_on"]["postgres"]["condition"] == "service_healthy"
    for name in ("api", *WORKERS):
        waits = {of: how["condition"] for of, how in services[name]["depends_on"].items()}
        assert waits.pop("migrate") == "service_completed_successfully"
        if name in WORKERS:
            prepare = "prepare-cpu" if name.endswith("-cpu") else "prepare"
            assert waits.pop(prepare) == "service_completed_successfully"
        # These may come and go: no service's start depends on their health.
        assert waits == {"redis": "service_started", "s3": "service_started"}


def test_a_machine_is_prepared_in_the_place_where_the_workers_look(
    services: dict[str, Service],
) -> None:
    for name, prepare in (("worker-train", "prepare"), ("worker-train-cpu", "prepare-cpu")):
        for key in ("image", "volumes", "profiles", "user"):
            assert services[prepare][key] == services[name][key]
        kept = services[name]["environment"].keys()
        assert services[prepare]["environment"].keys() == kept
        targets = {volume["target"]: volume for volume in services[name]["volumes"]}
        assert targets["/data"]["source"] == "worker"
        assert targets["/models"]["read_only"] is True
        # What fails in it, the workers try again, and say in /readyz: it never keeps them away.
        assert services[prepare]["entrypoint"] == ["sh", "-c"]
        (script,) = services[prepare]["command"]
        done = subprocess.run(
            ["sh", "-c", script.replace("perfusion", "false")], check=False, capture_output=True
        )
        assert done.returncode == 0
        assert b"try again" in done.stderr


def test_workers_get_the_time_to_save_their_state(services: dict[str, Service]) -> None:
    for name in WORKERS:
        assert services[name]["stop_grace_period"] in ("60s", "1m0s"), name


def test_one_profile_has_the_gpu_and_the_other_has_not(services: dict[str, Service]) -> None:
    for name in WORKERS:
        resources = services[name]["deploy"]["resources"]
        is_cpu = name.endswith("-cpu")
        assert services[name]["profiles"] == ["cpu" if is_cpu else "cuda"]
        assert ("reservations" in resources) is not is_cpu
        if not is_cpu:
            (device,) = resources["reservations"]["devices"]
            assert (device["driver"], device["capabilities"]) == ("nvidia", ["gpu"])


def gpus(services: dict[str, Service]) -> dict[str, list[str]]:
    """Return the GPUs of each service. A count instead of names means the first GPUs."""
    found = {}
    for name, service in services.items():
        reserved = service["deploy"]["resources"].get("reservations", {}).get("devices", [])
        for device in reserved:
            assert "count" not in device, name
            found[name] = device["device_ids"]
    return found


def test_each_worker_gets_the_gpu_that_is_named_for_it(env_file: Path, tmp_path: Path) -> None:
    assert gpus(stack.resolve(env_file)) == {
        "prepare": ["0"],
        "worker-generate": ["0"],
        "worker-train": ["0"],
    }
    changed = tmp_path / ".env"
    changed.write_text(
        env_file.read_text() + "WORKER_GENERATE_GPU=1\nWORKER_TRAIN_GPU=GPU-8f6b2a10\n"
    )
    assert gpus(stack.resolve(changed)) == {
        "prepare": ["1"],
        "worker-generate": ["1"],
        "worker-train": ["GPU-8f6b2a10"],
    }


def test_the_processes_without_a_device_get_the_image_without_torch(
    services: dict[str, Service],
) -> None:
    for name in OURS:
        assert services[name]["build"]["target"] == "api"
    for name in (*PREPARES, *WORKERS):
        assert services[name]["build"]["target"] == "worker"
