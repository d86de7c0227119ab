"""`backbone.checkpoint`: runs that start from an encoder in a file, whoever wrote it."""

import hashlib
import itertools
import json
import re

import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn

from tests.support import miniatures
from twoview.bench.config import experiment, recipe, starts
from twoview.bench.export.architectures import Library
from twoview.cli import run
from twoview.exporting import export
from twoview.methods import checkpoint

TINY = {"name": "resnet-tiny", "width": 8}
MINI = {"name": "vit-mini", "patch": 4}
LIBRARIES = Library.__args__


def recipe_with(backbone, name="cifar10-simclr", **values):
    plain = recipe.load(name).model_dump(mode="json")
    return recipe.parse(plain | values | {"backbone": backbone}, name)


def moved(module, generator=None):
    """The module with every weight and running statistic moved from its start."""
    generator = generator or torch.Generator().manual_seed(1)
    for name, tensor in module.state_dict().items():
        if tensor.is_floating_point():
            by = 0.05 * torch.randn(tensor.shape, generator=generator)
            tensor += by.abs() if name.endswith("running_var") else by
    return module.eval()


def trained(folder, backbone, name="cifar10-simclr", **values):
    """The checkpoint of a run, and its method."""
    one = recipe_with(backbone, name, **values)
    method = moved(experiment.build_method(one))
    path = folder / "checkpoints" / "run-seed0.pt"
    checkpoint.save(path, {"epoch": 1, "recipe": one.model_dump(mode="json"), "method": method.state_dict()})
    return path, method


def started(backbone, path, name="cifar10-simclr", **values):
    return experiment.build_method(recipe_with({**backbone, "checkpoint": str(path)}, name, **values))


def same(first, second):
    first, second = first.state_dict(), second.state_dict()
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize("name", ["cifar10-byol", "cifar10-moco", "cifar10-simclr"])
def test_a_run_starts_from_another_methods_encoder_and_so_does_its_moving_average(tmp_path, name):
    path, method = trained(tmp_path, TINY, "cifar10-vicreg")
    plain, found = experiment.build_method(recipe_with(TINY, name)), started(TINY, path, name)
    assert same(found.encoder, method.encoder) and not same(found.encoder, plain.encoder)
    assert found.averaged is None or same(found.averaged, method.encoder)
    heads = {key for key in plain.state_dict() if not key.startswith(("encoder.", "target.0.", "key_network.0."))}
    assert heads and all(torch.equal(plain.state_dict()[key], found.state_dict()[key]) for key in heads)


def test_the_encoder_of_a_run_is_the_one_that_its_probes_evaluate(tmp_path):
    path, method = trained(tmp_path, MINI, "cifar10-msn")
    assert same(started(MINI, path).encoder, method.probed) and not same(method.probed, method.encoder)


@pytest.mark.parametrize(
    ("backbone", "library"),
    [
        (TINY, "twoview"),
        *itertools.product([{"name": "resnet18"}, MINI, {**MINI, "positions": "sincos"}], LIBRARIES),
        *itertools.product([{"name": "timm:resnet18"}], LIBRARIES),
        *itertools.product([{"name": "timm:test_vit"}], ["timm", "twoview"]),
    ],
    ids=str,
)
def test_a_run_starts_from_an_export(tmp_path, backbone, library):
    path, method = trained(tmp_path, backbone)
    export(path, tmp_path / "out", keys=library)
    assert same(started(backbone, tmp_path / "out" / "model.safetensors").encoder, method.encoder)


@pytest.mark.parametrize("ending", ["pth", "safetensors"])
@pytest.mark.parametrize(
    ("name", "size", "options"),
    [
        ("resnet18", 32, {}),
        ("convnext_atto", 32, {}),  # its head has a norm, which makes features
        ("efficientnet_b0", 32, {}),
        ("mobilenetv3_small_050", 32, {}),
        ("test_vit", 96, {"img_size": 96}),
    ],
)
def test_weights_of_timm_give_timms_features(tmp_path, name, size, options, ending, capsys):
    theirs = moved(timm.create_model(name, **options))
    file = tmp_path / f"theirs.{ending}"
    save_file(theirs.state_dict(), file) if ending == "safetensors" else torch.save(theirs.state_dict(), file)
    found = started({"name": f"timm:{name}"}, file, size=size).encoder.eval()
    theirs.reset_classifier(0)
    x = torch.randn(2, 3, size, size)
    with torch.no_grad():
        assert torch.equal(found(x), theirs(x)) and found(x).std() > 0
    said = "".join(capsys.readouterr().err.split())  # the path may be wrapped anywhere
    assert re.search(rf"theirs\.{ending}:ignoredwhatisnotoftheencoder:[\w.]+and1more$", said)


@pytest.mark.parametrize("backbone", [{"name": "resnet18", "stem": "imagenet"}, {"name": "timm:resnet18"}], ids=str)
def test_weights_of_a_resnet_of_torchvision_give_its_features(tmp_path, backbone):
    theirs = moved(torchvision.models.resnet18())
    torch.save(
        {"state_dict": {f"module.{key}": value for key, value in theirs.state_dict().items()}}, tmp_path / "r.pth"
    )
    found = started(backbone, tmp_path / "r.pth").encoder.eval()
    theirs.fc = nn.Identity()
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(found(x), theirs(x), rtol=1e-5, atol=1e-5)


def test_weights_of_a_vit_of_torchvision_give_its_features(tmp_path):
    theirs = moved(torchvision.models.VisionTransformer(32, 4, 4, 4, 64, 256))
    torch.save(theirs.state_dict(), tmp_path / "vit.pth")
    found = started(MINI, tmp_path / "vit.pth").encoder.eval()
    theirs.heads = nn.Identity()
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(found(x), theirs(x), rtol=1e-5, atol=1e-5)


def test_a_method_of_another_library_gives_its_encoder(tmp_path):
    encoder, average = (moved(torchvision.models.resnet18()) for _ in range(2))
    keys = {f"module.encoder_q.{key}": value for key, value in encoder.state_dict().items()}
    keys |= {f"module.encoder_k.{key}": value + 1 for key, value in average.state_dict().items()}
    torch.save({"state_dict": keys | {"module.queue": torch.zeros(3)}}, tmp_path / "moco.pth")
    found = started({"name": "timm:resnet18"}, tmp_path / "moco.pth").encoder.body.state_dict()
    assert all(torch.equal(found[key], encoder.state_dict()[key]) for key in found)


def changed(change):
    """The weights of timm's test_vit for 96 pixels, changed, without a head."""
    weights = timm.create_model("test_vit", num_classes=0, img_size=96).state_dict()
    change(weights)
    return weights


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda w: w.pop("norm.bias"), "norm.bias is missing"),
        (lambda w: w.update({"extra.weight": torch.zeros(3)}), "extra.weight is unexpected"),
        (lambda w: w.update(cls_token=torch.zeros(3)), r"cls_token must have shape \(1, 1, 64\), got \(3,\)"),
        (lambda w: w["norm.bias"].fill_(float("nan")), "norm.bias must be finite, got NaN or infinity"),
    ],
)
def test_weights_that_do_not_fit_are_named(tmp_path, change, complaint):
    file = tmp_path / "them.pth"
    torch.save(changed(change), file)
    start = f"backbone.checkpoint: {re.escape(str(file))} does not fit timm:test_vit for images of 96 pixels: "
    with pytest.raises(ValueError, match=f"^{start}{complaint}$"):
        started({"name": "timm:test_vit"}, file, size=96)


def test_positions_for_another_size_are_refused(tmp_path):
    torch.save(timm.create_model("test_vit").state_dict(), tmp_path / "them.pth")
    with pytest.raises(ValueError, match=r"images of 96 pixels: pos_embed must have shape \(1, 37, 64\), got \(1, 101"):
        started({"name": "timm:test_vit"}, tmp_path / "them.pth", size=96)
    learned = experiment.build_method(recipe_with(MINI)).encoder.body
    save_file(learned.state_dict(), tmp_path / "learned.safetensors")
    with pytest.raises(ValueError, match=r"must hold the positions of backbone\.positions = sincos"):
        started({**MINI, "positions": "sincos"}, tmp_path / "learned.safetensors")


def test_a_stem_that_pads_otherwise_is_refused(tmp_path):
    theirs = torchvision.models.resnet18()
    theirs.conv1, theirs.maxpool = nn.Conv2d(3, 64, 3, padding=2, bias=False), nn.Identity()
    keys = {f"backbone.{key}": value for key, value in theirs.state_dict().items() if not key.startswith("fc.")}
    torch.save({"state_dict": keys | {"projector.0.weight": torch.zeros(3)}}, tmp_path / "solo.ckpt")
    with pytest.raises(ValueError, match=r"solo\.ckpt must pad by 1 as that of resnet18 does, .* pads by 2"):
        started({"name": "resnet18"}, tmp_path / "solo.ckpt")


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("page.pth", b"<!DOCTYPE html><html>Sign in</html>", "it is a web page"),
        ("empty.pth", b"", "it is empty"),
        ("noise.safetensors", b"{}", "cannot be read as a checkpoint"),
        ("gone.pth", None, "no checkpoint at "),
    ],
)
def test_a_file_without_weights_is_named_with_the_key(tmp_path, name, content, complaint):
    file = tmp_path / name
    if content is not None:
        file.write_bytes(content)
    with pytest.raises((ValueError, FileNotFoundError), match=f"^backbone.checkpoint: .*{name}|{complaint}") as caught:
        started(TINY, file)
    assert complaint in str(caught.value) and "\n" not in str(caught.value)


def test_another_backbones_run_is_refused(tmp_path):
    path, _ = trained(tmp_path, TINY)
    with pytest.raises(
        ValueError, match=r"run-seed0\.pt does not fit resnet18 for images of 32 pixels: conv1.weight is"
    ):
        started({"name": "resnet18"}, path)


def test_a_path_in_a_recipe_is_relative_to_its_file_or_to_that_of_its_base(tmp_path, monkeypatch):
    (tmp_path / "a" / "b").mkdir(parents=True)
    lines = 'source = "a test"\ndataset = "cifar10"\nviews = "simclr-cifar"\nsize = 32\nepochs = 1\nbatch = 8\n'
    lines += '[method]\nname = "simclr"\n[backbone]\nname = "resnet-tiny"\ncheckpoint = "start.pt"\n'
    (tmp_path / "a" / "base.toml").write_text(lines)
    (tmp_path / "a" / "b" / "child.toml").write_text('source = "a test"\nbase = "../base.toml"\n')
    monkeypatch.chdir(tmp_path)
    assert recipe.load("a/base.toml").backbone.checkpoint == "a/start.pt"
    assert (tmp_path / recipe.load("a/b/child.toml").backbone.checkpoint).resolve() == tmp_path / "a" / "start.pt"
    one = recipe.with_values(recipe.load("a/base.toml"), {"backbone.checkpoint": "start.pt"})
    assert one.backbone.checkpoint == "start.pt", "elsewhere, from the current folder"
    plain = recipe_with(TINY)
    assert recipe.with_values(plain, {"backbone.checkpoint": "x.pt"}).backbone.checkpoint == "x.pt"


def test_recipes_that_start_from_different_files_have_different_settings(tmp_path):
    file = tmp_path / "start.pt"
    pins = []
    for content in (b"one", b"two"):
        file.write_bytes(content)
        pins.append(starts.pinned(recipe_with({**TINY, "checkpoint": str(file)})))
        assert pins[-1].backbone.sha256 == hashlib.sha256(content).hexdigest()
        assert recipe.parse(pins[-1].model_dump(mode="json"), "round trip") == pins[-1]
    assert pins[0].settings() != pins[1].settings()
    with pytest.raises(ValueError, match=rf"the SHA-256 of .*start\.pt must be {pins[0].backbone.sha256}, got "):
        experiment.build_method(pins[0])
    with pytest.raises(ValueError, match=r"sha256 is the hash of backbone.checkpoint, which is missing"):
        recipe_with({**TINY, "sha256": pins[0].backbone.sha256})
    plain = recipe_with(TINY)
    assert starts.pinned(plain) is plain and plain.model_dump()["backbone"].keys() == {"name", "stem", "width"}


RECIPE = """
source = "a test"
dataset = "imagenette"
views = "crops"
size = 16
epochs = 2
batch = 30
precision = "fp32"
deterministic = true
loader_threads = 1
[method]
name = "byol"
hidden = 8
projection = 4
predictor = 8
[backbone]
width = 4
checkpoint = "start.pt"
[probe]
k = 5
"""


@pytest.fixture
def train(tmp_path, capsys):
    """A function: output folder and options -> the exit code, and the error in one line."""
    miniatures.imagenette(tmp_path / "root", None)
    (tmp_path / "r.toml").write_text(RECIPE)
    start, _ = trained(tmp_path, {"width": 4}, seed=5)
    start.rename(tmp_path / "start.pt")

    def training(out, *words):
        threads = torch.get_num_threads()
        shared = ["--out", tmp_path / out, "--data-root", tmp_path / "root", "--betons", tmp_path / "betons"]
        code = run(["train", *map(str, [tmp_path / "r.toml", *shared, "--json", *words])])
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(False)
        return code, " ".join(capsys.readouterr().err.split())

    return training


def test_an_interrupted_run_is_resumed_without_the_file_and_not_with_another(train, tmp_path, monkeypatch):
    assert train("whole")[0] == 0
    saved = []

    def full(path, state, *rest):
        if saved:
            raise OSError("the disk is full")
        saved.append(path)
        return save(path, state, *rest)

    save = checkpoint.save
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save", full)
        assert train("part")[0] == 2
    start, path = tmp_path / "start.pt", tmp_path / "part" / "checkpoints" / "r-seed0.pt"
    before = checkpoint.load(path)
    digest = hashlib.sha256(start.read_bytes()).hexdigest()
    assert before["epoch"] == 1 and before["recipe"]["backbone"]["sha256"] == digest
    content = start.read_bytes()
    start.write_bytes(content + b"other")
    code, said = train("part", "--resume")
    assert code == 2 and f"backbone.sha256 must be '{digest[:5]}" in said, said
    start.unlink()
    code, said = train("part", "--resume")
    assert code == 0, said
    whole, part = (checkpoint.load(tmp_path / out / "checkpoints" / "r-seed0.pt") for out in ("whole", "part"))
    assert whole["recipe"] == part["recipe"] and whole["history"]["losses"] == part["history"]["losses"]
    assert all(torch.equal(whole["method"][key], part["method"][key]) for key in whole["method"])
    code, said = train("new")
    assert code == 2 and "backbone.checkpoint: no checkpoint at" in said


def test_a_runs_record_names_the_file_and_its_hash(train, tmp_path):
    assert train("out")[0] == 0
    path = tmp_path / "out" / "checkpoints" / "r-seed0.pt"
    words = ["--data-root", tmp_path / "root", "--betons", tmp_path / "betons", "--evidence-dir", tmp_path / "evidence"]
    assert run([*map(str, ["probe", path, *words, "--baselines"])]) == 0
    runs = [json.loads(file.read_text()) for file in (tmp_path / "evidence").glob("*.json")]
    backbones = [one["recipe"]["backbone"] for one in runs if one["subject"] != "pixels"]
    digest = hashlib.sha256((tmp_path / "start.pt").read_bytes()).hexdigest()
    assert len(backbones) == 2 and all(one["sha256"] == digest for one in backbones)
    assert all(one["checkpoint"] == "start.pt" for one in backbones)
    export(path, tmp_path / "export")
    assert f"| weights at the start | start.pt (SHA-256 {digest}) |" in (tmp_path / "export" / "README.md").read_text()
