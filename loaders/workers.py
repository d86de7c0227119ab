"""Threads that decode, each with a decoder of its own."""

import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from twoview.loaders.decode import Decoder


class Workers:
    """A pool of such threads. They know nothing of who uses them, so that a user that is dropped is freed at once.

    process: where they were started; a process that was forked from it has none of them.
    """

    def __init__(self, threads: int) -> None:
        self.process = os.getpid()
        self._decoders: list[Decoder] = []
        self._thread = threading.local()
        self._pool = ThreadPoolExecutor(threads, "loader", initializer=self._begin)

    @property
    def here(self) -> bool:
        """Whether they are threads of this process."""
        return self.process == os.getpid()

    @property
    def decoder(self) -> Decoder:
        """Of the thread that asks, which is one of them."""
        decoder: Decoder = self._thread.decoder
        return decoder

    def submit(self, work: Callable[..., None], *arguments: Any) -> Future[None]:
        return self._pool.submit(work, *arguments)

    def end(self, wait: bool = True) -> None:
        """Ends the threads and frees their decoders. A second call does nothing, nor does one in a forked process.

        wait: for work under way; without it there must be none.
        """
        if self.here:
            self._pool.shutdown(wait=wait, cancel_futures=True)
            while self._decoders:
                self._decoders.pop().close()

    def _begin(self) -> None:
        self._thread.decoder = Decoder()
        self._decoders.append(self._thread.decoder)
