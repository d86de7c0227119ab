"""The command `measure losses`: time and memory of every loss."""

from twoview.bench.costs import loss_cost
from twoview.commands.numbers import at_most
from twoview.commands.output import show
from twoview.loaders.limits import BATCH, WIDTH


def run(batches: tuple[int, ...] = loss_cost.BATCHES, dim: int = 128, rounds: int = 3, json: bool = False) -> None:
    """Measure time and peak memory of every loss, forward and backward, against lightly's: medians over the rounds.

    Args:
        batches: batch sizes to measure, in images; each image has two embeddings.
        dim: dimension of an embedding.
        rounds: number of rounds; in each, every loss runs once in each library, in its own process.
        json: print the result as JSON.
    """
    at_most(WIDTH, dim=dim)
    for batch in batches:
        at_most(BATCH, batches=batch)
    result = loss_cost.measure(batches, dim, rounds)
    show(result, json, loss_cost.table(result))
