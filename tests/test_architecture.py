"""The house's rules, read from the source: arrows point down, small files, small functions, no print.

``violations`` takes a folder, so that the checker is itself tested on planted ones.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "emitter"
LEVELS = {
    "core": 0,
    "psf": 1,
    "simulation": 2,
    "models": 2,
    "losses": 2,
    "metrics": 2,
    "io": 2,
    "plots": 2,
    "analysis": 2,
    "inference": 3,
    "training": 4,
    "app": 5,
}
ROOMS_OF = {
    "hydra": {"app"},
    "omegaconf": {"app"},
    "pytorch_lightning": {"training"},
    "lightning": {"training"},
    "lightning_fabric": {"training"},
    "wandb": {"training"},
    "torchmetrics": {"metrics", "training"},
}
CORE_MAY_IMPORT = {"torch", "numpy", "emitter", *sys.stdlib_module_names}
FILE_LINES, FUNCTION_LINES, ARGUMENTS = 450, 60, 10


def violations(package: Path) -> list[str]:
    """Every broken rule of the package ``emitter`` in the folder ``package``, as ``file:line rule``."""
    found = []
    for path in sorted(package.rglob("*.py")):
        source = path.read_text()
        inside = path.relative_to(package)
        room = inside.parts[0] if len(inside.parts) > 1 else ""
        if len(source.splitlines()) > FILE_LINES:
            found.append(f"{inside}:1 file of more than {FILE_LINES} lines")
        if room and room not in LEVELS:
            found.append(f"{inside}:1 unknown room '{room}'")
            continue
        for node in ast.walk(ast.parse(source)):
            found += [f"{inside}:{node.lineno} {rule}" for rule in _broken(node, room, inside)]
    return found


def _broken(node: ast.AST, room: str, inside: Path) -> Iterator[str]:
    if isinstance(node, ast.Import | ast.ImportFrom):
        for module in _imported(node, inside):
            yield from _broken_import(room, module)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print":
        yield "print"
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        yield from _broken_function(node)


def _broken_function(node: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[str]:
    lines = (node.end_lineno or node.lineno) - node.lineno + 1
    if lines > FUNCTION_LINES:
        yield f"{node.name} has {lines} lines, more than {FUNCTION_LINES}"
    arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
    count = len([argument for argument in arguments if argument.arg not in ("self", "cls")])
    if count > ARGUMENTS:
        yield f"{node.name} has {count} arguments, more than {ARGUMENTS}"


def _imported(node: ast.Import | ast.ImportFrom, inside: Path) -> list[str]:
    """Full names of the modules of an import statement; relative ones are resolved."""
    if isinstance(node, ast.Import):
        return [name.name for name in node.names]
    if node.level:
        base = ["emitter", *inside.parent.parts][: len(inside.parts) + 1 - node.level]
        module = ".".join([*base, *([node.module] if node.module else [])])
    else:
        module = node.module or ""
    if module == "emitter":  # from emitter import psf
        return [f"emitter.{name.name}" for name in node.names]
    return [module]


def _broken_import(room: str, module: str) -> Iterator[str]:
    top, _, rest = module.partition(".")
    target = rest.partition(".")[0]
    if top in ROOMS_OF and room not in ROOMS_OF[top]:
        yield f"{top} outside {', '.join(sorted(ROOMS_OF[top]))}"
    if room == "core" and top not in CORE_MAY_IMPORT:
        yield f"core imports {top}"
    elsewhere = top == "emitter" and target in LEVELS and target != room
    if elsewhere and LEVELS[target] >= LEVELS.get(room, -1):
        yield f"{room or 'the package itself'} imports {target}, which is not below it"


def test_house_rules_hold() -> None:
    assert violations(PACKAGE) == []


def test_every_level_has_its_room() -> None:
    rooms = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert rooms == set(LEVELS)


LONG_FUNCTION = "def f() -> None:\n" + "    pass\n" * FUNCTION_LINES
MANY_ARGUMENTS = f"def f(self, {', '.join(f'a{i}' for i in range(ARGUMENTS + 1))}): ..."


@pytest.mark.parametrize(
    ("file", "source", "rule"),
    [
        ("psf/a.py", "from emitter.models.unet import UNet", "psf imports models"),
        ("psf/a.py", "import emitter.app.schema", "psf imports app"),
        ("psf/a.py", "from emitter import training", "psf imports training"),
        ("losses/a.py", "from emitter.metrics import matching", "losses imports metrics"),
        ("losses/a.py", "from ..metrics import matching", "losses imports metrics"),
        ("losses/deep/a.py", "from ...metrics import matching", "losses imports metrics"),
        ("losses/a.py", "def f():\n    from emitter.training import module", "losses imports training"),
        ("a.py", "from emitter.core import table", "the package itself imports core"),
        ("training/a.py", "from omegaconf import OmegaConf", "omegaconf outside app"),
        ("training/a.py", "import hydra.utils", "hydra outside app"),
        ("app/a.py", "import pytorch_lightning as pl", "pytorch_lightning outside training"),
        ("metrics/a.py", "import wandb", "wandb outside training"),
        ("core/a.py", "import pandas", "core imports pandas"),
        ("io/a.py", "def f():\n    print('x')", "print"),
        ("io/a.py", LONG_FUNCTION, "f has 61 lines"),
        ("io/a.py", MANY_ARGUMENTS, "f has 11 arguments"),
        ("io/a.py", "x = 1\n" * (FILE_LINES + 1), "file of more than 450 lines"),
        ("cellar/a.py", "", "unknown room 'cellar'"),
    ],
)
def test_checker_finds_planted_violation(tmp_path: Path, file: str, source: str, rule: str) -> None:
    (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / file).write_text(source)
    (found,) = violations(tmp_path)
    assert found.startswith(file) and rule in found


def test_checker_accepts_what_is_allowed(tmp_path: Path) -> None:
    allowed = {
        "core/a.py": "import math\nimport numpy\nfrom torch import Tensor\nfrom emitter.core.table import x",
        "losses/a.py": "from emitter.psf import gaussian\nfrom .other import y\nimport emitter.losses.b",
        "metrics/a.py": "import torchmetrics",
        "training/a.py": "import pytorch_lightning\nfrom emitter.inference import tiles\nlog.print('x')",
        "app/a.py": "import hydra\nfrom emitter.training import module",
    }
    for file, source in allowed.items():
        (tmp_path / file).parent.mkdir(parents=True)
        (tmp_path / file).write_text(source)
    assert violations(tmp_path) == []
