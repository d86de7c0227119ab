"""The suite of the papers' claims at reduced scale: small recipes replace the papers', and run with several seeds.

`reports/papers/*.toml` says which recipes a claim compares, and by which test.
"""

from collections.abc import Iterator
from functools import partial

from twoview.bench.config import claims_scale, recipe
from twoview.bench.config.claims_scale import Scale
from twoview.bench.config.experiment import Place
from twoview.bench.runtime.progress import console
from twoview.bench.suites import runner
from twoview.bench.suites.runner import Step
from twoview.loaders import datasets


def steps(scale: Scale, place: Place) -> Iterator[Step]:
    """Yield the steps: all recipes whose dataset is available, seed by seed, then the experiments on theory.

    The skipped recipes are printed.
    """
    recipes = [scale.of(recipe.load(name)) for name in claims_scale.names()]
    problems = {dataset: _problem(dataset, place) for dataset in sorted({one.dataset for one in recipes})}
    for dataset, problem in problems.items():
        if problem:
            count = sum(one.dataset == dataset for one in recipes)
            console.print(f"{count} recipes on {dataset} are skipped: {problem}", markup=False)
    yield from runner.trainings([one for one in recipes if not problems[one.dataset]], place, scale.seeds, scale.trials)
    yield Step("theory-spectral", partial(runner.measure_claims, "spectral"))
    if scale.images:
        yield Step("theory-images", partial(runner.measure_claims, "images", seeds=scale.seeds))


def _problem(dataset: str, place: Place) -> str:
    """Return in a sentence why a dataset cannot be used on this machine; empty if it can."""
    known = datasets.dataset(dataset)
    try:
        for split in known.sizes:
            known.find(place.root, split)
    except (OSError, ValueError) as error:
        return str(error)
    return ""
