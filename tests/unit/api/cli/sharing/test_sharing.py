"""`perfusion export`, `inspect` and `push`: files for others, and what files of others are."""

import base64
import json
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
from huggingface_hub import constants
from safetensors.numpy import load, save

from perfusion_core.base_model import BaseModel
from perfusion_core.concept import Concept
from perfusion_core.export.lora import export_lora
from tests.unit.api.cli.test_commands import Run, refused, run
from tests.unit.perfusion_core.conftest import SHIPPED
from tests.unit.perfusion_core.export.test_lora import random_concept

__all__ = ["run"]  # the fixture


@pytest.fixture(scope="module")
def base() -> BaseModel:
    return BaseModel.load(SHIPPED, device="cpu")


@pytest.fixture
def rex(base: BaseModel, tmp_path: Path) -> Concept:
    """A concept of the shipped base model, as rex.safetensors."""
    random_concept(base).save(tmp_path / "rex.safetensors")
    return Concept.load(tmp_path / "rex.safetensors")


def test_a_lora_a_word_and_a_zip_are_written(
    run: Run, base: BaseModel, rex: Concept, tmp_path: Path
) -> None:
    code, out, err = run("export", "rex.safetensors", "--format", "lora", "--half")
    assert code == 0, err
    lora = (tmp_path / "rex.lora.safetensors").read_bytes()
    assert lora == export_lora(base, rex, dtype="float16")
    assert "scale 0.8808" in out
    code, out, err = run("export", "rex.safetensors", "--format", "embedding")
    assert code == 0, err
    assert list(load((tmp_path / "rex.embedding.safetensors").read_bytes())) == ["<rex>"]
    code, out, err = run(
        "export", "rex.safetensors", "--format", "zip", "--out", "to-share.zip", "--half",
        "--license", "cc-by-4.0",
    )  # fmt: skip
    assert code == 0, err
    with zipfile.ZipFile(tmp_path / "to-share.zip") as archive:
        assert archive.read("rex.lora.safetensors") == lora
        assert "license: cc-by-4.0" in archive.read("README.md").decode()
    code, out, err = run("inspect", "to-share.zip")
    assert code == 0 and "placeholder: <rex>, robot" in out, err


def test_what_an_export_cannot_use_is_refused_before_a_model_is_loaded(
    run: Run, rex: Concept, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("the base model was loaded")

    monkeypatch.setattr(BaseModel, "load", never)
    (tmp_path / "l.safetensors").write_bytes(
        save({"lora_unet_x_to_k.lora_down.weight": np.ones((4, 8), np.float32)})
    )
    assert "is a LoRA" in refused(run("export", "l.safetensors", "--format", "zip"))
    assert "no file" in refused(run("export", "gone.safetensors", "--format", "lora"))
    own = ("export", "rex.safetensors", "--format", "lora", "--out")
    assert "no folder" in refused(run(*own, "no/where.safetensors"))
    assert "itself" in refused(run(*own, "rex.safetensors"))
    assert "OWNER/REPO" in refused(run("push", "rex.safetensors", "rex"))
    assert run("export", "rex.safetensors", "--format", "ckpt")[0] == 2


def test_inspect_says_everything_about_a_concept_and_who_can_use_it(
    run: Run, base: BaseModel, rex: Concept, tmp_path: Path
) -> None:
    code, out, err = run("inspect", "rex.safetensors")
    assert code == 0, err
    told = dict(line.split(": ", 1) for line in out.splitlines())
    assert told["what it is"] == "a concept of Perfusion"
    assert told["fingerprint"] == base.fingerprint
    assert told["can be used"].startswith("unknown")
    assert told["verdict"].startswith("none") and told["LoRA scale"].startswith("0.8808")
    code, out, err = run("inspect", "rex.safetensors", "--base-model", str(SHIPPED))
    assert code == 0 and f"can be used: yes, by {base.name}" in out, err


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (
            save({"lora_unet_x_to_k.lora_down.weight": np.ones((4, 8), np.float32)},
                 metadata={"ss_base_model_version": "sd_v1"}),
            ["a LoRA", "rank: 4", "base model: sd_v1"],
        ),
        (save({"emb_params": np.ones((2, 768), np.float32)}), ["an embedding", "(2, 768)"]),
        (save({"w": np.ones((2, 2, 2), np.float32)})[:-3], ["damaged", "download it again"]),
        (b"\x80\x04\x95pickle", ["a pickle", "may run code"]),
        (b"GIF89a no such thing", ["no file that Perfusion knows"]),
    ],
)  # fmt: skip
def test_inspect_says_what_other_files_are_and_what_to_do(
    run: Run, tmp_path: Path, data: bytes, told: list[str]
) -> None:
    (tmp_path / "x").write_bytes(data)
    code, out, err = run("inspect", "x")
    assert code == 0, err
    assert [sentence for sentence in told if sentence not in out] == []
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


@dataclass
class HubOfRepositories:
    """A hub that takes commits: `rights` by token, and what was committed."""

    url: str = ""
    rights: dict[str, str] = field(default_factory=lambda: {"good": "write", "poor": "read"})
    files: dict[str, bytes] = field(default_factory=dict)
    made: list[dict[str, object]] = field(default_factory=list)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[HubOfRepositories]:
    """Serve such a hub on a free port, and let huggingface_hub ask no other."""
    there = HubOfRepositories()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            right = there.rights.get(self.headers.get("Authorization", "").removeprefix("Bearer "))
            if right is None:
                self._reply(401, {"error": "Invalid token"})
            elif right != "write":
                self._reply(403, {"error": "Forbidden"})
            elif self.path == "/api/repos/create":
                there.made.append(json.loads(body))
                self._reply(200, {"url": f"{there.url}/me/rex"})
            elif self.path == "/api/validate-yaml":
                self._reply(200, {"errors": [], "warnings": []})
            elif self.path.startswith("/api/models/me/rex/preupload/main"):
                files = json.loads(body)["files"]
                ways = [{"path": f["path"], "uploadMode": "regular", "shouldIgnore": False,
                         "oid": None} for f in files]  # fmt: skip
                self._reply(200, {"files": ways})
            elif self.path.startswith("/api/models/me/rex/commit/main"):
                for line in body.splitlines():
                    told = json.loads(line)
                    if told["key"] == "file":
                        value = told["value"]
                        there.files[value["path"]] = base64.b64decode(value["content"])
                url = f"{there.url}/me/rex/commit/1"
                self._reply(200, {"commitUrl": url, "commitOid": "1", "pullRequestUrl": None})
            else:
                self._reply(404, {"error": self.path})

        def _reply(self, status: int, told: object) -> None:
            data = json.dumps(told).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    there.url = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(constants, "ENDPOINT", there.url)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield there
    server.shutdown()
    server.server_close()


def test_a_concept_is_pushed_with_everything_that_belongs_to_it(
    run: Run, rex: Concept, hub: HubOfRepositories, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "good")
    code, out, err = run("push", "rex.safetensors", "me/rex", "--private")
    assert code == 0, err
    assert out.startswith(f"{hub.url}/me/rex: README.md, rex.safetensors")
    assert hub.made[0]["name"] == "rex" and hub.made[0]["visibility"] == "private"
    assert hub.files["rex.safetensors"] == (tmp_path / "rex.safetensors").read_bytes()
    assert set(hub.files) == {
        "README.md", "rex.safetensors", "rex.lora.safetensors", "rex.embedding.safetensors",
    }  # fmt: skip


def test_push_says_what_is_missing(
    run: Run, rex: Concept, hub: HubOfRepositories, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "hf auth login" in refused(run("push", "rex.safetensors", "me/rex"))
    monkeypatch.setenv("HF_TOKEN", "wrong")
    assert "does not accept the token" in refused(run("push", "rex.safetensors", "me/rex"))
    monkeypatch.setenv("HF_TOKEN", "poor")
    assert "may not write to me/rex" in refused(run("push", "rex.safetensors", "me/rex"))
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    assert "cannot be reached" in refused(run("push", "rex.safetensors", "me/rex"))
    assert hub.files == {}
