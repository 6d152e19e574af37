"""requirements.lock pins every dependency by hash; the images install parts of it."""

import re
import subprocess
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, requires

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.deployment import stack

LOCK = stack.ROOT / "requirements.lock"
PROJECT = tomllib.loads((stack.ROOT / "pyproject.toml").read_text())
EXTRAS: dict[str, list[str]] = PROJECT["project"]["optional-dependencies"]
SHA256 = "0123456789abcdef" * 4


def entries(text: str) -> dict[str, Requirement]:
    """Return the pins of the lock by name, as pip reads them."""
    lines = re.findall(r"^[^\s#-].*?(?=\s*(?:\\|--hash|$))", text, re.MULTILINE)
    pins = [Requirement(line) for line in lines]
    return {canonicalize_name(pin.name): pin for pin in pins}


def version(pin: Requirement) -> str:
    (only,) = pin.specifier
    assert only.operator == "==" and "*" not in only.version, pin
    return only.version


def selected(*options: str) -> str:
    return subprocess.run(
        [sys.executable, stack.ROOT / "docker" / "select_locked.py", *options],
        capture_output=True,
        text=True,
        check=True,
    ).stdout


def asked_for(*extras: str) -> list[Requirement]:
    lines = [*PROJECT["build-system"]["requires"], *PROJECT["project"]["dependencies"]]
    wanted = [Requirement(line) for line in lines]
    waiting = list(extras)
    while waiting:
        for line in EXTRAS[waiting.pop()]:
            requirement = Requirement(line)
            if (
                requirement.name == "perfusion"
            ):  # the requirement stands for another of these extras
                waiting += requirement.extras
            else:
                wanted.append(requirement)
    return wanted


def check_closed(pins: dict[str, Requirement], *extras: str) -> None:
    """Check that every package that the extras need on this machine is pinned within its bounds."""
    waiting = asked_for(*extras)
    seen: set[str] = set()
    while waiting:
        wanted = waiting.pop()
        if wanted.marker and not wanted.marker.evaluate():
            continue
        name = canonicalize_name(wanted.name)
        assert name in pins, f"{wanted} is in no line of the lock: make lock"
        assert wanted.specifier.contains(version(pins[name]), prereleases=True), (
            f"{pins[name]} is out of the bounds of {wanted}: make lock"
        )
        if str(wanted) not in seen:
            seen.add(str(wanted))
            waiting += _needs(name, wanted.extras)


def _needs(name: str, extras: set[str]) -> list[Requirement]:
    try:
        lines = [Requirement(line) for line in requires(name) or []]
    except PackageNotFoundError:  # a tool that is not installed everywhere, such as uv
        return []
    environments = [{"extra": extra} for extra in extras or {""}]
    for line in lines:
        if line.marker and any(line.marker.evaluate(environment) for environment in environments):
            line.marker = None
    return [line for line in lines if line.marker is None]


def test_the_lock_has_every_dependency_within_the_bounds_of_pyproject() -> None:
    check_closed(entries(LOCK.read_text()), *EXTRAS)


def test_every_file_is_named_by_its_sha256() -> None:
    text = LOCK.read_text()
    blocks = re.split(r"^(?=[a-z0-9])", text, flags=re.MULTILINE)[1:]
    assert len(blocks) == len(entries(text)) > 100
    for block in blocks:
        assert re.match(
            r"\S+==\S+( ; [^\\\n]+)? \\\n(    --hash=sha256:[0-9a-f]{64}( \\)?\n)+    # via", block
        ), block


def test_the_lock_names_no_index_and_no_folder() -> None:
    """The lock works with any index that pip is configured for."""
    rest = re.sub(r"^ +--hash=sha256:[0-9a-f]{64}", "", LOCK.read_text(), flags=re.MULTILINE)
    assert not re.search(r"://|--(extra-)?index|--find|(^|\s)/", rest)


def test_the_lock_serves_platforms_that_are_not_this_one() -> None:
    pins = entries(LOCK.read_text())
    assert pins["colorama"].marker and "win32" in str(pins["colorama"].marker)
    assert pins["uvloop"].marker and "win32" in str(pins["uvloop"].marker)


@pytest.mark.parametrize(
    "extras",
    [("tracing",), ("server", "tracing"), ("server", "tracing", "device"), ("gpu",)],
    ids=", ".join,
)
def test_a_part_of_the_lock_holds_what_its_extras_need(extras: tuple[str, ...]) -> None:
    pins = entries(selected(*(word for extra in extras for word in ("--extra", extra))))
    check_closed(pins, *extras)
    assert ("torch" in pins) is bool({"device", "gpu"} & set(extras))
    assert ({"boto3", "psycopg"} <= set(pins)) is ("server" in extras)
    assert not {"pytest", "ruff", "playwright", "matplotlib"} & set(pins)


def test_all_extras_are_the_whole_lock() -> None:
    assert entries(selected("--all-extras")) == entries(LOCK.read_text())


def test_a_cpu_wheel_is_taken_by_its_one_hash_and_nothing_of_cuda_with_it() -> None:
    text = selected("--extra", "device", "--torch-sha256", SHA256)
    pins = entries(text)
    assert version(pins["torch"]) == version(entries(LOCK.read_text())["torch"]) + "+cpu"
    (torch,) = re.findall(r"^torch==.*$", text, re.MULTILINE)
    assert torch.endswith(f" --hash=sha256:{SHA256}")
    assert not [name for name in pins if re.match("nvidia-|cuda-|triton", name)]
    # Requirements of torch other than CUDA stay.
    assert {"sympy", "networkx", "filelock", "jinja2"} <= set(pins)


def test_another_index_is_searched_only_for_a_file_that_is_known_by_its_hash() -> None:
    url = "https://wheels.example.org/cpu"
    text = selected("--extra", "device", "--torch-sha256", SHA256, "--torch-index-url", url)
    assert text.startswith(f"--extra-index-url {url}\n")
    for sha256, said in (("", "TORCH_SHA256 is not"), ("0" * 63, "not a sha256")):
        with pytest.raises(subprocess.CalledProcessError) as caught:
            selected("--extra", "device", "--torch-index-url", url, "--torch-sha256", sha256)
        assert said in caught.value.stderr and caught.value.stdout == ""


def test_pip_takes_the_lock_where_each_line_must_have_its_hash() -> None:
    """pip itself reads the lock; the installed packages answer everything else."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pip", "install", "--disable-pip-version-check", "--dry-run"),
            *("--no-index", "--no-deps", "--require-hashes", "--requirement", "/dev/stdin"),
        ],
        input=selected("--extra", "tracing"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("sha256", ["", SHA256], ids=["PyPI's torch", "a CPU wheel"])
def test_make_setup_installs_files_by_their_hashes_and_the_project_without_more(
    sha256: str,
) -> None:
    done = subprocess.run(
        ["make", "--dry-run", "--always-make", "setup", f"TORCH_SHA256={sha256}"],
        cwd=stack.ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    lock = ".venv/cpu.lock" if sha256 else "requirements.lock"
    installs = re.findall(r"pip install --quiet --disable-pip-version-check (.*)", done.stdout)
    assert installs == [
        f"--require-hashes --requirement {lock}",
        "--no-deps --no-build-isolation --editable .",
    ]
    assert (f'--torch-sha256 "{SHA256}"' in done.stdout) is bool(sha256)
