"""Names are the field's, every class has its own, and no folder is crowded."""

import ast
import subprocess
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("api", "worker", "service", "perfusion_core")
_MOST_MODULES = 18

# Words that only this project would know, and what it says instead.
CLASSES = {
    "Resident": "ModelLoader",
    "Pulse": "Heartbeat",
    "Line": "FairQueue",
    "Ticket": "Request",
    "Place": "Slot, QueuePosition",
    "Turn": "DeviceCall",
    "TakeTurn": "RunOnDevice",
    "Looking": "TrainingEvaluator",
    "Judge": "ConceptEvaluator",
    "BestState": "EarlyStopping",
    "Doorbell": "JobNotifier",
    "Parts": "WorkerContext",
}
# Functions, methods and parameters.
CALLED = {
    "waited": "keep_alive",
    "insist": "retry_while_unavailable",
    "take_turn": "run_on_device",
    "looks": "eval_schedule",
    "trials": "eval_prompts",
    "training_state": "checkpoint",
    "denoise": "sampling",
    "ring": "notify",
    "unheard": "pending",
    "doorbell": "notifier",
}
MODULES = {
    "best_state": "early_stopping",
    "callers": "auth_cache",
    "claims": "lease_types",
    "collector": "garbage",
    "denoise": "sampling",
    "doorbell": "queue",
    "gates": "strengths",
    "judge": "concept_evaluator",
    "line": "fair_queue",
    "links": "signed_urls",
    "looking": "training_evaluator",
    "parts": "context",
    "pulse": "heartbeat",
    "reference": "docs_page",
    "resident": "loader",
    "texts": "validation",
    "tickets": "requests",
    "training_state": "checkpoint",
    "trials": "eval_prompts",
    "turns": "job_order",
}


@cache
def tracked() -> tuple[Path, ...]:
    told = subprocess.run(
        ["git", "ls-files", "-z"], capture_output=True, text=True, check=True, cwd=ROOT
    ).stdout
    files = (ROOT / name for name in told.split("\0") if name)
    return tuple(file for file in files if file.exists() and "web" not in file.parts)


@cache
def trees() -> dict[Path, ast.Module]:
    python = (file for file in tracked() if file.suffix == ".py")
    return {file: ast.parse(file.read_text(encoding="utf-8")) for file in python}


_NAMING = (
    *(ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef, ast.arg, ast.Lambda),
    *(ast.For, ast.AsyncFor, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp),
)


@cache
def named() -> tuple[tuple[str, ast.AST], ...]:
    """Return every node that names something, and where it stands."""
    return tuple(
        (f"{file.relative_to(ROOT)}:{node.lineno}", node)
        for file, tree in trees().items()
        for node in ast.walk(tree)
        if isinstance(node, _NAMING)
    )


def test_no_class_function_or_parameter_has_a_name_of_our_own_making() -> None:
    found = []
    for where, node in named():
        if isinstance(node, ast.ClassDef) and node.name in CLASSES:
            found.append(f"{where}: {node.name}, say {CLASSES[node.name]}")
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name in CALLED:
            found.append(f"{where}: {node.name}, say {CALLED[node.name]}")
        elif isinstance(node, ast.arg) and node.arg in CALLED:
            found.append(f"{where}: {node.arg}, say {CALLED[node.arg]}")
    assert len(trees()) > 400
    assert found == []


def test_no_module_has_a_name_of_our_own_making() -> None:
    assert [str(file.relative_to(ROOT)) for file in trees() if file.stem in MODULES] == []


def test_no_loop_variable_is_called_one() -> None:
    """A loop's variable says what it holds."""
    found = []
    for where, node in named():
        match node:
            case ast.For(target=target) | ast.AsyncFor(target=target):
                bound = list(ast.walk(target))
            case ast.ListComp() | ast.SetComp() | ast.DictComp() | ast.GeneratorExp():
                bound = [name for loop in node.generators for name in ast.walk(loop.target)]
            case ast.Lambda(args=arguments):
                bound = list(ast.walk(arguments))
            case _:
                continue
        if any("one" in (getattr(name, "id", ""), getattr(name, "arg", "")) for name in bound):
            found.append(where)
    assert found == []


def test_no_two_classes_of_the_packages_have_one_name() -> None:
    counted = Counter(
        node.name
        for where, node in named()
        if where.split("/")[0] in PACKAGES and isinstance(node, ast.ClassDef)
    )
    assert {name: count for name, count in counted.items() if count > 1} == {}


@pytest.mark.parametrize("kind", [".py", ".js"])
def test_no_folder_holds_more_modules_than_a_reader_can_scan(kind: str) -> None:
    counted = Counter(
        str(file.relative_to(ROOT).parent)
        for file in tracked()
        if file.suffix == kind and file.name != "__init__.py"
    )
    crowded = {folder: count for folder, count in counted.items() if count > _MOST_MODULES}
    assert crowded == {}
