"""Old and new code in turn: what the rounds show, and, in the long test, whether a real slowdown is found."""

import random
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from twoview.bench.config.experiment import Place
from twoview.bench.regression import paired
from twoview.bench.regression.compare import THRESHOLD
from twoview.bench.regression.paired import FEWEST, TRIAL_ROUNDS, Sides, measure
from twoview.cli import run

HERE = Path(__file__).parents[3]


class Machine:
    """A stand-in for `Sides`: sides of known speed on a machine of known noise.

    spread: the noise of a turn. lasting: the noise of a process, for its whole trial. favors: how much longer new's
    turns take.
    """

    def __init__(self, slower, spread, lasting=0.0, favors=1.0, seed=0):
        self.factors = {"old": 1.0, "new": slower}
        self.spread, self.lasting, self.favors = spread, lasting, favors
        self.rng = np.random.default_rng(seed)

    def trial(self, shuffle):
        trial = paired.Trial()
        for side, factor in self.factors.items():
            process, machine = self.rng.lognormal(0, self.lasting), self.favors if side == "new" else 1.0
            for _ in range(TRIAL_ROUNDS):
                trial.seconds[side].append(process * machine * factor * self.rng.lognormal(0, self.spread))
                trial.calibration[side].append(machine * self.rng.lognormal(0, 0.02))
            trial.peak_mib[side] = 100.0 * factor
        return trial


def test_a_noisier_machine_takes_more_rounds_and_then_widens_the_interval():
    calm, noisy, hopeless = (measure(Machine(1.10, spread), 0.05, 400, "x") for spread in (0.02, 0.10, 1.0))
    assert len(calm) == FEWEST < len(noisy) < len(hopeless) == 390
    assert calm.cost.verdict(0.05) == noisy.cost.verdict(0.05) == "worse"
    assert hopeless.cost.verdict(0.05) == "unclear"


def test_a_difference_between_processes_is_not_attributed_to_the_code():
    """Two processes differ by a tenth in every round, and the next two differ in another way."""
    rounds = measure(Machine(1.0, 0.01, lasting=0.10), 0.05, 120, "x")
    assert len(rounds.trials) == 8 and rounds.cost.verdict(0.05) == "unclear"
    one = np.log(np.divide(rounds.trials[0].seconds["new"], rounds.trials[0].seconds["old"]))
    assert paired.reach(rounds.cost) > 5 * one.std() / TRIAL_ROUNDS**0.5


def test_memory_is_compared_by_the_peaks_of_the_processes():
    rate, memory = paired._rows("x", measure(Machine(1.10, 0.02), 0.05, 60, "x"), 0.05)
    assert (rate.verdict, rate.samples) == ("worse", (60, 60))
    assert (memory.metric, memory.verdict, memory.samples) == ("peak host memory", "worse", (4, 4))
    assert memory.cost == pytest.approx((1.10, 1.10, 1.10))


def test_a_machine_that_slows_one_side_is_no_regression():
    """Equal code, but everything in new's turns took a tenth longer, including the calibration."""
    rounds = measure(Machine(1.0, 0.02, favors=1.10), 0.05, 60, "x")
    assert rounds.machine.low > 1.08 and rounds.cost.ratio > 1.08
    assert rounds.cost.verdict(0.05) == "unclear"
    assert "and before new's turns" in rounds.note


def test_a_slowdown_of_10_percent_is_found_without_false_alarms():
    """Including the interim looks, each of which could raise an alarm."""

    def verdicts(slower, trials):
        machines = (Machine(slower, 0.06, lasting=0.015, seed=seed) for seed in range(trials))
        return [measure(machine, 0.05, 400, "x").cost.verdict(0.05) for machine in machines]

    found, equal = verdicts(1.10, 40), verdicts(1.0, 100)
    assert found.count("worse") >= 38 and equal.count("worse") <= 5, (found, equal)


def test_old_code_gets_only_keys_that_it_knows(tmp_path):
    """Old code gets what the recipe states, and no key that only new code may know."""
    step = paired.job("quick-fashion-mnist", Place(tmp_path, tmp_path, None))
    assert step.images == step.recipe["batch"] and step.recipe["precision"] in ("fp32", "bf16")
    assert not {"budget", "expected", "held_out", "long_tail"} & set(step.recipe)
    with pytest.raises(ValueError, match="recipe"):
        paired.job("no-such-work", Place(tmp_path, tmp_path, None))


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("no-such-commit", str(HERE)), "no-such-commit is neither a folder nor a commit"),
        ((str(HERE), str(HERE / "reports")), "reports is not a checkout of twoview"),
        ((str(HERE), str(HERE), "--rounds", "5"), "--rounds must be at least 60, got 5"),
        ((str(HERE), str(HERE), "--threads", "0"), "--threads must be at least 1, got 0"),
    ],
)
def test_wrong_arguments_are_named(words, sentence, capsys):
    assert run(["compare", *words, "--paired", "quick-fashion-mnist"]) == 2
    assert re.search(sentence, capsys.readouterr().err)


def tree(folder, change=None):
    """A copy of this checkout's code; change: file -> a function that edits its text."""
    for room in ("twoview", "loaders", "methods", "bench"):
        shutil.copytree(HERE / room, folder / room, symlinks=True)
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
    """Ten batches per pass, about 25 ms, on one thread, which is the default of `twoview compare --paired`."""
    job = paired.job_for(fashion.path, "simclr-cifar", 28, 1, len(fashion), 640, 64)
    return job.model_copy(update={"seconds": paired.TURN})


def test_both_sides_turns_of_a_round_run_on_the_same_cores(fashion, monkeypatch):
    """As does the calibration, because one core may be slower for minutes."""
    on = {"processes": [], "machine": []}
    monkeypatch.setattr(paired, "confine", lambda process, to: on["processes"].append((process, to)))
    monkeypatch.setattr(paired, "WARMUP", 0)
    with Sides(HERE, HERE, loading(fashion)) as sides:
        measured = sides.machine.seconds
        sides.machine.seconds = lambda to: on["machine"].append(to) or measured(to)
        trial = sides.trial(random.Random(0))
    assert [len(trial.seconds[side]) for side in paired.SIDES] == [TRIAL_ROUNDS, TRIAL_ROUNDS]
    assert [to for _, to in on["processes"]] == on["machine"]
    for (first, to), (second, same) in zip(on["processes"][::2], on["processes"][1::2], strict=True):
        assert first != second and to == same and len(to) == 1


def test_each_side_runs_the_code_of_its_own_folder(fashion, tmp_path):
    broken = tree(tmp_path / "new", {"bench/peers/twoview.py": lambda text: text + "\nraise OSError('broken code')\n"})
    with (
        Sides(HERE, broken, loading(fashion)) as sides,
        pytest.raises(ValueError, match=r"the new code in .*new cannot do the work: OSError: broken code"),
    ):
        sides.trial(random.Random(0))


def compared(old, new, work, trials, report):
    """Verdicts of this many comparisons, as `twoview compare --paired` makes them."""
    verdicts = []
    with Sides(old, new, work) as sides:
        for trial in range(trials):
            rounds = measure(sides, THRESHOLD, 400, f"trial {trial}", seed=trial)
            cost = rounds.cost
            verdicts.append(cost.verdict(THRESHOLD))
            said = f"{verdicts[-1]}: {cost.ratio:.3f} ({cost.low:.3f} to {cost.high:.3f}), {len(rounds)} rounds"
            report(f"{new.name} {trial + 1} of {trials}: {said}; worse so far: {verdicts.count('worse')}")
    return verdicts


@pytest.mark.long
@pytest.mark.alone
@pytest.mark.timeout(10800)
def test_a_real_slowdown_of_10_percent_is_found_without_false_alarms(fashion, tmp_path, capsys):
    """40 comparisons of a real loader with one that does a tenth more work, and 100 with itself."""
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
