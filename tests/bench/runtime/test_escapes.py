"""Texts with control sequences, formulas or markup are shown as plain text."""

import csv
import io
import os
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from twoview.bench.runtime.escapes import csv_cell, csv_value, markdown, on_lines, on_one_line, one_line

COMMONMARK = MarkdownIt("commonmark").enable(["table", "strikethrough"])
OWN_TAGS = {"<!-- -->", "<span>", "</span>"}
AWKWARD = st.text(
    st.sampled_from(list("ab 1@#:/.-+=_*~`|<>[]()!\\&$w\n\t\r\x1b\u202e\uff1d")) | st.characters(), max_size=40
)


@pytest.mark.parametrize(
    ("name", "printed"),
    [
        ("Äpfel & [bold]'œufs'.jpg", "Äpfel & [bold]'œufs'.jpg"),
        ("line\nbreak\r\t.jpg", r"line\nbreak\r\t.jpg"),
        ("red \x1b[31m\x07.jpg", r"red \x1b[31m\x07.jpg"),
        ("\x9b31m \x1b]52;c;Y3Vy\x07", r"\x9b31m \x1b]52;c;Y3Vy\x07"),
        ("\u202egpj.exe\u2028", r"\u202egpj.exe\u2028"),
        (os.fsdecode(b"caf\xe9.jpg"), r"caf\udce9.jpg"),
    ],
)
def test_a_name_is_printed_on_one_line_without_control_characters(name, printed):
    assert on_one_line(name) == printed
    assert on_one_line(name).encode()


@given(AWKWARD)
def test_printed_text_is_printable(text):
    assert on_one_line(text).isprintable() and one_line(text).isprintable()
    assert on_lines(text).count("\n") == text.count("\n") and on_lines(text).replace("\n", "").isprintable()


@pytest.mark.parametrize("number", ["-5", "+3.5e-3", "-.5", "-1e+10", "7"])
def test_a_number_in_a_csv_stays_a_number(number):
    assert csv_cell(number) == number and float(csv_cell(number)) == float(number)


@pytest.mark.parametrize(
    "sign", ["=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20", " =", "-2+3", "+1;", "-1 "]
)
def test_a_cell_of_a_csv_is_never_a_formula(sign):
    assert csv_cell(f"{sign}SUM(1)") == f"'{sign}SUM(1)"


@given(AWKWARD)
def test_a_csv_has_neither_formulas_nor_control_characters_and_gives_the_text_back(text):
    buffer = io.StringIO()
    csv.writer(buffer).writerow(["first", csv_cell(text)])
    [[_, cell]] = csv.reader(io.StringIO(buffer.getvalue()))
    assert cell.isprintable()
    assert not re.match(r"\s*[=@\uff1d\uff20]", cell)
    assert not re.match(r"\s*[-+\uff0b\uff0d]", cell) or float(cell) == float(text)
    if not text.startswith("'"):
        assert csv_value(cell) == on_one_line(text)


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("![pixel](http://evil.example/p.png)", r"!\[pixel\](http\://evil.example/p.png)"),
        ("see www.evil.example", r"see www\.evil.example"),
        ("@everyone, a@b.example", "@<!-- -->everyone, a@<!-- -->b.example"),
        ("#12, GH-3, o/r#4", "#<!-- -->12, GH-<!-- -->3, o/r#<!-- -->4"),
        (":smile: :+1: 12:30:45", ":<!-- -->smile: :<!-- -->+1: 12:30:45"),
        ("mailto:x", "mailto:<!-- -->x"),
        ("$x$", "<span>$</span>x<span>$</span>"),
        ("a|b\n<b>`c` *d* _e_ ~~f~~", r"a\|b &lt;b&gt;\`c\` \*d\* \_e\_ \~\~f\~\~"),
        ("&copy; \\*", r"&amp;copy; \\\*"),
        ("fashion_mnist, 50 % @ 3, x-y (z)", "fashion_mnist, 50 % @ 3, x-y (z)"),
        ("-2.85 to +9.85", "-2.85 to +9.85"),
        ("# h", r"\# h"),
        ("- x", r"\- x"),
        ("12. x", r"12\. x"),
    ],
)
def test_markup_is_escaped_in_markdown(text, escaped):
    assert markdown(text) == escaped


@given(AWKWARD)
def test_markdown_shows_the_original_text(text):
    """In a paragraph, in a list item and in a table cell."""
    for document in (f"{markdown(text)}\n", f"* {markdown(text)}\n", f"| a |\n|---|\n| {markdown(text)} |\n"):
        tokens = COMMONMARK.parse(document)
        assert {token.tag for token in tokens} <= {"", "p", "ul", "li", "table", "thead", "tbody", "tr", "th", "td"}
        assert sum(token.tag == "ul" and token.nesting == 1 for token in tokens) == document.startswith("* ")
        inlines = [token for token in tokens if token.type == "inline"][document.startswith("|") :]  # after the heading
        parts = [part for token in inlines for part in token.children]
        assert all(part.type == "text" or part.type == "text_special" or part.content in OWN_TAGS for part in parts)
        shown = "".join(part.content for part in parts if part.type != "html_inline")
        assert shown == one_line(text)


def test_the_longest_text_is_escaped_quickly():
    for text in (":" + "a" * 20_000, "_" * 20_000, "1" * 20_000, "@" * 20_000, ":a" * 10_000):
        assert markdown(text) and csv_cell(text)
