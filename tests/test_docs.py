"""The pages of docs/, README and CONTRIBUTING match the code: their links, Python, commands, options, recipes and
paths. mkdocs is not needed."""

import inspect
import os
import pkgutil
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import cached_property, wraps
from io import StringIO
from itertools import pairwise
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import yaml
from markdown.extensions.toc import slugify, unique
from markdown_it import MarkdownIt
from markdown_it.token import Token

import twoview
from twoview import cli
from twoview.bench.config import recipe as recipes
from twoview.bench.suites import runner
from twoview.methods.registry import METHODS

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
NOT_RUN = re.compile(r"<!-- not run: \S[^>]* -->\s*")
OPTION = re.compile(r"(?<![\w-])--[a-z][\w.-]*")
EVERYWHERE = {"--help", "--debug", "--version"}  # options of every command
TORCHRUN = {"--nproc-per-node", "--nnodes", "--node-rank", "--rdzv-endpoint"}
PLACEHOLDERS = {"RECIPE": "quick-fashion-mnist", "SUITE": "quick"}  # words for a name that the user chooses
INSIDE = {"bullet_list_open", "ordered_list_open", "paragraph_open", "fence", "table_open"}  # in a list item
BEFORE_A_COMMAND = {"do", "exec", "nohup", "srun", "sudo", "then", "time"}


@dataclass(frozen=True)
class Block:
    """A fenced block. line: the number of its first line on the page, from 1. runs: no comment above says `not run`."""

    language: str
    text: str
    line: int
    runs: bool


class Page:
    """A parsed Markdown file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def label(self) -> str:
        return self.path.name

    @cached_property
    def lines(self) -> list[str]:
        return self.path.read_text().splitlines()

    @cached_property
    def tokens(self) -> list[Token]:
        return MarkdownIt("commonmark").enable("table").parse("\n".join(self.lines) + "\n")

    @cached_property
    def inline(self) -> list[Token]:
        """The content of paragraphs, headings and cells."""
        return [child for token in self.tokens for child in token.children or []]

    def code(self) -> list[str]:
        """The text between backticks in a line, with single spaces."""
        return [" ".join(words) for one in self.inline if one.type == "code_inline" and (words := one.content.split())]

    def blocks(self, *languages: str) -> list[Block]:
        found = []
        for before, token in pairwise([Token("", "", 0), *self.tokens]):
            if token.type == "fence" and token.info.strip() in languages:
                runs = not (before.type == "html_block" and NOT_RUN.fullmatch(before.content))
                found.append(Block(token.info.strip(), token.content, token.map[0] + 2, runs))
        return found

    def targets(self) -> list[str]:
        """Where links lead to, and where images lie, in Markdown and in HTML."""
        found = [
            str(one.attrGet("href") or one.attrGet("src")) for one in self.inline if one.type in ("link_open", "image")
        ]
        html = [one.content for one in (*self.tokens, *self.inline) if one.type in ("html_block", "html_inline")]
        return found + re.findall(r'\b(?:href|src|srcset)="([^" ]+)', "\n".join(html))

    def anchors(self) -> set[str]:
        """The names of the headings: in docs/ as mkdocs makes them, elsewhere as GitHub does."""
        titles = []
        for opening, token in pairwise(self.tokens):
            if opening.type == "heading_open":
                titles.append("".join(one.content for one in token.children or []))
        taken: set[str] = set()
        if self.path.parent.name == "docs":
            return {unique(slugify(title, "-"), taken) for title in titles}
        names = [re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles]
        return {
            name if names[:at].count(name) == 0 else f"{name}-{names[:at].count(name)}" for at, name in enumerate(names)
        }

    def objects(self) -> list[str]:
        """The Python objects whose docstrings mkdocstrings puts here."""
        return [line.removeprefix("::: ") for line in self.lines if line.startswith("::: ")]

    def recipes(self) -> list[Block]:
        """The TOML blocks that are whole recipes, not a table of one."""
        return [one for one in self.blocks("toml") if {"dataset", "method"} <= (top := _top(one.text)) or "base" in top]

    def command_lines(self) -> Iterator[str]:
        """What a user types into a shell: after the prompts of console blocks, and in blocks of sh."""
        for block in self.blocks("console", "sh", "bash"):
            lines = iter(block.text.splitlines())
            for line in lines:
                if block.language == "console" and not line.startswith("$ "):
                    continue
                typed = line.removeprefix("$ ")
                while typed.endswith("\\"):
                    typed = typed[:-1] + next(lines, "")
                yield typed

    def twoview_commands(self) -> list[list[str]]:
        """The arguments of every `twoview` command that a user types."""
        commands = [words_of_twoview(one) for line in self.command_lines() for one in commands_of(line)]
        return [words for words in commands if words is not None]


def _top(text: str) -> set[str]:
    """Return the top-level keys of TOML, or none if it is not TOML, which another test reports."""
    try:
        return {*tomllib.loads(text)}
    except tomllib.TOMLDecodeError:
        return set()


PAGES = [Page(path) for path in (*sorted(DOCS.glob("*.md")), ROOT / "README.md", ROOT / "CONTRIBUTING.md")]
of_every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.label)


def commands_of(line: str) -> list[list[str]]:
    """Return the commands of a line for a shell, each as its words: without redirections, variables and comments."""
    lexer = shlex.shlex(re.sub(r"\s\d?>{1,2}(&\d|\s*\S+)", " ", line), posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    commands: list[list[str]] = [[]]
    for word in lexer:
        if set(word) <= set("();<>|&"):
            commands.append([])
        elif commands[-1] or not (word in BEFORE_A_COMMAND or re.match(r"\w+=", word)):
            commands[-1].append(word)
    return [words for words in commands if words]


def words_of_twoview(words: list[str]) -> list[str] | None:
    """Return the arguments of `twoview` or `-m twoview`; None for another program's command."""
    if Path(words[0]).name == "twoview":
        return words[1:]
    for at, pair in enumerate(pairwise(words)):
        if pair == ("-m", "twoview"):
            return words[at + 2 :]
    return None


@pytest.fixture
def fault_of(monkeypatch, capsys, tmp_path):
    """A function: page, words of a command line -> what twoview says is wrong with them, or "". It runs nothing."""
    real = cli._command

    def parsed_only(name, words):
        command = real(name, words)

        @wraps(command)
        def run(*args, **kwargs):
            given = inspect.signature(command).bind(*args, **kwargs).arguments
            if name == "suite" and given["name"] not in ("claims", "gpu"):
                runner.suite(given["name"])
            elif isinstance(given.get("recipe"), str):
                recipes.load(given["recipe"])

        return run

    def said(words: list[str]) -> str:
        try:
            code = cli.run(words)
        except SystemExit as stop:  # from --help, and from arguments that do not parse
            code = stop.code
        out, err = capsys.readouterr()
        moved = "has moved to" in err  # a name of an older version
        return "" if code == 0 and not moved else f"twoview {' '.join(words)}: {' '.join((err or out).split())}"

    def fault(page: Page, words: list[str]) -> str:
        words = [PLACEHOLDERS.get(word, word) for word in words]
        files = [Path(word) for word in words if word.endswith(".toml") and not Path(word).exists()]
        texts = [one.text for one in page.recipes()] or [recipes.find("quick-fashion-mnist").read_text()]
        faults = []
        for text in texts if files else [""]:  # a user's recipe is one of those on the page
            for file in files:
                (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
                (tmp_path / file).write_text(text)
            faults.append(said(words))
        return "" if "" in faults else faults[0]

    monkeypatch.setattr(cli, "_command", parsed_only)
    monkeypatch.chdir(tmp_path)
    return fault


@pytest.fixture(scope="module")
def options() -> dict[str, set[str]]:
    """Command -> the options that its --help shows: of `train` with every method, of `suite` with every suite."""

    def helped(*words: str) -> set[str]:
        shown = StringIO()
        with redirect_stdout(shown), pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit):
            patch.setenv("COLUMNS", "200")
            cli.run([*words, "--help"])
        return {*OPTION.findall(shown.getvalue())}

    found = {name: helped(name) for name in cli.COMMANDS}
    found |= {f"measure {name}": helped("measure", name) for name in cli.MEASURED}
    found["suite"] |= helped("suite", "gpu") | helped("suite", "claims")
    methods = {recipes.load(path.stem).method.name: path.stem for path in (recipes.RECIPES / "quick").glob("*.toml")}
    assert methods.keys() == METHODS.keys()
    return found | {"train": found["train"].union(*(helped("train", name) for name in methods.values()))}


def link_faults(page: Page) -> Iterator[str]:
    for target in page.targets():
        parts = urlsplit(target)
        if parts.scheme or parts.netloc:
            continue
        path = (page.path.parent / unquote(parts.path)).absolute() if parts.path else page.path
        if not path.exists():
            yield f"{target}: there is no such file"
        elif page.path.parent == DOCS and DOCS not in (
            Path(os.path.normpath(path)),
            *Path(os.path.normpath(path)).parents,
        ):
            yield f"{target}: a page of docs/ links to pages of docs/ only"
        elif parts.fragment and not _has_anchor(Page(path), parts.fragment):
            yield f"{target}: there is no such heading"


def _has_anchor(page: Page, name: str) -> bool:
    if name in page.anchors():
        return True
    shown = any(name == one or name.startswith(f"{one}.") for one in page.objects())
    return shown and _exists(name)


def _exists(name: str) -> bool:
    """Return whether a dotted name refers to a Python object."""
    try:
        pkgutil.resolve_name(name)
    except (ImportError, AttributeError):
        return False
    return True


def toml_faults(page: Page, folder: Path) -> Iterator[str]:
    """Yield the TOML blocks that are not TOML, and the whole recipes that are not valid."""
    file = folder / "recipe.toml"
    for block in page.blocks("toml"):
        try:
            tomllib.loads(block.text)
        except tomllib.TOMLDecodeError as error:
            yield f"line {block.line}: {error}"
    for block in page.recipes():
        file.write_text(block.text)
        try:
            recipes.load(str(file))
        except (ValueError, OSError) as error:
            yield f"line {block.line}: {error}"


def option_faults(page: Page, options: dict[str, set[str]], others: Iterable[str] = ()) -> Iterator[str]:
    """Yield each `--x` in backticks that no command has, and each `train --x` or `twoview train --x` not of `train`."""
    everywhere = set().union(*options.values(), EVERYWHERE, TORCHRUN, others)
    for code in page.code():
        words = code.split()
        name, *rest = words_of_twoview(words) or words
        name = " ".join([name, *rest[:1]]) if name == "measure" else name
        if name in options:
            known = options[name] | EVERYWHERE | (TORCHRUN if words[0] == "torchrun" else set())
        elif words_of_twoview(words) and not name.startswith("-"):
            yield f"`{code}`: there is no command {name}"
            continue
        elif code.startswith("--"):
            known = everywhere
        else:
            continue
        for option in OPTION.findall(code):
            start = re.split(r"(?<=\.)(?=[A-Z.]|$)", option)[0]  # `--method.KEY`, `--optim.`: any option of that table
            if option not in known and not (start.endswith(".") and any(one.startswith(start) for one in known)):
                yield f"`{code}`: there is no option {option}"


def path_faults(page: Page) -> Iterator[str]:
    """Yield the paths in backticks that begin with a folder of the repository and do not exist."""
    folders = {path.name for path in ROOT.iterdir() if path.is_dir()} - {"out", "build"}
    for code in page.code():
        path, _, _ = code.partition("::")
        ours = "/" in path and path.split("/")[0] in folders and re.fullmatch(r"[\w./*-]+", path)
        if ours and "NAME" not in path and not any(ROOT.glob(path.rstrip("/"))):
            yield f"`{code}`: there is no such file"


def list_faults(page: Page) -> Iterator[str]:
    """Yield the lists and tables that mkdocs misses: they need an empty line above and four spaces inside."""
    for before, token in pairwise(page.tokens):
        if token.type in ("bullet_list_open", "ordered_list_open", "table_open") and token.level == 0:
            if token.map[0] and page.lines[token.map[0] - 1].strip():
                yield f"line {token.map[0] + 1}: needs an empty line above it"
        elif token.type in INSIDE and before.type != "list_item_open":
            spaces = 4 * (token.level // 2)  # a list and its item are a level each
            if not page.lines[token.map[0]].startswith(" " * spaces):
                yield f"line {token.map[0] + 1}: needs {spaces} spaces before it, to be part of the list's item"


def has_none(faults: Iterable[str]) -> None:
    found = [*filter(None, faults)]
    assert not found, "\n".join(found)


def test_every_page_is_in_the_navigation():
    def files(entry):
        if isinstance(entry, str):
            return [entry]
        inner = entry.values() if isinstance(entry, dict) else entry
        return [file for one in inner for file in files(one)]

    listed = files(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"])
    assert sorted(listed) == sorted(str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md"))


def test_the_reference_has_every_public_name():
    documented = Page(DOCS / "api.md").objects()
    assert [name for name in documented if not _exists(name)] == []
    assert {f"twoview.{name}" for name in twoview.__all__} - {*documented, "twoview.__version__"} == set()


@of_every_page
def test_links_lead_somewhere(page):
    has_none(link_faults(page))


@of_every_page
def test_paths_exist(page):
    has_none(path_faults(page))


@pytest.mark.parametrize("page", [page for page in PAGES if page.path.parent == DOCS], ids=lambda page: page.label)
def test_mkdocs_recognizes_the_lists(page):
    has_none(list_faults(page))


@of_every_page
def test_recipes_are_valid(page, tmp_path):
    has_none(toml_faults(page, tmp_path))


@of_every_page
def test_command_lines_parse(page, fault_of):
    has_none(fault_of(page, words) for words in page.twoview_commands())


@of_every_page
def test_make_targets_exist(page):
    made = {*re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)}
    lines = [*page.command_lines(), *page.code()]
    commands = [line.split("#")[0].split() for line in lines if line.startswith("make ")]
    assert [words for words in commands if not {word for word in words[1:] if "=" not in word} <= made] == []


@of_every_page
def test_options_in_sentences_exist(page, options, pytestconfig):
    def is_of_pytest(option: str) -> bool:
        try:
            pytestconfig.getoption(option.removeprefix("--").replace("-", "_"))
        except ValueError:
            return False
        return True

    others = filter(is_of_pytest, OPTION.findall(" ".join(page.code())))
    has_none(option_faults(page, options, others))


@pytest.mark.parametrize(
    "page", [page for page in PAGES if any(one.runs for one in page.blocks("python"))], ids=lambda page: page.label
)
def test_python_runs(page, request, tmp_path):
    """A page's Python runs as one script, with the line numbers of the page, in an empty folder."""
    lines = [""] * (len(page.lines) + 1)
    for block in page.blocks("python"):
        if block.runs:
            text = block.text.splitlines()
            lines[block.line - 1 : block.line - 1 + len(text)] = text
    environment = os.environ | {"MPLBACKEND": "agg"}
    if re.search("cifar|TWOVIEW_DATA", "\n".join(lines), re.IGNORECASE):
        environment["TWOVIEW_DATA"] = str(request.getfixturevalue("cifar_root").resolve())
    script, folder = tmp_path / page.path.with_suffix(".py").name, tmp_path / "empty"
    script.write_text("\n".join(lines) + "\n")
    folder.mkdir()
    done = subprocess.run([sys.executable, script], cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


SOUND = """
# A page

[Below](#a-page) and `loaders/ops/jitter.py`, `bench/recipes/*/*.toml`, `twoview train RECIPE --optim.lr`, `--minutes`,
`--method.KEY`, `torchrun --nproc-per-node 8 -m twoview train RECIPE`, `suite gpu --only`,
`measure loader --profile`, `make check`.

1. One

    ```console
    $ TWOVIEW_DATA=x twoview train mine.toml --epochs 2 \\
        --method.temperature 0.2 2>/dev/null | tail -1 > out.txt  # a comment
    loss 3.2
    $ torchrun --nproc-per-node 8 -m twoview train RECIPE && twoview suite quick --seeds 3
    ```

2. Two

```toml
base = "quick-fashion-mnist"
source = "ours"
```
"""


def written(text: str, folder: Path) -> Page:
    (folder / "docs").mkdir(exist_ok=True)
    (folder / "docs" / "page.md").write_text(text)
    return Page(folder / "docs" / "page.md")


def faults_of(page: Page, fault_of, options, folder: Path) -> str:
    faults = [*link_faults(page), *path_faults(page), *list_faults(page), *toml_faults(page, folder)]
    faults += [*option_faults(page, options), *(fault_of(page, words) for words in page.twoview_commands())]
    return "\n".join(filter(None, faults))


def test_a_sound_page_has_no_fault(fault_of, options, tmp_path):
    page = written(SOUND, tmp_path)
    assert faults_of(page, fault_of, options, tmp_path) == "" and len([*page.command_lines()]) == 2
    assert [words for line in page.command_lines() for words in commands_of(line)][1] == ["tail", "-1"]


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("(#a-page)", "(#nope)", "#nope: there is no such heading"),
        ("(#a-page)", "(nope.md)", "nope.md: there is no such file"),
        ("jitter.py", "jiter.py", "`loaders/ops/jiter.py`: there is no such file"),
        ("`--minutes`", "`--hour`", "there is no option --hour"),
        ("RECIPE --optim.lr", "RECIPE --optim.rate", "there is no option --optim.rate"),
        ("--method.KEY", "--methods.KEY", "there is no option --methods.KEY"),
        ("`twoview train ", "`twoview trai ", "there is no command trai"),
        ("gpu --only", "gpu --trials", "there is no option --trials"),
        ("--method.temperature", "--method.temperatur", "method.temperatur"),
        ("--epochs 2", "--epochs two", "two"),
        ("suite quick", "suite quik", "unknown suite 'quik'"),
        ("twoview suite", "twoview suit", "suit"),
        ("twoview suite quick --seeds 3", "twoview loader x.beton", "has moved to `measure loader`"),
        ("`suite gpu --only`", "`measure loader --trials`", "there is no option --trials"),
        ('"quick-fashion-mnist"', '"quick-fashion"', "unknown recipe 'quick-fashion'"),
        ('source = "ours"', "source =", "line 20: "),
        ('source = "ours"', "", "source is missing"),
        ("`make check`.\n", "`make check`.", "needs an empty line above it"),
        ("    ```", "   ```", "needs 4 spaces"),
    ],
)
def test_a_fault_is_found(fault_of, options, tmp_path, old, new, complaint):
    assert old in SOUND
    assert complaint in faults_of(written(SOUND.replace(old, new), tmp_path), fault_of, options, tmp_path)


def test_a_comment_says_which_blocks_do_not_run(tmp_path):
    text = "<!-- not run: it takes hours -->\n```python\n1\n```\n\n<!-- not run: -->\n```python\n2\n```\n"
    assert [(one.line, one.runs) for one in written(text, tmp_path).blocks("python")] == [(3, False), (8, True)]
