"""A loader's arguments are checked when it is made: one sentence that names the argument, never a later traceback."""

import copy
import math
import pickle
from functools import partial

import numpy as np
import pytest
import torch

from twoview.loaders.limits import THREADS
from twoview.loaders.loader import Loader
from twoview.loaders.masks import Mask
from twoview.loaders.resident import Resident
from twoview.loaders.views import Blur, Jitter, Solarize, View

KINDS = [Loader, partial(Resident, device="cpu")]
ARGUMENTS = [
    ({"on_error": "Raise"}, 'on_error must be "raise" or "skip", got \'Raise\''),
    ({"on_error": None}, 'on_error must be "raise" or "skip", got None'),
    ({"shuffle": "x"}, "shuffle must be True or False, got 'x'"),
    ({"drop_last": None}, "drop_last must be True or False, got None"),
    ({"pin": 1}, "pin must be True or False, got 1"),
    ({"threads": 10**30}, f"a loader must have at most {THREADS.value:,} threads, got far more"),
    ({"order": 5}, "order must be a function of the epoch, got 5"),
    ({"order": lambda epoch: np.full(8, -1)}, "order must have positions from 0 to 1999, got -1"),
    ({"order": lambda epoch: np.full(8, 2000)}, "order must have positions from 0 to 1999, got 2000"),
    ({"order": lambda epoch: np.full(8, 0.5)}, "order must have whole numbers in one dimension, got float64"),
    ({"order": lambda epoch: np.zeros((4, 2), int)}, "order must have whole numbers in one dimension, got int64"),
    ({"order": lambda epoch: None}, "order must have whole numbers in one dimension, got object"),
    ({"views": None}, "views must be a sequence of View, got None"),
    ({"views": View(8)}, "views must be a sequence of View, got View"),
    ({"views": [1]}, "views must be of type View, got 1"),
    ({"masks": None}, "masks must be a sequence of Mask, got None"),
    ({"masks": [1]}, "masks must be of type Mask, got 1"),
]


@pytest.mark.parametrize(("changes", "complaint"), ARGUMENTS)
def test_what_an_argument_must_be_is_said(fashion, changes, complaint):
    with pytest.raises(ValueError) as caught:
        Loader(fashion, **{"views": (View(8),), "batch": 2} | changes)
    assert str(caught.value).startswith(complaint)


@pytest.mark.parametrize("beton", ["a.beton", None, 5])
def test_a_loader_is_of_an_opened_file(beton):
    with pytest.raises(ValueError, match=f"^beton must be a file opened by open_beton, got {beton!r}$"):
        Loader(beton, (View(8),), 2)


FIELDS = [
    ({"size": 32.5}, "size must be a whole number, got 32.5"),
    ({"size": "x"}, "size must be a whole number, got 'x'"),
    ({"size": 10**30}, "size 1000000"),
    ({"scale": None, "resize": 8.5}, "resize must be a whole number, got 8.5"),
    ({"scale": None, "resize": 2**40}, "resize must be from 0 to"),
    ({"scale": None, "resize": 2**31 - 1}, "a view resized to 2147483647 must have at most"),
    ({"scale": None, "padding": 4, "resize": 2**31 - 1}, "a view resized to 2147483647 must have at most"),
    ({"scale": (0.1, math.inf)}, "scale must be 2 finite numbers, got (0.1, inf)"),
    ({"scale": 0.5}, "scale must be 2 finite numbers, got 0.5"),
    ({"scale": (2, 3)}, "scale must be shares of the image, at most 1, got (2, 3)"),
    ({"scale": (0.5, 0.1)}, "scale and ratio must be two positive numbers in ascending order"),
    ({"ratio": None}, "ratio must be 2 finite numbers, got None"),
    ({"ratio": (1.0, 10**400)}, "ratio must be 2 finite numbers, got"),
    ({"ratio": (-1.0, 1.0)}, "scale and ratio must be two positive numbers in ascending order"),
    ({"flip": 7.0}, "probabilities must be from 0 to 1"),
    ({"gray": "x"}, "flip and gray must be 2 finite numbers, got (0.5, 'x')"),
    ({"jitter": (0.4, 0.4, 0.4, 0.1, 0.8)}, "jitter must be of type Jitter or None, got (0.4"),
    ({"jitter": Jitter(math.inf, 0.4, 0.4, 0.1, 0.8)}, "jitter must be 5 finite numbers"),
    ({"blur": Blur(0.1, None, 3, 0.5)}, "blur must be 4 finite numbers"),
    ({"solarize": Solarize("x", 0.5)}, "solarize must be 2 finite numbers"),
    ({"erase": (0.1, 0.2)}, "erase must be of type Erase or None, got (0.1"),
    ({"interpolation": 5}, "interpolation must be bilinear or bicubic"),
]


@pytest.mark.parametrize(("field", "complaint"), FIELDS)
def test_a_view_of_other_values_is_refused(fashion, field, complaint):
    with pytest.raises(ValueError) as caught:
        Loader(fashion, (View(**{"size": 8} | field),), 2)
    assert complaint in str(caught.value)


@pytest.mark.parametrize("kind", KINDS)
def test_a_size_of_numpy_s_is_python_s(fashion, kind):
    """The size of a batch is a product that does not fit into eight bits."""
    with kind(fashion, (View(np.uint8(28)),), 4) as loader, kind(fashion, (View(28),), 4) as plain:
        assert type(loader.views[0].size) is int
        assert torch.equal(next(loader.epoch(0)).views[0], next(plain.epoch(0)).views[0])


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ((0, 4.5, 4, 1), "rows must be a whole number"),
        (("x", 4, 4, 1), "view must be a whole number"),
        ((0, 4, 4, 1, "block", 10**30), "smallest must be a whole number below"),
        ((0, 4, 4, 1, "block", 4, (0.3, math.inf)), "aspect must be 2 finite numbers"),
        ((0, 4, 4, 1, "block", 4, (1e-300, 1.0)), "aspect must be from 1e-6 to 1e6"),
    ],
)
def test_a_mask_of_other_values_is_refused(values, complaint):
    with pytest.raises(ValueError, match=f"^a mask's {complaint}"):
        Mask(*values)


@pytest.mark.parametrize("kind", KINDS)
def test_an_order_is_checked_in_every_epoch(fashion, kind):
    orders = [np.arange(8), np.arange(6), np.arange(1996, 2004)]
    with kind(fashion, (View(8),), 2, order=orders.__getitem__) as loader:
        assert len(list(loader.epoch(0))) == 4
        with pytest.raises(ValueError, match=r"^order must have 8 positions in every epoch, got 6 in epoch 1$"):
            next(loader.epoch(1))
        with pytest.raises(ValueError, match=r"^order must have positions from 0 to 1999, got 2000$"):
            next(loader.epoch(2))


@pytest.mark.parametrize("kind", KINDS)
def test_epochs_are_counted_in_64_bits(fashion, kind):
    with kind(fashion, (View(8),), 2, indices=np.arange(4)) as loader:
        for wrong in (2**63, 10**30, -1):
            with pytest.raises(ValueError, match=f"^epoch must be from 0 to 9223372036854775807, got {wrong}$"):
                loader.epoch(wrong)
            with pytest.raises(ValueError, match=r"^the state's epoch must be from 0 to 9223372036854775807"):
                loader.load_state_dict({"epoch": wrong, "batches": 0})
        assert len(list(loader.epoch(2**63 - 1))) == 2


@pytest.mark.parametrize("seed", [torch.zeros(3), np.zeros(3), {}, [0], 0.5, "0", torch.tensor(0)])
def test_a_state_s_seed_of_another_type_is_refused(fashion, seed):
    with Loader(fashion, (View(8),), 2) as loader:
        state = loader.state_dict() | {"seed": seed}
        with pytest.raises(ValueError, match=r"^the loader's seed must be .*, as in the saved state, got 0$"):
            loader.load_state_dict(state)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sent", [pickle.dumps, copy.copy, copy.deepcopy])
def test_a_loader_is_neither_pickled_nor_copied(fashion, kind, sent):
    with (
        kind(fashion, (View(8),), 2, indices=np.arange(4)) as loader,
        pytest.raises(TypeError, match=r"^a Loader cannot be pickled or copied: open the beton in the other process"),
    ):
        sent(loader)
