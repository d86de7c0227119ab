"""Running out of memory is reported in one sentence: what needs how much, and which batch would fit."""

import pytest
import torch

from twoview import cli
from twoview.bench.config import recipe
from twoview.bench.training import out_of_memory, train
from twoview.methods import ranks

CPU = torch.device("cpu")
ASKED = recipe.load("cifar10-simclr").model_copy(update={"batch": 64})


def test_a_failed_allocation_is_explained():
    needs = r"batch 64, 2 views at 32 px in fp32 on cpu need 0\.\d\d GiB"
    with pytest.raises(ValueError, match=needs) as raised, out_of_memory.explained(ASKED, CPU, "fp32"):
        torch.empty(1 << 50)
    sentence = str(raised.value)
    assert "activations 0." in sentence and "a batch of 64 would fit into" in sentence and "\n" not in sentence


def test_the_suggested_batch_fits(monkeypatch):
    monkeypatch.setattr(out_of_memory.experiment, "memory_limit", lambda: 20 << 20)
    with (
        pytest.raises(ValueError, match=r"a batch of \d+ would") as raised,
        out_of_memory.explained(ASKED, CPU, "fp32"),
    ):
        raise torch.OutOfMemoryError
    fits = int(str(raised.value).split("a batch of ")[1].split()[0])
    needs = [
        out_of_memory.memory_plan.counted(ASKED.model_copy(update={"batch": n}), CPU, "fp32", 1).peak
        for n in (fits, fits + 8)
    ]
    assert needs[0] <= 20 << 20 < needs[1]
    assert "used them, and so would this batch with accumulate 2; run" in str(raised.value)


def test_one_rank_explains_without_the_others(monkeypatch):
    """The others may have memory left and be waiting in the middle of a step, so asking them would hang."""
    for name, value in (("is_initialized", True), ("get_world_size", 2), ("get_rank", 1)):
        monkeypatch.setattr(ranks.dist, name, lambda *_, value=value: value)
    half = r"batch 32 on each of 2 ranks, 2 views at 32 px in fp32 on cpu need 0\.\d\d GiB"
    with pytest.raises(ValueError, match=half), out_of_memory.explained(ASKED, CPU, "fp32"):
        raise torch.OutOfMemoryError
    assert ranks.world() == 2


def test_other_errors_pass():
    with pytest.raises(RuntimeError, match="shapes"), out_of_memory.explained(ASKED, CPU, "fp32"):
        raise RuntimeError("shapes differ")


def test_training_ends_with_that_sentence(monkeypatch, tmp_path, capsys):
    def no_room(*_):
        raise torch.OutOfMemoryError

    monkeypatch.setattr(train.betons, "dataset_beton", lambda *_, **__: None)
    monkeypatch.setattr(train, "_loader", no_room)
    assert cli.run(["train", "cifar10-simclr", "--batch", "64", "--precision", "fp32", "--out", str(tmp_path)]) == 2
    assert "twoview: cifar10-simclr ran out of memory: batch 64" in capsys.readouterr().err
