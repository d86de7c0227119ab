"""Differing settings are reported in one sentence: the first few keys, both values, and what to do."""

import pytest

from twoview.bench.config.differences import check_same, differing

THEIRS = {"epochs": 3, "optim": {"name": "sgd", "lr": 0.1}, "method": {"name": "simclr", "temperature": 0.5}}


@pytest.mark.parametrize(
    ("mine", "sentence"),
    [
        ({}, ""),
        ({"epochs": 2}, "epochs must be 3 as in a.json, got 2"),
        ({"optim": {"name": "sgd", "lr": 1.0}}, "optim.lr must be 0.1 as in a.json, got 1.0"),
        ({"method": {"name": "byol", "predictor": 8}}, "method.name must be 'simclr' as in a.json, got 'byol'"),
        ({"optim": None}, "optim must be {'lr': 0.1, 'name': 'sgd'} as in a.json, got None"),
        ({"seed": None}, ""),
        (
            {"epochs": 2, "optim": None, "seed": 1, "size": 8, "batch": 4},
            "epochs must be 3 as in a.json, got 2; optim must be {'lr': 0.1, 'name': 'sgd'}, got None; "
            "seed must be None, got 1; 2 more differ",
        ),
        (
            {"epochs": 2, "optim": None, "seed": 1, "size": 8},
            "epochs must be 3 as in a.json, got 2; optim must be {'lr': 0.1, 'name': 'sgd'}, got None; "
            "seed must be None, got 1; 1 more differs",
        ),
    ],
)  # fmt: skip
def test_differing_settings_are_named_with_both_values(mine, sentence):
    assert differing(THEIRS | mine, THEIRS, "a.json") == sentence


def test_a_long_value_is_cut_to_one_line():
    sentence = differing({"source": "a\nb" * 1000}, {"source": ""}, "a.json")
    assert len(sentence) < 200 and "\n" not in sentence


def test_the_error_says_what_to_do():
    check_same(THEIRS, THEIRS, "a.json", "use another --out")
    with pytest.raises(ValueError, match=r"^epochs must be 3 as in a\.json, got 2: use another --out$"):
        check_same(THEIRS | {"epochs": 2}, THEIRS, "a.json", "use another --out")
