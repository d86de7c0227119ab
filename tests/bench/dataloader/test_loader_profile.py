"""Where the loader's time goes: the steps that a preset has, and what they cost."""

from dataclasses import replace

import numpy as np
import pytest

from twoview.bench.dataloader.profile import _steps, profile, text, variants
from twoview.loaders import presets
from twoview.loaders.views import Blur, Erase, Jitter, Solarize, View


def names(views):
    return [name for name, _ in variants(views)]


def test_every_op_is_added_once_and_the_last_variant_has_all():
    full = View(32, jitter=Jitter(0.4, 0.4, 0.2, 0.1, p=0.8), gray=0.2, blur=Blur(0.1, 2.0, 3, p=0.5))
    views = full, replace(full, blur=None, solarize=Solarize(128, 0.2), erase=Erase())
    found = variants(views)
    assert names(views) == [
        "decode", "crop, resize, flip", "brightness", "contrast", "saturation", "hue", "gray", "blur", "solarize",
        "erase",
    ]  # fmt: skip
    assert found[0][1] == () and found[1][1] == (View(32), View(32)) and found[-1][1] == views
    assert found[3][1][0].jitter == Jitter(0.4, 0.4, 0.0, 0.0, p=0.8)


def test_an_op_that_the_preset_lacks_is_not_listed():
    assert names(presets.preset("eval", 96)) == ["decode", "crop, resize, flip"]
    assert names(presets.preset("simclr-gray", 28))[2:] == ["brightness", "contrast"]
    assert names((View(32, blur=Blur(0.1, 2.0, 3, p=0.0)),)) == ["decode", "crop, resize, flip"]


def test_a_step_costs_what_it_adds_to_the_previous_steps():
    times = {"decode": np.array([5.0, 6.0, 9.0]), "gray": np.array([8.0, 8.0, 9.0]), "hand-over": np.array([10.0] * 3)}
    decode, gray, last = _steps(times)
    assert (decode.us_per_view, gray.us_per_view, last.us_per_view) == (6.0, 2.0, 2.0)
    assert (decode.share, gray.share, last.share) == (0.6, 0.2, 0.2)
    assert gray.spread == 1.5, "the quartiles of 0, 2 and 3 are 1 and 2.5"


def test_the_steps_are_in_order_and_their_shares_sum_to_one(photographs):
    steps = profile(photographs, (View(32, flip=0.0),), images=16, batch=16, rounds=1)
    assert [step.name for step in steps] == ["decode", "crop, resize, flip", "hand-over"]
    assert sum(step.share for step in steps) == pytest.approx(1)
    assert text(steps).splitlines()[-1].startswith("all") and "100.0%" in text(steps)


@pytest.mark.alone
def test_decoding_dominates_a_small_view(photographs):
    """Decoding takes at least ten times as long as the rest; a share of one third passes."""
    steps = profile(photographs, (View(32, flip=0.0),), images=48, batch=48, rounds=5)
    assert steps[0].share > 0.33


@pytest.mark.alone
def test_more_blur_costs_more(photographs):
    def cost(p, sigma, kernel):
        views = (View(320, blur=Blur(sigma, 2 * sigma, kernel, p)),) * 2
        return {step.name: step.us_per_view for step in profile(photographs, views, images=24, batch=24, rounds=5)}

    narrow, wide, seldom = cost(1.0, 1.0, 9)["blur"], cost(1.0, 5.0, 33)["blur"], cost(0.1, 5.0, 33)["blur"]
    assert narrow < wide and seldom < wide
