"""How commands print their results."""

from json import dumps
from typing import Any

from twoview.bench.runtime.escapes import on_lines, on_one_line


def show(result: Any, as_json: bool, text: str) -> None:
    """Print the result as JSON, or else the text that says the same."""
    print(dumps(result, indent=1) if as_json else on_lines(text))


def lines(result: dict[str, Any]) -> str:
    """Return one line for each key: the key, padded to 20 characters, and its value."""
    return "\n".join(
        f"{key:20}{value:.4g}" if isinstance(value, float) else f"{key:20}{on_one_line(str(value))}"
        for key, value in result.items()
    )
