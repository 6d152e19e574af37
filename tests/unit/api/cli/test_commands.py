import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from api.__main__ import main
from tests.unit.service import staging

ROOT = Path(__file__).parents[4]
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Return a function that runs a command in an empty folder: exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["perfusion", *arguments])
        code: object = 0
        try:
            main()
        except SystemExit as end:
            code = end.code or 0
        captured = capsys.readouterr()
        assert "Traceback" not in captured.out + captured.err
        assert isinstance(code, int)
        return code, captured.out, captured.err

    return call


def refused(result: tuple[int, str, str]) -> str:
    """Check that a command refused; return its one sentence."""
    code, out, err = result
    assert code == 1
    assert out == ""
    *logged, sentence = err.splitlines()
    assert re.fullmatch(r"perfusion: .+[.!?]", sentence), err
    assert not [line for line in logged if "perfusion: " in line]
    return sentence


def picture_file(folder: Path, name: str = "a.png") -> str:
    (folder / name).write_bytes(staging.encoded(staging.picture()))
    return name


@pytest.mark.parametrize(
    "command",
    [
        "serve",
        "worker",
        "migrate",
        "check",
        "train",
        "generate",
        "prepare",
        "keys",
        "blobs",
        "demo",
        "export",
        "inspect",
        "push",
        "browser-page",
    ],
)
def test_every_command_explains_itself(run: Run, command: str) -> None:
    code, out, _ = run(command, "--help")
    assert code == 0
    assert "Usage: perfusion " + command in out
    assert command in run("--help")[1]


def test_options_of_the_method_are_shown_with_their_bounds(run: Run) -> None:
    _, out, _ = run("train", "--help")
    assert "--max-train-steps" in out
    assert "≤ 20000" in out
    _, out, _ = run("generate", "--help")
    assert "dpmpp_2m" in out
    assert "--guidance" in out


def test_wrong_usage_is_exit_code_two(run: Run) -> None:
    for arguments in (("nonsense",), ("serve", "--port", "x"), ("train",), ("generate",)):
        assert run(*arguments)[0] == 2


def test_a_wrong_setting_ends_the_start_with_a_sentence(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PERFUSION_DATABASE_URL", "mysql://secret@host/db")
    sentence = refused(run("serve"))
    assert "PERFUSION_DATABASE_URL" in sentence
    assert "secret" not in sentence


def test_serving_a_network_without_any_key_is_refused(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    sentence = refused(run("serve", "--host", "0.0.0.0"))
    assert "perfusion keys create" in sentence
    monkeypatch.setenv("PERFUSION_AUTH", "off")
    assert "loopback" in refused(run("serve", "--host", "0.0.0.0"))


def test_an_address_that_is_taken_is_a_sentence(run: Run) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = str(other.getsockname()[1])
        assert port in refused(run("serve", "--port", port))


def test_a_database_of_another_form_is_not_served(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PERFUSION_QUEUE_URL", "redis://127.0.0.1:1")
    assert "perfusion migrate" in refused(run("serve"))
    assert run("migrate")[0] == 0
    assert run("migrate")[0] == 0
    assert run("keys", "list")[0] == 0


def test_a_worker_needs_a_queue_and_knows_its_names(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "memory://" in refused(run("worker"))
    monkeypatch.setenv("PERFUSION_QUEUE_URL", "redis://127.0.0.1:1")
    assert "'tarin'" in refused(run("worker", "--queues", "generate,tarin"))


def test_a_number_of_generations_is_refused_where_none_are_taken(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PERFUSION_QUEUE_URL", "redis://127.0.0.1:1")
    assert "--concurrency" in refused(run("worker", "--queues", "train", "--concurrency", "4"))


def test_keys_are_made_listed_and_revoked(run: Run) -> None:
    code, key, _ = run("keys", "create", "studio")
    assert code == 0
    assert re.fullmatch(r"sk_[\w-]{43}\n", key)
    _, listed, _ = run("keys", "list")
    assert "studio" in listed
    assert key.strip() not in listed
    identity, prefix, *_ = listed.split("\t")  # a pipe gets whole values
    assert prefix == key[:11]
    assert run("keys", "revoke", identity)[0] == 0
    assert run("keys", "revoke", key[:11])[0] == 0
    assert "no key" in refused(run("keys", "revoke", "sk_nothing"))


def test_the_secret_of_webhooks_is_printed_and_rotated(run: Run) -> None:
    code, secret, _ = run("keys", "webhook-secret")
    assert (code, secret[:6]) == (0, "whsec_")
    assert run("keys", "webhook-secret", "--owner", "local")[1] == secret
    assert run("keys", "webhook-secret", "--rotate")[1] != secret
    assert "keys list" in refused(run("keys", "webhook-secret", "--owner", "nobody"))


def test_a_terminal_of_80_columns_shows_whole_ids(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("keys", "create", "a label that is as long as a label may well become, and longer")
    identity = run("keys", "list")[1].split("\t")[0]
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr("api.cli.keys._to_terminal", lambda: True)
    _, listed, _ = run("keys", "list")
    assert identity in listed and "and longer" in listed


def test_a_key_for_an_owner_who_is_not_there_is_a_mistake_unless_he_is_new(run: Run) -> None:
    assert "'alcie'" in refused(run("keys", "create", "laptop", "--owner", "alcie"))
    assert run("keys", "create", "laptop", "--new-owner", "alice")[0] == 0
    assert run("keys", "create", "phone", "--owner", "alice")[0] == 0
    assert run("keys", "create", "old", "--owner", "local")[0] == 0
    assert "exists" in refused(run("keys", "create", "x", "--new-owner", "alice"))
    assert "both" in refused(run("keys", "create", "x", "--owner", "a", "--new-owner", "b"))


def test_the_version_is_printed(run: Run) -> None:
    code, out, _ = run("--version")
    assert code == 0
    assert re.fullmatch(r"perfusion \d+(\.\d+)*\n", out)


def test_mistakes_are_told_before_anything_is_loaded(run: Run, tmp_path: Path) -> None:
    picture = picture_file(tmp_path)
    (tmp_path / "bad.png").write_bytes(b"text")
    named = ("--name", "rex", "--superclass", "robot")
    cases = {
        ("train", "missing.png", *named): "missing.png",
        ("train", picture, "bad.png", *named): "bad.png",
        ("train", picture, *([picture] * 20), *named): "1 to 20",
        ("train", picture, "--mask", picture, "--mask", picture, *named): "mask",
        ("train", picture, "--name", "Rex!", "--superclass", "robot"): "name",
        ("train", picture, "--name", "rex", "--superclass", "a b c d"): "superclass",
        ("train", picture, *named, "--learning-rate", "9"): "--learning-rate",
        ("train", picture, *named, "--out", "nowhere/x.safetensors"): "nowhere",
        ("generate", "a <rex>"): "--concept",
        ("generate", "a <rex:2>"): "strength",
        ("generate", "a dog", "--concept", "missing.safetensors"): "missing",
        ("generate", "a <rex>", "--concept", "bad.png"): "concept file",
        ("generate", "a dog", "--seed", "-1"): "--seed",
        ("generate", "a <rex>", "--beta", "rexx=0.6"): "<rexx>",
        ("generate", "a <rex>", "--beta", "0.6"): "NAME=NUMBER",
        ("generate", "a <rex>", "--beta", "rex=strong"): "NAME=NUMBER",
        ("generate", "a <rex>", "--beta", "rex=nan"): "finite",
        ("generate", "a <rex>", "--beta", "rex=11"): "at most 10",
        (
            "generate",
            "a <rex>",
            "--beta",
            "rex=0.6",
            "--tau",
            "rex=0",
        ): "--tau rex must",
        ("generate", "a <rex>", "--beta", "rex=0.6", "--beta", "rex=0.7"): "twice",
        ("generate", "a <rex>", "--tau", "rex=0.1"): "--beta rex=",
        ("prepare", "model", "--captions", "missing.txt"): "missing.txt",
    }
    for arguments, word in cases.items():
        assert word in refused(run(*arguments)), arguments


def test_two_concept_files_of_one_name_are_refused(run: Run, tmp_path: Path) -> None:
    """An image does not show which of the two files was used."""
    for name in ("old.safetensors", "new.safetensors"):
        staging.core_concept("rex").save(tmp_path / name)
    given = ("--concept", "old.safetensors", "--concept", "new.safetensors")
    sentence = refused(run("generate", "a <rex>", *given))
    assert "old.safetensors and new.safetensors" in sentence and "<rex>" in sentence


def in_a_fresh_process(code: str, folder: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", code], cwd=folder, env=environment, check=True)


def test_the_api_and_the_help_load_no_torch(tmp_path: Path) -> None:
    in_a_fresh_process(
        "import sys\n"
        "from api.app import create_app\n"
        "from api.cli.commands import build\n"
        "from service import wiring\n"
        "from service.settings import environment\n"
        "create_app(wiring.build(environment.load({})), embedded=False)\n"
        "build()\n"
        "assert not {'torch', 'diffusers', 'transformers'} & set(sys.modules)\n",
        tmp_path,
    )


def test_a_server_starts_answers_and_stops_at_a_signal(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PERFUSION_QUEUE_URL", "redis://127.0.0.1:1")
    assert run("migrate")[0] == 0
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "api", "serve", "--port", str(port)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz") as answer:
                    assert answer.status == 200
                break
            except OSError:
                assert process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 0, log
    assert f"http://127.0.0.1:{port}" in log
    assert "Traceback" not in log
