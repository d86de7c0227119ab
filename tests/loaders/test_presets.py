"""The presets: every preset can be made, and matches its source."""

from dataclasses import replace

import pytest
from torchvision import transforms

from twoview.loaders.decode import view_table
from twoview.loaders.presets import PRESETS, preset
from twoview.loaders.views import Blur, Jitter, Solarize, View


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("size", [32, 64, 96, 224])
def test_every_preset_can_be_made_and_names_its_source(name, size):
    views = preset(name, size)
    assert len(view_table(views)) == len(views) and views[0].size == size
    assert (PRESETS[name].__doc__ or "").strip()


def test_an_unknown_name_is_a_sentence_with_the_nearest():
    with pytest.raises(ValueError, match="unknown views 'simclr-cifr': did you mean simclr-cifar"):
        preset("simclr-cifr", 32)


def test_kernel_infonce_at_the_sizes_of_its_datasets():
    """The transforms of the official code: strength 0.5 without blur on CIFAR, 1 with blur on Tiny ImageNet."""
    cifar, _ = preset("kernel-infonce", 32)
    tiny, _ = preset("kernel-infonce", 64)
    assert cifar.blur is None and cifar.jitter == Jitter(0.4, 0.4, 0.4, 0.1, p=0.8)
    assert tiny.blur == Blur(0.1, 2.0, 7, p=0.5) and tiny.jitter == Jitter(0.8, 0.8, 0.8, 0.2, p=0.8)
    assert cifar.scale == tiny.scale == (0.08, 1.0) and cifar.gray == tiny.gray == 0.2


def test_kobak_cifar_and_its_local_crops():
    """The transforms of github.com/dkobak/simclr-cifar10. Our preset has two more views: half the side, small parts."""
    large = View(32, scale=(0.2, 1.0), jitter=Jitter(0.4, 0.4, 0.4, 0.1, p=0.8), gray=0.1)
    assert preset("kobak-cifar", 32) == (large, large)
    local = replace(large, size=16, scale=(0.05, 0.2))
    assert preset("kobak-cifar-local", 32) == (large, large, local, local)


@pytest.mark.parametrize("name", ["vicreg", "byol"])
def test_the_two_unlike_views(name):
    first, second = preset(name, 224)
    assert (first.blur, first.solarize) == (Blur(0.1, 2.0, 23, p=1.0), Solarize(128, p=0.0))
    assert (second.blur, second.solarize) == (Blur(0.1, 2.0, 23, p=0.1), Solarize(128, p=0.2))
    assert first.interpolation == second.interpolation == "bicubic"


def test_msn_has_twelve_views_of_two_sizes():
    views = preset("msn", 224)
    assert [view.size for view in views] == [224] * 2 + [96] * 10
    assert [view.scale for view in views] == [(0.3, 1.0)] * 2 + [(0.05, 0.3)] * 10
    assert [view.size for view in preset("msn", 112)] == [112] * 2 + [48] * 10


def test_msns_relatives_have_one_view_of_each_kind():
    """The method draws the focal view as often as its option says."""
    assert [view.size for view in preset("msn-cifar", 32)] == [32, 32, 16]
    assert {view.blur for view in preset("msn-cifar", 32)} == {None}
    assert [view.size for view in preset("lightly-msn", 128)] == [128, 128, 64]
    assert [view.scale for view in preset("lightly-msn", 128)] == [(0.3, 1.0), (0.3, 1.0), (0.05, 0.3)]
    assert preset("lightly-msn", 128)[0].jitter == Jitter(0.8, 0.8, 0.8, 0.2, p=0.8)


def test_mae():
    assert preset("mae", 224) == (View(224, scale=(0.2, 1.0), flip=0.5, interpolation="bicubic"),)


def test_supervised_cifar_is_random_crop_32_4():
    assert preset("supervised-cifar", 32) == (View(32, scale=None, padding=4, flip=0.5),)


@pytest.mark.parametrize(
    ("name", "peer"),
    [("simclr-imagenet", "SimCLRTransform"), ("simsiam", "SimSiamTransform"), ("byol", "BYOLTransform")],
)
def test_the_settings_are_lightlys(name, peer):
    """An independent check of the sources: lightly's transforms for the same papers."""
    import lightly.transforms

    for ours, theirs in zip(preset(name, 224), getattr(lightly.transforms, peer)().transforms, strict=True):
        steps = {type(step).__name__: step for step in theirs.transform.transforms}
        wanted, color = transforms.ColorJitter(*ours.jitter[:4]), steps["RandomApply"].transforms[0]
        for key in ("brightness", "contrast", "saturation", "hue"):
            assert getattr(color, key) == pytest.approx(getattr(wanted, key))
        assert steps["RandomResizedCrop"].scale == ours.scale and steps["RandomHorizontalFlip"].p == ours.flip
        assert steps["RandomApply"].p == ours.jitter.p and steps["RandomGrayscale"].p == ours.gray
        assert (*steps["GaussianBlur"].sigmas, steps["GaussianBlur"].prob) == (*ours.blur[:2], ours.blur.p)
        assert ours.solarize is None or steps["RandomSolarization"].prob == ours.solarize.p
