"""A pool of threads that decode images, each with a decoder of its own."""

import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from twoview.loaders.decode import Decoder


class Workers:
    """A pool of threads, each with its own decoder.

    The threads hold no reference to the loader that uses them, so the loader is freed as soon as its user drops it.

    threads: number of threads. process: id of the process that made the pool; a forked child has none of its threads.
    """

    def __init__(self, threads: int) -> None:
        self.process = os.getpid()
        self._decoders: list[Decoder] = []
        self._thread = threading.local()
        self._pool = ThreadPoolExecutor(threads, "loader", initializer=self._begin)

    @property
    def here(self) -> bool:
        """Whether the threads belong to this process."""
        return self.process == os.getpid()

    @property
    def decoder(self) -> Decoder:
        """The decoder of the calling thread, which must be one of the pool's."""
        decoder: Decoder = self._thread.decoder
        return decoder

    def submit(self, work: Callable[..., None], *arguments: Any) -> Future[None]:
        """Run work(*arguments) in one of the threads."""
        return self._pool.submit(work, *arguments)

    def end(self, wait: bool = True) -> None:
        """End the threads and free their decoders. A second call, or a call in a forked process, does nothing.

        wait: wait for the work in progress. It may be False only if there is none.
        """
        if self.here:
            self._pool.shutdown(wait=wait, cancel_futures=True)
            while self._decoders:
                self._decoders.pop().close()

    def _begin(self) -> None:
        """Give the calling thread its decoder; every thread of the pool starts with this."""
        self._thread.decoder = Decoder()
        self._decoders.append(self._thread.decoder)
