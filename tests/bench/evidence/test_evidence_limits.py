"""Records that are too large, impossible or not files: one sentence each, and nothing hangs."""

import copy
import json
import math
import os
import socket
from pathlib import Path

import pytest

from twoview.bench import evidence
from twoview.bench.evidence import ADAPTER, checked_name, path_of, read, read_folder
from twoview.commands import evidence as command

RESULTS = Path(__file__).parents[3] / "reports" / "results"
EXAMPLES = {
    "run": "quick-cifar10/quick-cifar10-seed0.json",
    "loader": "peers/peers-loader-photographs-crops-224.json",
    "theory": None,
    "probe-cost": None,
    "device": "gpu/gpu-rates.json",
}


@pytest.fixture(scope="module")
def examples():
    """A committed record of each kind, as JSON, without its seal."""
    found = {}
    for path in sorted(RESULTS.rglob("*.json")):
        content = json.loads(path.read_text())
        content["schema_version"] = 1
        content.pop("sha256", None)
        if path.name == Path(EXAMPLES.get(content["kind"]) or path).name:
            found.setdefault(content["kind"], content)
    return found


def put(content, key, value):
    """A copy with another value at a dotted key."""
    content = copy.deepcopy(content)
    *way, last = [int(part) if part.isdigit() else part for part in key.split(".")]
    table = content
    for part in way:
        table = table[part]
    table[last] = value
    return content


@pytest.mark.parametrize(
    ("kind", "key", "value"),
    [
        ("run", "accuracy.knn_top1", math.nan),
        ("run", "accuracy.knn_top1", 101.0),
        ("run", "accuracy.test_images", 0),
        ("run", "accuracy.train_images", -1),
        ("run", "training.epoch_seconds", []),
        ("run", "training.epoch_seconds", [math.inf]),
        ("run", "training.epoch_seconds", [1e-300]),
        ("run", "training.wait_seconds", [-1.0]),
        ("run", "training.views_per_epoch", 2**62),
        ("run", "training.device", "c" * 101),
        ("run", "ceilings.loader_views_per_s", [math.nan]),
        ("run", "created", "0001-01-01T00:00:00+23:00"),
        ("run", "created", "9999-12-31T23:59:59-23:00"),
        ("run", "seed", 2**63),
        ("run", "calibration_seconds", [math.inf]),
        ("loader", "images_per_s", {"A" * 200_000: [1.0]}),
        ("loader", "images_per_s", {f"c{number}": [1.0] for number in range(101)}),
        ("loader", "first_batch_s", {"twoview": -1.0}),
        ("loader", "size", -1),
        ("loader", "notes", {"ffcv": "n" * 20_001}),
        ("theory", "claims", []),
        ("theory", "seconds", 0.0),
        ("theory", "claims.0.figure", {"a": [1.0], "b": [1.0, 2.0]}),
        ("theory", "claims.0.figure", {"a": []}),
        ("theory", "claims.0.scatter", {"a": {"x": [1.0], "y": [1.0, 2.0], "label": [1]}}),
        (
            "theory",
            "claims.0.phase",
            {"a": {"x_name": "x", "x": [1.0], "y_name": "y", "y": [1.0], "value": [[1.0, 2.0]]}},
        ),
        ("theory", "claims.0.phase", {"a": {"x_name": "x", "x": [], "y_name": "y", "y": [], "value": []}}),
        ("probe-cost", "top1", {"twoview": math.nan}),
        ("device", "device", "d" * 101),
    ],
)
def test_impossible_values_are_refused(examples, kind, key, value):
    ADAPTER.validate_python(examples[kind])
    with pytest.raises(ValueError, match=key.rpartition(".")[2] if not key.rpartition(".")[2].isdigit() else None):
        ADAPTER.validate_python(put(examples[kind], key, value))


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("recipe.source", "s" * 20_001, "at most 20,000 characters, got 20,001; .*TWOVIEW_MAX_TEXT"),
        ("recipe.dataset", [[[[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]]], "at most 20 deep"),
        ("recipe.epochs", 10**30, "64 bits"),
        ("recipe.inferred", [0] * 10_001, "at most 10,000 values.*TWOVIEW_MAX_VALUES"),
        ("environment.cpu", "c" * 20_001, "at most 20,000 characters"),
        ("environment.cpu_count", 10**30, "64 bits"),
        ("training.device", "c" * 101, "training.device must have at most 100 characters, got 101"),
    ],
)
def test_a_value_above_its_limit_is_named(examples, tmp_path, key, value, says):
    path = tmp_path / f"{examples['run']['name']}.json"
    path.write_text(json.dumps(put(examples["run"], key, value)))
    with pytest.raises(ValueError, match=f"{path.name} is not an evidence record of twoview: .*{says}"):
        read(path)


def test_the_names_of_classes_have_a_limit_of_their_own(examples, tmp_path, monkeypatch):
    """Images in as many classes as ImageNet-21k has can be trained on, and have a record."""
    names = [f"n{number:08}" for number in range(21_841)]
    path = tmp_path / f"{examples['run']['name']}.json"
    path.write_text(json.dumps(put(examples["run"], "recipe.contents", {"classes": names})))
    assert read(path).recipe["contents"]["classes"] == names
    path.write_text(json.dumps(put(examples["run"], "recipe.contents", {"classes": [names]})))
    with pytest.raises(ValueError, match=r"at most 10,000 values.*TWOVIEW_MAX_VALUES"):
        read(path)
    path.write_text(json.dumps(put(examples["run"], "recipe.contents", {"classes": names})))
    monkeypatch.setenv("TWOVIEW_MAX_CLASSES", "21840")
    with pytest.raises(
        ValueError, match=r"contents\.classes must have at most 21,840 classes, got 21,841; .*MAX_CLASSES"
    ):
        read(path)


def test_a_limit_can_be_raised(examples, tmp_path, monkeypatch):
    path = tmp_path / f"{examples['run']['name']}.json"
    path.write_text(json.dumps(put(examples["run"], "recipe.source", "s" * 20_001)))
    monkeypatch.setenv("TWOVIEW_MAX_TEXT", "20001")
    assert read(path).recipe["source"] == "s" * 20_001


@pytest.mark.parametrize("text", ["[" * 100_000, '{"kind": "run", "recipe": ' + '{"a": ' * 5_000, "", "nul", "\ud800"])
def test_deep_or_broken_json_is_reported_in_one_sentence(tmp_path, text):
    (tmp_path / "deep.json").write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(ValueError, match=r"deep\.json is not an evidence record of twoview"):
        read(tmp_path / "deep.json")


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "/x", "a/b", "a\\b", "a\0", "a\n", ".hidden", "ä", "a" * 201])
def test_a_name_is_never_a_path(examples, tmp_path, name):
    for refused in (lambda: checked_name(name), lambda: path_of(tmp_path, name)):
        with pytest.raises(ValueError, match="the name of a record must"):
            refused()
    with pytest.raises(ValueError, match=r"the name of a record must|match pattern"):
        ADAPTER.validate_python(examples["run"] | {"name": name})


@pytest.mark.parametrize("name", ["a", "probe-tiny-seed0-stl10-low-shot-50%", "_.-", "0" * 200])
def test_valid_names_are_accepted(examples, tmp_path, name):
    assert path_of(tmp_path, name) == tmp_path / f"{name}.json"
    assert ADAPTER.validate_python(examples["run"] | {"name": name}).name == name


@pytest.mark.parametrize(
    ("values", "says"),
    [({}, "'kind' is missing"), ({"kind": [{"x": "y" * 9999}]}, "'kind' must be one of 'run', 'probe'")],
)
def test_the_kind_must_be_known(tmp_path, values, says):
    (tmp_path / "x.json").write_text(json.dumps(values))
    with pytest.raises(ValueError, match=rf"x\.json is not an evidence record of twoview: {says}") as found:
        read(tmp_path / "x.json")
    assert len(str(found.value)) < 500


def make_odd_files(folder):
    """Make one of each kind that is not a regular file; return a part of the error for each."""
    os.mkfifo(folder / "pipe.json")
    (folder / "folder.json").mkdir()
    (folder / "lost.json").symlink_to(folder / "nowhere")
    (folder / "loop.json").symlink_to(folder / "loop.json")
    (folder / "device.json").symlink_to("/dev/zero")
    (folder / "terminal.json").symlink_to("/dev/tty")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.path.relpath(folder / "socket.json"))
    with open(folder / "huge.json", "wb") as file:
        file.truncate(2**28 + 1)
    return {
        "device.json": "must be a file, got a pipe or a device",
        "folder.json": "Is a directory",
        "huge.json": "must have at most 268,435,456 bytes",
        "loop.json": "Too many levels of symbolic links",
        "lost.json": "No such file or directory",
        "pipe.json": "must be a file, got a pipe or a device",
        "socket.json": "No such device or address",
        "terminal.json": "",
    }


@pytest.mark.timeout(60)
def test_odd_files_are_named_without_waiting(examples, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    odd = make_odd_files(tmp_path)
    good = examples["run"]
    (tmp_path / f"{good['name']}.json").write_text(json.dumps(good))
    records, complaints = read_folder(tmp_path)
    assert [record.name for record in records] == [good["name"]] and len(complaints) == len(odd)
    for complaint, (name, says) in zip(complaints, odd.items(), strict=True):
        assert name in complaint and says in complaint and "[Errno" not in complaint
    os.mkfifo(tmp_path / "index.csv")
    for _ in range(2):  # the second time from the index
        command.run(tmp_path)
        listed = capsys.readouterr().out
        assert listed.count("\n") == len(odd) + 1 and all(name in listed for name in odd)
    assert (tmp_path / "index.csv").is_fifo()  # it is not ours to replace


def test_an_unreadable_file_is_named(tmp_path, monkeypatch):
    """The error is simulated, because root may read everything."""

    def refuse(name, flags, *more, **how):
        raise PermissionError(13, "Permission denied", str(name))

    (tmp_path / "secret.json").write_text("{}")
    monkeypatch.setattr(os, "open", refuse)
    assert read_folder(tmp_path) == ([], [f"{tmp_path / 'secret.json'}: Permission denied"])


def test_recipes_with_values_of_wrong_types_are_listed_too(examples, tmp_path):
    for number, (key, value) in enumerate(
        (
            ("method", "simclr"),
            ("method", []),
            ("backbone", None),
            ("size", "x"),
            ("seed", [1]),
            ("name", 5),
            ("batch", 0.5),
        )
    ):
        record = put(examples["run"], f"recipe.{key}", value) | {"name": f"r{number}"}
        (tmp_path / f"r{number}.json").write_text(json.dumps(record))
    listed = evidence.index(tmp_path)
    assert len(listed) == 7 and not any(listed.complaint)
    table = evidence.load(tmp_path)
    assert set(table[table.name == "r0"].method) == {"simclr"} and table[table.name == "r3"]["size"].isna().all()


def test_the_index_is_safe_for_spreadsheets(tmp_path, capsys):
    (tmp_path / "=cmd.json").write_text("{}")
    (tmp_path / "\x1b[2J.json").write_text("{}")
    first = evidence.index(tmp_path)
    assert sorted(first.file) == ["\x1b[2J.json", "=cmd.json"]
    text = (tmp_path / "index.csv").read_text()
    assert "\n'=cmd.json," in text and "\x1b" not in text
    assert evidence.index(tmp_path).equals(first)
    command.run(tmp_path)
    assert "\x1b" not in capsys.readouterr().out
