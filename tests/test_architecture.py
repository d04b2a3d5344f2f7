"""The plain limits of the house: sizes, names, imports, what may not be committed, errors that survive a pickle."""

import ast
import importlib
import pickle
import pkgutil
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import pytest

import raybench
from raybench import errors
from raybench.errors import RaybenchError

ROOT = Path(raybench.__file__).parent.parent
PACKAGE = ROOT / "raybench"
SOURCES = sorted(PACKAGE.rglob("*.py"))
# Run by the engine's own interpreter, where raybench is not installed; no module of ours imports them.
FOREIGN = tuple(PACKAGE / "engine" / name for name in ("cpu_platform", "scripts"))
OURS = [path for path in SOURCES if not path.is_relative_to(FOREIGN[0]) and not path.is_relative_to(FOREIGN[1])]

T = TypeVar("T")

MAX_FILE_LINES = 500
MAX_FUNCTION_LINES = 60
MAX_PARAMETERS = 7
"""Six and `self`."""
BANNED_NAMES = ("util", "helper", "common", "misc", "manager", "handler", "processor")
TOP_LEVEL = {
    "pyproject.toml",
    "raybench",
    "configs",
    "tests",
    "cluster.yaml",
    "README.md",
    "LICENSE",
    "CHANGELOG.md",
    "constraints.txt",
}
# In pieces, so that this file does not name what it forbids.
REGISTRIES = ("files.python" + "hosted", "pypi" + ".org", "registry.npm" + "js", "deb." + "debian.org")
MACHINE_PATHS = ("/wo" + "rk/", "/fa" + "rm/", "../sha" + "red", "/root" + "/rb")


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def committed() -> list[Path]:
    """Files that git holds, or would hold: ignored ones are nobody's business."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    ).stdout.decode()
    return [ROOT / name for name in listed.split("\0") if name and (ROOT / name).is_file()]


def definitions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


@pytest.mark.parametrize("path", SOURCES, ids=relative)
def test_files_and_functions_stay_small(path: Path) -> None:
    text = path.read_text()
    assert text.count("\n") <= MAX_FILE_LINES
    for node in definitions(ast.parse(text)):
        assert (node.end_lineno or 0) - node.lineno < MAX_FUNCTION_LINES, f"{node.name} is too long"
        arguments = node.args
        count = len(arguments.posonlyargs) + len(arguments.args) + len(arguments.kwonlyargs)
        # A command has as many parameters as flags: typer reads them off its signature. What it calls has not.
        is_command = path.is_relative_to(PACKAGE / "cli") and not node.name.startswith("_")
        assert count <= MAX_PARAMETERS or is_command, f"{node.name} has {count} parameters"


@pytest.mark.parametrize("path", OURS, ids=relative)
def test_names_are_of_the_field(path: Path) -> None:
    names = [path.stem, *(n.name for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.ClassDef))]
    for name in names:
        words = re.findall(r"[A-Z]?[a-z]+", name)
        assert not [w for w in words for banned in BANNED_NAMES if w.lower().rstrip("s") == banned], name


@pytest.mark.parametrize("path", OURS, ids=relative)
def test_modules_and_records_say_what_they_mean(path: Path) -> None:
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree), "a module says what it decides"
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            assert ast.get_docstring(node), f"{node.name} has no docstring"


def test_every_field_of_every_record_has_a_meaning() -> None:
    from raybench.records import Record

    _import_everything()
    found = 0
    for record in _subclasses(Record):
        if not record.__module__.startswith("raybench."):
            continue  # a test's own
        found += 1
        for name, field in record.model_fields.items():
            assert field.description, f"{record.__name__}.{name} has no meaning"
    assert found > 40


def _subclasses(of: type[T]) -> Iterator[type[T]]:
    for child in of.__subclasses__():
        yield child
        yield from _subclasses(child)


def test_print_stays_on_the_command_line() -> None:
    for path in OURS:
        if path.is_relative_to(PACKAGE / "cli"):
            continue
        calls = [n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Call)]
        assert not [c for c in calls if isinstance(c.func, ast.Name) and c.func.id == "print"], relative(path)


def test_the_import_contracts_hold() -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "from importlinter.cli import lint_imports_command; lint_imports_command()",
            "--no-cache",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    assert re.search(r"Contracts: \d+ kept, 0 broken", done.stdout)


def test_the_floors_hold_every_room() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    floors = next(c for c in settings["contracts"] if c["id"] == "floors")
    rooms = {room.strip() for floor in floors["layers"] for room in floor.split("|")}
    present = {p.stem for p in PACKAGE.iterdir() if (p.suffix == ".py" or (p / "__init__.py").exists())}
    assert rooms == present - {"__init__", "__main__"}


def test_the_top_level_is_the_agreed_one() -> None:
    names = {path.relative_to(ROOT).parts[0] for path in committed()}
    assert {name for name in names if not name.startswith(".")} == TOP_LEVEL


@pytest.mark.parametrize("banned", [*REGISTRIES, *MACHINE_PATHS])
def test_nothing_committed_names_a_registry_or_a_machine(banned: str) -> None:
    needle = banned.encode()
    assert [relative(p) for p in committed() if p.stat().st_size < 2_000_000 and needle in p.read_bytes()] == []


def _import_everything() -> None:
    for module in pkgutil.walk_packages([str(PACKAGE)], "raybench."):
        foreign = module.name.startswith(("raybench.engine.cpu_platform", "raybench.engine.scripts"))
        if not foreign and not module.name.endswith("__main__"):
            importlib.import_module(module.name)


def test_every_error_survives_the_way_through_ray() -> None:
    _import_everything()
    kinds = [k for k in _subclasses(RaybenchError) if k.__module__.startswith("raybench.")]
    assert len(kinds) > 10
    for kind in kinds:
        again = pickle.loads(pickle.dumps(kind("what, where, what to do")))
        assert type(again) is kind
        assert (again.message, str(again)) == ("what, where, what to do", "what, where, what to do")


def test_every_boundary_has_an_exit_code_of_its_own_band() -> None:
    kinds = [k for k in _subclasses(RaybenchError) if k.__module__ == errors.__name__]
    assert all(10 <= kind.exit_code < 30 for kind in kinds)
    # One code per boundary; a narrower error may share its parent's.
    codes = [k.exit_code for k in kinds if k.__base__ is RaybenchError]
    assert len(set(codes)) == len(codes)


def test_public_names_exist_and_stand_once() -> None:
    for path in OURS:
        tree = ast.parse(path.read_text())
        for node in tree.body:
            if isinstance(node, ast.Assign) and [getattr(t, "id", "") for t in node.targets] == ["__all__"]:
                names = ast.literal_eval(node.value)
                module = importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))
                # Their order is ruff's to keep (RUF022).
                assert len(set(names)) == len(names), relative(path)
                assert [n for n in names if not hasattr(module, n)] == [], relative(path)


def test_the_version_is_in_the_changelog_or_unreleased() -> None:
    text = (ROOT / "CHANGELOG.md").read_text()
    assert raybench.__version__ in text or "## Unreleased" in text


def test_every_requirement_has_a_tested_version_and_no_host() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    names = {re.split(r"[\[<>=]", requirement)[0].lower() for requirement in wanted}
    lines = [x for x in (ROOT / "constraints.txt").read_text().splitlines() if x and not x.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9_.-]+==[A-Za-z0-9.]+", line) for line in lines)
    assert {line.split("==")[0].lower() for line in lines} == names
    assert [r for r in wanted if "==" in r] == []
