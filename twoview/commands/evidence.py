"""The command `evidence`: the records in a folder."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tyro.conf import Positional

from twoview.bench import evidence
from twoview.bench.runtime.escapes import on_one_line
from twoview.commands.output import show


def run(evidence_dir: Positional[Path] = Path("out"), schema: bool = False, json: bool = False) -> None:
    """List the evidence records in a folder, and say why each other JSON file is not one.

    The list is also written into that folder, as index.csv.

    Args:
        evidence_dir: folder of the records, one JSON file each.
        schema: print the JSON schema of a record instead.
        json: print the list as JSON.
    """
    if schema:
        return print(evidence.schema(), end="")
    listed = evidence.index(evidence_dir).to_dict("records")
    lines = [on_one_line(f"{one['file']}: {one['complaint'] or _entry(one)}") for one in listed]
    show(listed, json, "\n".join(lines))


def _entry(one: Mapping[Any, str]) -> str:
    """Return the words about a valid record: its kind, recipe or name, date and machine."""
    return f"{one['kind']} of {one['recipe'] or one['name']}, {one['created']}, {one['machine']}"
