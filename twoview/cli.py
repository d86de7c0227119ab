"""The command line: it parses words with the one command that they name, and turns errors into one sentence.

Exit codes: 0 done, 1 a regression found by `compare`, 2 bad input or a failure named in one sentence, 130 interrupted,
143 terminated.
"""

import ast
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import tyro
from tyro.constructors._struct_spec_pydantic import pydantic_rule

from twoview.bench.runtime import pipes, signals

COMMANDS = (
    "list",
    "data",
    "convert",
    "inspect",
    "verify",
    "train",
    "plan",
    "submit",
    "search",
    "probe",
    "features",
    "loader",
    "losses",
    "probes",
    "suite",
    "report",
    "budget",
    "evidence",
    "compare",
    "peers",
    "conformance",
)
CONFIG = (tyro.conf.DisallowNone, tyro.conf.FlagCreatePairsOff, tyro.conf.PositionalMetavarFromFieldName)
DESCRIPTION = (
    "Benchmark contrastive and self-supervised learning, bound by hardware. Every command takes --debug; --version "
    "prints the version."
)


UNCHECKED = tyro.constructors.ConstructorRegistry()


@UNCHECKED.struct_rule
def _unchecked(info: tyro.constructors.StructTypeInfo) -> tyro.constructors.StructConstructorSpec | None:
    """Leaves the checking of a recipe to `bench/config/recipe.py`: its errors are sentences, tyro's are tracebacks."""
    # A private name of tyro: asked for the rule that it would apply, its public registry answers with this one.
    spec = pydantic_rule(info)
    return replace(spec, instantiate=info.type.model_construct) if spec else None


@UNCHECKED.primitive_rule
def _path(info: tyro.constructors.PrimitiveTypeInfo) -> tyro.constructors.PrimitiveConstructorSpec[Path] | None:
    """An empty word is no path: Python would take it for the current folder."""
    if info.type is not Path:
        return None
    return tyro.constructors.PrimitiveConstructorSpec(
        nargs=1,
        metavar="PATH",
        instance_from_str=lambda words: _not_empty(words[0]),
        is_instance=lambda value: isinstance(value, Path),
        str_from_instance=lambda path: [str(path)],
    )


def _not_empty(word: str) -> Path:
    if not word or "\0" in word:
        raise ValueError(f"a path must be a text without NUL, got {word!r}")
    return Path(word)


def main() -> None:
    """Ends with the command line's exit code. The console script, `twoview.__main__`, looks for tyro before."""
    pipes.outlive_readers()
    signals.insist()
    try:
        code = run(sys.argv[1:])
    finally:
        signals.end_at_once()
    sys.exit(code)


def run(words: Sequence[str]) -> int:
    """Runs one command line; returns its exit code. With --debug an error keeps its traceback."""
    if words and words[0] == "--version":
        from twoview.bench.measurement.environment import version  # here, since no command needs it

        print(f"twoview {version('twoview')}")
        return 0
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"] or ["--help"]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that blocks end and nothing half-written stays
    try:
        code: int | None = tyro.extras.subcommand_cli_from_dict(
            _commands(words),
            prog="twoview",
            description=DESCRIPTION,
            args=words,
            config=CONFIG,
            registry=UNCHECKED,
        )
    except KeyboardInterrupt:
        print("twoview: interrupted; what was finished is kept", file=sys.stderr)
        return 130
    except (ValueError, OSError, ImportError, FloatingPointError, MemoryError) as error:
        if debug:
            raise
        from twoview.bench.runtime.escapes import on_one_line

        print(on_one_line(f"twoview: {_sentence(error)}"), file=sys.stderr)
        return 2
    return code or 0


def _sentence(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return " ".join(str(error).split()) or "there is too little memory"


def _commands(words: Sequence[str]) -> dict[str, Callable[..., int | None]]:
    """The command that the words begin with. Of words that begin with none, the help of all, without importing them."""
    name = words[0]
    if name in COMMANDS:
        return {name: _command(name, words[1:])}
    if name.startswith("--tyro"):  # a shell's completion is made of every option
        return {name: _command(name, ()) for name in COMMANDS}
    return {name: _described(name) for name in COMMANDS}


def _command(name: str, words: Sequence[str]) -> Callable[..., int | None]:
    module = import_module(f"twoview.commands.{name}")
    command: Callable[..., int | None] = module.command(words) if hasattr(module, "command") else module.run
    return command


def _described(name: str) -> Callable[[], None]:
    """Nothing but the docstring of a command's `run`, as its file has it."""

    def run() -> None: ...

    tree = ast.parse((Path(__file__).parent / "commands" / f"{name}.py").read_text())
    functions = (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))
    run.__doc__ = next(ast.get_docstring(one) for one in functions if one.name == "run")
    return run
