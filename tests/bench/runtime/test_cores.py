"""The cores a process may run on."""

import os
import threading

from twoview.bench.runtime.cores import confine, cores, cpu_count


def test_every_thread_of_a_process_is_confined_including_later_ones():
    ready, over = threading.Event(), threading.Event()
    mine = cores()
    waiting = threading.Thread(target=lambda: ready.set() or over.wait())
    waiting.start()
    ready.wait()
    try:
        confine(os.getpid(), mine[:1])
        assert os.sched_getaffinity(waiting.native_id) == set(mine[:1])
        assert cores() == mine[:1] and cpu_count() == 1
        started = []
        later = threading.Thread(target=lambda: started.append(os.sched_getaffinity(0)))
        later.start()
        later.join()
        assert started == [set(mine[:1])]
    finally:
        confine(os.getpid(), mine)
        over.set()
        waiting.join()
    assert cores() == mine
