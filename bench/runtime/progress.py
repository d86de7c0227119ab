"""A progress bar on standard error, with its ETA, for everything longer than a second; and what is printed by."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Column
from rich.text import Text

from twoview.bench.runtime.escapes import on_lines, on_one_line


class Terminal(Console):
    """Of all strings that are printed, also within tables, nothing moves the cursor but the ends of their lines."""

    def render_str(self, text: str, **how: Any) -> Text:
        return super().render_str(on_lines(text), **how)


console = Terminal(stderr=True)


@contextmanager
def progress(what: str, total: int) -> Iterator[Callable[[], None]]:
    """Yields a function to call after each of `total` steps. Without a terminal the last state is printed once."""
    columns = (
        TextColumn("{task.description}", table_column=Column(ratio=1, no_wrap=True, overflow="ellipsis")),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("ETA"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, expand=True) as bar:
        task = bar.add_task(escape(on_one_line(what)), total=total)
        yield lambda: bar.advance(task)
