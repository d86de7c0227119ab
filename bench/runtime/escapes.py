"""Escape texts that come from records, files and errors, so that no program interprets any part of them.

The programs are a terminal, a spreadsheet that opens a CSV file, and GitHub's Markdown.
"""

import html
import re

# The characters that begin a formula in a spreadsheet, and their full-width forms, which Japanese and Chinese
# spreadsheets accept too.
FORMULA = re.compile(r"^ *[=+\-@\uff1d\uff0b\uff0d\uff20]")
NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?")

# What Markdown would interpret: its special characters (an underscore only next to a character that is no letter or
# digit), the beginnings of addresses, which become links by themselves, and the beginnings of lists, headings and
# rules.
MARKS = re.compile(
    r"[\\`*~|\[\]]|(?<![^\W_])_|_(?![^\W_])|:(?=//)|(?<=www)\.|^(?:[-+](?=[\s-]|$)|#(?=[\s#]|$)|=(?==*$))", re.I
)
NUMBERED = re.compile(r"^(\d+)([.)])(?=\s|$)")
# The places where GitHub, after it has parsed the Markdown, links a user, an issue or a mail address, or inserts an
# emoji. An HTML comment there, which is invisible, prevents it.
PICTURE = r"(?:[+-]1|\w{0,30}[a-z][\w+-]{0,30}):"
LINKED = re.compile(rf"(?<=@)(?=[\w-])|(?<=#)(?=\d)|(?<=gh-)(?=\d)|(?<=:)(?={PICTURE})|(?<=mailto:)|(?<=xmpp:)", re.I)


def on_one_line(text: str) -> str:
    """Return the text with escapes such as `\\n` for characters that cannot be printed or encoded.

    File names, for example, may contain them.
    """
    return "".join(each if each.isprintable() else repr(each)[1:-1] for each in text)


def on_lines(text: str) -> str:
    """Return the text with the escapes of `on_one_line`, but with its line breaks."""
    return "\n".join(map(on_one_line, text.split("\n")))


def one_line(text: str) -> str:
    """Return the text as one line for a table cell.

    Each run of white space becomes one space. Other characters that cannot be printed become escapes.
    """
    return on_one_line(" ".join(text.split()))


def csv_cell(text: str) -> str:
    """Return the text for a cell of a CSV file that may be opened in a spreadsheet.

    A text that would begin a formula there gets an apostrophe in front. A number stays as it is.
    """
    shown = on_one_line(text)
    return f"'{shown}" if FORMULA.match(shown) and not NUMBER.fullmatch(shown) else shown


def csv_value(cell: str) -> str:
    """Return the text that `csv_cell` made the cell from, except that escaped characters stay escaped."""
    return cell[1:] if cell.startswith("'") and csv_cell(cell[1:]) == cell else cell


def markdown(text: str) -> str:
    """Return the text for a line or a table cell of GitHub's Markdown, where it is shown literally.

    It cannot become a link, image, mention, formula or emphasis.
    """
    escaped = html.escape(MARKS.sub(r"\\\g<0>", one_line(text)), quote=False)
    escaped = NUMBERED.sub(r"\1\\\2", escaped).replace("$", "<span>$</span>")
    return LINKED.sub("<!-- -->", escaped)
