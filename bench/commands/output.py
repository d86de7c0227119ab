"""How commands print what they found."""

from json import dumps
from typing import Any


def show(result: Any, as_json: bool, text: str) -> None:
    print(dumps(result, indent=1) if as_json else text)


def lines(result: dict[str, Any]) -> str:
    return "\n".join(
        f"{key:20}{value:.4g}" if isinstance(value, float) else f"{key:20}{value}" for key, value in result.items()
    )
