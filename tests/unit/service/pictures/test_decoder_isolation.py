"""A picture that takes over its decoder finds no secret, no file and no network there."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from service.errors import Invalid
from service.pictures import decoder as decoding
from service.pictures import decoder_process
from service.pictures.uploads import read_pictures
from service.wiring import Service
from tests.unit.service.staging import encoded, picture

# Reports as JSON what code that runs instead of the decoder can still do.
ATTEMPTS = """
import importlib.util, json, os, socket, sys
spec = importlib.util.spec_from_file_location("decoder", sys.argv[1])
decoder = importlib.util.module_from_spec(spec)
spec.loader.exec_module(decoder)
left_before = os.stat("/proc/self/ns/net").st_ino if sys.platform == "linux" else 0
if sys.argv[3] == "refused":
    decoder._leave_network = lambda: False
decoder.isolate()

def refused(attempt):
    try:
        attempt()
    except OSError:
        return True
    return False

def connect():
    socket.create_connection(("127.0.0.1", int(sys.argv[2])), timeout=2)

print(json.dumps({
    "environment": refused(lambda: open("/proc/%d/environ" % os.getppid())),
    "file": refused(lambda: open(sys.argv[1])),
    "new file": refused(lambda: open("/tmp/left-by-a-picture", "w")),
    "socket": refused(socket.socket),
    "connection": refused(connect),
    "pipe": refused(os.pipe),
    "other network": sys.platform == "linux"
    and os.stat("/proc/self/ns/net").st_ino != left_before,
}))
"""


@pytest.fixture
def listening() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def attempts(port: int, *, namespaces: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-I", "-c", ATTEMPTS, decoder_process.__file__, str(port), namespaces],
        capture_output=True, text=True, env={}, check=True,
    )  # fmt: skip
    return dict(json.loads(done.stdout))


def may_leave_the_network() -> bool:
    return sys.platform == "linux" and (
        subprocess.run(["unshare", "-Un", "true"], capture_output=True, check=False).returncode == 0
    )


@pytest.mark.parametrize("namespaces", ["allowed", "refused"])
def test_after_isolation_no_file_and_no_connection_can_be_opened(
    listening: int, namespaces: str
) -> None:
    found = attempts(listening, namespaces=namespaces)
    for what in ("environment", "file", "new file", "socket", "connection", "pipe"):
        assert found[what] is True, what


@pytest.mark.skipif(not may_leave_the_network(), reason="this kernel allows no user namespaces")
def test_where_the_kernel_allows_it_the_network_is_another_and_empty_one(listening: int) -> None:
    assert attempts(listening, namespaces="allowed")["other network"] is True
    assert attempts(listening, namespaces="refused")["other network"] is False


TALKATIVE = """
import json, os, struct, sys
def frame():
    return sys.stdin.buffer.read(int.from_bytes(sys.stdin.buffer.read(4), "big"))
frame(), frame(), frame()
told = json.dumps({"error": "invalid", "detail": json.dumps(%s)}).encode()
sys.stdout.buffer.write(struct.pack(">I", len(told)) + told)
"""
Replace = Callable[[str], None]


@pytest.fixture
def replace_decoder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Replace:
    """Return a function that runs other code instead of the decoder."""

    def put(code: str) -> None:
        file = tmp_path / "decoder.py"
        file.write_text(code)
        monkeypatch.setattr(decoding, "_DECODER", file)

    return put


def told(service: Service) -> Any:
    with pytest.raises(Invalid) as refused:
        list(read_pictures(service, images=[encoded(picture())]))
    return json.loads(refused.value.errors[0].detail)


def test_the_decoder_comes_after_the_api(service: Service, replace_decoder: Replace) -> None:
    replace_decoder(TALKATIVE % "os.nice(0)")
    assert told(service) == min(os.nice(0) + 5, 19)


def test_the_decoder_inherits_no_variable_and_no_descriptor(
    service: Service, replace_decoder: Replace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("PERFUSION_DATABASE_URL", "postgresql+psycopg://u:secret@h/n")
    replace_decoder(TALKATIVE % "[sorted(os.environ), os.getcwd()]")
    variables, folder = told(service)
    # The interpreter itself sets the variable of its locale.
    assert set(variables) <= {"LC_CTYPE", "__CF_USER_TEXT_ENCODING"}
    assert folder == "/"
    with (tmp_path / "open").open("w") as file:
        os.set_inheritable(file.fileno(), True)
        replace_decoder(TALKATIVE % f"os.path.exists('/proc/self/fd/{file.fileno()}')")
        if sys.platform == "linux":
            assert told(service) is False


@pytest.mark.parametrize(
    "code",
    [
        "import os; os.write(1, b'\\xff\\xff\\xff\\xff'); import time; time.sleep(60)",
        "import os; os.write(1, b'\\0\\0\\0\\2[]'); import time; time.sleep(60)",
        "import os; os.write(1, b'\\0\\0\\0\\5{bad}'); import time; time.sleep(60)",
        "import os; os.write(1, b'\\0\\0\\0\\x0b{\"bytes\":9}'); os.write(1, b'123')",
    ],
    ids=["a header without end", "no object", "no JSON", "a picture cut short"],
)
def test_a_decoder_that_talks_nonsense_is_ended_and_the_picture_refused(
    service: Service, replace_decoder: Replace, code: str
) -> None:
    replace_decoder(code)
    with pytest.raises(Invalid) as refused:
        list(read_pictures(service, images=[encoded(picture())]))
    assert refused.value.errors[0].pointer == "/images/0"


HEADER = {"width": 8, "height": 8, "has_alpha": False, "uploaded_size": [8, 8], "bytes": 3}


@pytest.mark.parametrize(
    "wrong",
    [{"bytes": -1}, {"bytes": 2**40}, {"bytes": "3"}, {"width": 10**20}, {"height": 0},
     {"uploaded_size": 8}, {"uploaded_size": [8]}],
)  # fmt: skip
def test_a_decoder_whose_header_is_no_pictures_is_not_believed(
    service: Service, replace_decoder: Replace, wrong: dict[str, Any]
) -> None:
    header = json.dumps(HEADER | wrong)
    replace_decoder(
        "import struct, sys, time\n"
        f"header = {header!r}.encode()\n"
        "sys.stdout.buffer.write(struct.pack('>I', len(header)) + header + b'png')\n"
        "sys.stdout.buffer.flush(); sys.stdin.buffer.read(); time.sleep(60)"
    )
    with pytest.raises(Invalid):
        list(read_pictures(service, images=[encoded(picture())]))


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_nothing_that_a_decoder_started_outlives_it(
    service: Service, replace_decoder: Replace, tmp_path: Path
) -> None:
    replace_decoder(
        "import os, subprocess, sys\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        + TALKATIVE
        % "child.pid"
    )
    pid = told(service)
    state = Path(f"/proc/{pid}/stat")
    for _ in range(200):
        if not state.exists() or state.read_text().split()[2] == "Z":
            return
        subprocess.run(["sleep", "0.05"], check=True)
    os.kill(pid, 9)
    pytest.fail("it lives on")
