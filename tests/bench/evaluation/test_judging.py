"""Which of a checkpoint's networks is judged."""

import pytest
import torch

from twoview.bench.config import recipe
from twoview.bench.config.experiment import build_method
from twoview.bench.evaluation import judging
from twoview.methods import checkpoint


def test_a_datasets_name_cannot_lead_to_another_folder():
    one = recipe.load("quick-fashion-mnist").model_copy(update={"dataset": "hf:owner/name"})
    for subject in ("pixels", "untrained"):
        assert judging.baseline_name(subject, one).startswith(f"{subject}-hf-owner-name-28-")


@pytest.mark.parametrize(("name", "judged"), [("cifar10-msn", "target.0"), ("cifar10-simclr", "encoder")])
def test_the_network_that_the_papers_code_evaluates_is_judged(name, judged, tmp_path):
    asked = recipe.load(name)
    weights = build_method(asked).state_dict()
    own = {key.removeprefix(f"{judged}."): torch.rand_like(value) for key, value in weights.items()
           if key.startswith(f"{judged}.") and value.is_floating_point()}  # fmt: skip
    path = tmp_path / "one.pt"
    weights |= {f"{judged}.{key}": value for key, value in own.items()}
    checkpoint.save(path, {"recipe": asked.model_dump(mode="json"), "method": weights, "epoch": 1})
    encoder, _ = judging.trained_encoder(path)
    loaded = encoder.module.state_dict()
    assert own and all(torch.equal(loaded[key], value) for key, value in own.items())
