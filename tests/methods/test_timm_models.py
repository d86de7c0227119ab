"""Backbones by timm's names: timm's own features, sizes, and what is refused."""

import pytest
import timm
import torch

from twoview.bench.config import experiment, recipe
from twoview.methods import backbones, timm_models
from twoview.methods.backbones import Backbone

SMALL = [
    ("resnet18", 32, {}),
    ("convnext_atto", 64, {}),
    ("vit_tiny_patch16_224", 96, {"img_size": 96}),
    ("mobilenetv3_small_050", 64, {}),
    ("efficientnet_b0", 64, {}),
    ("swin_tiny_patch4_window7_224", 64, {"img_size": 64}),
]


def recipe_with(backbone, name="cifar10-simclr", **values):
    plain = recipe.load(name).model_dump(mode="json")
    return recipe.parse(plain | values | {"backbone": backbone}, name)


@pytest.mark.parametrize(("model", "size", "options"), SMALL)
def test_the_features_are_timms_exactly(model, size, options):
    torch.manual_seed(0)
    encoder = backbones.build(Backbone(name=f"timm:{model}"), size).eval()
    torch.manual_seed(0)
    theirs = timm.create_model(model, pretrained=False, num_classes=0, **options).eval()
    x = torch.randn(3, 3, size, size)
    with torch.no_grad():
        found = encoder(x)
        assert torch.equal(found, theirs(x)) and found.shape == (3, encoder.dim) and found.std() > 0
    assert encoder.body.state_dict().keys() == theirs.state_dict().keys()


def test_the_weights_depend_on_the_seed_alone_and_not_on_earlier_calls():
    timm_models.settings_for.cache_clear()
    one = recipe_with({"name": "timm:resnet18"}, seed=3)
    first, second = (experiment.build_method(one).state_dict() for _ in range(2))
    timm_models.settings_for.cache_clear()
    torch.manual_seed(0)
    before = torch.get_rng_state()
    timm_models.settings_for("timm:resnet18", 32)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize(
    ("name", "size", "complaint"),
    [
        ("vit_tiny_patch16_224", 40, "40 x 40 pixels: they are not divisible into patches of 16"),
        ("inception_v3", 32, "32 x 32 pixels: .*[Kk]ernel size"),
        ("gemma4_vit_167m_enc", 96, "must return features .B, D. for images of 96 x 96 pixels, got .2, 4, 768."),
    ],
)
def test_a_model_that_cannot_work_is_refused_with_its_name_and_the_size(name, size, complaint):
    with pytest.raises(ValueError, match=f"^timm:{name} .*{complaint}") as caught:
        backbones.build(Backbone(name=f"timm:{name}"), size)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("timm:convnxt_tiny", "unknown model of timm 'convnxt_tiny': did you mean convnext_tiny or "),
        (
            "timm:resnet18.a1_in1k",
            "must be timm:resnet18, without the name of weights, since weights come from the file",
        ),
        ("timm:", "unknown model of timm ''"),
        ("resnet19", r"unknown backbone 'resnet19': did you mean resnet18\? choose one of resnet-tiny, .*, timm:NAME"),
    ],
)
def test_an_unknown_backbone_is_named_with_the_nearest(name, complaint):
    with pytest.raises(ValueError, match=complaint):
        recipe_with({"name": name})


def test_views_that_a_model_cannot_take_are_refused_before_training():
    growing = {"start": 64, "last_epoch": 3, "multiple": 32}
    one = recipe_with({"name": "timm:vit_tiny_patch16_224"}, size=96, epochs=5, progressive=growing)
    with pytest.raises(ValueError, match="timm:vit_tiny_patch16_224 cannot take views of 64 x 64 pixels: Input height"):
        experiment.build_method(one)
    experiment.outline(recipe_with({"name": "timm:resnet18"}, size=96, epochs=5, progressive=growing))


@pytest.mark.parametrize(("name", "options"), [("mae", {}), ("data2vec", {}), ("msn", {"patch_drop": 0.5})])
def test_methods_that_mask_patches_say_which_backbones_work(name, options):
    one = recipe_with({"name": "timm:test_vit"}, f"cifar10-{name}", method={"name": name} | options)
    with pytest.raises(ValueError, match=f"{name}.* takes a ViT: backbone.name must be one of vit-mini, vit-tiny"):
        experiment.outline(one)


def test_a_record_has_only_the_keys_that_a_model_of_timm_has():
    backbone = Backbone(name="timm:resnet18", width=16)
    assert backbone.model_dump() == {"name": "timm:resnet18"}
    with pytest.raises(ValueError, match="patch is only for ViTs, not for timm:resnet18"):
        Backbone(name="timm:resnet18", patch=4)


def test_the_head_is_what_a_model_has_only_with_classes():
    assert timm_models.head_keys("resnet18") == {"fc.weight", "fc.bias"}
    assert timm_models.head_keys("convnext_atto") == {"head.fc.weight", "head.fc.bias"}, "head.norm makes features"
    assert timm_models.head_keys("deit_tiny_distilled_patch16_224") == {
        f"{head}.{kind}" for head in ("head", "head_dist") for kind in ("weight", "bias")
    }


@pytest.mark.long
def test_every_family_of_timm_is_built_or_refused_in_a_sentence():
    """The first model of each of timm's files, at the size of its weights: nearly all return features."""
    firsts = {}
    for name in timm.list_models():
        firsts.setdefault(timm.model_entrypoint(name).__module__, name)
    refused = {}
    for name in firsts.values():
        size = timm.get_pretrained_cfg(name).input_size[-1]
        with torch.device("meta"):
            try:
                encoder = backbones.build(Backbone(name=f"timm:{name}"), size)
            except ValueError as error:
                refused[name] = str(error)
                continue
            assert encoder.eval()(torch.empty(3, 3, size, size)).shape == (3, encoder.dim), name
    assert len(firsts) > 60 and len(refused) <= 3, refused
    assert all("\n" not in words and words.startswith(f"timm:{name} ") for name, words in refused.items())
