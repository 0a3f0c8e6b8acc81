"""Apache Kafka's jars: downloaded once into the cache and verified against the committed lock; instant when present.

`python -m services.standalone.servers.jars` is part of `make setup`. The repository is the one this machine's Maven settings
name (jgo reads them); the lock has the hash of every file, so any repository will do.
"""

import hashlib
import os
import shutil
import sys
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from services.common.errors import EXIT_DONE, EXIT_UNAVAILABLE, ConfigError, TransientError
from services.standalone.servers.paths import cache_folder

LOCK_FILE = Path(__file__).with_name("kafka-4.4.0.lock")
TRIES = 3

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Jar:
    """One line of the lock."""

    sha256: str
    size: int
    coordinates: str
    path: str


def read_lock(file: Path = LOCK_FILE) -> tuple[Jar, ...]:
    """The jars of the lock file, in its order; lines that start with # are comments."""
    rows = [line.split() for line in file.read_text("utf-8").splitlines() if line and not line.startswith("#")]
    return tuple(Jar(sha256, int(size), coordinates, path) for sha256, size, coordinates, path in rows)


def folder() -> Path:
    """The folder of the verified jars."""
    return cache_folder() / LOCK_FILE.stem


def classpath() -> str:
    """The class path of the verified jars. ConfigError with the command to run when they are missing."""
    jars = read_lock()
    if not present(jars, folder()):
        raise ConfigError(
            "Kafka's jars are not in the cache: run `make setup` (or python -m services.standalone.servers.jars)"
        )
    return os.pathsep.join(str(folder() / jar.path) for jar in jars)


def present(jars: tuple[Jar, ...], target: Path) -> bool:
    """Whether `target` was verified against exactly this lock and still has every file in its size."""
    try:
        if (target / "verified").read_text("ascii") != _lock_digest(jars):
            return False
        return all((target / jar.path).stat().st_size == jar.size for jar in jars)
    except OSError:
        return False


def fetch(progress: Progress, target: Path | None = None) -> Path:
    """Download and verify every jar of the lock that is missing in `target`; returns the folder.

    TransientError when the repository cannot be reached, ConfigError when a file does not match the lock.
    """
    jars = read_lock()
    target = target or folder()
    if present(jars, target):
        return target
    target.mkdir(parents=True, exist_ok=True)
    missing = tuple(jar for jar in jars if not _verified(jar, target / jar.path))
    if missing:
        progress(f"Kafka 4.4.0: fetching {len(missing)} of {len(jars)} jars ({_megabytes(missing)} MB)")
        with tempfile.TemporaryDirectory(prefix="replyrate-jgo-") as scratch:
            resolved = _resolve(jars, Path(scratch), progress)
            for jar in missing:
                _place(jar, resolved, target / jar.path)
    (target / "verified").write_text(_lock_digest(jars), "ascii")
    progress(f"Kafka 4.4.0: {len(jars)} jars present, verified against {LOCK_FILE.name}")
    return target


def _resolve(jars: tuple[Jar, ...], scratch: Path, progress: Progress) -> dict[str, Path]:
    """Resolve all coordinates at once with jgo (one by one it would pick another kafka-clients): file name → path."""
    import jgo  # heavy, and needed only when something is missing

    endpoint = "+".join(jar.coordinates for jar in jars)
    failure: Exception | None = None
    for _ in range(TRIES):
        try:
            with _Ticker(progress, scratch):
                environment = jgo.build(endpoint, cache_dir=scratch)
            return {Path(path).name: Path(path) for path in environment.all_jars}
        except Exception as error:  # jgo raises many kinds; all of them mean "not available now"
            failure = error
            progress(f"Kafka 4.4.0: {type(error).__name__}, trying again")
    raise TransientError(f"Kafka's jars cannot be fetched from the Maven repository: {failure}")


def _place(jar: Jar, resolved: dict[str, Path], target: Path) -> None:
    source = resolved.get(Path(jar.path).name)
    if source is None or not _verified(jar, source):
        raise ConfigError(
            f"{jar.coordinates} does not have the SHA-256 of {LOCK_FILE.name}: check the Maven repository"
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_suffix(f".{os.getpid()}.part")
    shutil.copyfile(source, partial)
    partial.replace(target)


def _verified(jar: Jar, file: Path) -> bool:
    try:
        if file.stat().st_size != jar.size:
            return False
        with file.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest() == jar.sha256
    except OSError:
        return False


def _lock_digest(jars: tuple[Jar, ...]) -> str:
    return hashlib.sha256("\n".join(f"{jar.sha256} {jar.path}" for jar in jars).encode("ascii")).hexdigest()


def _megabytes(jars: tuple[Jar, ...]) -> int:
    return round(sum(jar.size for jar in jars) / 1e6)


class _Ticker:
    """Reports progress every few seconds, because jgo itself is silent."""

    def __init__(self, progress: Progress, scratch: Path) -> None:
        self._progress = progress
        self._scratch = scratch
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _run(self) -> None:
        seconds = 0
        while not self._done.wait(3):
            seconds += 3
            self._progress(f"Kafka 4.4.0: resolving, {seconds} s")


def main() -> int:
    """Fetch with a line of progress per step; exit code 69 when the repository does not answer, 78 when a hash differs."""
    try:
        fetch(lambda line: print(line, flush=True))
    except (TransientError, ConfigError) as error:
        print(error, file=sys.stderr)
        return EXIT_UNAVAILABLE if isinstance(error, TransientError) else 78
    return EXIT_DONE


if __name__ == "__main__":
    sys.exit(main())
