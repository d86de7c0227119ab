"""The table of loss costs: a row for each loss, compared with lightly if lightly has the same loss."""

import json

import pytest
import torch

from twoview import cli
from twoview.bench.costs import loss_cost
from twoview.bench.costs.loss_cost import Job, measure, table
from twoview.methods.registry import examples

TIMED = {name: example for name, example in examples().items() if example.timed}


def test_the_command_compares_every_loss_with_lightlys(capsys):
    assert cli.run(["measure", "losses", "--batches", "16", "--dim", "8", "--rounds", "1", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert [row["loss"] for row in result["rows"]] == list(TIMED)
    for row in result["rows"]:
        assert row["batch"] == 16 and row["ms"] > 0 and row["peak_mib"] >= 0 and len(row["rounds_ms"]) == 1
        assert (row["lightly"] is None) == (TIMED[row["loss"]].lightly is None)
    lines = table(result).splitlines()
    assert len(lines) == 1 + len(TIMED) and lines[1].startswith("nt_xent")


@pytest.mark.parametrize("name", [name for name, example in TIMED.items() if example.lightly])
def test_lightlys_loss_is_the_same(name):
    """Up to what is documented: 2 + 2 times the negative cosine for byol; moco's queue is random on both sides."""
    pytest.importorskip("lightly.loss")
    torch.manual_seed(0)
    z1, z2 = torch.randn(2, 12, 6)
    label = torch.arange(12) % 10
    ours, theirs = (side(name, 6, torch.device("cpu"))(z1, z2, label) for side in (loss_cost.ours, loss_cost.theirs))
    if name == "moco":
        assert float(ours) == pytest.approx(float(theirs), abs=1), "log of 4,096 random keys on both sides"
    else:
        assert float(ours) == pytest.approx(float(2 + 2 * theirs if name == "byol" else theirs), rel=1e-5)


def test_the_peak_covers_the_similarity_matrix():
    """At least 32 MiB: a matrix of 2,048 x 2,048 pairs for the logits and one for their gradient."""
    found = loss_cost._in_its_own_process(Job("nt_xent", "lightly", 1024, 32))
    assert 2 * 16 <= found["peak_mib"] < 10 * 16 and found["ms"] > 0


def test_a_side_whose_process_dies_is_reported_with_the_reason(monkeypatch):
    assert "absent" in loss_cost._in_its_own_process(Job("nt_xent", "lightly", 2**40, 2))


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (((1,), 8, 1), "--batches must be at least 2, got 1"),
        (((16,), 7, 1), "--dim must be even, because concat halves it, got 7"),
        (((16,), 8, 0), "--rounds must be at least 1, got 0"),
    ],
)
def test_bad_input_is_named(arguments, complaint):
    with pytest.raises(ValueError, match=complaint):
        measure(*arguments)
