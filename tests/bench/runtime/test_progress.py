"""Names with any content are printed safely."""

import io

import pytest
from rich.table import Table

from twoview.bench.runtime import progress
from twoview.bench.runtime.progress import Terminal
from twoview.commands.output import lines, show

TITLE = "\x1b]0;title taken\x07\x1b[2J\x9b31m\r\u202e"
SAFE = r"\x1b]0;title taken\x07\x1b[2J\x9b31m\r\u202e"


def printed(what, **how):
    terminal = Terminal(file=io.StringIO(), width=200, force_terminal=True)
    terminal.print(what, **how)
    return terminal.file.getvalue()


def test_a_string_with_control_sequences_is_printed_as_text():
    assert printed(f"a{TITLE}\nb", markup=False, highlight=False) == f"a{SAFE}\nb\n"
    table = Table(TITLE)
    table.add_row(TITLE)
    assert printed(table).count(SAFE) == 2 and "\x1b]" not in printed(table)


def test_our_own_markup_is_kept():
    assert printed("[bold]b[/bold]", highlight=False) == "\x1b[1mb\x1b[0m\n"


def test_a_progress_bars_label_is_plain_text(monkeypatch):
    monkeypatch.setattr(progress, "console", Terminal(file=io.StringIO(), width=200))
    with progress.progress(f"[bold]{TITLE}", 1) as advance:
        advance()
    assert f"[bold]{SAFE}" in progress.console.file.getvalue()


@pytest.mark.parametrize("as_json", [False, True])
def test_a_commands_result_is_plain_text(capsys, as_json):
    found = {"encoder": f"{TITLE}\nsecond", "top1": 1.23456}
    show(found, as_json, lines(found))
    out = capsys.readouterr().out
    assert out.replace("\n", "").isprintable()
    assert as_json or out == f"{'encoder':20}{SAFE}\\nsecond\n{'top1':20}1.235\n"
