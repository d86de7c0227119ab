"""Archives are unpacked atomically: wrong checksums, paths that lead outside, damage, killed processes."""

import gzip
import io
import os
import shutil
import stat
import tarfile
import zipfile
from functools import partial
from hashlib import md5
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from twoview.loaders.datasets import archives, dataset
from twoview.loaders.datasets.archives import Archive, gunzipped, obtain, unpack


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
    """Yield a folder and the address at which it is served."""
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
    """Return a function: names in the archive -> an `Archive` that can be downloaded."""
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


NOT_FILES = {
    "a link": (tarfile.SYMTYPE, "things/a"),
    "a link that leads out": (tarfile.SYMTYPE, "../../victim"),
    "a hard link": (tarfile.LNKTYPE, "things/a"),
    "a hard link that leads out": (tarfile.LNKTYPE, "../victim"),
    "a device": (tarfile.CHRTYPE, ""),
    "a pipe": (tarfile.FIFOTYPE, ""),
}


@pytest.mark.parametrize("kind", NOT_FILES)
def test_only_files_and_folders_are_unpacked(kind, tmp_path):
    with tarfile.open(tmp_path / "x.tar.gz", "w:gz") as tar:
        tar.addfile(tarfile.TarInfo("things/a"))
        info = tarfile.TarInfo("things/odd")
        info.type, info.linkname = NOT_FILES[kind]
        tar.addfile(info)
    with pytest.raises(ValueError, match=r"x\.tar\.gz holds 'things/odd', which is neither a file nor a folder"):
        unpack(tmp_path / "x.tar.gz", tmp_path / "out")
    assert [child.name for child in tmp_path.iterdir()] == ["x.tar.gz"]


def test_a_link_in_a_zip_is_refused(tmp_path):
    info = zipfile.ZipInfo("odd")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as opened:
        opened.writestr(info, "/etc/passwd")
    with pytest.raises(ValueError, match=r"x\.zip holds 'odd', which is neither a file nor a folder"):
        unpack(tmp_path / "x.zip", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["/absolute", "..", "a/../../b", "a\\..\\..\\b", "/".join("a" * 65)])
@pytest.mark.parametrize("make", MAKERS.values())
def test_a_path_is_one_inside(make, name, tmp_path):
    file, victim = tmp_path / "deep" / "x", tmp_path / "deep" / "b"
    file.parent.mkdir()
    make(file, ["fine", name])
    with pytest.raises(ValueError, match=rf"{file} (holds the path .*, which leads out of it|must have at most 64)"):
        unpack(file, tmp_path / "deep" / "out")
    assert sorted(tmp_path.rglob("*")) == [file.parent, file] and not victim.exists()


def test_what_an_archive_unpacks_to_is_bounded_by_its_own_size_and_the_disk(tmp_path, monkeypatch):
    zeros = bytes(1 << 20)
    with zipfile.ZipFile(tmp_path / "x.zip", "w", zipfile.ZIP_DEFLATED) as opened:
        for number in range(120):
            opened.writestr(str(number), zeros)
    with tarfile.open(tmp_path / "x.tar.gz", "w:gz") as tar:
        for number in range(120):
            info = tarfile.TarInfo(str(number))
            info.size = len(zeros)
            tar.addfile(info, io.BytesIO(zeros))
    for name in ("x.zip", "x.tar.gz"):
        complaint = (
            rf"{name}, unpacked, must have at most 100 bytes for each byte of the archive, got 101; "
            ".* TWOVIEW_MAX_UNPACKED"
        )
        with pytest.raises(ValueError, match=complaint):
            unpack(tmp_path / name, tmp_path / "out")
        assert not (tmp_path / "out").exists()
    monkeypatch.setenv("TWOVIEW_MAX_UNPACKED", "1000")
    unpack(tmp_path / "x.zip", tmp_path / "out")
    assert len(list((tmp_path / "out").iterdir())) == 120
    free = shutil.disk_usage(tmp_path)._replace(free=10_000_000)
    monkeypatch.setattr(archives.shutil, "disk_usage", lambda folder: free)
    with pytest.raises(
        ValueError, match=r"x\.tar\.gz needs at least 10,\d+,\d+ bytes when unpacked, and .* has 10,000,000"
    ):
        unpack(tmp_path / "x.tar.gz", tmp_path / "more")
    assert not (tmp_path / "more").exists()


def header(type, size):
    """Return a tar header that claims this number of bytes."""
    info = tarfile.TarInfo("a")
    block = bytearray(info.tobuf(tarfile.USTAR_FORMAT))
    block[124:136], block[156:157] = tarfile.itn(size, 12, tarfile.GNU_FORMAT), type
    block[148:156] = b"%06o\0 " % tarfile.calc_chksums(bytes(block))[0]
    return bytes(block)


@pytest.mark.parametrize(
    "content",
    [
        header(tarfile.XHDTYPE, 1 << 33),
        header(tarfile.GNUTYPE_LONGNAME, 1 << 17),
        header(tarfile.REGTYPE, -5),
        header(tarfile.REGTYPE, 1 << 20),
        header(tarfile.XHDTYPE, 12) + b"11 size=-99\n".ljust(512, b"\0") + header(tarfile.REGTYPE, 0),
    ],
)
def test_what_a_tar_s_header_says_is_bounded(content, tmp_path):
    (tmp_path / "x.tar").write_bytes(header(tarfile.REGTYPE, 0) + content + bytes(1024))
    with pytest.raises(ValueError, match=r"x\.tar cannot be unpacked: "):
        unpack(tmp_path / "x.tar", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_encrypted_zip_is_a_sentence(tmp_path):
    zip_with(tmp_path / "x.zip", ["a"])
    content = bytearray((tmp_path / "x.zip").read_bytes())
    for mark, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(mark) + place] |= 1
    (tmp_path / "x.zip").write_bytes(content)
    with pytest.raises(ValueError, match=r"x\.zip cannot be unpacked: .*encrypted"):
        unpack(tmp_path / "x.zip", tmp_path / "out")


def test_the_bytes_of_a_damaged_header_are_not_repeated(tmp_path):
    zip_with(tmp_path / "x.zip", ["a" * 50_000])
    content = bytearray((tmp_path / "x.zip").read_bytes())
    content[content.index(b"aaaa") + 40_000] = ord("b")
    (tmp_path / "x.zip").write_bytes(content)
    with pytest.raises(ValueError, match=r"x\.zip cannot be unpacked: File name in directory 'aaa") as found:
        unpack(tmp_path / "x.zip", tmp_path / "out")
    assert len(str(found.value)) < 1000


def test_a_gz_that_unpacks_to_too_much_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "SMALL", 1)
    (tmp_path / "x.gz").write_bytes(gzip.compress(bytes(1 << 20)))
    with pytest.raises(ValueError, match=r"x\.gz, unpacked, must have at most 100 bytes for each byte of the archive"):
        gunzipped(tmp_path / "x.gz")
    (tmp_path / "x.gz").write_bytes(gzip.compress(b"fine")[:-3])
    with pytest.raises(ValueError, match=r"x\.gz cannot be unpacked"):
        gunzipped(tmp_path / "x.gz")


def test_a_checksum_that_differs_is_an_error(archive, root):
    with pytest.raises(ValueError, match=r"things.* must have the MD5 checksum 00.*, got [0-9a-f]{32}"):
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
        with pytest.raises(ValueError, match=r"cifar-100-python.tar.gz must have the MD5 checksum"):
            ask()
    assert [child.name for child in root.iterdir()] == ["cifar-100-python.tar.gz"]


@pytest.mark.timeout(60)
def test_a_pipe_is_no_archive(tmp_path):
    os.mkfifo(tmp_path / "x.tar")
    for read in (gunzipped, lambda file: unpack(file, tmp_path / "out")):
        with pytest.raises(ValueError, match=r"x\.tar must be a file, got a pipe or a device"):
            read(tmp_path / "x.tar")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("names", "complaint"),
    [
        (["."], "holds a file called '.', which cannot be a file's name: nothing is unpacked"),
        ([""], "holds a file called '', which cannot be a file's name: nothing is unpacked"),
        (["a", "a/b"], "holds the path 'a/b', a part of which is both a file and a folder: nothing is unpacked"),
        (["a", "a/b/c"], "holds the path 'a/b/c', a part of which is both a file and a folder: nothing is unpacked"),
        (["a/b", "a"], "holds the path 'a', a part of which is both a file and a folder: nothing is unpacked"),
        (["a", "a/"], "holds the path 'a', a part of which is both a file and a folder: nothing is unpacked"),
        (["x" * 300], "cannot be unpacked: File name too long: "),
        (["../" + "x" * 9999], r"holds the path '../xxx\w+\.\.\., which leads out of it"),
    ],
)
def test_names_that_no_file_can_have_are_sentences(names, complaint, tmp_path):
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        for name in names:
            info = tarfile.TarInfo(name.rstrip("/"))
            info.type = tarfile.DIRTYPE if name.endswith("/") else tarfile.REGTYPE
            tar.addfile(info)
    with pytest.raises(ValueError, match=rf"x\.tar {complaint}") as caught:
        unpack(tmp_path / "x.tar", tmp_path / "out")
    assert "Errno" not in str(caught.value) and len(str(caught.value)) < 1000
    assert [child.name for child in tmp_path.iterdir()] == ["x.tar"]
