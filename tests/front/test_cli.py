"""The command line as a user sees it: results, JSON, and errors of one sentence with exit code 2."""

import json
import os
import re
import subprocess
import sys
from importlib import metadata

import numpy as np
import pytest
import torch
from PIL import Image

from twoview.bench.config.recipe import load
from twoview.cli import COMMANDS, MEASURED, run
from twoview.commands import search, train
from twoview.commands.settings import recipe_in
from twoview.loaders import datasets

TINY = """
source = "a test"
dataset = "fashion-mnist"
views = "simclr-gray"
size = 28
epochs = 2
batch = 32
train_images = 128
precision = "fp32"
[method]
name = "simclr"
[backbone]
width = 8
[probe]
train_images = 200
test_images = 100
"""


@pytest.fixture
def tiny(tmp_path):
    path = tmp_path / "tiny.toml"
    path.write_text(TINY)
    return str(path)


@pytest.fixture
def says(capsys):
    """A function: words -> (exit code, standard output, standard error)."""

    def call(*words):
        try:
            code = run([str(word) for word in words])
        except SystemExit as stop:  # from tyro, for --help and for unknown arguments
            code = stop.code
        out, err = capsys.readouterr()
        return code, out, err

    return call


@pytest.mark.parametrize("command", ["", "list", "convert", "train", "probe", "measure", "suite", "report"])
def test_help(says, command):
    code, out, _ = says(*([command] if command else []), "--help")
    assert code == 0 and "usage: twoview" in out


def test_the_help_lists_every_command_with_its_first_line(says):
    _, out, _ = says("--help")
    assert all(f"• {name} " in out for name in COMMANDS)
    assert "• inspect    Show what is in a .beton file" in out


def test_measure_is_a_group_and_old_command_names_still_work(says):
    code, out, err = says("measure")
    assert code == 0 and not err and all(f"• {name} " in out for name in MEASURED)
    code, out, err = says("losses", "--help")
    assert code == 0 and "usage: twoview measure losses" in out
    assert err == "twoview: `losses` has moved to `measure losses`\n"


def test_commands_that_do_not_need_torch_do_not_import_it():
    light = [f"twoview.commands.{name}" for name in ("list", "data", "convert", "inspect", "verify", "evidence")]
    program = (
        f"import sys, twoview.cli, {', '.join(light)}; print(*{{'torch', 'pandas', 'matplotlib'}} & {{*sys.modules}})"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_help_of_a_recipe_shows_its_fields(says):
    _, out, _ = says("train", "quick-cifar10", "--help")
    assert "--optim.lr" in out and "--method.temperature" in out and "cifar10" in out


@pytest.mark.parametrize(
    ("what", "name"),
    [
        ("recipes", "quick-cifar10"),
        ("methods", "simclr"),
        ("backbones", "timm:NAME"),
        ("datasets", "fashion-mnist"),
        ("views", "simclr-imagenet"),
        ("suites", "quick"),
    ],
)
def test_lists(says, what, name):
    code, out, _ = says("list", what, "--json")
    entries = {entry["name"]: entry["about"] for entry in json.loads(out)}
    assert code == 0 and all(entries.values()) and name in entries
    assert name in says("list", what)[1]


def test_train_probe_and_resume(says, tiny, betons, tmp_path):
    out = tmp_path / "out"
    words = ("train", tiny, "--out", out, "--betons", betons, "--optim.lr", "0.05", "--method.temperature", "0.3")
    code, printed, _ = says(*words, "--json")
    result = json.loads(printed)
    assert code == 0 and result["views_per_s"] > 0 and result["efficiency"] > 0 and result["precision"] == "fp32"
    state = torch.load(result["checkpoint"], weights_only=True)
    assert state["recipe"]["optim"]["lr"] == 0.05 and state["recipe"]["method"]["temperature"] == 0.3

    code, _, err = says(*words)
    assert code == 2 and f"{result['checkpoint']} exists: continue with --resume" in err
    assert says(*words, "--resume", "--json")[:2] == (0, printed), "a finished run is not repeated"
    code, _, err = says(*words, "--resume", "--epochs", "3")
    assert (
        code == 2
        and f"epochs must be 2 as in {result['checkpoint']}, got 3: resume with its settings, or use another --out"
        in err
    )

    words = ("probe", result["checkpoint"], "--betons", betons)
    code, printed, _ = says(*words, "--baselines", "--evidence-dir", tmp_path / "evidence", "--json")
    judged = json.loads(printed)
    assert code == 0 and all(0 < judged[s]["knn_top1"] <= 100 for s in ("trained", "untrained", "pixels"))
    assert len(list((tmp_path / "evidence").glob("*.json"))) == 3
    code, printed, _ = says("report", tmp_path / "evidence", "--out", tmp_path / "report", "--json")
    (row,) = json.loads(printed)
    assert code == 0 and row["knn_top1"] == judged["trained"]["knn_top1"]
    assert row["untrained_knn_top1"] == judged["untrained"]["knn_top1"]
    header = (tmp_path / "report" / "leaderboard.csv").read_text().partition("\n")[0].split(",")
    needed = {"method", "dataset", "knn_top1", "linear_top1", "views_per_s", "seconds_per_epoch", "peak_memory_mib"}
    assert needed | {"seed"} <= set(header) and (tmp_path / "report" / "index.html").exists()


def test_cifar10_in_a_data_root_end_to_end(says, cifar_root, tmp_path):
    recipe = tmp_path / "tiny.toml"
    text = TINY.replace("fashion-mnist", "cifar10").replace("simclr-gray", "simclr-cifar").replace("28", "32")
    recipe.write_text(text)
    code, out, _ = says("train", recipe, "--out", tmp_path / "out", "--data-root", cifar_root, "--json")
    assert code == 0
    code, out, _ = says("probe", json.loads(out)["checkpoint"], "--data-root", cifar_root, "--json")
    assert code == 0 and 0 < json.loads(out)["trained"]["knn_top1"] <= 100
    assert (tmp_path / "out" / "betons" / "cifar10-test.beton").exists()


def test_loader_json(says, betons):
    code, out, _ = says(
        "measure", "loader", betons / "fashion-mnist-train.beton", "--views", "simclr-cifar", "--images", "64",
        "--rounds", "2", "--threads", "2", "--json",
    )  # fmt: skip
    result = json.loads(out)
    assert code == 0 and result["peers"] == {} and result["threads"] == 2
    assert result["views_per_s"] == pytest.approx(2 * result["images_per_s"])


def test_convert_a_folder(says, tmp_path):
    samples = datasets.dataset("photographs").find(None, "train")
    for number, name in enumerate(("a", "b")):
        (tmp_path / "images" / name).mkdir(parents=True)
        (tmp_path / "images" / name / "one.jpg").write_bytes(samples.image(number))
    code, out, _ = says("convert", tmp_path / "images", tmp_path / "x.beton", "--json")
    assert code == 0 and json.loads(out)["samples"] == 2
    code, _, err = says("convert", tmp_path / "images", tmp_path / "x.beton")
    assert code == 2 and "x.beton already exists: to overwrite it, use --force" in err
    assert says("convert", tmp_path / "images", tmp_path / "x.beton", "--force")[0] == 0


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["train", "nope"], "unknown recipe 'nope'"),
        (["train", "quick-cifar10", "--out", "OUT"], "cifar10 needs a data root"),
        (["train", "quick-cifar10", "--data-root", "OUT/none"], "none named by --data-root is not a folder"),
        (["train", "quick-fashion-mnist", "--views", "nope"], "unknown views 'nope'"),
        (["train", "quick-fashion-mnist", "--optim.lr", "-1"], "optim.lr must be greater than 0, got -1"),
        (["probe", "OUT/none.pt"], "no checkpoint at"),
        (["measure", "loader", "OUT/none.beton"], "no beton file at"),
        (["suite", "nope"], "unknown suite 'nope'"),
        (["suite", "quick", "--seeds", "0"], "--seeds must be at least 1, got 0"),
        (["measure", "loader", "x.beton", "--threads", "-1"], "--threads must be at least 0, got -1"),
        (["measure", "loader", "x.beton", "--images", "0"], "--images must be at least 1, got 0"),
        (["measure", "loader", "x.beton", "--views", "crop"], "unknown views 'crop'"),
        (["verify", "x.beton", "--threads", "-1"], "--threads must be at least 0, got -1"),
        (["convert", "photographs", "OUT/x.beton", "--threads", "-2"], "--threads must be at least 0, got -2"),
        (
            ["convert", "photographs", "OUT/x.beton", "--max-resolution", "0"],
            "--max-resolution must be 1 to 65,535 pixels, got 0",
        ),
        (["probe", "OUT/none.pt", "--size", "-3"], "--size must be at least 1, got -3"),
        (["search", "quick-fashion-mnist", "--trials", "0"], "--trials must be at least 1, got 0"),
        (["budget", "--price", "inf"], "--price must be above 0, got inf"),
        (["plan", "quick-fashion-mnist", "--memory", "nan"], "--memory must be above 0 GiB, got nan"),
        (["submit", "quick-fashion-mnist", "--hours", "nan"], "--hours must be above 0 and below 1,000,000, got nan"),
        (["submit", "quick-fashion-mnist", "--hours", "1e308"], "--hours must be above 0 and below 1,000,000, got 1e"),
        (["convert", "", "OUT/x.beton"], "source must be the name of a dataset, or a path, got ''"),
        (["convert", "photographs", "OUT/x.beton", "--threads", "5000"], "--threads must be at most 1,024, got 5,000"),
        (["train", "quick-fashion-mnist", "--name", "../x"], "the name of a recipe must consist of ASCII letters"),
        (["train", "quick-fashion-mnist", "--name", "a\0b"], "the name of a recipe must consist of ASCII letters"),
        (["train", "quick-fashion-mnist", "--optim.lr", "inf"], "optim.lr must be a finite number, got inf"),
        (["train", "quick-fashion-mnist", "--method.hidden", str(10**10)], "method.hidden must be at most 131,072"),
        (["train", "quick-fashion-mnist", "--seed", "-1"], "seed must be .*greater than or equal to 0, got -1"),
        (
            ["train", "quick-fashion-mnist", "--epochs", "1", "--optim.warmup-epochs", "2", "--out", "OUT"],
            "optim.warmup_epochs must be at most the epochs, 1, got 2",
        ),
        (["suite", "quick", "--seeds", "100000"], "--seeds must be at most 1,000"),
        (["probe", "OUT/none.pt", "--seed", "-1"], r"--seed must be from 0 to 2 \*\* 63 - 1, got -1"),
        (["features", "OUT/none.pt", "--seed", "4294967296"], r"--seed must be from 0 to 2 \*\* 32 - 1"),
        (["features", "OUT/none.pt", "--perplexity", "nan"], "--perplexity must be above 0, got nan"),
        (["compare", "OUT", "OUT", "--threshold", "inf"], "--threshold must be above 0, got inf"),
        (["measure", "peers", "--rounds", "0"], "--rounds must be at least 1, got 0"),
        (["measure", "loader", "x.beton", "--batch", str(10**10)], "--batch must be at most 1,048,576, got"),
        (["measure", "losses", "--dim", str(10**10)], "--dim must be at most 131,072, got"),
        (
            ["probe", "--encoder", "torchvision:resnet18", "--dataset", "hf:../../x"],
            "the name of a dataset must consist of",
        ),
        (["report", "OUT/none"], "no folder of evidence"),
        (["convert", "nope", "OUT/x.beton"], "unknown dataset 'nope'"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(says, tmp_path, monkeypatch, words, complaint):
    monkeypatch.delenv("TWOVIEW_DATA", raising=False)
    code, _, err = says(*(word.replace("OUT", str(tmp_path)) for word in words))
    assert code == 2
    assert re.search(f"^twoview: .*{complaint}.*$", err, re.M) and "Traceback" not in err, err
    assert [file for file in tmp_path.rglob("*") if file.is_file()] == []


@pytest.mark.parametrize(
    "words",
    [
        ["convert", "photographs", ""],
        ["train", "quick-fashion-mnist", "--out", ""],
        ["train", "quick-fashion-mnist", "--data-root="],
        ["report", "a\0b"],
    ],
)
def test_an_empty_path_is_refused(says, words):
    """Python would take it for the current folder."""
    code, _, err = says(*words)
    assert code == 2 and "a path must be non-empty, without NUL, got" in err and "Traceback" not in err


@pytest.mark.parametrize(
    "words",
    [
        ["--epochs", "1", "RECIPE"],
        ["--epochs=1", "RECIPE"],
        ["--json", "--probe.online", "--optim.lr", "-1", "RECIPE", "--seed", "3"],
        ["--method.drop-focal", "--method.drop_focal", "--out", "quick-fashion-mnist", "RECIPE"],
        ["RECIPE", "--out", "quick-fashion-mnist"],
    ],
)
def test_options_may_precede_the_recipe(words):
    assert recipe_in(words, train.FLAGS) == "RECIPE"


def test_options_before_a_recipe_are_fields_of_that_recipe(says, tiny):
    code, out, _ = says("train", "--epochs", "1", "--optim.nesterov", tiny, "--help")
    assert code == 0 and "--method.temperature" in out
    assert recipe_in(["--json"], train.FLAGS) is None


def test_views_are_a_name_or_a_table_on_the_command_line(says, tiny, betons, tmp_path):
    """A contact sheet of changed views differs in the pixels of that view alone."""

    def sheet(*words):
        code, out, err = says(
            "views", tiny, "--images", 2, "--out", tmp_path, "--betons", betons, "--seed", 3, "--json", *words
        )
        assert code == 0, err
        assert json.loads(out) == {"contact_sheet": str(tmp_path / "tiny-seed3-views.png")}
        with Image.open(tmp_path / "tiny-seed3-views.png") as image:
            return np.asarray(image)

    plain, same = sheet(), sheet("--views", "simclr-gray")
    changed = sheet("--views", '{preset = "simclr-gray", 2.solarize = {threshold = 0, p = 1}}')
    assert np.array_equal(plain, same)
    assert {*np.nonzero((plain != changed).any((0, 2)))[0] * 3 // plain.shape[1]} == {2}, "the last third"


@pytest.mark.parametrize(
    ("views", "complaint"),
    [
        ("simclr-gray2", "unknown views 'simclr-gray2': did you mean simclr-gray"),
        ("{gray = false}", "views.preset is missing"),
        ('{preset = "crops", jitter.hue = 0.1}', "views.jitter must also have brightness, contrast, saturation, p"),
    ],
)
def test_an_error_in_views_on_the_command_line_is_one_sentence(says, tiny, views, complaint):
    code, _, err = says("train", tiny, "--views", views)
    assert code == 2 and f"tiny.toml: {complaint}" in err and err.count("\n") == 1


def test_words_that_are_no_table_of_views_end_with_code_2(says, tiny):
    code, _, err = says("train", tiny, "--views", '{preset = "crops"')
    assert code == 2 and "must be the name of a preset or a TOML table" in " ".join(err.split())


def test_the_best_trials_command_has_all_changes_of_the_views_in_one_option(tiny):
    values = {"optim.lr": 0.5, "views.jitter.contrast": 0.25, "views.2.flip": 0.0}
    options = search._options(load(tiny), values)
    assert options == {
        "optim.lr": 0.5,
        "views": """'{preset = "simclr-gray", jitter = {contrast = 0.25}, 2 = {flip = 0.0}}'""",
    }
    assert search._options(load(tiny), {"optim.lr": 0.5}) == {"optim.lr": 0.5}


def test_the_version_is_the_installed_one(says):
    assert says("--version") == (0, f"twoview {metadata.version('twoview')}\n", "")


@pytest.mark.parametrize("words", [["list", "recipes"], ["list", "recipes", "--json"], ["--help"]])
def test_a_closed_pipe_is_not_an_error(words):
    """As in `twoview list recipes | true`: nothing on standard error, and the usual exit code."""
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run([sys.executable, "-m", "twoview", *words], stdout=write, stderr=subprocess.PIPE, text=True)
    os.close(write)
    assert (done.returncode, done.stderr) == (0, "")


def test_debug_keeps_the_traceback(tmp_path):
    with pytest.raises(FileNotFoundError, match="no checkpoint"):
        run(["probe", str(tmp_path / "none.pt"), "--debug"])


def test_a_truncated_beton_and_a_foreign_checkpoint_are_named(says, betons, tiny, tmp_path):
    folder = tmp_path / "betons"
    folder.mkdir()
    content = (betons / "fashion-mnist-train.beton").read_bytes()
    (folder / "fashion-mnist-train.beton").write_bytes(content[: len(content) // 2])
    code, _, err = says("train", tiny, "--out", tmp_path / "out", "--betons", folder)
    assert code == 2 and "fashion-mnist-train.beton is truncated" in err
    code, _, err = says("measure", "loader", folder / "fashion-mnist-train.beton")
    assert code == 2 and "fashion-mnist-train.beton is truncated" in err
    torch.save({"state_dict": {}}, tmp_path / "lightning.pt")
    code, _, err = says("probe", tmp_path / "lightning.pt")
    assert code == 2 and "lightning.pt is not a checkpoint of twoview" in err


def test_a_checkpoint_of_another_method_is_named(says, betons, tiny, tmp_path):
    words = ("--out", tmp_path / "out", "--betons", betons)
    assert says("train", tiny, *words)[0] == 0
    other = tmp_path / "tiny2.toml"
    other.write_text(TINY.replace("simclr-gray", "supervised-small").replace('"simclr"', '"supervised"'))
    code, _, err = says("train", other, "--name", "tiny", "--resume", *words)
    assert (
        code == 2 and "tiny-seed0.pt, got 'supervised-small'; method.name must be 'simclr', got 'supervised': " in err
    )
