"""An executor on the workers of a dask client that outlives a lost connection."""

from __future__ import annotations

import asyncio
import concurrent.futures
import time
from collections.abc import Callable
from concurrent.futures import Executor, Future
from functools import partial
from typing import Any

from distributed import Client
from distributed import Future as Remote
from distributed.comm.core import CommClosedError

__all__ = ["ClientExecutor"]


class ClientExecutor(Executor):
    """Functions run once each by the workers of a client.

    dask's own executor never ends a future whose result is on its way when the connection to the scheduler breaks. Here
    it is cancelled, as are all that the scheduler forgets then, and the caller may submit it again: the client connects
    again for a while.

    Args:
        client: connected; it is left open.
    """

    def __init__(self, client: Client) -> None:
        self._client, self._address = client, client.scheduler.address
        self._loop: Any = client.loop
        self._live: set[Future[Any]] = set()
        self._closed = False

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """The future of a function that some worker runs.

        Raises:
            ConnectionError: the scheduler is gone.
            RuntimeError: the executor was shut down.
        """
        if self._closed:
            raise RuntimeError("the executor was shut down")
        while self._client.status == "connecting":
            time.sleep(0.1)
        if self._client.status != "running":
            raise ConnectionError(f"farm: the dask scheduler at {self._address} is gone")
        remote = self._client.submit(fn, *args, pure=False, **kwargs)
        future: Future[Any] = Future()
        self._live.add(future)
        future.add_done_callback(self._live.discard)
        future.add_done_callback(partial(self._given_up, remote))
        remote.add_done_callback(partial(self._ended, future))
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take nothing more; cancel what has not ended, if asked to, and wait for the rest."""
        self._closed = True
        live = list(self._live)
        if cancel_futures:
            for future in live:
                future.cancel()
        if wait:
            concurrent.futures.wait(live)

    def _given_up(self, remote: Remote, future: Future[Any]) -> None:
        """Tell the scheduler of a future that nobody waits for any more."""
        if future.cancelled() and not remote.done() and self._client.status == "running":
            self._loop.add_callback(remote.cancel, asynchronous=True)

    def _ended(self, future: Future[Any], remote: Remote) -> None:
        """Fetch what ended; one that was cancelled has no result."""
        if remote.status == "cancelled":
            _cancel(future)
        else:
            self._loop.add_callback(self._fetch, future, remote)

    async def _fetch(self, future: Future[Any], remote: Remote) -> None:
        try:
            value = await self._client.gather(remote, asynchronous=True)
        except (asyncio.CancelledError, concurrent.futures.CancelledError, CommClosedError):
            _cancel(future)
        except Exception as error:
            if future.set_running_or_notify_cancel():
                future.set_exception(error)
        else:
            if future.set_running_or_notify_cancel():
                future.set_result(value)


def _cancel(future: Future[Any]) -> None:
    future.cancel()
    future.set_running_or_notify_cancel()
