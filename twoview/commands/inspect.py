"""The command `inspect`: the contents of a `.beton` file."""

from pathlib import Path

from tyro.conf import Positional

from twoview.bench.data import inspection
from twoview.bench.runtime.escapes import on_one_line
from twoview.commands.output import lines, show
from twoview.loaders import beton


def run(file: Positional[Path], json: bool = False) -> None:
    """Show what is in a .beton file: fields, counts, sizes, and histograms of resolutions and classes.

    Args:
        file: a .beton file, written by twoview or by FFCV.
        json: print the result as JSON, with the names of up to 1,000 images that were skipped when it was written.
    """
    result = inspection.describe(beton.open_beton(file))
    shown = result | {"fields": on_one_line(", ".join(result["fields"]))}
    plain = {key: value for key, value in shown.items() if not isinstance(value, dict | list)}
    nested = [
        on_one_line(f"{key:20}" + ", ".join(f"{name}: {number}" for name, number in value.items()))
        for key, value in result.items()
        if isinstance(value, dict) and value
    ]
    show(result, json, "\n".join([lines(plain), *nested]))
