"""What a recipe stores about your own images: names within limits, which a record also has."""

import pytest

from twoview.bench.config.contents import Contents
from twoview.methods.settings import first_fault

FOUND = {"name": "own:x", "images": {}, "hashes": {}, "held_out": False, "mean": (0.5,) * 3, "std": (0.5,) * 3}


def test_too_many_classes_are_refused_before_training(monkeypatch):
    monkeypatch.setenv("TWOVIEW_MAX_CLASSES", "3")
    assert Contents(**FOUND, classes=("a", "b", "c")).classes == ("a", "b", "c")
    with pytest.raises(ValueError, match=r"must have at most 3 classes, got 4; .*TWOVIEW_MAX_CLASSES") as caught:
        Contents(**FOUND, classes=("a", "b", "c", "d"))
    assert first_fault(caught.value).startswith("classes must have at most 3 classes")


def test_a_name_of_a_class_that_a_record_cannot_hold_is_refused_before_training():
    with pytest.raises(ValueError, match="at most 20,000 characters, got 20,001"):
        Contents(**FOUND, classes=("a" * 20_001,))
