"""A measurement in a process of its own, so that a peak of memory belongs to it alone and a crash ends nothing else."""

import multiprocessing
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from typing import Any


def apart(measure: Callable[[Any], dict[str, Any]], job: Any, preload: Sequence[str]) -> dict[str, Any]:
    """measure(job), or `absent` and why: a package or the memory is not there, or the process died.

    It is forked from a process that has imported the modules of `preload` and done nothing else.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["__main__", *preload])
    ours, its = context.Pipe(duplex=False)
    process = context.Process(target=_answer, args=(measure, job, its))
    process.start()
    its.close()
    try:
        answer: dict[str, Any] = ours.recv()
    except EOFError:
        process.join()
        return {"absent": f"its process ended with {process.exitcode}"}
    finally:
        ours.close()
        process.join()
    return answer


def _answer(measure: Callable[[Any], dict[str, Any]], job: Any, connection: Connection) -> None:
    try:
        connection.send(measure(job))
    except (ImportError, RuntimeError, MemoryError) as error:
        connection.send({"absent": " ".join(str(error).split())})
