"""Work in a process of its own, so that a peak of memory belongs to it alone and a crash ends nothing else.

It is forked from a process that has imported the modules of `preload` and done nothing else: what takes seconds is
imported once, however many processes there are.
"""

import ctypes
import multiprocessing
import os
import pickle
import signal
import sys
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


def run(work: Callable[[Any], Any], job: Any, preload: Sequence[str] = ()) -> Any:
    """work(job), in a process of its own that ends with this one, whatever ends this one.

    What it raises is raised here; ChildProcessError where the process ended before it answered.
    """
    context = forks(preload)
    ours, its = context.Pipe(duplex=False)
    process = context.Process(target=_answer, args=(work, job, its))
    process.start()
    its.close()
    try:
        failed, answer = ours.recv()
        process.join()
    except EOFError:
        process.join()
        raise ChildProcessError(f"its process ended with {process.exitcode}") from None
    finally:
        ours.close()
        process.kill()
        process.join()
    if failed:
        raise answer
    return answer


def _answer(work: Callable[[Any], Any], job: Any, connection: Connection) -> None:
    end_with_parent()
    try:
        answer = False, work(job)
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        answer = True, error
    try:
        connection.send(answer)
    except (TypeError, AttributeError, pickle.PicklingError):  # an error that cannot be sent as it is
        connection.send((True, RuntimeError(str(answer[1]))))


def try_run(measure: Callable[[Any], dict[str, Any]], job: Any, preload: Sequence[str]) -> dict[str, Any]:
    """measure(job), or `absent` and why: a package or the memory is not there, or the process died."""
    try:
        answer: dict[str, Any] = run(measure, job, preload)
    except (ImportError, RuntimeError, MemoryError, ChildProcessError) as error:
        return {"absent": " ".join(str(error).split())}
    return answer
