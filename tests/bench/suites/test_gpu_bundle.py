"""The bundle for a GPU machine without a network: its wheels, its tree and commit, packed CIFAR-10, and its scripts."""

import json
import os
import pickle
import struct
import subprocess
import tarfile
import time
import zipfile

import numpy as np
import pytest
from packaging.requirements import Requirement

from twoview.bench.measurement import environment
from twoview.bench.suites.gpu import bundle, packed_cifar, suite, wheels
from twoview.bench.suites.gpu.wheels import Node

PYPROJECT = '[project]\nname = "twoview"\ndependencies = ["alpha>=2", "optuna", "numpy"]\n'


def wheel(folder, name, version, *requires):
    path = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
        lines += [f"Requires-Dist: {one}" for one in requires]
        archive.writestr(f"{name}-{version}.dist-info/METADATA", "\n".join(lines) + "\n")
    return path


@pytest.fixture
def registry(monkeypatch):
    """The available wheels: name -> (version, *requirements). `asked` lists the requested ones."""
    offered, asked = {}, []

    def download(one, node, folder, lock):
        asked.append(str(one))
        if one.name not in offered:
            raise ValueError(f"{one} cannot be had")
        folder.mkdir(exist_ok=True)
        return wheel(folder, one.name, *offered[one.name])

    monkeypatch.setattr(wheels, "download", download)
    offered["asked"] = asked
    return offered


def gather(tmp_path, node, *wanted):
    return [path.name.split("-")[0] for path in wheels.gather(map(Requirement, wanted), node, tmp_path, tmp_path)]


def test_wheels_that_the_node_lacks_are_gathered_with_their_requirements(tmp_path, registry):
    registry |= {
        "a": ("1.0", "b>=2", "older; python_version < '3.12'", "there", "b"),
        "b": ("2.1", "a", "newer; python_full_version >= '3.12.3'", "c; extra == 'more'"),
        "newer": ("1",),
        "c": ("1",),
    }
    node = Node("3.12.3", {"there": "1"})
    assert gather(tmp_path, node, "a", "there>=1") == ["a", "b", "newer"]
    assert gather(tmp_path, Node("3.12.2", {"there": "1"}), "a") == ["a", "b"]
    assert gather(tmp_path, node, "b[more]", "there")[-1] == "c"


def test_an_outdated_package_is_bundled_and_one_of_unknown_version_is_not(tmp_path, registry):
    registry["a"] = ("2.1",)
    assert gather(tmp_path, Node("3.12", {"a": "1.9"}), "a>=2") == ["a"]
    assert gather(tmp_path, Node("3.12", {"a": "2.0+cu130"}), "a>=2") == []
    assert gather(tmp_path, Node("3.12", {"a": None}), "A>=2") == []


def test_unavailable_and_conflicting_requirements_are_named(tmp_path, registry):
    registry |= {"a": ("1", "b<2"), "b": ("2",)}
    with pytest.raises(ValueError, match=r"^nowhere>=7 cannot be had$"):
        gather(tmp_path, Node("3.12", {}), "nowhere>=7")
    with pytest.raises(ValueError, match=r"^b 2 meets one requirement but not another, b<2$"):
        gather(tmp_path, Node("3.12", {}), "b", "a")


def test_pips_reason_is_reported(tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    (tmp_path / "lock").touch()
    with pytest.raises(
        ValueError, match=r"^nowhere>=7 cannot be downloaded as a wheel for Python 3\.12\.3: Could not find a version"
    ):
        wheels.download(Requirement("nowhere>=7"), Node("3.12.3", {}), tmp_path / "wheels", tmp_path / "lock")
    assert not list((tmp_path / "wheels").iterdir())


def test_a_list_of_packages_has_the_format_of_pip_freeze(tmp_path):
    path = tmp_path / "list.txt"
    path.write_text("# a node\npython==3.11.9\nTorch==2.11.0+cu130\nscikit_image\n\nours @ file:///tmp/ours  # built\n")
    assert wheels.read_node(path) == Node("3.11.9", {"torch": "2.11.0+cu130", "scikit-image": None, "ours": None})
    path.write_text("a==1\n-e git+https://somewhere\n")
    with pytest.raises(ValueError, match=r"list\.txt, line 2, must be NAME==VERSION or NAME, got '-e git"):
        wheels.read_node(path)


def test_the_known_node_lacks_the_packages_that_its_owner_listed():
    node = wheels.read_node(bundle.HERE / "node.txt")
    assert node.python == "3.12.3" and node.packages["numpy"] == "2.5.2"
    lacked = ("pydantic", "tyro", "docstring-parser", "typeguard", "annotated-types", "typing-inspection", "lightly")
    assert not any(node.has(Requirement(name)) for name in lacked)
    assert all(node.has(Requirement(name)) for name in ("torch>=2.6", "scikit-image", "nvidia-ml-py"))


def git(folder, *words):
    who = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
    return subprocess.run(
        ["git", "-C", folder, *who, *words], check=True, capture_output=True, text=True
    ).stdout.strip()


@pytest.fixture
def checkout(tmp_path, monkeypatch, registry):
    """A small git checkout in place of twoview's own, and two available wheels."""
    root = tmp_path / "checkout"
    (root / "bench").mkdir(parents=True)
    (root / "pyproject.toml").write_text(PYPROJECT)
    (root / ".gitignore").write_text("out/\n")
    (root / "bench" / "code.py").write_text("1\n")
    (root / "bench" / "removed.py").write_text("1\n")
    git(root, "init", "--quiet")
    git(root, "add", ".")
    git(root, "commit", "--quiet", "--message", "first")
    monkeypatch.setattr(bundle, "ROOT", root)
    registry |= {"alpha": ("2.0",), "lightly": ("1.6", "not-wanted")}
    return root


def test_a_bundle_has_the_tree_its_commit_wheels_library_and_scripts(checkout, tmp_path, capsys, registry):
    (checkout / "bench" / "removed.py").unlink()
    (checkout / "bench" / "new.py").write_text("2\n")
    (checkout / "out").mkdir()
    (checkout / "out" / "large").touch()
    os.utime(checkout / "bench" / "code.py", (1e9, 1e9))
    bundle.write(tmp_path / "made", None)
    for part in "ab":
        made = tmp_path / "made" / part
        assert sorted(path.name for path in made.iterdir()) == ["lib", "run.sh", "twoview.tar.gz", "wheels"]
        assert sorted(path.name.split("-")[0] for path in (made / "wheels").iterdir()) == ["alpha", "lightly"]
        assert (made / "lib" / "libturbojpeg.so.0").read_bytes()[:4] == b"\x7fELF"
        subprocess.run(["bash", "-n", made / "run.sh"], check=True)
        assert "@" not in (made / "run.sh").read_text().replace("$@", "")
    assert f"--only {','.join(suite.FIRST)} " in (tmp_path / "made" / "a" / "run.sh").read_text()
    assert "--only" not in (tmp_path / "made" / "b" / "run.sh").read_text()
    with tarfile.open(tmp_path / "made" / "a" / "twoview.tar.gz") as archive:
        archive.extractall(tmp_path, filter="data")
    tree = tmp_path / "twoview"
    names = sorted(str(path.relative_to(tree)) for path in tree.rglob("*") if path.is_file())
    assert names == [".gitignore", "bench/code.py", "bench/new.py", "commit.json", "pyproject.toml"]
    assert (tree / "bench" / "code.py").stat().st_mtime == 1e9
    assert environment.commit_of(tree) == (git(checkout, "rev-parse", "HEAD"), True)
    said = capsys.readouterr().out
    assert "with changes that are not committed" in said and "wheels alpha-2.0, lightly-1.6\n" in said
    assert "CIFAR-10 is not included: the data root, None, lacks it" in said and "MiB (lib 0.7" in said
    assert "not-wanted" not in registry["asked"] and "optuna" not in registry["asked"]


def test_the_bundled_commit_precedes_that_of_a_surrounding_checkout(checkout):
    inner = checkout / "out" / "twoview"
    inner.mkdir(parents=True)
    head = git(checkout, "rev-parse", "HEAD")
    assert environment.commit_of(checkout) == (head, False)
    assert environment.commit_of(inner)[0] == head
    (inner / "commit.json").write_text(json.dumps({"commit": "abc", "dirty": True}))
    assert environment.commit_of(inner) == ("abc", True)


def test_a_tree_without_git_and_an_unknown_folder_are_refused(checkout, tmp_path, monkeypatch):
    (tmp_path / "made" / "b").mkdir(parents=True)
    for name in ("run.sh", "thesis.tex"):
        (tmp_path / "made" / "b" / name).touch()
    with pytest.raises(FileExistsError, match="b exists and is not an earlier bundle: use another folder"):
        bundle.write(tmp_path / "made", None)
    monkeypatch.setattr(bundle, "ROOT", checkout / "bench")
    with pytest.raises(ValueError, match=r"made from a git checkout of twoview, and .*/bench is not one"):
        bundle.write(tmp_path / "other", None)
    assert not (tmp_path / "other").exists()


def test_a_part_that_is_too_large_names_its_largest_files_and_keeps_the_earlier_bundle(checkout, tmp_path, monkeypatch):
    bundle.write(tmp_path / "made", None)
    earlier = (tmp_path / "made" / "a" / "twoview.tar.gz").read_bytes()
    (checkout / "bench" / "code.py").write_text("2\n")
    monkeypatch.setattr(bundle, "LIMIT", 2**19)
    with pytest.raises(
        ValueError, match=r"/a must be at most 0\.5 MiB, got 0\.7; its largest files are lib/libturbojp"
    ):
        bundle.write(tmp_path / "made", None)
    assert (tmp_path / "made" / "a" / "twoview.tar.gz").read_bytes() == earlier
    monkeypatch.undo()
    assert sorted(path.name for path in (tmp_path / "made").iterdir()) == ["a", "b"]


def test_a_bundle_replaces_an_earlier_one(checkout, tmp_path):
    bundle.write(tmp_path / "made", None)
    (tmp_path / "made" / "a" / "wheels" / "stale").touch()
    bundle.write(tmp_path / "made", None)
    assert not (tmp_path / "made" / "a" / "wheels" / "stale").exists()
    assert sorted(path.name for path in (tmp_path / "made").iterdir()) == ["a", "b"]


def batch(count):
    """A batch in the official files' format, which only Python 2 writes: its pixels are one BINSTRING."""
    pixels = np.random.default_rng(count).integers(0, 256, count * 3072, np.uint8).tobytes()
    labels = pickle.dumps([label % 10 for label in range(count)], 2)[2:-1]
    return b"\x80\x02}(U\x06labels" + labels + b"U\x04dataT" + struct.pack("<I", len(pixels)) + pixels + b"u."


@pytest.fixture
def cifar(tmp_path):
    """A data root whose CIFAR-10 has three files, packed in a folder."""
    folder = tmp_path / "root" / packed_cifar.FOLDER
    folder.mkdir(parents=True)
    (folder / "data_batch_1").write_bytes(batch(100))
    (folder / "test_batch").write_bytes(batch(200))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": ["airplane"]}))
    packed = tmp_path / "packed"
    packed_cifar.pack(tmp_path / "root", ("data_batch_1", "test_batch", "batches.meta"), packed)
    return folder, packed


def test_cifar_10_is_unpacked_bit_for_bit(cifar, tmp_path):
    folder, packed = cifar
    assert pickle.loads((folder / "test_batch").read_bytes(), encoding="bytes")[b"labels"][:2] == [0, 1]
    assert (packed / "test_batch.webp").exists() and not (packed / "batches.meta.webp").exists()
    there = tmp_path / "there"
    assert packed_cifar.unpack(packed, there) == ["data_batch_1", "test_batch", "batches.meta"]
    for path in folder.iterdir():
        assert (there / packed_cifar.FOLDER / path.name).read_bytes() == path.read_bytes()


def test_an_intact_file_is_kept_and_a_damaged_one_is_unpacked_again(cifar, tmp_path):
    _, packed = cifar
    packed_cifar.unpack(packed, tmp_path / "there")
    whole, damaged = (tmp_path / "there" / packed_cifar.FOLDER / name for name in ("data_batch_1", "test_batch"))
    os.utime(whole, (1e9, 1e9))
    content = damaged.read_bytes()
    damaged.write_bytes(content[:-1])
    packed_cifar.unpack(packed, tmp_path / "there")
    assert whole.stat().st_mtime == 1e9 and damaged.read_bytes() == content


@pytest.mark.parametrize(
    ("name", "said"), [("data_batch_1.webp", "is damaged: cannot"), ("test_batch.rest", "checksum")]
)
def test_a_damaged_packed_file_is_named_and_leaves_nothing(cifar, tmp_path, capsys, monkeypatch, name, said):
    _, packed = cifar
    (packed / name).write_bytes(b"not " + (packed / name).read_bytes())
    monkeypatch.setattr("sys.argv", ["packed_cifar", str(packed), str(tmp_path / "there")])
    with pytest.raises(SystemExit, match="2"):
        packed_cifar.main()
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith(f"CIFAR-10: {packed / name}") and said in line
    left = [path.name for path in (tmp_path / "there").rglob("*") if path.is_file()]
    assert name.partition(".")[0] not in left and not any("part" in one for one in left)


def test_an_interrupted_unpacking_leaves_no_partial_file(cifar, tmp_path, monkeypatch):
    _, packed = cifar

    def full(path, content):
        with open(path, "wb") as file:
            file.write(content[:100])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(packed_cifar.Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space left"):
        packed_cifar._unpack(packed, tmp_path / "there", "test_batch")
    assert not list((tmp_path / "there").iterdir())


PYTHON = """#!/usr/bin/env bash
# A stand-in for python3 that logs its arguments and exits as requested.
echo "$(basename "$PWD") $*" >>"$CALLS"
case "$*" in
    *version_info*) echo "${VERSION:-3.12}"; exit ;;
    *--check*) echo "checked"; exit "${CHECK:-0}" ;;
    *packed_cifar*) echo "data $TWOVIEW_DATA" >>"$CALLS" ;;
    *--pack*) echo "measured $TORCHINDUCTOR_CACHE_DIR ${PYTHONPATH%%:*} ${LD_LIBRARY_PATH%%:*}"
        [ "${SUITE:-}" = waits ] || exit "${SUITE:-0}"
        trap 'echo "told to end"; exit 143' TERM
        kill -TERM "$PPID"
        for _ in {1..600}; do sleep 0.1; done ;;
esac
"""


@pytest.fixture
def start(checkout, tmp_path):
    """A function: part, words, environment -> (exit code, what python3 was called with, the work folder)."""
    bundle.write(tmp_path / "made", None)
    stub = tmp_path / "stub"
    stub.mkdir()
    (stub / "python3").write_text(PYTHON)
    (stub / "python3").chmod(0o755)
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "bench").mkdir(parents=True)  # must not be run

    def call(part, *words, **variables):
        calls = tmp_path / "calls"
        calls.unlink(missing_ok=True)
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("TWOVIEW")}
        places = {"OUT": str(tmp_path / "kept"), "TWOVIEW_WORK": str(tmp_path / "work"), "CALLS": str(calls)}
        path = {"PATH": f"{stub}:{os.environ['PATH']}"}
        command = ["bash", tmp_path / "made" / part / "run.sh", *words]
        done = subprocess.run(command, cwd=elsewhere, env={**inherited, **places, **path, **variables})
        work = next((tree.parent for tree in (tmp_path / "work").glob("*/twoview")), None)
        return done.returncode, calls.read_text().splitlines() if calls.exists() else [], work

    return call


def test_a_script_unpacks_checks_and_runs_with_its_options(start, tmp_path):
    code, calls, work = start("a", "3", "--device", "cpu")
    wheel_calls, (check, run) = calls[1:-2], calls[-2:]
    assert code == 0 and len(wheel_calls) == 2
    assert all(" -m zipfile -e " in call and call.endswith(f" {work}.part/packages") for call in wheel_calls)
    options = f"--minutes 3 --only {','.join(suite.FIRST)} --out {work}/out --device cpu"
    assert check == f"twoview -m twoview suite gpu --check {options}"
    assert run == f"twoview -m twoview suite gpu --no-report --pack {tmp_path}/kept/records-a.tar.gz {options}"
    said = (tmp_path / "kept" / "log-a.txt").read_text().splitlines()
    assert said == ["checked", f"measured {work.parent}/inductor {work}/twoview {tmp_path}/made/a/lib"]
    assert (work / "twoview" / "commit.json").exists()


def test_both_parts_share_a_folder_and_have_their_own_time_limits(start):
    _, first, work = start("a")
    _, second, same = start("b", "--scale", "tiny")
    assert work == same and "--minutes 6 --only" in first[-1]
    assert "--minutes 5 --out" in second[-1] and second[-1].endswith("--scale tiny")
    assert not any("zipfile" in call for call in second), "a running suite may be using the unpacked files"


def test_a_failed_check_ends_the_script_and_the_suites_exit_code_is_its_own(start, tmp_path):
    code, calls, _ = start("a", CHECK="2")
    assert code == 2 and "--check" in calls[-1]
    assert start("a", SUITE="3")[0] == 3
    assert len((tmp_path / "kept" / "log-a.txt").read_text().splitlines()) == 3, "the log is appended to"


def test_the_users_cifar_10_precedes_the_bundles(start, tmp_path):
    (tmp_path / "made" / "b" / "cifar10").mkdir()
    mine = tmp_path / "mine"
    mine.mkdir()
    _, calls, work = start("b", TWOVIEW_DATA=str(mine))
    assert f"twoview -m twoview.bench.suites.gpu.packed_cifar {tmp_path}/made/b/cifar10 {work.parent}/data" in calls
    assert f"data {work.parent}/data" in calls
    (mine / packed_cifar.FOLDER).mkdir()
    assert not any("packed_cifar" in call for call in start("b", TWOVIEW_DATA=str(mine))[1])


@pytest.mark.parametrize(
    ("words", "variables", "sentence"),
    [
        (("5abc",), {}, "MINUTES must be a number, got '5abc'"),
        ((), {"OUT": "/etc/passwd"}, "/etc/passwd must be a writable folder"),
        ((), {"VERSION": "3.10"}, "the bundle is for Python 3.12, and python3 is 3.10: make another one with --node"),
    ],
)
def test_a_scripts_error_is_one_sentence(start, tmp_path, capfd, words, variables, sentence):
    assert start("a", *words, **variables)[0] == 2
    assert capfd.readouterr().err == f"run.sh: {sentence}\n"
    assert not (tmp_path / "work").exists() or not list((tmp_path / "work").iterdir())


def test_terminating_the_script_ends_the_suite(start, tmp_path):
    """Otherwise the suite would share the GPU with the next one."""
    begun = time.monotonic()
    code, calls, _ = start("a", ".5", SUITE="waits")
    assert code == 143 and "--minutes .5 " in calls[-1] and time.monotonic() - begun < 30
    assert (tmp_path / "kept" / "log-a.txt").read_text().splitlines()[-1] == "told to end"
