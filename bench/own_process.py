"""Work in a process of its own, so that a peak of memory belongs to it alone and a crash ends nothing else.

It is forked from a process that has imported the modules of `preload` and done nothing else: what takes seconds is
imported once, however many processes there are.
"""

import ctypes
import multiprocessing
import signal
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from typing import Any


def apart(measure: Callable[[Any], dict[str, Any]], job: Any, preload: Sequence[str]) -> dict[str, Any]:
    """measure(job), or `absent` and why: a package or the memory is not there, or the process died."""
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


def exit_code(work: Callable[[Any], None], job: Any, preload: Sequence[str]) -> int:
    """Of a process that does work(job). It ends with this one, whatever ends this one."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["__main__", *preload])
    process = context.Process(target=_mortal, args=(work, job))
    process.start()
    try:
        process.join()
    finally:
        process.kill()
        process.join()
    return int(process.exitcode or 0)


def _mortal(work: Callable[[Any], None], job: Any) -> None:
    # prctl(PR_SET_PDEATHSIG): the parent is the process it was forked from, which ends when the one that asked ends.
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    work(job)
