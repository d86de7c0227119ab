"""Run work in a process of its own, so that its peak memory can be measured and a crash does not end anything else.

The process is forked from a server process that has imported the modules of `preload` and done nothing else. So imports
that take seconds happen only once.
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
    """Return a multiprocessing context whose processes are forked from a server that has imported these modules.

    It has also imported the caller's main module.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["__main__", *preload])
    return context


def end_with_parent() -> None:
    """Arrange that this process is killed when the process that asked for it ends for any reason.

    The parent of a process that the fork server made is the server, which lives as long as any of its forks. Such a
    process watches the one that asked for it in a thread.
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
    """Return work(job), computed in a process of its own, which ends when this process ends.

    work: a function at the top level of a module. job: its argument. Argument and result must be picklable.
    preload: modules that are imported before the process is forked.
    An exception of `work` is raised here, too. Raises ChildProcessError if the process ended without an answer.
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
        raise ChildProcessError(f"its process ended with exit code {process.exitcode}") from None
    finally:
        ours.close()
        process.kill()
        process.join()
    if failed:
        raise answer
    return answer


def _answer(work: Callable[[Any], Any], job: Any, connection: Connection) -> None:
    """Send whether `work` failed, and its result or its exception."""
    end_with_parent()
    try:
        answer = False, work(job)
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        answer = True, error
    try:
        connection.send(answer)
    except (TypeError, AttributeError, pickle.PicklingError):  # an exception that cannot be pickled
        connection.send((True, RuntimeError(str(answer[1]))))


def try_run(measure: Callable[[Any], dict[str, Any]], job: Any, preload: Sequence[str]) -> dict[str, Any]:
    """Return measure(job), computed in a process of its own, or {"absent": reason} if it could not be measured.

    It cannot be measured if a package is missing, memory runs out, or the process dies.
    """
    try:
        answer: dict[str, Any] = run(measure, job, preload)
    except (ImportError, RuntimeError, MemoryError, ChildProcessError) as error:
        return {"absent": " ".join(str(error).split())}
    return answer
