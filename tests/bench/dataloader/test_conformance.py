"""The conformance card: it passes, and it can fail."""

import io
import json
from itertools import product

import numpy as np
import pytest
from rich.console import Console

from twoview import cli
from twoview.bench.dataloader import conformance
from twoview.loaders.ops import blur, crop, erase, flip, gray, jitter, resize, solarize
from twoview.loaders.presets import PRESETS


@pytest.fixture(scope="module")
def rows():
    return list(conformance.card())


def failing(rows):
    return {row.check for row in rows if not row.passed}


def test_every_row_passes(rows):
    assert failing(rows) == set()


def test_every_op_size_and_source_is_on_the_card(rows):
    seen = {(row.check, row.size, row.source) for row in rows if row.kind == "pixels"}
    assert seen == set(product(conformance.CHECKS, (32, 224), ("photographs", "noise")))
    assert {(row.check, row.size) for row in rows if row.kind == "views"} == set(product(PRESETS, (32, 224)))
    drawn = [row for row in rows if row.kind == "draws"]
    assert all(row.n >= 20_000 and 0.01 < row.p <= 1 for row in drawn)
    assert len({row.check for row in drawn}) == len(drawn) - 4, "only the crops come twice"


@pytest.fixture
def fewer_draws(monkeypatch):
    """Enough to find a gross fault, at a fifth of the time."""
    monkeypatch.setattr(conformance, "DRAWS", 4000)


@pytest.mark.parametrize(
    ("check", "asked"),
    [
        ("resized crop, bicubic", "mean 0.1, 99.9% within 1"),
        ("brightness", "within 1"),
        ("hue", "within 2"),
        ("blur", "within 1"),
    ],
)
def test_each_check_has_its_tolerance(rows, check, asked):
    assert {row.asked for row in rows if row.check == check} == {asked}


def off_by(levels, kernel):
    """Wrap the kernel so that a tenth of its values are off by some levels."""

    def wrong(image, *parameters):
        kernel(image, *parameters)
        every_tenth = image.reshape(-1)[::10]
        every_tenth[:] = np.where(every_tenth > 128, every_tenth - levels, every_tenth + levels)

    return wrong


@pytest.mark.parametrize(
    ("module", "name", "levels", "check"),
    [
        (flip, "flip", 2, "flip"),
        (jitter, "brightness", 2, "brightness"),
        (jitter, "contrast", 2, "contrast"),
        (jitter, "saturation", 2, "saturation"),
        (jitter, "hue", 3, "hue"),
        (jitter, "jitter", 3, "jitter in every order"),
        (gray, "gray", 2, "gray"),
        (blur, "blur", 3, "blur"),
        (solarize, "solarize", 2, "solarize"),
        (erase, "erase", 1, "erase"),
    ],
)
def test_a_wrong_op_fails_its_row_and_no_other(monkeypatch, module, name, levels, check):
    monkeypatch.setattr(conformance, "SIZES", (32,))
    monkeypatch.setattr(module, name, off_by(levels, getattr(module, name)))
    assert failing(conformance.pixels()) == {check}


def test_a_resize_with_two_wrong_values_in_a_thousand_fails(monkeypatch):
    right = resize.resize

    def wrong(*arguments):
        right(*arguments)
        values = arguments[-2].reshape(-1)[::500]
        values[:] = np.where(values > 128, values - 2, values + 2)

    monkeypatch.setattr(resize, "resize", wrong)
    rows = [row for row in conformance.pixels() if row.check.startswith("resized")]
    assert len(rows) == 8 and not any(row.passed for row in rows)
    assert all(row.mean < 0.1 and 0.9975 < row.within < 0.9985 and row.worst == 2 for row in rows)


def test_crops_that_are_always_square_fail(monkeypatch, fewer_draws):
    """A fault that a published loader has."""
    right = crop.draw

    def square(*arguments):
        top, left, height, width = right(*arguments)
        side = round((height * width) ** 0.5)
        return top, left, side, side

    monkeypatch.setattr(crop, "draw", square)
    assert "crop aspect ratio" in failing(conformance.draws())


def test_a_one_sided_hue_a_fixed_order_and_a_wrong_rate_fail(monkeypatch, fewer_draws):
    right = jitter.draw

    def wrong(*arguments):
        apply, factors, _ = right(*arguments)
        return apply or arguments[7] % 20 == 0, (*factors[:3], abs(factors[3])), (0, 1, 2, 3)

    monkeypatch.setattr(jitter, "draw", wrong)
    assert failing(conformance.draws()) == {"hue factor", "jitter order", "jitter rate"}


def test_one_wrong_level_in_a_whole_view_fails(monkeypatch):
    right = gray.reference
    monkeypatch.setattr(conformance, "PRESETS", ("simclr-cifar", "mae"))
    monkeypatch.setattr(gray, "reference", lambda image: right(image) ^ 1)
    rows = list(conformance.views())
    assert failing(rows) == {"simclr-cifar"} and {row.worst for row in rows} == {0, 1}


def test_the_command_prints_every_row_as_json(rows, monkeypatch, capsys):
    monkeypatch.setattr(conformance, "card", lambda: iter(rows))
    assert cli.run(["measure", "conformance", "--json"]) == 0
    assert [row["check"] for row in json.loads(capsys.readouterr().out)] == [row.check for row in rows]


def test_the_command_exits_with_2_if_a_row_fails(monkeypatch, capsys):
    monkeypatch.setattr(jitter, "hue", off_by(3, jitter.hue))
    monkeypatch.setattr(conformance, "SIZES", (32,))
    monkeypatch.setattr("twoview.commands.measure.conformance.card", conformance.pixels)
    assert cli.run(["conformance"]) == 2
    out, err = capsys.readouterr()
    rows = 2 * len(conformance.CHECKS)  # of one size, on photographs and on noise
    assert "FAIL" in out and f"{rows - 2} of {rows} rows pass" in out
    assert f"twoview: 2 of {rows} comparisons fail: hue on photographs at 32, hue on noise at 32" in err


def test_the_tables_fit_a_terminal_of_100_columns(rows):
    written = io.StringIO()
    conformance.show(rows, Console(width=100, file=written))
    text = written.getvalue()
    assert max(map(len, text.splitlines())) <= 100
    assert "…" not in text and f"{len(rows)} of {len(rows)} rows pass" in text
