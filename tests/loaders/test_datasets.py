"""Datasets against torchvision's readers. Image files of every kind are converted correctly or refused by name."""

import io
import re

import numpy as np
import pytest
from PIL import Image

from twoview.loaders import datasets
from twoview.loaders.beton import JPEG, RAW
from twoview.loaders.datasets import bundled_photographs, data_root, dataset, image_folder, read_image


def test_fashion_mnist_is_torchvisions(tmp_path):
    """torchvision reads the same raw files: every pixel and label is equal."""
    import gzip
    import shutil

    from torchvision.datasets import FashionMNIST

    if not datasets.DEBIAN_FASHION_MNIST.is_dir():
        pytest.skip("Debian's package dataset-fashion-mnist is not installed")
    raw = tmp_path / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    for file in datasets.DEBIAN_FASHION_MNIST.glob("*.gz"):
        with gzip.open(file) as source, open(raw / file.stem, "wb") as out:
            shutil.copyfileobj(source, out)
    for split in ("train", "test"):
        theirs = FashionMNIST(str(tmp_path), train=split == "train")
        for root in (tmp_path, None):
            ours = dataset("fashion-mnist").find(root, split)
            assert np.array_equal(ours.labels, theirs.targets.numpy())
            for index in range(0, len(ours), 997):
                assert np.array_equal(ours.image(index), np.repeat(theirs.data[index].numpy()[..., None], 3, 2))
        assert str(tmp_path) in dataset("fashion-mnist").find(tmp_path, split).source, "the data root comes first"


def test_fashion_mnist_statistics_are_those_of_its_pixels():
    samples = dataset("fashion-mnist").find(None, "train")
    values = np.stack([samples.image(i) for i in range(0, len(samples), 7)]) / 255
    assert values.mean() == pytest.approx(dataset("fashion-mnist").mean[0], abs=2e-3)
    assert values.std() == pytest.approx(dataset("fashion-mnist").std[0], abs=2e-3)


def test_cifar10_is_torchvisions(cifar_root):
    from torchvision.datasets import CIFAR10

    for split in ("train", "test"):
        ours, theirs = dataset("cifar10").find(cifar_root, split), CIFAR10(str(cifar_root), train=split == "train")
        assert len(ours) == len(theirs) and np.array_equal(ours.labels, theirs.targets)
        assert np.array_equal(ours.image(123), theirs.data[123])


def test_cifar10_without_a_data_root_says_what_to_name():
    with pytest.raises(FileNotFoundError, match="TWOVIEW_DATA"):
        dataset("cifar10").find(None, "train")


def test_a_damaged_cifar10_is_named(tmp_path):
    (tmp_path / "cifar-10-batches-py").mkdir()
    with pytest.raises(FileNotFoundError, match=re.escape(str(tmp_path / "cifar-10-batches-py"))):
        dataset("cifar10").find(tmp_path, "train")


def test_an_unknown_dataset_is_an_error_with_the_nearest():
    with pytest.raises(ValueError, match=r"'cifar-10': did you mean cifar10\?"):
        dataset("cifar-10")


def test_a_missing_data_root_is_named_with_its_origin(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match=r"nowhere named by --data-root"):
        data_root(tmp_path / "nowhere")
    monkeypatch.setenv("TWOVIEW_DATA", str(tmp_path / "gone"))
    with pytest.raises(FileNotFoundError, match=r"gone named by TWOVIEW_DATA"):
        data_root()
    monkeypatch.delenv("TWOVIEW_DATA")
    assert data_root() is None


def test_the_photographs_are_jpegs_of_varying_sizes():
    samples = dataset("photographs").find(None, "train")
    assert len(samples) >= 256
    sizes = set()
    for index in range(len(samples)):
        stored = samples.stored(index)
        assert stored.mode == JPEG and 300 <= stored.height <= 500 and 300 <= stored.width <= 500
        sizes.add((stored.height, stored.width))
    assert len(sizes) > 200
    assert samples.image(17) == dataset("photographs").find(None, "train").image(17)


@pytest.fixture(scope="module")
def image():
    return bundled_photographs()["chelsea"].crop((0, 0, 60, 40))


def jpeg(image, **options):
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", **options)
    return buffer.getvalue()


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_color_and_gray_jpegs_keep_their_bytes(image, tmp_path, mode):
    file = tmp_path / "a.jpg"
    file.write_bytes(jpeg(image.convert(mode)))
    assert read_image(file) == file.read_bytes()


def test_cmyk_and_rotated_jpegs_become_upright_rgb_pixels(image, tmp_path):
    cmyk = tmp_path / "cmyk.jpg"
    cmyk.write_bytes(jpeg(image.convert("CMYK")))
    assert np.array_equal(read_image(cmyk), np.array(Image.open(cmyk).convert("RGB")))
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise to see it upright
    turned = tmp_path / "turned.jpg"
    turned.write_bytes(jpeg(image, exif=exif))
    expected = np.array(Image.open(turned).convert("RGB").rotate(-90, expand=True))
    assert read_image(turned).shape == (60, 40, 3) and np.array_equal(read_image(turned), expected)


@pytest.mark.parametrize("mode", ["P", "RGBA", "LA", "1", "L"])
def test_other_modes_become_rgb_as_pil_has_it(image, tmp_path, mode):
    file = tmp_path / "a.png"
    image.convert(mode).save(file)
    assert np.array_equal(read_image(file), np.array(Image.open(file).convert("RGB")))


def test_what_8_bits_cannot_hold_is_refused_by_name(tmp_path):
    file = tmp_path / "deep.png"
    Image.fromarray(np.full((4, 4), 40_000, np.uint16)).save(file)
    with pytest.raises(ValueError, match=r"deep\.png has pixels of mode I;16"):
        read_image(file)


@pytest.mark.parametrize("content", [b"", b"not an image", b"\xff\xd8\xff\xe0 cut"])
def test_a_broken_image_is_named(tmp_path, content):
    file = tmp_path / "broken.jpg"
    file.write_bytes(content)
    with pytest.raises(ValueError, match=r"broken\.jpg cannot be read"):
        read_image(file)


def test_an_image_folder_has_torchvisions_classes_and_order(image, tmp_path):
    from torchvision.datasets import ImageFolder

    for name, count in (("dog", 2), ("Cat", 3), ("ant", 1)):
        (tmp_path / name).mkdir()
        for number in range(count):
            image.save(tmp_path / name / f"{number}.png")
    (tmp_path / "notes.txt").write_text("not a class")
    ours, theirs = image_folder(tmp_path), ImageFolder(str(tmp_path))
    assert ours.labels.tolist() == theirs.targets
    stored = ours.stored(0)
    assert (stored.mode, stored.height, stored.width) == (RAW, 40, 60) and stored.content == image.tobytes()


def test_a_folder_without_images_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=re.escape(str(tmp_path))):
        image_folder(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="empty holds no image"):
        image_folder(tmp_path)
