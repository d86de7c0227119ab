"""Every method is as accurate as in the committed evidence of the methods suite: a gate for changes.

`support/accuracies.toml` holds the accuracies over seeds, by recipe, which the fast test compares with the evidence.
The long test trains each recipe once and fails for one that falls behind by more than chance.
"""

import tomllib
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from twoview.bench import evidence
from twoview.bench.config.experiment import Place
from twoview.bench.suites import runner
from twoview.reports.documents import RESULTS
from twoview.reports.leaderboard import leaderboard
from twoview.reports.significance import interval

REFERENCES = tomllib.loads((Path(__file__).parent / "support" / "accuracies.toml").read_text())
METHODS = runner.SUITES["methods"]
ALARM = 0.001  # the probability that a run which is no worse falls below its bound


def accuracies(folder):
    """The top-1 of each trained recipe, in percent, by probe and in the order of the seeds."""
    records, complaints = evidence.read_folder(folder)
    assert not complaints
    runs = sorted((r for r in records if r.subject == "trained"), key=lambda r: (r.recipe["name"], r.seed))
    found = {}
    for run in runs:
        probes = found.setdefault(run.recipe["name"], {"knn": [], "linear": []})
        probes["knn"].append(run.accuracy.knn_top1)
        probes["linear"].append(run.accuracy.linear_top1)
    return found


def lowest(probe, references=REFERENCES):
    """The accuracy below which one more seed of a recipe is worse than its reference, by recipe.

    It is the bound of a one-sided prediction interval, mean - t * s * sqrt(1 + 1 / n), for n seeds. Three seeds say
    little about a standard deviation, so s is pooled over the recipes.
    """
    seeds = {name: np.array(values[probe]) for name, values in references.items()}
    freedom = sum(len(values) - 1 for values in seeds.values())
    pooled = np.sqrt(sum(((values - values.mean()) ** 2).sum() for values in seeds.values()) / freedom)
    t = stats.t.ppf(1 - ALARM, freedom)
    return {name: values.mean() - t * pooled * np.sqrt(1 + 1 / len(values)) for name, values in seeds.items()}


def test_the_references_match_the_committed_evidence():
    assert accuracies(RESULTS / "methods") == REFERENCES
    assert list(REFERENCES) == sorted(METHODS.recipes)


def gains(folder):
    """The points above the same seed's untrained encoder, by recipe and probe, one per seed."""
    board = leaderboard([r for r in evidence.read_folder(folder)[0] if isinstance(r, evidence.Run)])
    return {
        name: {probe: rows[f"{probe}_gain"] for probe in ("knn", "linear")} for name, rows in board.groupby("recipe")
    }


def test_every_method_beats_the_untrained_encoder_beyond_chance():
    found = gains(RESULTS / "methods")
    assert list(found) == sorted(METHODS.recipes)
    for name, probes in found.items():
        for probe, values in probes.items():
            _, low, _ = interval(values.tolist())
            assert len(values) >= 3 and low > 0, (name, probe, low)


def test_false_alarms_are_as_rare_as_stated():
    """The share of runs below the bounds, among runs that are no worse than their references."""
    generator = np.random.default_rng(0)
    below = []
    for _ in range(2000):
        drawn = {str(i): {"knn": generator.normal(40 + i, 0.5, 3)} for i in range(13)}
        bound = lowest("knn", drawn)
        below += [generator.normal(40 + i, 0.5) < bound[str(i)] for i in range(13)]
    assert 0.0005 < np.mean(below) < 0.002


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_no_method_falls_behind_its_reference(cifar_root, tmp_path):
    place = Place(tmp_path / "betons", tmp_path / "checkpoints", cifar_root)
    runner.run(METHODS, tmp_path / "evidence", place, seeds=1)
    found = accuracies(tmp_path / "evidence")
    assert all(gain.min() > 0 for probes in gains(tmp_path / "evidence").values() for gain in probes.values())
    for probe in ("knn", "linear"):
        behind = {
            name: (found[name][probe][0], bound)
            for name, bound in lowest(probe).items()
            if found[name][probe][0] < bound
        }
        assert not behind, f"top-1 by {probe}, and the lowest that chance allows: {behind}"
