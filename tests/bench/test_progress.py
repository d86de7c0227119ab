"""What is printed of names that may hold anything."""

import os

import pytest

from bench.progress import on_one_line


@pytest.mark.parametrize(
    ("name", "printed"),
    [
        ("Äpfel & [bold]'œufs'.jpg", "Äpfel & [bold]'œufs'.jpg"),
        ("line\nbreak\r\t.jpg", r"line\nbreak\r\t.jpg"),
        ("red \x1b[31m\x07.jpg", r"red \x1b[31m\x07.jpg"),
        ("\u202egpj.exe\u2028", r"\u202egpj.exe\u2028"),
        (os.fsdecode(b"caf\xe9.jpg"), r"caf\udce9.jpg"),
    ],
)
def test_a_name_is_printed_on_one_line_and_moves_no_cursor(name, printed):
    assert on_one_line(name) == printed
    assert on_one_line(name).encode()
