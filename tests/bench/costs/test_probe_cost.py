"""The cost of the probes: both sides classify the same features, and a missing peer is named."""

import json

import pytest
import torch

from twoview import cli
from twoview.bench.costs import probe_cost
from twoview.bench.costs.probe_cost import PEERS, SIDES, Work, as_result, features, measure, table
from twoview.bench.evidence import ProbeCost, read
from twoview.bench.runtime.processes import try_run

SMALL = Work("linear", train=2000, test=500, dim=32, classes=4, threads=1)


@pytest.mark.parametrize("work", [SMALL, SMALL._replace(probe="knn", k=20)], ids=lambda work: work.probe)
def test_both_sides_agree(work):
    peer = PEERS[work.probe]
    pytest.importorskip("faiss" if work.k else "sklearn")
    data = features(work)
    ours, theirs = (SIDES[work.probe, side](data, work) for side in ("twoview", peer))
    assert (ours == theirs).float().mean() > 0.99
    assert 0.5 < (ours == data.test_label).float().mean() < 0.99


def test_the_command_writes_records_of_the_cost(capsys, tmp_path):
    words = "probes --train 2000 --test 500 --dim 32 --classes 4 --k 20 --threads 1 --rounds 1 --json --evidence-dir"
    assert cli.run([*words.split(), str(tmp_path)]) == 0
    knn, linear = json.loads(capsys.readouterr().out)
    assert (knn["probe"], linear["probe"]) == ("knn", "linear") and knn["settings"]["k"] == 20
    for result in (knn, linear):
        record = read(tmp_path / f"{result['name']}.json")
        assert isinstance(record, ProbeCost) and as_result(record) == result
        assert set(record.seconds) == {"twoview", PEERS[record.probe]} and not record.notes
        assert result["peer_over_ours"][0] > 0 and abs(result["top1_difference"]) < 1
    text = table([read(tmp_path / f"{knn['name']}.json")])
    assert text.splitlines()[1].startswith("knn") and "faiss" in text


def test_a_missing_peer_is_named(monkeypatch):
    answers = {
        "twoview": {"seconds": 2.0, "added_mib": 3.0, "top1": 50.0},
        "faiss": {"absent": "No module named 'faiss'"},
    }
    monkeypatch.setattr(probe_cost, "try_run", lambda measure, job, preload: answers[job[1]])
    record = measure(SMALL._replace(probe="knn", k=5), 2)
    assert record.seconds == {"twoview": [2.0, 2.0]} and record.notes == {"faiss": "No module named 'faiss'"}
    assert "not run: No module named 'faiss'" in table([record]) and "peer_over_ours" not in as_result(record)


def test_the_added_memory_excludes_the_features(monkeypatch):
    """A side that allocates 64 MiB is measured as having added 64 MiB."""

    def greedy(data, work):
        return torch.ones(16 * 2**20)[: work.test].long()

    monkeypatch.setitem(SIDES, ("knn", "twoview"), greedy)
    threads = torch.get_num_threads()
    found = probe_cost.cost((SMALL._replace(probe="knn", k=5), "twoview"))
    torch.set_num_threads(threads)
    assert 60 < found["added_mib"] < 80


def _dies(job):
    raise SystemExit(job)


def test_a_dead_process_is_reported_with_its_exit_code():
    assert try_run(_dies, 3, []) == {"absent": "its process ended with exit code 3"}


@pytest.mark.parametrize(
    ("words", "complaint"),
    [("--k 0", "--k must be at least 1, got 0"), ("--rounds 0", "--rounds must be at least 1, got 0")],
)
def test_bad_numbers_are_named(words, complaint, capsys):
    assert cli.run(["measure", "probes", *words.split()]) == 2
    assert complaint in capsys.readouterr().err
