"""Old and new code in turn: what the rounds say, and, in the long trials, what is found of a real slow-down."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from bench import paired
from bench.cli import run
from bench.compare import THRESHOLD
from bench.experiment import Place
from bench.paired import FEWEST, Pair, measure

HERE = Path(__file__).parents[2]


class Machine:
    """In place of a `Pair`: sides of known speed on a machine of known noise."""

    def __init__(self, slower, spread, favours=1.0, seed=0):
        self.slower, self.spread, self.favours = slower, spread, favours
        self.rng = np.random.default_rng(seed)

    def round(self, rounds, shuffle):
        for side, factor in (("old", 1.0), ("new", self.slower)):
            machine = self.favours if side == "new" else 1.0
            rounds.seconds[side].append(machine * factor * self.rng.lognormal(0, self.spread))
            rounds.calibration[side].append(machine * self.rng.lognormal(0, 0.02))


def test_a_noisier_machine_takes_more_rounds_and_then_widens_the_interval():
    calm, noisy, hopeless = (measure(Machine(1.10, spread), 0.05, 200, "x") for spread in (0.02, 0.08, 1.0))
    assert len(calm) == FEWEST < len(noisy) < len(hopeless) == 200
    assert calm.cost.verdict(0.05) == noisy.cost.verdict(0.05) == "worse"
    assert hopeless.cost.verdict(0.05) == "unclear"


def test_a_machine_that_favours_a_side_is_no_regression():
    """Equal code, but whatever ran in new's turns took a tenth longer: the calibration as well."""
    rounds = measure(Machine(1.0, 0.02, favours=1.10), 0.05, 40, "x")
    assert rounds.machine.low > 1.08 and rounds.cost.ratio > 1.08
    assert rounds.cost.verdict(0.05) == "unclear"
    assert "and before new's turns" in rounds.note


def test_a_tenth_is_found_and_equal_code_raises_no_alarm():
    """With the looks in between, of which an alarm could come."""
    found = [measure(Machine(1.10, 0.05, seed=seed), 0.05, 200, "x").cost.verdict(0.05) for seed in range(40)]
    equal = [measure(Machine(1.0, 0.05, seed=100 + seed), 0.05, 200, "x").cost.verdict(0.05) for seed in range(100)]
    assert found.count("worse") >= 38 and equal.count("worse") <= 5, (found, equal)


def test_what_is_asked_of_the_sides(tmp_path):
    """Old code is handed what the recipe gives and no key that only new code may know."""
    step = paired.job("quick-fashion-mnist", Place(tmp_path, tmp_path, None))
    assert step.images == step.recipe["batch"] and step.recipe["precision"] in ("fp32", "bf16")
    assert not {"budget", "expected", "held_out", "long_tail"} & set(step.recipe)
    with pytest.raises(ValueError, match="recipe"):
        paired.job("no-such-work", Place(tmp_path, tmp_path, None))


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("no-such-commit", str(HERE)), "no-such-commit is neither a folder nor a commit"),
        ((str(HERE), str(HERE / "reports")), "reports is no checkout of twoview"),
        ((str(HERE), str(HERE), "--rounds", "5"), "--rounds must be at least 20, not 5"),
    ],
)
def test_what_cannot_be_compared(words, sentence, capsys):
    assert run(["compare", *words, "--paired", "quick-fashion-mnist"]) == 2
    assert sentence in capsys.readouterr().err


def tree(folder, change=None):
    """A copy of this checkout's code; change: file -> function of its text."""
    for floor in ("loaders", "methods", "bench"):
        shutil.copytree(HERE / floor, folder / floor)
    for name, edit in (change or {}).items():
        text = (folder / name).read_text()
        assert edit(text) != text
        (folder / name).write_text(edit(text))
    return folder


def eleven_for_ten(text):
    """loader.py -> one that renders every tenth batch twice, so that ten batches are the work of eleven."""
    start = "started.append(self._start(samples[places[number]], epoch))"
    again = "number % 10 or self._start(samples[places[number]], epoch)"
    indent = " " * 20
    return text.replace(f"{indent}{start}\n", f"{indent}{start}\n{indent}{again}\n")


def loading(fashion):
    """Ten batches a pass, about 25 ms, on one thread: two wait for the slower one wherever others want the cores."""
    job = paired.job_for(fashion.path, "simclr-cifar", 28, 1, len(fashion), 640, 64)
    return job.model_copy(update={"seconds": paired.TURN})


def test_each_side_runs_the_code_of_its_own_folder(fashion, tmp_path):
    broken = tree(tmp_path / "new", {"bench/peers/twoview.py": lambda text: text + "\nraise OSError('broken code')\n"})
    with pytest.raises(ValueError, match=r"the new code in .*new cannot do the work: OSError: broken code"):
        Pair(HERE, broken, loading(fashion)).__enter__()


def compared(old, new, work, trials, report):
    """Verdicts of so many comparisons as `twoview compare --paired` makes them, each ten by processes of their own."""
    verdicts = []
    for first in range(0, trials, 10):
        with Pair(old, new, work) as pair:
            for trial in range(first, first + 10):
                rounds = measure(pair, THRESHOLD, 400, f"trial {trial}", seed=trial)
                cost = rounds.cost
                verdicts.append(cost.verdict(THRESHOLD))
                said = f"{verdicts[-1]}: {cost.ratio:.3f} ({cost.low:.3f} to {cost.high:.3f}), {len(rounds)} rounds"
                report(f"{new.name} {trial + 1} of {trials}: {said}; worse so far: {verdicts.count('worse')}")
    return verdicts


@pytest.mark.long
@pytest.mark.alone
@pytest.mark.timeout(3600)
def test_a_real_tenth_is_found_and_equal_code_raises_no_alarm(fashion, tmp_path, capsys):
    """40 and 100 comparisons of a real loader, in turn with one that does a tenth more of the same work."""
    old, same = tree(tmp_path / "old"), tree(tmp_path / "same")
    slower = tree(tmp_path / "slower", {"loaders/loader.py": eleven_for_ten})

    def report(line):
        with capsys.disabled():
            print(line, flush=True)

    found = compared(old, slower, loading(fashion), 40, report)
    equal = compared(old, same, loading(fashion), 100, report)
    report(f"found {found.count('worse')} of 40, {equal.count('worse')} alarms of 100")
    assert found.count("worse") >= 38
    assert equal.count("worse") <= 5
