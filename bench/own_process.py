"""Work in a process of its own, so that a peak of memory belongs to it alone and a crash ends nothing else.

It is forked from a process that has imported the modules of `preload` and done nothing else: what takes seconds is
imported once, however many processes there are.
"""

import ctypes
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from typing import Any


def forks(preload: Sequence[str]) -> ForkServerContext:
    """What forks processes from one that has imported these modules, and the caller's own."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["__main__", *preload])
    return context


def end_with_parent() -> None:
    """The process is killed when the one that asked for it ends, whatever ends that one.

    One that is forked has another parent, which lives as long as any of its forks: it watches who asked for it.
    """
    asked = multiprocessing.parent_process()
    if asked is None:
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
        return

    def watch() -> None:
        asked.join()
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()


def apart(measure: Callable[[Any], dict[str, Any]], job: Any, preload: Sequence[str]) -> dict[str, Any]:
    """measure(job), or `absent` and why: a package or the memory is not there, or the process died."""
    context = forks(preload)
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
    process = forks(preload).Process(target=_mortal, args=(work, job))
    process.start()
    try:
        process.join()
    finally:
        process.kill()
        process.join()
    return int(process.exitcode or 0)


def _mortal(work: Callable[[Any], None], job: Any) -> None:
    end_with_parent()
    work(job)
