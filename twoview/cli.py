"""The command line: it imports only the command that was given, parses its options and turns errors into one sentence.

Exit codes: 0 for success, 1 for a regression found by `compare`, 2 for bad input or a failure (one sentence says
which), 130 after an interrupt, 143 after SIGTERM.
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
    "views",
    "train",
    "plan",
    "submit",
    "search",
    "probe",
    "features",
    "embed",
    "neighbors",
    "export",
    "measure",
    "suite",
    "report",
    "budget",
    "evidence",
    "compare",
)
MEASURED = ("loader", "losses", "probes", "peers", "conformance")  # the commands of the group `measure`
CONFIG = (tyro.conf.DisallowNone, tyro.conf.FlagCreatePairsOff, tyro.conf.PositionalMetavarFromFieldName)
DESCRIPTION = (
    "Benchmark contrastive and self-supervised learning at the speed of the hardware. --debug shows an error's "
    "traceback; --version prints the version."
)


UNCHECKED = tyro.constructors.ConstructorRegistry()


@UNCHECKED.struct_rule
def _unchecked(info: tyro.constructors.StructTypeInfo) -> tyro.constructors.StructConstructorSpec | None:
    """Let tyro build a recipe without validating it: `bench/config/recipe.py` validates it, with errors in sentences.

    tyro's own errors are tracebacks.
    """
    # `pydantic_rule` is private in tyro, but asking its public registry for the rule would find this function again.
    spec = pydantic_rule(info)
    return replace(spec, instantiate=info.type.model_construct) if spec else None


@UNCHECKED.primitive_rule
def _path(info: tyro.constructors.PrimitiveTypeInfo) -> tyro.constructors.PrimitiveConstructorSpec[Path] | None:
    """Parse a path, and refuse an empty one, which Python would take for the current folder."""
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
    """Return a word as a path. Raises ValueError if it is empty or contains NUL."""
    if not word or "\0" in word:
        raise ValueError(f"a path must be non-empty, without NUL, got {word!r}")
    return Path(word)


def main() -> None:
    """Run the command line and exit with its code. `twoview.__main__` has checked before that tyro is installed."""
    pipes.outlive_readers()
    signals.insist()
    try:
        code = run(sys.argv[1:])
    finally:
        signals.end_at_once()
    sys.exit(code)


def run(words: Sequence[str]) -> int:
    """Run one command line and return its exit code. With --debug an error is raised, with its traceback."""
    if words and words[0] == "--version":
        from twoview.bench.measurement.environment import version  # imported here, since no command needs it

        print(f"twoview {version('twoview')}")
        return 0
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"] or ["--help"]
    if words[0] in MEASURED:
        print(f"twoview: `{words[0]}` has moved to `measure {words[0]}`", file=sys.stderr)
        words = ["measure", *words]
    group = words[0] == "measure"
    if group:
        words = words[1:] or ["--help"]
    # SIGTERM raises SystemExit, so that `with` and `finally` blocks run and no half-written file remains.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        code: int | None = tyro.extras.subcommand_cli_from_dict(
            _commands(words, "measure.", MEASURED) if group else _commands(words, "", COMMANDS),
            prog="twoview measure" if group else "twoview",
            description=_docstring("measure") if group else DESCRIPTION,
            args=words,
            config=CONFIG,
            registry=UNCHECKED,
        )
    except KeyboardInterrupt:
        print("twoview: interrupted; finished work is kept", file=sys.stderr)
        return 130
    except (ValueError, OSError, ImportError, FloatingPointError, MemoryError) as error:
        if debug:
            raise
        from twoview.bench.runtime.escapes import on_one_line

        print(on_one_line(f"twoview: {_sentence(error)}"), file=sys.stderr)
        return 2
    return code or 0


def _sentence(error: Exception) -> str:
    """Return the message of an error on one line."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return " ".join(str(error).split()) or "there is too little memory"  # a MemoryError often has no text


def _commands(words: Sequence[str], folder: str, names: Sequence[str]) -> dict[str, Callable[..., int | None]]:
    """Return the command named by the first word, or else every command with its help only, without importing them.

    folder: the folder of the commands below `twoview.commands`, empty or ending in a dot. names: names of the commands.
    """
    name = words[0]
    if name in names:
        return {name: _command(f"{folder}{name}", words[1:])}
    if name.startswith("--tyro"):  # a completion script for a shell, which needs the options of every command
        plain = {name: _command(name, ()) for name in COMMANDS if name != "measure"}
        return plain | {name: _command(f"measure.{name}", ()) for name in MEASURED}
    return {name: _described(f"{folder}{name}") for name in names}


def _command(name: str, words: Sequence[str]) -> Callable[..., int | None]:
    """Import a command's file and return its function, which may depend on the words that follow the name."""
    module = import_module(f"twoview.commands.{name}")
    command: Callable[..., int | None] = module.command(words) if hasattr(module, "command") else module.run
    return command


def _described(name: str) -> Callable[[], None]:
    """Return an empty function with the docstring of a command."""

    def run() -> None: ...

    run.__doc__ = _docstring(name)
    return run


def _docstring(name: str) -> str | None:
    """Return the docstring of a command's `run`, or of a group of commands, from its file without importing it."""
    path = Path(__file__).parent.joinpath("commands", *name.split("."))
    if path.is_dir():
        return ast.get_docstring(ast.parse((path / "__init__.py").read_text()))
    tree = ast.parse(path.with_suffix(".py").read_text())
    functions = (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))
    return next(ast.get_docstring(one) for one in functions if one.name == "run")
