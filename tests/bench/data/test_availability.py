"""`twoview data`: what exists, what is missing, and how to get it."""

import json
from dataclasses import replace

import numpy as np
import pytest

from twoview.bench.data import availability
from twoview.cli import run
from twoview.loaders import datasets
from twoview.loaders.datasets import DATASETS, dataset
from twoview.loaders.datasets.samples import Samples


def test_every_dataset_is_listed_with_the_command_to_get_it(tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("TWOVIEW_DATA", raising=False)
    assert run(["data", "--json", "--data-root", str(tmp_path)]) == 0
    states = {state["name"]: state for state in json.loads(capsys.readouterr().out)}
    assert set(states) == set(DATASETS)
    for name, state in states.items():
        there = all(split["images"] is not None for split in state["splits"].values())
        assert there == (state["get"] is None), name
        assert not there or all(split["images"] == split["published"] for split in state["splits"].values()), name
    assert states["cifar100"]["get"] == f"twoview data cifar100 --get --data-root {tmp_path}"
    assert states["places205"]["get"].startswith(f"mkdir -p {tmp_path}/places205 && curl ")
    assert not list(tmp_path.iterdir()), "listing downloads nothing"


def test_found_and_missing_parts_are_listed(tmp_path, capsys):
    def read(root, split):
        if split == "test":
            raise FileNotFoundError("val is not there")
        return Samples(lambda index: b"", np.zeros(3, np.int64), str(root))

    (tmp_path / "tiny-imagenet-200" / "train").mkdir(parents=True)
    state = availability.state(replace(dataset("tiny-imagenet"), read=read), tmp_path)
    assert list(state["layout"].values()) == [True, False, False]
    assert state["splits"]["train"] == {"images": 3, "published": 100_000, "source": str(tmp_path), "problem": None}
    lines = availability.text(state).splitlines()
    assert "  found   tiny-imagenet-200/train" in lines and "  missing tiny-imagenet-200/val/images" in lines
    assert f"  train: 3 of 100,000 images, {tmp_path}" in lines and "  test: val is not there" in lines
    assert lines[-1] == f"  to get it: twoview data tiny-imagenet --get --data-root {tmp_path}"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["cifar-100"], "did you mean cifar100?"),
        (["places205", "--get"], "places205 cannot be downloaded by twoview: mkdir -p"),
        (["cifar100", "--get"], "cifar100 needs a data root"),
        (["--get"], "--get needs the name of a dataset"),
    ],
)
def test_a_wrong_argument_is_reported_in_one_sentence(words, sentence, capsys, monkeypatch):
    monkeypatch.delenv("TWOVIEW_DATA", raising=False)
    assert run(["data", *words]) == 2
    assert sentence in capsys.readouterr().err


def test_get_downloads_the_dataset(tmp_path, monkeypatch, capsys):
    asked = []
    entry = replace(dataset("cifar100"), get=asked.append)
    monkeypatch.setitem(datasets.DATASETS, "cifar100", entry)
    assert run(["data", "cifar100", "--get", "--data-root", str(tmp_path)]) == 0
    assert asked == [tmp_path] and "cifar-100-python does not exist" in capsys.readouterr().out
