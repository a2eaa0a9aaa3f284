"""The rooms of the package: imports point one way, and only some rooms import heavy libraries."""

import ast
import subprocess
import sys

import pytest

from helpers import PROJECT

PACKAGE = PROJECT / "src" / "throughline"
ROOMS = [
    *("plumbing", "settings", "callbacks", "data", "regimes", "batches", "model", "checking", "evaluation"),
    *("config", "memory", "cautions", "runs", "training", "results", "sweeps", "commands"),
]
"""In reading order. A room imports only from the rooms before it, and from itself."""


def modules(*rooms: str) -> list[str]:
    files = [file for room in rooms for file in [PACKAGE / f"{room}.py", *(PACKAGE / room).rglob("*.py")] if file.exists()]
    return [".".join(file.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__") for file in files]


def imported(module: str) -> set[str]:
    """The modules of the package that a module imports, anywhere in it."""
    base = PACKAGE.parent.joinpath(*module.split("."))
    file = base / "__init__.py" if base.is_dir() else base.with_suffix(".py")
    names = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: a relative import"
            both = {f"{node.module}.{alias.name}" for alias in node.names}
            names |= {name if name in ALL else str(node.module) for name in both}
    return {name for name in names if name in ALL and name != "throughline"}


ALL = {"throughline", *modules(*ROOMS)}
GRAPH = {module: imported(module) - {module} for module in ALL - {"throughline"}}


def room(module: str) -> str:
    return module.split(".")[1]


def test_every_module_lies_in_a_room() -> None:
    there = {file.stem if file.is_file() else file.name for file in PACKAGE.iterdir() if file.name != "__pycache__"}
    assert there - {"__init__"} == set(ROOMS)
    assert len(ALL) > 70
    assert sum(map(len, GRAPH.values())) > 250


def test_imports_point_one_way() -> None:
    backwards = [
        f"{module} -> {name}"
        for module, names in GRAPH.items()
        for name in names
        if ROOMS.index(room(name)) > ROOMS.index(room(module))
    ]
    assert backwards == []
    assert not any(room(name) == "training" for module in GRAPH if room(module) == "results" for name in GRAPH[module])


def test_no_modules_import_each_other() -> None:
    """Not even by a detour, and not even inside functions."""
    left = {module: set(names) for module, names in GRAPH.items()}
    while free := [module for module, names in left.items() if not names & left.keys()]:
        for module in free:
            del left[module]
    assert left == {}


@pytest.mark.parametrize(
    ("rooms", "kept_out"),
    [
        (
            ("plumbing", "settings", "callbacks", "data", "regimes", "config", "sweeps", "commands"),
            {"torch", "lightning", "wandb", "matplotlib"},
        ),
        (("data", "regimes"), {"omegaconf", "hydra"}),
        (("batches", "model", "checking", "evaluation"), {"lightning", "omegaconf", "hydra"}),
        (("results",), {"lightning", "throughline.training", "hydra", "wandb"}),
    ],
)
def test_what_an_import_of_rooms_does_not_bring(rooms: tuple[str, ...], kept_out: set[str]) -> None:
    code = f"import importlib, sys\nfor name in {modules(*rooms)}: importlib.import_module(name)\nprint(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONPATH": str(PACKAGE.parent)}
    )
    brought = set(done.stdout.split())
    assert brought >= {"pydantic", *modules(*rooms)}
    assert brought & kept_out == set()


@pytest.mark.parametrize(
    ("rooms", "kept_out"),
    [
        (("data", "regimes"), {"torch", "lightning", "omegaconf", "hydra"}),
        (("batches", "model", "checking", "evaluation"), {"lightning", "omegaconf", "hydra"}),
        (("results",), {"lightning", "hydra", "wandb"}),
    ],
)
def test_what_rooms_import_nowhere(rooms: tuple[str, ...], kept_out: set[str]) -> None:
    """Not even inside a function."""
    libraries = set()
    for name in rooms:
        for file in (PACKAGE / name).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text())):
                if isinstance(node, ast.Import):
                    libraries |= {alias.name.split(".")[0] for alias in node.names}
                elif isinstance(node, ast.ImportFrom):
                    libraries.add(str(node.module).split(".")[0])
    assert {"numpy", "throughline"} <= libraries
    assert libraries & kept_out == set()


def test_the_readme_prints_the_rooms() -> None:
    readme = (PROJECT / "README.md").read_text()
    tree = readme[readme.index("src/throughline/") :]
    places = [tree.index(f"\n      {name}{'.py' if (PACKAGE / f'{name}.py').exists() else '/'} ") for name in ROOMS]
    assert places == sorted(places)


BENCHMARKS = ["peers", "measurements", "page"]
"""In reading order. The commands at the top may import all of them."""


def test_the_rooms_of_the_benchmarks_import_one_way() -> None:
    imports = 0
    for number, name in enumerate(BENCHMARKS):
        for file in (PROJECT / "benchmarks" / name).glob("*.py"):
            for node in ast.walk(ast.parse(file.read_text())):
                module = getattr(node, "module", None) or ""
                if isinstance(node, ast.ImportFrom) and module.startswith("benchmarks"):
                    imports += 1
                    assert module.split(".")[1] in BENCHMARKS[: number + 1], (file, module)
    assert imports > 20
