"""A progress bar on standard error, with its ETA, for everything longer than a second; and text fit for a terminal."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Column

console = Console(stderr=True)


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
        task = bar.add_task(what, total=total)
        yield lambda: bar.advance(task)


def on_one_line(text: str) -> str:
    """The text with escapes in the place of what a file's name may hold and no terminal shows, or no encoding has."""
    return "".join(each if each.isprintable() else repr(each)[1:-1] for each in text)
