"""The services as processes, exactly as in production: `python -m services.…`, settings from the environment, logs to files."""

import os
import sys
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self

from services.common.errors import EXIT_CONFIG, ConfigError, TransientError
from services.standalone.servers.child import Child
from services.standalone.servers.paths import ROOT

SERVICES = ("matcher", "fetcher", "aggregator", "portal")
CONSOLE = "console"
MODULES = {CONSOLE: "services.portal.console"}
"""Where a service is that has no folder of its own."""
RESTART_SECONDS = 2.0


class Supervisor:
    """Starts the services, reports when one ended, stops them all. A context manager."""

    def __init__(self, folder: Path, environ: Mapping[str, str], portal_environ: Mapping[str, str]) -> None:
        """`environ`: the settings of every service but the web processes. The portal gets `portal_environ` alone."""
        self._folder = folder
        self._environ = dict(environ)
        self._own_environs = {"portal": dict(portal_environ)}
        self._children: dict[str, Child] = {}
        self._started: dict[str, float] = {}

    def start(self, names: tuple[str, ...] = SERVICES) -> None:
        """Start services; their logs are `<name>.log` in the folder."""
        self._folder.mkdir(parents=True, exist_ok=True)
        keep = {name: value for name, value in os.environ.items() if not name.startswith("REPLYRATE_")}
        for name in names:
            own = self._own_environs.get(name, self._environ)
            environ = {**keep, "PYTHONPATH": str(ROOT), **own}
            self._started[name] = time.monotonic()
            command = [sys.executable, "-m", MODULES.get(name, f"services.{name}")]
            # An empty folder as working directory shows what a service writes to a relative path.
            self._children[name] = Child(
                name, command, self._folder / f"{name}.log", env=environ, cwd=self._folder, grace_seconds=25
            )

    def start_console(self, console_environ: Mapping[str, str]) -> None:
        """Start the staff console, with these settings alone."""
        self._own_environs[CONSOLE] = dict(console_environ)
        self.start((CONSOLE,))

    def kill(self, name: str) -> None:
        """Send SIGKILL to one service, as in a power failure."""
        self._children[name].kill()

    def check(self) -> None:
        """TransientError with the end of its log when a service ended by itself."""
        for name, child in self._children.items():
            if (code := child.poll()) is not None:
                raise TransientError(f"the {name} ended with exit code {code}; the end of its log:\n{child.tail(12)}")

    def revive(self) -> list[tuple[str, int]]:
        """Restart what ended by itself, as an orchestrator would; returns (name, exit code) of each.

        ConfigError when a service refuses its configuration. A service that ends right after its start waits before its next restart.
        """
        ended = [(name, code) for name, child in self._children.items() if (code := child.poll()) is not None]
        for name, code in ended:
            if code == EXIT_CONFIG:
                raise ConfigError(f"the {name} cannot use its configuration:\n{self._children[name].tail(12)}")
            if time.monotonic() - self._started[name] < RESTART_SECONDS:
                continue
            self.start((name,))
        return [(name, code) for name, code in ended if self._children[name].poll() is None]

    def stop(self) -> dict[str, int]:
        """Stop all services at the same time; returns the exit codes."""
        children, self._children = self._children, {}
        if not children:
            return {}
        # Side by side, with one SIGTERM each: a second SIGTERM means "stop immediately".
        with ThreadPoolExecutor(len(children)) as pool:
            return dict(zip(children, pool.map(Child.stop, children.values()), strict=True))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
