"""Third-party checkpoints: each layout in miniature, whose converted encoder gives the source's features."""

import copy
import gzip
import io
import re
import socket
import zipfile

import pytest
import timm
import torch
import torchvision
from torch import nn

from twoview.bench.evaluation import encoders
from twoview.cli import run
from twoview.methods import checkpoint
from twoview.methods.key_layouts import LAYOUTS, convert


def resnet(cifar_padding=None):
    """torchvision's ResNet-18 without its head and with random batch statistics."""
    torch.manual_seed(0)
    module = torchvision.models.resnet18()
    module.fc = nn.Identity()
    if cifar_padding is not None:
        module.conv1, module.maxpool = nn.Conv2d(3, 64, 3, padding=cifar_padding, bias=False), nn.Identity()
    for norm in (one for one in module.modules() if isinstance(one, nn.BatchNorm2d)):
        nn.init.uniform_(norm.running_mean, -0.1, 0.1)
        nn.init.uniform_(norm.running_var, 0.5, 2)
    return module.eval()


def vit():
    torch.manual_seed(0)
    module = timm.create_model("test_vit", num_classes=0)
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.1)
    return module.eval()


def named(prefix, module):
    """The state dict under a prefix, with copies of the tensors."""
    return {prefix + key: value.clone() for key, value in module.state_dict().items()}


def noise(*keys):
    return {key: torch.randn(3) for key in keys}


def head(prefix, *keys):
    return noise(*(f"{prefix}{key}.{kind}" for key in keys for kind in ("weight", "bias")))


def sequential(module):
    """A ResNet as lightly's examples wrap it."""
    return nn.Sequential(*list(module.children())[:-1], nn.Flatten())


# layout -> a function: (ResNet, ViT) -> which of the two the file holds, and the file's content
RESNET, VIT = "torchvision:resnet18", "timm:test_vit"
CASES = {
    "solo-learn": lambda r, v: (
        RESNET,
        {
            "state_dict": named("backbone.", r)
            | head("", "classifier", "projector.0", "momentum_projector.0")
            | head("momentum_backbone.", "conv1")
            | noise("queue", "queue_ptr"),
            "epoch": 3,
        },
    ),
    "solo-learn, old": lambda r, v: (
        RESNET,
        {"state_dict": named("encoder.", r) | head("", "classifier") | head("momentum_encoder.", "conv1")},
    ),
    "lightly": lambda r, v: (
        RESNET,
        {
            "state_dict": named("backbone.", r)
            | head("", "projection_head.layers.0", "online_classifier.linear")
            | head("teacher_backbone.", "conv1")
        },
    ),
    "lightly, indexed": lambda r, v: (RESNET, named("backbone.", sequential(r)) | head("", "projection_head.layers.0")),
    "vissl": lambda r, v: (
        RESNET,
        {
            "classy_state_dict": {
                "base_model": {"model": {"trunk": named("_feature_blocks.", r), "heads": head("", "0.clf.0")}}
            },
            "iteration": 7,
        },
    ),
    "msn": lambda r, v: (
        VIT,
        {
            "target_encoder": named("module.", v) | head("module.fc.", "fc1", "bn1", "fc2", "fc3"),
            "encoder": noise("module.cls_token"),
            "prototypes": torch.randn(4, 2),
            "epoch": 1,
        },
    ),
    "mae": lambda r, v: (
        VIT,
        {
            "model": named("", v)
            | head("", "decoder_embed", "decoder_blocks.0.norm1", "decoder_pred")
            | noise("mask_token")
        },
    ),
    "moco": lambda r, v: (
        RESNET,
        {
            "arch": "resnet18",
            "state_dict": named("module.encoder_q.", r)
            | head("module.encoder_q.", "fc.0", "fc.2")
            | head("module.encoder_k.", "conv1")
            | noise("module.queue", "module.queue_ptr"),
        },
    ),
    "moco-v3": lambda r, v: (
        VIT,
        {
            "state_dict": named("module.base_encoder.", v)
            | head("module.base_encoder.", "head.0", "head.3")
            | named("module.momentum_encoder.", v)
            | head("module.", "predictor.0")
        },
    ),
    "plain": lambda r, v: (RESNET, named("", r) | head("", "fc")),
    "twoview": lambda r, v: (RESNET, named("body.", r)),
    "plain, of timm": lambda r, v: (VIT, {"state_dict": named("", v) | head("", "head")}),
}


@pytest.fixture(scope="module")
def sources():
    return {RESNET: resnet(), VIT: vit()}


def same_features(found, source, size):
    x = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected, given = source(x).flatten(1), found.module(x)
    assert given.shape == (2, found.dim) and expected.std() > 0
    torch.testing.assert_close(given, expected)


@pytest.mark.parametrize("case", CASES)
def test_a_converted_encoder_gives_its_sources_features(case, sources, tmp_path):
    layout = case.partition(",")[0]
    arch, content = CASES[case](sources[RESNET], sources[VIT])
    torch.save(content, tmp_path / "them.pth")
    # Without heads a file may fit two layouts; only then must the layout be given.
    found = encoders.load(f"checkpoint:{tmp_path / 'them.pth'}", arch, layout if case == "lightly, indexed" else None)
    same_features(found, sources[arch], 160 if arch == VIT else 64)
    assert (found.name, found.size) == ("checkpoint-them", 160 if arch == VIT else 224)
    assert torch.allclose(found.normalize.shift.flatten(), 255 * torch.tensor([0.485, 0.456, 0.406]))
    assert convert(content, tmp_path, None).layout is LAYOUTS[layout]


def test_every_layout_is_tested():
    assert {case.partition(",")[0] for case in CASES} == set(LAYOUTS)


def wrapped(content, wrapper, inside):
    """The content with torch's prefix at the start of every key, or after the key's first part."""
    if not isinstance(content, dict):
        return content
    if not all(isinstance(value, torch.Tensor) for value in content.values()):
        return {key: wrapped(value, wrapper, inside) for key, value in content.items()}
    if not inside:
        return {wrapper + key: value for key, value in content.items()}
    return {key.replace(".", f".{wrapper}", 1): value for key, value in content.items()}


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize(
    "wrapper",
    ["module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module.", "module.module.", "_fsdp_wrapped_module."],
)
def test_torchs_prefixes_are_removed(wrapper, inside, sources, tmp_path):
    for case, make in CASES.items():
        _, content = make(sources[RESNET], sources[VIT])
        plain, layout, _ = convert(content, tmp_path, None)
        tensors, found, _ = convert(wrapped(content, wrapper, inside), tmp_path, None)
        assert found is layout and tensors.keys() == plain.keys(), case
        assert all(torch.equal(tensors[key], plain[key]) for key in plain), case


def test_encoders_saved_by_torchs_wrappers_are_read(sources, tmp_path):
    source = sources[RESNET]
    averaged = torch.optim.swa_utils.AveragedModel(torch.compile(source, backend="eager"))
    torch.save(averaged.state_dict(), tmp_path / "averaged.pth")
    swav = named("module.", source) | head("module.projection_head.", "0", "3") | noise("module.prototypes.weight")
    torch.save(swav, tmp_path / "swav.pth")
    torch.save({"state_dict": named("module.", source) | head("module.", "fc")}, tmp_path / "examples.pth.tar")
    for name in ("averaged.pth", "swav.pth", "examples.pth.tar"):
        same_features(encoders.load(f"checkpoint:{tmp_path / name}", RESNET), source, 64)
    torch.save(named("module.", source) | named("", source), tmp_path / "twice.pth")
    with pytest.raises(ValueError, match=r"twice\.pth: conv1\.weight is unexpected"):
        encoders.load(f"checkpoint:{tmp_path / 'twice.pth'}", RESNET)


def test_checkpoints_of_lightlys_modules_are_read(tmp_path):
    modules = pytest.importorskip("lightly.models.modules")
    source = vit()
    masked = modules.MaskedVisionTransformerTIMM(vit=copy.deepcopy(source), weight_initialization="skip")
    model = nn.ModuleDict({"backbone": masked, "projection_head": modules.heads.MSNProjectionHead(64, 32, 16)})
    torch.save({"state_dict": model.state_dict()}, tmp_path / "msn.ckpt")
    found = encoders.load(f"checkpoint:{tmp_path / 'msn.ckpt'}", VIT)
    masked.eval()
    same_features(found, masked, 160)
    small = resnet()
    model = nn.ModuleDict({"backbone": sequential(small), "projection_head": modules.heads.SimCLRProjectionHead(512)})
    torch.save(model.state_dict(), tmp_path / "simclr.pt")
    same_features(encoders.load(f"checkpoint:{tmp_path / 'simclr.pt'}", RESNET), small, 64)


@pytest.mark.parametrize(("layout", "padding"), [("solo-learn", 2), ("lightly", 1)])
def test_a_cifar_stem_is_recognized_by_its_weights(layout, padding, tmp_path):
    source = resnet(cifar_padding=padding)
    torch.save({"state_dict": named("backbone.", source)}, tmp_path / "cifar.ckpt")
    with pytest.raises(ValueError, match="its keys fit the layouts solo-learn and lightly: choose one with --layout"):
        encoders.load(f"checkpoint:{tmp_path / 'cifar.ckpt'}", RESNET)
    found = encoders.load(f"checkpoint:{tmp_path / 'cifar.ckpt'}", RESNET, layout)
    same_features(found, source, 32)
    assert found.size == 32 and found.normalize is None


def test_no_key_is_silently_missing_or_left_over(sources, tmp_path):
    file = tmp_path / "them.pth"

    def complaint(content, arch=RESNET, layout=None):
        torch.save(content, file)
        with pytest.raises(ValueError) as error:
            encoders.load(f"checkpoint:{file}", arch, layout)
        return str(error.value)

    whole = named("", sources[VIT])
    lacking = {key: value for key, value in whole.items() if key != "blocks.2.attn.qkv.bias"}
    assert complaint(lacking, VIT) == f"{file} does not fit {VIT}: blocks.2.attn.qkv.bias is missing"
    assert complaint(whole | noise("layer9.weight"), VIT) == f"{file} does not fit {VIT}: layer9.weight is unexpected"
    wrong = complaint(whole | noise("cls_token"), VIT)
    assert wrong == f"{file} does not fit {VIT}: cls_token must have shape (1, 1, 64), got (3,)"
    assert complaint(whole, "timm:test_vit2").startswith(f"{file} does not fit timm:test_vit2: ")
    moco = CASES["moco"](sources[RESNET], sources[VIT])[1]
    moco["state_dict"] |= noise("module.mystery")
    assert "module.mystery is unexpected: in layout moco neither the encoder nor a head has this key" in complaint(moco)
    assert "contains no encoder with the key names of mae" in complaint(whole, layout="mae")
    assert "unknown layout 'msm': did you mean msn?" in complaint(whole, layout="msm")
    assert "contains no encoder with the key names of" in complaint([1, 2])
    own = {"recipe": {}, "epoch": 1, "method": named("method.encoder.", sources[RESNET])}
    assert complaint(own) == f"{file} is a checkpoint of `twoview train`: give its path alone, without checkpoint:"
    uncounted = {
        key: value for key, value in named("", sources[RESNET]).items() if not key.endswith("num_batches_tracked")
    }
    torch.save(uncounted, file)
    same_features(encoders.load(f"checkpoint:{file}", RESNET), sources[RESNET], 64)


class Config:
    """What a trainer might have pickled into its checkpoint."""


def test_an_unreadable_file_is_reported_in_one_sentence(tmp_path, sources):
    file = tmp_path / "them.pth"
    torch.save({"state_dict": {}, "config": Config()}, file)
    with pytest.raises(
        ValueError, match="holds more than tensors and plain values, and reading the rest would run its code"
    ):
        encoders.load(f"checkpoint:{file}", RESNET)
    for damaged, name in (
        (b"\x80\x02garbage", "a.pth"),
        (b"PK\x03\x04", "b.pth"),
        (b"", "c.pth"),
        (b"{}", "d.safetensors"),
    ):
        (tmp_path / name).write_bytes(damaged)
        with pytest.raises(ValueError, match=f"{name} cannot be read as a checkpoint"):
            encoders.load(f"checkpoint:{tmp_path / name}", RESNET)
    with pytest.raises(FileNotFoundError, match="no checkpoint at"):
        encoders.load("checkpoint:none.pth", RESNET)


def other_files():
    """name -> content of a file that is not a checkpoint, and how the error describes it."""
    safetensors = pytest.importorskip("safetensors.torch")
    with zipfile.ZipFile(archive := io.BytesIO(), "w") as file:
        file.writestr("readme.txt", "no checkpoint")
    torch.save({"weight": torch.ones(3)}, saved := io.BytesIO())
    page = b"<!DOCTYPE html><html>Google Drive - Virus scan warning</html>"
    return {
        "page.pth": (page, "it is a web page"),
        "page2.pth": (b"\n<html lang='en'>Sign in</html>", "it is a web page"),
        "page.safetensors": (page, "it is a web page"),
        "lfs.pth": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "it is a Git LFS pointer"),
        "denied.pth": (b'{"error": "Access denied"}', "it is a text"),
        "empty.pth": (b"", "it is empty"),
        "archive.pth": (archive.getvalue(), "it is a zip archive that holds no checkpoint"),
        "cut.pth": (saved.getvalue()[:-100], "it is cut off, or damaged"),
        "tensors.pth": (safetensors.save({"weight": torch.ones(3)}), "name must end in .safetensors"),
        "saved.safetensors": (saved.getvalue(), "it is a file of torch.save, whose name must not end in .safetensors"),
        "packed.pth": (gzip.compress(saved.getvalue()), "it is compressed by gzip, and must be unpacked first"),
        "noise.pth": (b"\x80\x02garbage", "it is damaged, or was not written by torch.save"),
    }


def test_other_kinds_of_files_are_recognized(tmp_path, capsys):
    """In one sentence that names the file, both for `--encoder` and for twoview's own checkpoints."""
    for name, (content, words) in other_files().items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError) as error:
            encoders.load(f"checkpoint:{tmp_path / name}", RESNET)
        said = str(error.value)
        assert said.startswith(f"{tmp_path / name} cannot be read as a checkpoint: ") and words in said, said
        assert "\n" not in said and "weights_only" not in said
        if name != "noise.pth":
            with pytest.raises(ValueError, match=re.escape(said)):
                checkpoint.load(tmp_path / name)
    assert run(["probe", str(tmp_path / "page.pth")]) == 2
    assert "page.pth cannot be read as a checkpoint: it is a web page" in capsys.readouterr().err


def test_safetensors_files_are_read(tmp_path, sources):
    safetensors = pytest.importorskip("safetensors.torch")
    safetensors.save_file(named("", sources[VIT]), tmp_path / "them.safetensors")
    same_features(encoders.load(f"checkpoint:{tmp_path / 'them.safetensors'}", VIT), sources[VIT], 160)


def test_a_header_larger_than_its_file_is_refused(tmp_path):
    for said in (10**12, 10**6):
        (tmp_path / "them.safetensors").write_bytes(said.to_bytes(8, "little") + b"{}" * 100)
        with pytest.raises(ValueError, match=rf"its header claims {said:,} bytes, but the file has 208"):
            encoders.load(f"checkpoint:{tmp_path / 'them.safetensors'}", VIT)


def test_tensors_larger_than_their_file_are_refused(tmp_path):
    torch.save({"conv1.weight": torch.zeros(1).expand(10**5, 10**6)}, tmp_path / "them.pth")
    with pytest.raises(ValueError, match=r"them\.pth cannot be read as a checkpoint: its tensors claim"):
        encoders.load(f"checkpoint:{tmp_path / 'them.pth'}", RESNET)
    torch.save({"conv1.weight": torch.zeros(10**6)}, saved := io.BytesIO())
    with zipfile.ZipFile(saved) as old, zipfile.ZipFile(tmp_path / "them.pth", "w", zipfile.ZIP_DEFLATED) as new:
        for record in old.infolist():
            new.writestr(record.filename, old.read(record))
    with pytest.raises(ValueError, match=r"them\.pth cannot be read as a checkpoint: its .* is compressed"):
        encoders.load(f"checkpoint:{tmp_path / 'them.pth'}", RESNET)


def test_weights_that_are_not_finite_are_named(tmp_path, sources):
    whole = named("", sources[VIT])
    torch.save(whole | {"norm.bias": whole["norm.bias"] * float("nan")}, tmp_path / "them.pth")
    with pytest.raises(ValueError, match=r"norm\.bias must be finite, got NaN or infinity"):
        encoders.load(f"checkpoint:{tmp_path / 'them.pth'}", VIT)


def test_any_file_name_becomes_a_valid_record_name(tmp_path, sources):
    file = tmp_path / "my (best) ..\x1b[31m.pth"
    torch.save(named("", sources[VIT]), file)
    assert encoders.load(f"checkpoint:{file}", VIT).name == "checkpoint-my--best--..--31m"


@pytest.mark.parametrize(
    ("spec", "options", "complaint"),
    [
        ("resnet18", {}, "must be torchvision:NAME, timm:NAME or checkpoint:FILE, got resnet18"),
        ("checkpoint:x.pth", {}, "needs --arch: torchvision:NAME or timm:NAME"),
        ("timm:test_vit", {"arch": RESNET}, "--arch and --layout go with checkpoint:FILE"),
        ("torchvision:resnet19", {}, "unknown model of torchvision 'resnet19': did you mean resnet1"),
        ("torchvision:resnet18.V9", {}, "unknown weights of resnet18 'V9'"),
        ("timm:vit_smal_patch16_224.dino", {}, "did you mean vit_small_patch16_224"),
    ],
)
def test_a_wrong_option_is_named(spec, options, complaint):
    with pytest.raises(ValueError, match=complaint):
        encoders.load(spec, **options)


@pytest.mark.parametrize("arch", ["timm:vit_tiny_patch16_224.augreg_in21k", "timm:vit_tiny_patch16_224"])
def test_the_arch_of_a_file_may_have_the_name_of_weights(arch, tmp_path):
    source = timm.create_model("vit_tiny_patch16_224")
    torch.save(source.state_dict(), tmp_path / "them.pth")
    source.reset_classifier(0)
    same_features(encoders.load(f"checkpoint:{tmp_path / 'them.pth'}", arch), source.eval(), 224)


@pytest.mark.parametrize("name", ["test_vit.r160_in1k", "test_vit", "hf-hub:timm/test_vit.r160_in1k"])
def test_weights_of_timm_are_asked_for_by_their_whole_name(name, monkeypatch):
    create, asked = timm.create_model, []

    def offline(wanted, pretrained, num_classes):
        asked.append((wanted, pretrained))
        return create("test_vit", num_classes=num_classes)

    monkeypatch.setattr(timm, "create_model", offline)
    assert encoders.load(f"timm:{name}").dim == 64 and asked == [(name, True)]


def test_a_wrong_arch_is_named(tmp_path, sources):
    torch.save(named("", sources[RESNET]), tmp_path / "them.pth")
    with pytest.raises(ValueError, match="--arch must be torchvision:NAME or timm:NAME, got resnet18"):
        encoders.load(f"checkpoint:{tmp_path / 'them.pth'}", "resnet18")


def test_published_weights_come_from_torchs_folder(tmp_path, monkeypatch):
    """A file as a download would have left it, except for the checksum, which torch.hub checks."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    source = torchvision.models.resnet18()
    (tmp_path / "checkpoints").mkdir()
    torch.save(source.state_dict(), tmp_path / "checkpoints" / "resnet18-f37072fd.pth")
    found = encoders.load("torchvision:resnet18.IMAGENET1K_V1")
    source.fc = nn.Identity()
    same_features(found, source.eval(), 64)
    assert (found.name, found.size, found.dim) == ("torchvision-resnet18.IMAGENET1K_V1", 224, 512)


@pytest.mark.parametrize(
    ("name", "size", "dim"), [("swin_t.IMAGENET1K_V1", 224, 768), ("efficientnet_b1.IMAGENET1K_V2", 240, 1280)]
)
def test_the_head_is_removed_and_the_size_is_that_of_the_weights(name, size, dim, monkeypatch):
    source = torchvision.models.get_model(name.partition(".")[0], weights=None)
    monkeypatch.setattr(torchvision.models.WeightsEnum, "get_state_dict", lambda *_, **__: source.state_dict())
    found = encoders.load(f"torchvision:{name}")
    assert (found.size, found.dim) == (size, dim)


def test_images_of_another_size_are_accepted_or_refused_in_one_sentence():
    vit = encoders._built("timm:vit_tiny_patch16_224")[0].eval()
    published = encoders.Published("vit", vit, 192, 224, None, "0", "here")
    with pytest.raises(ValueError, match="vit cannot take images of 32 pixels: Input height"):
        encoders.sized(published, 32)
    pixels = encoders.Published("pixels", nn.Identity(), 3 * 32**2, 32, None, "0", "here")
    found = encoders.sized(pixels, 16)
    assert (found.size, found.dim) == (16, 3 * 16**2)


def test_without_a_network_the_missing_file_is_named(tmp_path, monkeypatch):
    def offline(*_, **__):
        raise socket.gaierror(-3, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", offline)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(
        OSError, match=r"resnet18-f37072fd.pth is missing and cannot be downloaded from https://.*name resolution"
    ):
        encoders.load("torchvision:resnet18")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)  # else it tries for a minute
    with pytest.raises(
        OSError, match=r"timm:test_vit: its file is missing and cannot be downloaded from huggingface.co/timm/test"
    ):
        encoders.load("timm:test_vit")
