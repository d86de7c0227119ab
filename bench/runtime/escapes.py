"""Texts of records, files and errors as text, whatever they hold, where a program would take some of it for its own."""

import html
import re

# What begins a formula in a spreadsheet, also in the widths that Japanese and Chinese ones take for it.
FORMULA = re.compile(r"^ *[=+\-@\uff1d\uff0b\uff0d\uff20]")
NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?")

# Signs that Markdown takes for its own, an underscore only beside a blank or another sign; the beginnings of addresses,
# which become links without any sign around them; and of lists, headings and rules.
MARKS = re.compile(
    r"[\\`*~|\[\]]|(?<![^\W_])_|_(?![^\W_])|:(?=//)|(?<=www)\.|^(?:[-+](?=[\s-]|$)|#(?=[\s#]|$)|=(?==*$))", re.I
)
NUMBERED = re.compile(r"^(\d+)([.)])(?=\s|$)")
# Where GitHub links a person, an issue or an address of mail, or puts a picture, after Markdown has been read: a
# comment in between, which nobody sees, keeps it from that.
PICTURE = r"(?:[+-]1|\w{0,30}[a-z][\w+-]{0,30}):"
LINKED = re.compile(rf"(?<=@)(?=[\w-])|(?<=#)(?=\d)|(?<=gh-)(?=\d)|(?<=:)(?={PICTURE})|(?<=mailto:)|(?<=xmpp:)", re.I)


def on_one_line(text: str) -> str:
    """The text with escapes in the place of what a file's name may hold and no terminal shows, or no encoding has."""
    return "".join(each if each.isprintable() else repr(each)[1:-1] for each in text)


def on_lines(text: str) -> str:
    """The same of a text of several lines, which it keeps."""
    return "\n".join(map(on_one_line, text.split("\n")))


def one_line(text: str) -> str:
    """As a cell of a table has it: white space is a blank, and what no terminal shows is written out."""
    return on_one_line(" ".join(text.split()))


def csv_cell(text: str) -> str:
    """Of a text, for a cell of a CSV file that a spreadsheet may open: with an apostrophe before what would begin a
    formula there. A number stays as it is.
    """
    shown = on_one_line(text)
    return f"'{shown}" if FORMULA.match(shown) and not NUMBER.fullmatch(shown) else shown


def csv_value(cell: str) -> str:
    """The text of which `csv_cell` made the cell, but for what it wrote out."""
    return cell[1:] if cell.startswith("'") and csv_cell(cell[1:]) == cell else cell


def markdown(text: str) -> str:
    """A text for a line or a cell of GitHub's Markdown: no link, picture, mention, formula or emphasis comes of it."""
    escaped = html.escape(MARKS.sub(r"\\\g<0>", one_line(text)), quote=False)
    escaped = NUMBERED.sub(r"\1\\\2", escaped).replace("$", "<span>$</span>")
    return LINKED.sub("<!-- -->", escaped)
