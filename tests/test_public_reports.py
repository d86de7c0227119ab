"""Faults that users of similar tools have reported in public; a comment above each test names the report."""

import errno
import fcntl
import io
import math
import os
import signal
import subprocess
import sys
import threading
import types
from collections import OrderedDict
from itertools import chain, count

import numpy as np
import pytest
import torch
from PIL import Image

from twoview.bench.config import recipe
from twoview.loaders import beton, datasets
from twoview.loaders.datasets.samples import samples_from_arrays, samples_from_list
from twoview.loaders.decode import view_table
from twoview.loaders.files import whole_file
from twoview.loaders.loader import Loader
from twoview.loaders.prepared import prepared
from twoview.loaders.presets import preset
from twoview.loaders.storage import Storage
from twoview.loaders.views import Blur, Jitter, Solarize, View
from twoview.methods import checkpoint, ema
from twoview.methods.losses.infonce import nt_xent
from twoview.methods.optim import Optim, lr_at
from twoview.methods.probes.features import Kept, extract
from twoview.methods.probes.knn import knn_top1, votes
from twoview.methods.probes.linear import logistic
from twoview.methods.probes.low_shot import low_shot, read_list
from twoview.methods.probes.metrics import metrics
from twoview.methods.probes.sgd_grid import sgd_grid

STATE = {"recipe": {"name": "r"}, "method": OrderedDict(w=torch.ones(3)), "epoch": 1}


def written(path, samples):
    for _ in beton.write(path, len(samples), samples.stored):
        pass
    return beton.open_beton(path)


# facebookresearch/dino#89: top-5 of a kNN counts classes that got no vote
def test_a_class_without_a_vote_is_not_among_the_top_five():
    label = torch.arange(10)
    scores = torch.cat(list(votes(torch.eye(10), label, torch.eye(10), classes=10, k=1)))
    assert metrics([scores], label).top5 == 100
    for other in range(1, 10):
        assert metrics([scores], (label + other) % 10).top5 == 0
    flat = metrics([torch.zeros(10, 10)], label)
    assert flat.top1 == flat.top5 == 10, "of equal scores one class is chosen, and not five"
    six = torch.tensor([[0.9, 0.8, 0.7, 0.6, 0.5, 0.4]])
    assert [metrics([six], torch.tensor([place])).top5 for place in (0, 4, 5)] == [100, 100, 0]


# vturrisi/solo-learn#345, galilai-group/stable-pretraining#373: labels with gaps, a class that the bank lacks
def test_classes_may_be_missing_and_labels_have_gaps_but_none_is_below_0():
    bank, label = torch.eye(6), torch.tensor([0, 7, 7, 0, 21, 21])
    assert knn_top1(bank, label, bank, label, k=1) == 100
    assert knn_top1(bank, label, bank, torch.tensor([0, 7, 30, 0, 21, 30]), k=1) == pytest.approx(100 * 4 / 6)
    scores = torch.cat(list(votes(bank, label, bank, classes=31, k=1)))
    assert scores.shape == (6, 31) and metrics([scores], label).per_class[1] is None
    for wrong in (-1, 22):
        with pytest.raises(ValueError, match=rf"labels must be from 0 to 21, got {wrong}$"):
            next(votes(bank, torch.tensor([0, 7, 7, 0, 21, wrong]), bank, classes=22, k=1))
    with pytest.raises(ValueError, match="labels must be from 0 to 30, a column of the scores, got -1"):
        metrics([scores], label - 1)


# embeddings-benchmark/mteb#1943: a linear probe of features that are NaN
@pytest.mark.parametrize("broken", [math.nan, math.inf])
def test_a_linear_probe_says_that_features_are_not_finite(broken):
    x, label = torch.randn(40, 3), torch.arange(40) % 2
    x[7, 1] = broken
    with pytest.raises(ValueError, match="linear probe: the features to train on are not finite"):
        logistic(x, label, 2)
    with pytest.raises(ValueError, match="linear probe: the features to train on are not finite"):
        sgd_grid(x, label, 2, epochs=1)
    with pytest.raises(ValueError, match="linear probe: the features to train on are not finite"):
        low_shot(x, label, x, label, [np.arange(20)], 2, weight_decay=1e-3)


# huggingface/pytorch-image-models#340: checkpoints on a file system without hard links
@pytest.mark.parametrize("refusal", [errno.ENOSYS, errno.EPERM, errno.EOPNOTSUPP])
def test_no_hard_links_are_needed(tmp_path, monkeypatch, refusal):
    def link(source, other):
        raise OSError(refusal, os.strerror(refusal), source, None, other)

    monkeypatch.setattr(os, "link", link)
    for epoch in range(1, 4):
        checkpoint.save(tmp_path / "a.pt", {**STATE, "epoch": epoch})
    assert [checkpoint.load(tmp_path / name)["epoch"] for name in ("a.pt", "a.1.pt")] == [3, 2]
    with whole_file(tmp_path / "record", first=True) as part:
        part.write_text("first")
    with pytest.raises(FileExistsError), whole_file(tmp_path / "record", first=True) as part:
        part.write_text("second")
    assert (tmp_path / "record").read_text() == "first"
    assert sorted(os.listdir(tmp_path)) == ["a.1.pt", "a.pt", "record"]


def test_a_link_that_fails_for_another_reason_is_an_error(tmp_path, monkeypatch):
    def link(source, other):
        raise OSError(errno.EACCES, "Permission denied", source, None, other)

    checkpoint.save(tmp_path / "a.pt", STATE)
    monkeypatch.setattr(os, "link", link)
    with pytest.raises(PermissionError):
        checkpoint.save(tmp_path / "a.pt", STATE)


# nerfstudio-project/nerfstudio#3683: a checkpoint with NumPy's numbers is written, but cannot be read
def test_a_saved_checkpoint_can_be_read(tmp_path):
    path = tmp_path / "a.pt"
    settings = {"lr": np.float64(0.1), "steps": [np.int32(3)], "name": np.str_("r"), "betas": (np.float32(0.5), 1)}
    checkpoint.save(path, {**STATE, "recipe": settings, "epoch": np.int64(7)})
    state = checkpoint.load(path)
    assert state["recipe"] == {"lr": 0.1, "steps": [3], "name": "r", "betas": (0.5, 1)} and state["epoch"] == 7
    for value, kind in ((tmp_path, "PosixPath"), (np.ones(2), "ndarray"), (types.SimpleNamespace(), "SimpleNamespace")):
        with pytest.raises(ValueError, match=rf"a\.pt: recipe\.out must be a tensor or a plain value, got {kind}"):
            checkpoint.save(path, {**STATE, "recipe": {"out": value}})
    assert checkpoint.load(path)["epoch"] == 7, "the old one is kept"
    torch.save({**STATE, "args": types.SimpleNamespace()}, path)
    with pytest.raises(ValueError, match=r"is damaged, or holds more than tensors and plain values$"):
        checkpoint.load(path)


# huggingface/huggingface_hub#2399: a cache on a file system without locks
def test_a_file_system_without_locks_is_named_for_features(tmp_path, monkeypatch):
    def flock(file, kind):
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", flock)
    kept = Kept(tmp_path, "0" * 16, "d", "train", 8, [np.arange(3)])
    with pytest.raises(OSError, match=r"its file system must support locks: Function not implemented: '.*lock'"):
        extract(None, None, None, torch.device("cpu"), lambda: None, kept=kept)


# libffcv/ffcv#259, libffcv/ffcv#282: images with one channel, with four, and with floating-point numbers
@pytest.mark.parametrize("shape", [(4, 8, 8), (4, 8, 8, 1), (4, 8, 8, 4), (4, 3, 8, 8)])
def test_pixels_that_are_not_rgb_are_refused(tmp_path, shape):
    with pytest.raises(ValueError, match=r"sample 0 of arrays must be uint8 pixels \(height, width, 3\), got uint8"):
        written(tmp_path / "a.beton", samples_from_arrays(np.zeros(shape, np.uint8), [0] * 4, "arrays"))
    with pytest.raises(ValueError, match="got float32"):
        written(tmp_path / "a.beton", samples_from_arrays(np.zeros((4, 8, 8, 3), np.float32), [0] * 4, "arrays"))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("labels", "complaint"),
    [
        ([0.7, 1.2], r"labels must be whole numbers below 2 \*\* 63, got float64"),
        ([0, math.nan], "got float64"),
        (np.array([1, 2**63], np.uint64), f"got {2**63}$"),
        (["cat", "dog"], "got <U3"),
        ([0], r"a label for each of 2 images, got labels of shape \(1,\)"),
        ([[0], [1]], r"a label for each of 2 images, got labels of shape \(2, 1\)"),
    ],
)
def test_labels_that_are_not_class_numbers_are_refused(labels, complaint):
    with pytest.raises(ValueError, match=f"^arrays: .*{complaint}"):
        samples_from_arrays(np.zeros((2, 8, 8, 3), np.uint8), labels, "arrays")


def test_labels_of_any_integer_type_are_accepted():
    for kind in (np.uint8, np.int16, np.uint64, bool):
        labels = samples_from_arrays(np.zeros((2, 8, 8, 3), np.uint8), np.array([0, 1], kind), "arrays").labels
        assert labels.dtype == np.int64 and labels.tolist() == [0, 1]


# huggingface/datasets#245: the labels of a test split are all -1
def test_a_labeled_split_replaces_a_test_split_without_labels(monkeypatch):
    import datasets as hub

    names = hub.ClassLabel(names=["cat", "dog"])
    features = hub.Features(image=hub.Image(), label=names)
    labels = {"train": [0, 1], "validation": [1, 0], "test": [-1, -1]}
    monkeypatch.setattr(hub, "get_dataset_split_names", lambda name: list(labels))
    monkeypatch.setattr(
        hub,
        "load_dataset",
        lambda name, split: hub.Dataset.from_dict({"image": [None, None], "label": labels[split]}, features=features),
    )
    assert datasets.dataset("hf:a/b").find(None, "test").labels.tolist() == [1, 0]
    labels["test"] = [-1, 1]
    assert datasets.dataset("hf:a/b").find(None, "test").labels.tolist() == [-1, 1]
    del labels["validation"]
    labels["test"] = [-1, -1]
    assert datasets.dataset("hf:a/b").find(None, "test").labels.tolist() == [-1, -1], "the user of labels reports it"


# open-mmlab/mmcv#1043: lists with Windows' line ends and in other encodings
def test_lists_may_have_any_line_ends_but_only_one_encoding(tmp_path):
    listed = tmp_path / "list.txt"
    for name in ("é.png", "b c.png"):
        Image.new("RGB", (4, 4)).save(tmp_path / name)
    for end in ("\n", "\r\n"):
        for mark in ("", "\ufeff"):
            listed.write_bytes(f"{mark}é.png 0{end}b c.png 1{end}".encode())
            samples = samples_from_list(listed, tmp_path, 2)
            assert samples.labels.tolist() == [0, 1] and samples.image(1).shape == (4, 4, 3)
            listed.write_bytes(f"{mark}3{end}1{end}".encode())
            assert read_list(listed, 4).tolist() == [3, 1]
    listed.write_bytes("é.png 0\n".encode("latin-1"))
    with pytest.raises(ValueError, match=r"list\.txt must be a text in UTF-8: "):
        samples_from_list(listed, tmp_path, 2)
    with pytest.raises(ValueError, match=r"list\.txt must be a text in UTF-8: "):
        read_list(listed, 4)
    toml = tmp_path / "own.toml"
    toml.write_bytes(b"\xef\xbb\xbf" + recipe.find("quick-fashion-mnist").read_bytes().replace(b"\n", b"\r\n"))
    assert recipe.load(str(toml)).name == "own"


# Textualize/rich#212: output fails if the locale is not UTF-8
def test_an_ascii_locale_does_not_end_a_command():
    program = r"from twoview.bench.runtime import pipes; pipes.outlive_readers(); print('97 \xb1 1 \u2265 96')"
    ascii_only = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, env=ascii_only)
    assert done.stdout == rb"97 \xb1 1 \u2265 96" + b"\n", done.stderr


# pytorch/vision#8904: a crop's ratio of more than two numbers
@pytest.mark.parametrize(
    ("view", "complaint"),
    [
        (View(8, ratio=(0.5, 1.0, 2.0)), "scale and ratio must be two positive numbers"),
        (View(8, scale=(0.5,)), "scale and ratio must be two positive numbers"),
        (View(8, scale=(math.nan, 1.0)), "scale and ratio must be two positive numbers"),
        (View(8, flip=2.0), "probabilities must be from 0 to 1"),
        (View(8, gray=-0.1), "probabilities must be from 0 to 1"),
        (View(8, flip=math.nan), "probabilities must be from 0 to 1"),
        (View(8, blur=Blur(0.1, 2.0, 3, 20)), "probabilities must be from 0 to 1"),
        (View(8, solarize=Solarize(128, 128)), "probabilities must be from 0 to 1"),
        (View(8, jitter=Jitter(-0.4, 0.4, 0.4, 0.1, 0.8)), "brightness, contrast and saturation must be 0 or above"),
        (
            View(8, jitter=Jitter(0.4, math.nan, 0.4, 0.1, 0.8)),
            "brightness, contrast and saturation must be 0 or above",
        ),
    ],
)
def test_an_invalid_view_is_named(view, complaint):
    with pytest.raises(ValueError, match=rf"{complaint}.*: View\(size=8"):
        view_table([view])


# mosaicml/streaming#659: offsets beyond 4 GiB
def test_samples_beyond_4_gib_are_read(tmp_path):
    path, places = tmp_path / "large.beton", [(1 << 31) - beton.PAGE, 1 << 31, 1 << 32, 5 << 30]
    pixels = np.random.default_rng(0).integers(0, 256, (4, 6, 6, 3), np.uint8)
    fields = np.zeros(2, beton.FIELD)
    fields["type_id"] = beton.IMAGE_FIELD, beton.INT_FIELD
    for row, name in zip(fields, (b"image", b"label"), strict=True):
        row["name"][: len(name)] = np.frombuffer(name, np.uint8)
    rows = np.array([((beton.RAW, 6, 6, place), label) for label, place in enumerate(places)], beton.SAMPLE)
    table = np.array([(sample, place, 6 * 6 * 3) for sample, place in enumerate(places)], beton.ALLOCATION)
    end = places[-1] + beton.PAGE
    with open(path, "wb") as file:  # a sparse file, whose holes take no space on the disk
        header = np.array((beton.VERSION, 2, beton.PAGE, 4, end), beton.HEADER)
        file.write(header.tobytes() + fields.tobytes() + rows.tobytes())
        for place, image in zip([*places, end], [*pixels, table], strict=True):
            file.seek(place)
            file.write(image.tobytes())
    assert path.stat().st_blocks * 512 < 1 << 24
    whole = View(6, scale=None, resize=6, flip=0)
    with Loader(beton.open_beton(path), [whole], 4, shuffle=False) as loader:
        (batch,) = loader.epoch(0)
        assert np.array_equal(batch.views[0].permute(0, 2, 3, 1).numpy(), pixels) and batch.label.tolist() == [
            0,
            1,
            2,
            3,
        ]


# mlverse/torchvision#44, mindee/doctr#695: crops and resized images of zero pixels, from very long images
@pytest.mark.parametrize(("height", "width"), [(1, 65_500), (65_500, 1), (2, 3000), (1, 1)])
@pytest.mark.parametrize("stored", ["JPEG", "pixels"])
def test_very_long_images_are_loaded(tmp_path, height, width, stored):
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    content = pixels
    if stored == "JPEG":
        Image.fromarray(pixels).save(buffer := io.BytesIO(), "JPEG")
        content = buffer.getvalue()
    samples = datasets.Samples(lambda index: content, np.zeros(2, np.int64), "long ones")
    views = (View(32), *preset("eval", 32))
    with Loader(written(tmp_path / "long.beton", samples), views, 2) as loader:
        (batch,) = loader.epoch(0)
        assert [view.shape for view in batch.views] == [(2, 3, 32, 32)] * 2
    smaller = prepared(samples, Storage(longest=16, quality=90)).stored(0)
    assert max(smaller.height, smaller.width) == min(16, max(height, width)) and min(smaller.height, smaller.width) == 1


# lightly-ai/lightly#1259: the 1e-12 that keeps a division from 0 is 0 in half precision
@pytest.mark.parametrize("size", [0.0, 6e-8])
def test_tiny_embeddings_in_half_precision_have_a_finite_loss(size):
    z = torch.full((4, 8), size, dtype=torch.float16, requires_grad=True)
    loss = nt_xent(z, z, 0.1)
    loss.backward()
    assert math.isfinite(loss.item()) and not z.grad.isnan().any()


# huggingface/pytorch-image-models#1242, microsoft/Swin-Transformer#277: the rate drops where the warm-up ends
@pytest.mark.parametrize("warmup", [0, 1, 20, 99])
def test_the_learning_rate_has_no_jump_after_the_warm_up_and_reaches_its_floor(warmup):
    settings, epochs = Optim(lr=1.0, warmup_epochs=warmup, floor=0.01), 100
    rates = np.array([lr_at(settings, epoch, epochs) for epoch in np.linspace(0, epochs, 10_001)])
    assert rates.max() == 1 and rates[100 * warmup] == 1 and rates[-1] == pytest.approx(0.01)
    assert np.abs(np.diff(rates)).max() < 0.017, "in a hundredth of an epoch"
    assert (np.diff(rates[: 100 * warmup + 1]) > 0).all() and (np.diff(rates[100 * warmup :]) < 0).all()


# vturrisi/solo-learn#248, vturrisi/solo-learn#286: the momentum is 1 after the first epochs
def test_the_momentum_is_1_at_the_end_and_not_before():
    steps = 100 * 5
    momenta = np.array([ema.cosine(0.996, 1.0, step / steps) for step in range(steps + 1)])
    assert momenta[0] == 0.996 and momenta[-1] == 1 and momenta[steps // 2] == pytest.approx(0.998)
    assert (np.diff(momenta) > 0).all() and momenta[-2] < 1


# pytorch/pytorch#25162, pytorch/pytorch#49172: images that are repeated to fill the ranks, or too few for the ranks
@pytest.mark.parametrize(("images", "world"), [(10, 4), (3, 7), (1, 2), (8, 8)])
def test_the_ranks_evaluate_every_image_once(fashion, images, world):
    seen = []
    for rank in range(world):
        try:
            loader = Loader(
                fashion, [View(8)], 4, indices=np.arange(images), shuffle=False, drop_last=False, rank=rank, world=world
            )
        except ValueError as error:
            assert f"{images} images do not fill one batch of {4 * world}" in str(error)
            continue
        with loader:
            seen += [int(sample) for batch in loader.epoch(0) for sample in batch.index]
    assert sorted(seen) == list(range(images))


# pytorch/pytorch#22924: Ctrl-C in the middle of an epoch
def test_an_interrupt_ends_the_threads(fashion):
    threads, handler = threading.active_count(), signal.signal(signal.SIGINT, signal.default_int_handler)
    over = threading.Event()

    def interrupt():
        """Repeated after seconds, because an interrupt is lost while Python runs a finalizer."""
        wait = 0.1
        while not over.wait(wait):
            os.kill(os.getpid(), signal.SIGINT)
            wait = 10

    hand = threading.Thread(target=interrupt)
    try:
        with pytest.raises(KeyboardInterrupt), Loader(fashion, [View(96)] * 2, 64, threads=2) as loader:
            hand.start()
            for _ in chain.from_iterable(map(loader.epoch, count())):
                pass
    finally:
        over.set()
        hand.join()
        signal.signal(signal.SIGINT, handler)
    assert threading.active_count() == threads
