"""The same SimCLR step in lightly and in twoview, in turn on one device, each side in a process of its own."""

from collections.abc import Iterator

from twoview.bench.config import recipe
from twoview.bench.evidence import DeviceFigures, Figure
from twoview.bench.peers.job import StepJob
from twoview.bench.peers.race import PATIENCE, Unavailable, race
from twoview.bench.runtime.cores import cpu_count
from twoview.bench.suites.gpu.scale import HEADLINE, Context

NAME = "gpu-lightly"


def measure(context: Context, patience: float = PATIENCE) -> Iterator[DeviceFigures]:
    """Measure views/s of both sides in each round, and our rate over lightly's. Our step is compiled as in training.

    Raises ValueError if our side fails. If lightly is not installed, cannot run, or takes more than `patience` seconds
    to start or for a round, it has no rates, and its note has the reason.
    """
    scale = context.scale
    # lightly's projection head has a BatchNorm after its last layer, too, so ours gets one.
    method = recipe.load(HEADLINE).method.model_dump() | {"norm": "all"}
    one = scale.recipe(HEADLINE, {"method": method}, batch=scale.step_batch, compile=scale.compile)
    job = StepJob(
        images=one.batch * scale.steps,
        threads=cpu_count(),
        recipe=one.model_dump(mode="json"),
        device=scale.device,
    )
    try:
        result = race(job, ("lightly",), scale.rounds, "step of twoview and lightly", patience)
    except Unavailable as reason:
        raise ValueError(f"our side of the step failed: {reason}") from None
    work = f"SimCLR, {one.backbone.name} at {one.size}, batch {one.batch}, {one.precision}"
    # The race counts images, and the step uses two views of each.
    figures = [
        Figure(
            work=work,
            quantity="step_rate",
            variant=side,
            samples=[2 * rate for rate in result.images_per_s.get(side, [])],
            note=result.notes.get(side, ""),
        )
        for side in ("twoview", "lightly")
    ]
    ratios = [our / their for our, their in zip(*(figure.samples for figure in figures), strict=False)]
    figures.append(Figure(work=work, quantity="speedup", variant="lightly", samples=ratios))
    figures += [
        Figure(work=work, quantity="peak_device_memory", variant=side, samples=[mib / 1024])
        for side, mib in result.device_mib.items()
    ]
    yield DeviceFigures(name=NAME, device=scale.device, figures=figures, recipe=one.model_dump(mode="json"))
