"""What every embedded server has in common: a data folder, a process under guard, start, stop and kill."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from services.standalone.servers.child import Child, FolderLock, free_port


class EmbeddedServer(ABC):
    """One server on loopback; a context manager. It may be started again after `stop` or `kill`, with the same port."""

    def __init__(self, data_dir: Path, port: int | None = None) -> None:
        self.data_dir = data_dir.absolute()
        self.port = port or free_port()
        self._lock = FolderLock(self.data_dir)
        self._child: Child | None = None

    @property
    def pid(self) -> int | None:
        """The server's process id while it runs."""
        return None if self._child is None else self._child.pid

    @abstractmethod
    def start(self) -> None:
        """Start the server and wait until it answers.

        ConfigError when its folder is in use, TransientError when it does not come up.
        """

    def stop(self) -> None:
        """Stop the server in order, then with SIGKILL; nothing when it does not run."""
        if self._child is not None:
            self._child.stop()
            self._child = None
        self._lock.release()

    def kill(self) -> None:
        """Send SIGKILL, as in a power failure."""
        if self._child is not None:
            self._child.kill()
            self._child = None
        self._lock.release()

    @contextmanager
    def _starting(self) -> Iterator[None]:
        """The data folder, locked; what fails while the server starts stops it."""
        self.data_dir.mkdir(parents=True, exist_ok=True)
        self._lock.take()
        try:
            yield
        except BaseException:
            self.stop()
            raise

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def start_together(stack: ExitStack, *servers: EmbeddedServer) -> None:
    """Start servers side by side; `stack` stops them, those too that started beside one that failed."""
    with ThreadPoolExecutor(len(servers)) as pool:
        starts = [pool.submit(server.start) for server in servers]
    for server in servers:
        stack.callback(server.stop)
    for start in starts:
        start.result()
