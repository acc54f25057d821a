"""Change the code in small ways and count how many of the changes the tests notice.

    python tests/mutation.py                       200 changes, two at a time (about an hour)
    python tests/mutation.py --number 20 --seed 1  fewer, and others

Each mutant is one change of one expression: a comparison, an arithmetic operator, a number, a condition or a boolean.
It is caught if one of the tests that belong to its file fails or runs longer than the limit. A mutant that survives is
either equivalent to the code or a gap in the tests. The draw depends on the seed and on the sources alone, so that two
versions of the tests can be compared on the same mutants.
"""

import argparse
import ast
import copy
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
# The files that are changed, and the tests that are run for them, the quick ones first.
SUITES = {
    "sfmts/kernels/_bank": ("test_bank_kernel", "test_features", "test_border"),
    "sfmts/kernels/_resonator": ("test_resonator_kernel", "test_projection", "test_resonator", "test_border"),
    "sfmts/kernels/_linear_scan.py": ("test_resonator_kernel", "test_bank_kernel"),
    "sfmts/kernels/_sfm/gpu": ("test_cuda", "test_gpu"),
    "sfmts/kernels/_sfm/cuda.py": ("test_cuda", "test_gpu"),
    "sfmts/kernels": ("test_kernels", "test_loop", "test_dispatch", "test_native", "test_border", "test_checks"),
    "sfmts/heads.py": (
        "test_heads",
        "test_horizon",
        "test_density",
        "test_labeler",
        "test_regressor",
        "test_contract_training",
    ),
    "sfmts/_batch.py": ("test_batch", "test_training", "test_input_errors", "test_contract"),
    "sfmts/training.py": ("test_training", "test_distributed", "test_classifier", "test_contract_training"),
}
COMPARISONS = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
}
OPERATORS = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult}
CAUGHT, SURVIVED, TOO_LONG = "caught", "survived", "caught (too long)"


@dataclass(frozen=True)
class Mutant:
    """One change: the file, its new text, and what was changed where."""

    path: str
    text: str
    what: str


def changed(node: ast.AST) -> Iterator[tuple[ast.AST, str]]:
    """Yield the nodes that may take the place of ``node``, each with a description."""
    if isinstance(node, ast.Compare) and type(node.ops[0]) in COMPARISONS:
        other = copy.deepcopy(node)
        other.ops[0] = COMPARISONS[type(node.ops[0])]()
        yield other, f"{ast.unparse(node)} -> {ast.unparse(other)}"
    elif isinstance(node, ast.BinOp) and type(node.op) in OPERATORS:
        other = copy.deepcopy(node)
        other.op = OPERATORS[type(node.op)]()
        yield other, f"{ast.unparse(node)} -> {ast.unparse(other)}"
    elif isinstance(node, ast.BoolOp):
        other = copy.deepcopy(node)
        other.op = ast.Or() if isinstance(node.op, ast.And) else ast.And()
        yield other, f"{ast.unparse(node)} -> {ast.unparse(other)}"
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not | ast.USub):
        yield copy.deepcopy(node.operand), f"{ast.unparse(node)} -> {ast.unparse(node.operand)}"
    elif isinstance(node, ast.IfExp):
        other = copy.deepcopy(node)
        other.body, other.orelse = other.orelse, other.body
        yield other, f"{ast.unparse(node)} -> {ast.unparse(other)}"
    elif isinstance(node, ast.Constant) and type(node.value) in (int, float, bool):
        value = not node.value if isinstance(node.value, bool) else node.value + 1
        yield ast.copy_location(ast.Constant(value), node), f"{node.value} -> {value}"


class Places(ast.NodeVisitor):
    """Collect the nodes whose value matters: annotations, messages and decorators are left out."""

    def __init__(self) -> None:
        self.nodes: list[ast.expr] = []

    def visit(self, node: ast.AST) -> None:
        """Visit a node and, unless it only describes the code, what it holds."""
        if isinstance(node, ast.Raise | ast.Assert | ast.JoinedStr | ast.Import | ast.ImportFrom):
            return
        if isinstance(node, ast.expr):
            self.nodes.append(node)
        for name, value in ast.iter_fields(node):
            if name in ("annotation", "returns", "decorator_list", "type_params"):
                continue
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST):
                    self.visit(child)


def mutants_of(path: str) -> list[Mutant]:
    """Return all mutants of a file, in the order of its text."""
    source = (ROOT / path).read_text()
    places = Places()
    places.visit(ast.parse(source))
    lines = source.splitlines(keepends=True)
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line.encode()))
    data, found = source.encode(), []
    for node in places.nodes:
        begin = starts[node.lineno - 1] + node.col_offset
        end = starts[(node.end_lineno or 0) - 1] + (node.end_col_offset or 0)
        for other, what in changed(node):
            text = data[:begin] + f"({ast.unparse(other)})".encode() + data[end:]
            found.append(Mutant(path, text.decode(), f"{path}:{node.lineno}: {what}"))
    return found


def suite_of(path: str) -> tuple[str, ...]:
    """Return the tests of a file: those of the most special entry."""
    return SUITES[max((name for name in SUITES if path.startswith(name)), key=len)]


def draw(number: int, seed: int) -> list[Mutant]:
    """Draw mutants, each file with a chance in proportion to the mutants that it has."""
    files = sorted(
        str(path.relative_to(ROOT))
        for name in SUITES
        for path in ([ROOT / name] if name.endswith(".py") else (ROOT / name).rglob("*.py"))
    )
    every = [mutant for path in dict.fromkeys(files) for mutant in mutants_of(path)]
    return random.Random(seed).sample(every, min(number, len(every)))


def run(mutant: Mutant | None, tests: tuple[str, ...], limit: float) -> str:
    """Run tests on a copy of the package with a mutant in it, and return what became of it."""
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(ROOT / "sfmts", Path(folder, "sfmts"), ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copytree(ROOT / "tests", Path(folder, "tests"), ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("pyproject.toml", "benchmarks", "examples", "experiments", "docs", "README.md"):
            Path(folder, name).symlink_to(ROOT / name)
        if mutant is not None:
            Path(folder, mutant.path).write_text(mutant.text)
        paths = [f"tests/{name}.py" for name in tests]
        options = ["-x", "-q", "-m", "not slow", "-p", "no:cacheprovider", "--durations=0"]
        environment = {**os.environ, "PYTHONPATH": folder, "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "pytest", *options, *paths]
        try:
            result = subprocess.run(command, cwd=folder, env=environment, capture_output=True, timeout=limit)
        except subprocess.TimeoutExpired:
            return TOO_LONG
    return SURVIVED if result.returncode == 0 else CAUGHT


def main() -> None:
    """Draw mutants, run their tests, and print what survived and how many were caught."""
    parser = argparse.ArgumentParser(description="Count the changes of the code that the tests notice.")
    parser.add_argument("--number", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--limit", type=float, default=180.0, help="seconds for the tests of one mutant")
    arguments = parser.parse_args()
    for tests in dict.fromkeys(SUITES.values()):
        if run(None, tests, 10 * arguments.limit) != SURVIVED:
            sys.exit(f"The tests {', '.join(tests)} fail without any change; mend them first.")
    mutants = draw(arguments.number, arguments.seed)
    with ThreadPoolExecutor(arguments.jobs) as pool:
        results = []
        for result in pool.map(lambda mutant: run(mutant, suite_of(mutant.path), arguments.limit), mutants):
            results.append(result)
            print(f"{len(results):4} {result:17} {mutants[len(results) - 1].what}", flush=True)
    caught = sum(result != SURVIVED for result in results)
    print(f"{caught} of {len(mutants)} mutants caught ({results.count(TOO_LONG)} by the time limit).")


if __name__ == "__main__":
    main()
