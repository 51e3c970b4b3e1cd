"""Mutation tests: changes one small thing at a time in a module, and sees whether a test fails.

  python tools/mutate.py --room batch --count 20          20 mutations of the runner's batch modules
  python tools/mutate.py --module runner/kandiflux/jobs/job.py    all kinds of mutation, one module
  python tools/mutate.py --count 150 --jobs 2             150 mutations, spread over all rooms by their length
  python tools/mutate.py --nightly                        the same with today's date as the seed; fails below 85 %
  python tools/mutate.py --room text --count 5 --list     only shows which mutations it would make

Every mutation is made in a copy of the working tree, never in the tree itself. The same seed makes the same mutations
as long as the modules are the same. A mutation is killed if the room's tests fail or take far too long, and survives if
they pass. The mutations are cosmic-ray's, and two of our own: a statement that is removed, and `in` for `not in`.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import datetime
import difflib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import parso
from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator, operator_names

# cosmic-ray's own annotations say that an operator's methods return None.
Operator: Any = import_module("cosmic_ray.operators.operator").Operator

ROOT = Path(__file__).resolve().parents[1]
LEAST = 85
Span = tuple[tuple[int, int], tuple[int, int]]


@dataclass(frozen=True)
class Room:
    """Modules, and the tests that should notice a change of any of them. Both are globs and folders below ROOT."""

    modules: tuple[str, ...]
    tests: tuple[str, ...]


_RUNNER = "runner/kandiflux"
_PROTOCOL = (
    "protocol_lite",
    "protocol_process",
    "jobs",
    "hardening",
    "origin",
    "editor_routes",
)
ROOMS = {
    "util": Room((f"{_RUNNER}/*.py", f"{_RUNNER}/util/*.py"), ("tests/unit/util", "tests/unit/runner")),
    "api": Room((f"{_RUNNER}/api/*.py",), ("tests/unit/api", "tests/unit/jobs")),
    "models": Room((f"{_RUNNER}/models/*.py",), ("tests/unit/models",)),
    "workflow": Room((f"{_RUNNER}/workflow/*.py",), ("tests/unit/workflow", "tests/unit/models", "tests/unit/jobs")),
    "editor_format": Room((f"{_RUNNER}/workflow/editor_format/*.py",), ("tests/unit/editor_format",)),
    "validation": Room(
        (f"{_RUNNER}/workflow/validation/*.py",), ("tests/unit/validation", "tests/lite/test_one_wrong_thing.py")
    ),
    "processes": Room((f"{_RUNNER}/processes/*.py",), ("tests/unit/processes",)),
    "jobs": Room((f"{_RUNNER}/jobs/*.py",), ("tests/unit/jobs", "tests/unit/api")),
    "batch": Room((f"{_RUNNER}/batch/*.py",), ("tests/unit/batch", "tests/lite/test_batch.py")),
    "cli": Room(
        (f"{_RUNNER}/cli/*.py",),
        ("tests/unit/cli", "tests/lite/test_commands.py", "tests/lite/test_runner.py", "tests/faults/test_ending.py"),
    ),
    "lite": Room((f"{_RUNNER}/lite/*.py",), ("tests/unit/lite", *(f"tests/lite/test_{name}.py" for name in _PROTOCOL))),
    "nodes": Room(("nodes/*.py",), ("tests/unit/nodes", "tests/parity/test_pipelines.py")),
    "networks": Room(("nodes/models/*.py",), ("tests/unit/nodes", "tests/parity")),
    "sampling": Room(("nodes/sampling/*.py",), ("tests/unit/nodes", "tests/parity")),
    "text": Room(("nodes/text/*.py",), ("tests/unit/text",)),
    "pack": Room(("install.py", "__init__.py"), ("tests/unit/pack",)),
}
"""nodes/comfyui is left out: it runs only inside a ComfyUI, and so do its tests (tests/host)."""

_COMPARISONS = "Eq_NotEq NotEq_Eq Lt_LtE Lt_GtE LtE_Lt LtE_Gt Gt_GtE Gt_LtE GtE_Gt GtE_Lt Is_IsNot IsNot_Is"
_ARITHMETIC = "Add_Sub Sub_Add Mul_Div Div_Mul FloorDiv_Mul Mod_Mul BitOr_BitAnd BitAnd_BitOr"
_OTHERS = "AddNot ReplaceTrueWithFalse ReplaceFalseWithTrue ReplaceAndWithOr ReplaceOrWithAnd ReplaceBreakWithContinue"
_OTHERS += " ReplaceContinueWithBreak NumberReplacer ZeroIterationForLoop"
_OTHERS += " ReplaceUnaryOperator_USub_UAdd ReplaceUnaryOperator_Delete_Not"


class RemoveStatement(Operator):
    """A call, a raise or a change of a value that is not made."""

    def mutation_positions(self, node: Any) -> Iterator[Span]:
        if node.type == "simple_stmt" and self._does_something(node.children[0]):
            yield node.start_pos, node.end_pos

    def mutate(self, node: Any, index: int) -> Any:
        return parso.parse(f"{node.get_first_leaf().prefix}pass\n")

    @classmethod
    def examples(cls) -> Any:
        return ()

    @staticmethod
    def _does_something(statement: Any) -> bool:
        if statement.type == "expr_stmt":
            # A name that is bound for the first time would only be missing further down: what is changed counts.
            target, operator = statement.children[0], statement.children[1]
            return target.type != "name" or (operator.type == "operator" and operator.value != "=")
        return statement.type in ("atom_expr", "await", "raise_stmt", "del_stmt", "yield_expr", "return_stmt")


class SwapIn(Operator):
    """`in` instead of `not in`, and the other way round."""

    def mutation_positions(self, node: Any) -> Iterator[Span]:
        if node.type == "comparison" and self._operator_of(node) in ("in", "not in"):
            yield node.start_pos, node.end_pos

    def mutate(self, node: Any, index: int) -> Any:
        left, _, right = node.children
        word = "in" if self._operator_of(node) == "not in" else "not in"
        return parso.parse(f"{left.get_code()} {word}{right.get_code()}")

    @classmethod
    def examples(cls) -> Any:
        return ()

    @staticmethod
    def _operator_of(node: Any) -> str:
        return " ".join(node.children[1].get_code().split())


def operators() -> dict[str, Any]:
    names = {f"core/ReplaceComparisonOperator_{pair}" for pair in _COMPARISONS.split()}
    names |= {f"core/ReplaceBinaryOperator_{pair}" for pair in _ARITHMETIC.split()}
    names |= {f"core/{name}" for name in _OTHERS.split()}
    missing = names - set(operator_names())
    if missing:
        raise SystemExit(f"this cosmic-ray has no {', '.join(sorted(missing))}")
    ours: dict[str, Any] = {"RemoveStatement": RemoveStatement(), "SwapIn": SwapIn()}
    return ours | {name.removeprefix("core/"): get_operator(name)() for name in sorted(names)}


@dataclass(frozen=True)
class Mutation:
    """The `occurrence`th place in `module` (below ROOT) at which `operator` can change something."""

    room: str
    module: str
    operator: str
    occurrence: int
    line: int

    def __str__(self) -> str:
        return f"{self.module}:{self.line} {self.operator}"

    def code(self, source: str) -> str:
        return str(mutate_code(source, operators()[self.operator], self.occurrence))

    def shown(self, source: str) -> str:
        """The lines that change."""
        lines = difflib.unified_diff(source.splitlines(), self.code(source).splitlines(), n=0, lineterm="")
        return "\n".join("    " + line for line in list(lines)[3:])


def mutations_of(room: str, module: Path) -> Iterator[Mutation]:
    """All but those in what does nothing as the program runs, or that tests should not look at."""
    source = module.read_text("utf-8")
    tree: Any = get_ast(source)
    left_out = set(_lines_left_out(ast.parse(source)))
    spans = list(_annotations(ast.parse(source)))
    for name, operator in operators().items():
        places: list[tuple[Any, Span]] = [
            (node, place) for node in ast_nodes(tree) for place in operator.mutation_positions(node)
        ]
        for occurrence, (node, (start, _)) in enumerate(places):
            # The signs * and / between parameters are operators to the parser.
            between_parameters = node.parent is not None and node.parent.type in ("parameters", "param")
            annotates = any(begin <= start < end for begin, end in spans)
            if start[0] not in left_out and not annotates and (node.type != "operator" or not between_parameters):
                yield Mutation(room, module.relative_to(ROOT).as_posix(), name, occurrence, start[0])


def _annotations(tree: ast.AST) -> Iterator[Span]:
    for node in ast.walk(tree):
        for field in ("annotation", "returns"):
            found = getattr(node, field, None)
            if isinstance(found, ast.expr):
                yield (found.lineno, found.col_offset), (found.end_lineno or 0, found.end_col_offset or 0)


def _lines_left_out(tree: ast.Module) -> Iterator[int]:
    """Of blocks for type checkers, `__all__`, names of types, options of dataclasses, and logs for developers."""
    for node in ast.walk(tree):
        if isinstance(node, ast.If):
            left_out = "TYPE_CHECKING" in ast.unparse(node.test) or "__main__" in ast.unparse(node.test)
        elif isinstance(node, ast.Assign):
            left_out = ast.unparse(node.targets[0]) == "__all__" or "Callable[" in ast.unparse(node.value)
        elif isinstance(node, ast.Expr):
            left_out = ast.unparse(node).startswith("_log.")
        elif isinstance(node, ast.ClassDef):
            yield from (decorator.lineno for decorator in node.decorator_list)
            continue
        else:
            continue
        if left_out:
            yield from range(node.lineno, (node.end_lineno or node.lineno) + 1)


def chosen(arguments: argparse.Namespace) -> list[Mutation]:
    """A sample: rooms and modules in proportion to what there is to change, at most one of a line."""
    wanted = {(ROOT / module).resolve() for module in arguments.module}
    unknown = [str(path) for path in wanted if not path.is_file()]
    if unknown:
        raise SystemExit(f"no such module: {', '.join(unknown)}")
    found: list[Mutation] = []
    for name, room in ROOMS.items():
        if arguments.room and name not in arguments.room:
            continue
        for module in sorted(path for pattern in room.modules for path in ROOT.glob(pattern)):
            if not wanted or module in wanted:
                found += mutations_of(name, module)
    random.Random(arguments.seed).shuffle(found)
    of_lines: dict[tuple[str, int], Mutation] = {}
    for mutation in found:
        of_lines.setdefault((mutation.module, mutation.line), mutation)
    return list(of_lines.values())[: arguments.count]


class Copies:
    """Copies of the working tree, one for each job that runs at the same time."""

    def __init__(self, folder: Path, number: int) -> None:
        listed = subprocess.run(
            ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
            cwd=ROOT,
            capture_output=True,
            check=True,
        )
        names = [name for name in os.fsdecode(listed.stdout).split("\0") if (ROOT / name).is_file()]
        self._free = [folder / str(at) / "kandiflux" for at in range(number)]
        self._lock = threading.Lock()
        for copy in self._free:
            for name in names:
                (copy / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, copy / name)
            if (ROOT.parent / "shared").is_dir():
                (copy.parent / "shared").symlink_to(ROOT.parent / "shared")

    def take(self) -> Path:
        with self._lock:
            return self._free.pop()

    def give(self, copy: Path) -> None:
        with self._lock:
            self._free.append(copy)


def tests_of(room: str, module: str) -> list[str]:
    """The room's test files: those named after the module first, as they are the likeliest to fail."""
    files: list[Path] = []
    for place in ROOMS[room].tests:
        files += sorted((ROOT / place).rglob("test_*.py")) if (ROOT / place).is_dir() else [ROOT / place]
    stem = Path(module).stem.strip("_")
    files.sort(key=lambda file: (stem not in file.stem, "unit" not in file.parts))
    return [file.relative_to(ROOT).as_posix() for file in files if file.is_file()]


def passes(copy: Path, tests: list[str], timeout: float, show: bool = False) -> bool | None:
    """Whether they pass in `copy`; None if they take longer than `timeout` seconds. `show`: what failed, on stderr."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-n", "0", *tests]
    # Tests of real ComfyUIs are slow, and left out.
    environment = {**os.environ, "COMFYUI_DIR": str(copy / "none"), "PYTHONPATH": str(copy / "runner"),
                   "PYTHONDONTWRITEBYTECODE": "1"}  # fmt: skip
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(command, cwd=copy, env=environment, stdout=said, stderr=said, start_new_session=True)
        try:
            code = process.wait(timeout)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            # What the tests started must not outlive them: a mutation may have lost hold of it.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        if code and show:
            said.seek(0)
            sys.stderr.write(said.read().decode(errors="replace")[-4000:])
        if code == 5:
            raise SystemExit(f"no tests in {', '.join(tests)}")
    return None if code is None else code == 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--room", action="append", choices=list(ROOMS), help="only this one; may be given again")
    parser.add_argument("--module", action="append", default=[], metavar="FILE", help="only this module; likewise")
    parser.add_argument("--count", type=int, default=20, help="how many mutations (20)")
    parser.add_argument("--seed", type=int, default=1, help="which ones (1)")
    parser.add_argument("--jobs", type=int, default=1, help="how many at the same time (1)")
    parser.add_argument("--timeout", type=float, default=300, help="seconds after which tests count as failed (300)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write each mutation and its end there, too")
    parser.add_argument("--list", action="store_true", help="show the mutations, run nothing")
    parser.add_argument(
        "--nightly", action="store_true", help=f"150, seed of today; fails if under {LEAST} %% are killed"
    )
    arguments = parser.parse_args()
    if arguments.nightly:
        arguments.count, arguments.seed = 150, int(datetime.date.today().strftime("%Y%m%d"))
    sample = chosen(arguments)
    if not sample:
        parser.error("there is nothing to change in these modules")
    if arguments.list:
        for mutation in sample:
            print(f"{mutation}\n{mutation.shown((ROOT / mutation.module).read_text('utf-8'))}")
        return 0
    print(f"{len(sample)} mutations, seed {arguments.seed}")
    with tempfile.TemporaryDirectory(prefix="mutate-") as folder:
        ended = run(sample, Path(folder), arguments)
    return report(ended, arguments)


def run(sample: list[Mutation], folder: Path, arguments: argparse.Namespace) -> list[tuple[Mutation, str]]:
    copies = Copies(folder, arguments.jobs)

    def baseline(room: str) -> None:
        begun, copy = time.monotonic(), copies.take()
        try:
            if not passes(copy, tests_of(room, ""), arguments.timeout * 4, show=True):
                raise SystemExit(f"the tests of {room} fail, or take too long, before anything is changed")
        finally:
            copies.give(copy)
        print(f"{room}: its tests take {time.monotonic() - begun:.0f} s", flush=True)

    def one(mutation: Mutation) -> tuple[Mutation, str]:
        copy = copies.take()
        file = copy / mutation.module
        source = file.read_text("utf-8")
        try:
            file.write_text(mutation.code(source), "utf-8")
            passed = passes(copy, tests_of(mutation.room, mutation.module), arguments.timeout)
        finally:
            file.write_text(source, "utf-8")
            copies.give(copy)
        end = {True: "survived", False: "killed", None: "timeout"}[passed]
        print(f"{end} {mutation}" + (f"\n{mutation.shown(source)}" if passed else ""), flush=True)
        return mutation, end

    with ThreadPoolExecutor(arguments.jobs) as pool:
        list(pool.map(baseline, sorted({mutation.room for mutation in sample})))
        return list(pool.map(one, sample))


def report(ended: list[tuple[Mutation, str]], arguments: argparse.Namespace) -> int:
    of_rooms = {room: Counter(end for mutation, end in ended if mutation.room == room) for room in ROOMS}
    print(f"\n{'room':12} killed  of   %")
    for room, ends in [*of_rooms.items(), ("all", Counter(end for _, end in ended))]:
        if total := ends.total():
            killed = total - ends["survived"]
            print(f"{room:12} {killed:6} {total:3} {100 * killed / total:3.0f}")
    if arguments.json:
        rows = [{**vars(mutation), "end": end} for mutation, end in ended]
        arguments.json.write_text(json.dumps(rows, indent=1) + "\n", "utf-8")
    killed = sum(end != "survived" for _, end in ended)
    return 1 if arguments.nightly and 100 * killed < LEAST * len(ended) else 0


if __name__ == "__main__":
    sys.exit(main())
