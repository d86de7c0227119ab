"""The model card takes an encoder's accuracies from the evidence, and no other encoder's."""

from dataclasses import replace

import pytest
import yaml

from twoview.bench.config.experiment import build_method
from twoview.bench.config.recipe import load, parse
from twoview.bench.evidence import Probing
from twoview.bench.export.export import exported
from twoview.methods import checkpoint
from twoview.reports import model_card

FILES = {"safetensors": "model.safetensors"}


@pytest.fixture
def subject(tmp_path):
    plain = load("cifar10-simclr").model_dump(mode="json")
    recipe = parse(plain | {"name": "mine", "backbone": {"name": "resnet-tiny", "width": 8}}, "mine")
    path = tmp_path / "mine-seed0.pt"
    weights = build_method(recipe).state_dict()
    checkpoint.save(path, {"epoch": recipe.epochs, "recipe": recipe.model_dump(mode="json"), "method": weights})
    return exported(path)


def run_of(make, subject, **changes):
    """The record of the encoder's own run: kNN 61.5 %, linear probe 70.25 %."""
    record = make.run(name=subject.name, test_images=10)
    probes = {"knn": make.probed(61.5), "linear": make.probed(70.25)}
    accuracy = record.accuracy.model_copy(update={"probes": probes})
    recipe = subject.recipe.model_dump(mode="json")
    return record.model_copy(update={"accuracy": accuracy, "recipe": recipe} | changes)


def probing_of(make, subject, **changes):
    """The record of a linear probe on CIFAR-100: 33.5 %."""
    run = make.run()
    return Probing(
        **{
            "name": "probe",
            "created": run.created,
            "environment": run.environment,
            "encoder": subject.name,
            "encoder_hash": "0",
            "dataset": "cifar100",
            "size": 32,
            "probe": "linear",
            "probed": make.probed(33.5),
            "asked": {},
            "recipe": subject.recipe.model_dump(mode="json"),
        }
        | changes
    )


def test_accuracies_come_with_intervals_machine_and_commit(make, subject):
    card = model_card.text(subject, [run_of(make, subject), probing_of(make, subject)], FILES)
    assert "| cifar10 | knn | 61.50 | 60.50 to 62.50 | 10 | 10 |" in card
    assert "| cifar10 | linear | 70.25 | 69.25 to 71.25 | 10 | 10 |" in card
    assert "| cifar100 | linear | 33.50 | 32.50 to 34.50 | 10 | 10 |" in card
    assert "| evaluated on | CPU, Zen 4 x2, 8 GiB |" in card
    assert "| commit of twoview | 0123456789abcdef0123456789abcdef01234567 |" in card
    assert "cifar10: https://www.cs.toronto.edu/~kriz/cifar.html. License: not stated by its authors." in card


def test_the_front_matter_is_what_the_hub_reads(make, subject):
    card = model_card.text(subject, [run_of(make, subject)], FILES)
    matter = yaml.safe_load(card.split("---\n")[1])
    assert matter["library_name"] == "twoview" and matter["datasets"] == ["cifar10"]
    (index,) = matter["model-index"]
    assert index["name"] == "mine-seed0"
    found = [(metric["name"], metric["value"]) for result in index["results"] for metric in result["metrics"]]
    assert found == [("top-1 of the probe knn (%)", 61.5), ("top-1 of the probe linear (%)", 70.25)]


@pytest.mark.parametrize("key", ["epochs", "seed", "batch"])
def test_records_of_another_training_run_are_not_used(make, subject, key):
    other = subject.recipe.model_dump(mode="json") | {key: 7}
    records = [run_of(make, subject, recipe=other), probing_of(make, subject, recipe=other)]
    records += [run_of(make, subject, name="other"), probing_of(make, subject, encoder="other")]
    card = model_card.text(subject, records, FILES)
    assert "No accuracy of this network has been recorded." in card and "model-index" not in card


def test_accuracies_are_those_of_the_network_that_the_probes_evaluate(make, subject):
    average = replace(subject, probed=False, momentum=True)
    assert "No accuracy of this network has been recorded." in model_card.text(average, [run_of(make, subject)], FILES)


def test_an_unfinished_training_run_is_called_so(subject):
    card = model_card.text(replace(subject, epoch=1), [], FILES)
    assert f"it has been trained for 1 of {subject.recipe.epochs} epochs" in card
    assert "not finished" not in model_card.text(subject, [], FILES)


def test_changed_views_are_named_in_full(subject):
    assert "| views | simclr-cifar |" in model_card.text(subject, [], FILES)
    recipe = parse(
        subject.recipe.model_dump(mode="json")
        | {"views": {"preset": "simclr-cifar", "gray": False, "2": {"flip": 0.0}}},
        "mine",
    )
    card = model_card.text(replace(subject, recipe=recipe), [], FILES)
    (row,) = [line.replace("\\", "") for line in card.splitlines() if line.startswith("| views |")]
    assert row == '| views | {preset = "simclr-cifar", gray = false, 2 = {flip = 0.0}} |'


def test_a_recipes_own_words_cannot_become_markup(subject):
    recipe = subject.recipe.model_copy(update={"source": "a | b <script>alert(1)</script> [x](http://y)"})
    card = model_card.text(replace(subject, recipe=recipe), [], FILES)
    (row,) = [line for line in card.splitlines() if line.startswith("| source")]
    assert "<script>" not in row and "[x](" not in row and row.count(" | ") == 2 - 1
