"""The console that messages are printed on, and a progress bar with an ETA. Both write to standard error."""

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
    """A console on which no printed string, also within a table, can move the cursor except by its line breaks."""

    def render_str(self, text: str, **how: Any) -> Text:
        return super().render_str(on_lines(text), **how)


console = Terminal(stderr=True)


@contextmanager
def progress(what: str, total: int) -> Iterator[Callable[[], None]]:
    """Show a progress bar during the block, and yield the function to call after each of the `total` steps.

    Without a terminal the final state is printed once. what: the description of the bar.
    """
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
