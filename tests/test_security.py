"""SECURITY.md lists the limits."""

import re
from pathlib import Path

from twoview.loaders import limits


def test_security_md_lists_every_limit():
    text = (Path(__file__).parent.parent / "SECURITY.md").read_text()
    listed = {variable: value for value, variable in re.findall(r"\| ([\d,]+) \| `(TWOVIEW_MAX_\w+)`", text)}
    ours = [one for one in vars(limits).values() if isinstance(one, limits.Limit)]
    assert listed == {one.variable: f"{one.default:,}" for one in ours}
