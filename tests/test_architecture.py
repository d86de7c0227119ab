"""docs/architecture.md walks through files that exist, few enough to read in an afternoon."""

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "docs" / "architecture.md").read_text()
STEPS = re.findall(r"^(\d+)\. `([\w/]+\.py)`", TEXT, re.MULTILINE)


def test_the_walk_has_fifteen_files_that_exist():
    assert [int(number) for number, _ in STEPS] == list(range(1, 16))
    assert [file for _, file in STEPS if not (ROOT / file).is_file()] == []


def test_all_other_named_files_exist_too():
    others = set(re.findall(r"`([\w/]+\.(?:py|md))`", TEXT))
    folders = {"records.py": "bench/evidence", "over_seeds.py": "reports"}  # named without their folder
    paths = [ROOT / folders.get(name, "") / name for name in sorted(others)]
    assert [path for path in paths if not path.is_file()] == []
