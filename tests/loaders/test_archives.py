"""Archives unpack whole or not at all: wrong checksums, paths that lead out, damage, kills."""

import io
import tarfile
import zipfile
from functools import partial
from hashlib import md5
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from loaders.datasets import dataset
from loaders.datasets.archives import Archive, obtain


def tar_with(file, names):
    with tarfile.open(file, "w:gz") as tar:
        for name in names:
            info = tarfile.TarInfo(name)
            info.size = 4
            tar.addfile(info, io.BytesIO(b"data"))


def zip_with(file, names):
    with zipfile.ZipFile(file, "w") as opened:
        for name in names:
            opened.writestr(name, "data")


MAKERS = {"things.tar.gz": tar_with, "things.zip": zip_with}


@pytest.fixture(scope="module")
def web(tmp_path_factory):
    """A folder, and the address that it is served at."""
    folder = tmp_path_factory.mktemp("web")
    handler = partial(QuietHandler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield folder, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *words):
        pass


@pytest.fixture(params=MAKERS)
def archive(request, web):
    """A function: names in the archive -> an `Archive` that can be downloaded."""
    folder, address = web

    def make(*names, **changes):
        file = folder / request.param
        MAKERS[request.param](file, names)
        sum_ = md5(file.read_bytes()).hexdigest()
        return Archive(**{"url": f"{address}/{file.name}", "md5": sum_, "holds": "things", **changes})

    return make


@pytest.fixture
def root(tmp_path):
    (tmp_path / "root").mkdir()
    return tmp_path / "root"


def test_what_is_wanted_appears_and_nothing_else(archive, root):
    one = archive("things/a.txt", "things/deep/b.txt", "other.txt")
    obtain(one, root)
    assert sorted(str(file.relative_to(root)) for file in root.rglob("*.txt")) == ["things/a.txt", "things/deep/b.txt"]
    assert [child.name for child in root.iterdir()] == ["things"]
    (root / "things" / "a.txt").write_text("mine")
    obtain(one, root)
    assert (root / "things" / "a.txt").read_text() == "mine", "what is there is left alone"


def test_an_archive_in_the_data_root_is_taken_and_kept(archive, root, web):
    one = archive("things/a.txt")
    (web[0] / one.name).rename(root / one.name)
    obtain(one, root)
    assert sorted(child.name for child in root.iterdir()) == ["things", one.name]


@pytest.mark.parametrize("name", ["../escaped.txt", "things/../../escaped.txt"])
def test_a_path_that_leads_out_is_refused(archive, root, name):
    with pytest.raises(ValueError, match=r"things.*leads out of it: nothing is unpacked"):
        obtain(archive("things/a.txt", name), root)
    assert not list(root.iterdir()) and not (root.parent / "escaped.txt").exists()


def test_a_checksum_that_differs_is_an_error(archive, root):
    with pytest.raises(ValueError, match=r"checksum of things.* is [0-9a-f]{32}, not 00"):
        obtain(archive("things/a.txt", md5="0" * 32), root)
    assert not list(root.iterdir())


def test_a_damaged_archive_is_an_error(archive, root, web):
    one = archive("things/a.txt", *(f"things/{number}" for number in range(200)), md5=None)
    file = web[0] / one.name
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(ValueError, match=r"things.*cannot be unpacked"):
        obtain(one, root)
    assert not list(root.iterdir())


def test_an_archive_of_something_else_is_an_error(archive, root):
    with pytest.raises(ValueError, match="holds no things"):
        obtain(archive("stuff/a.txt"), root)
    assert not list(root.iterdir())


def test_a_failed_download_is_an_error(root, web):
    with pytest.raises(FileNotFoundError, match=r"downloading .*absent.zip failed"):
        obtain(Archive(f"{web[1]}/absent.zip", None, "things"), root)
    assert not list(root.iterdir())


def test_what_a_killed_process_left_goes(archive, root):
    import socket

    one = archive("things/a.txt")
    left = root / f".{one.name}.{socket.gethostname()}.{2**22 + 1}.part"
    (left / "unpacked" / "things").mkdir(parents=True)
    obtain(one, root)
    assert [child.name for child in root.iterdir()] == ["things"]


def test_a_named_dataset_with_a_wrong_archive_stays_away(root):
    tar_with(root / "cifar-100-python.tar.gz", ["cifar-100-python/train"])
    for ask in (lambda: dataset("cifar100").find(root, "train"), lambda: dataset("cifar100").get(root)):
        with pytest.raises(ValueError, match=r"checksum of cifar-100-python.tar.gz"):
            ask()
    assert [child.name for child in root.iterdir()] == ["cifar-100-python.tar.gz"]
