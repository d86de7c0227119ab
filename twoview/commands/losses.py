"""What every loss costs."""

from twoview.bench.costs import loss_cost
from twoview.commands.numbers import at_most
from twoview.commands.output import show
from twoview.loaders.limits import BATCH, WIDTH


def run(batches: tuple[int, ...] = loss_cost.BATCHES, dim: int = 128, rounds: int = 3, json: bool = False) -> None:
    """Measure every loss, forward and backward, beside lightly's: milliseconds and peak MiB, medians over the rounds.

    Args:
        batches: images of a batch, each of which has two embeddings.
        dim: width of an embedding.
        rounds: measurements of each loss on each side, in turn, each in a process of its own.
        json: print the result as JSON.
    """
    at_most(WIDTH, dim=dim)
    for batch in batches:
        at_most(BATCH, batches=batch)
    result = loss_cost.measure(batches, dim, rounds)
    show(result, json, loss_cost.table(result))
