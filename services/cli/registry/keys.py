"""`keys`: which key seals what is secret, and how to change it."""

import sys
from collections import Counter
from pathlib import Path
from typing import Any

import click
from rich.progress import Progress

from services.cli.context import as_json, database, errors, guarded, load_config, print_json
from services.common.errors import EXIT_FAILED, ConfigError
from services.common.settings import Settings
from services.registry.rotation import Rotation, SealedCounts
from services.registry.vault import Vault

SAYS = {
    "current": "under the vault key",
    "old": "under the key before it",
    "rotated": "sealed anew",
    "another-key": "under a key that is not given",
    "unreadable": "cannot be opened; connect the mailbox again",
}


@click.group()
def keys() -> None:
    """The key that seals passwords, user names and addresses."""


@keys.command("check")
@as_json
@guarded
def keys_check(json_: bool) -> None:
    """Open everything that is sealed, and tell by which key; exit 1 when something does not open."""
    found = load_config()
    _go(found, found.old_vault_key(), json_, write=False)


@keys.command("rotate")
@click.option(
    "--old-key-file", type=click.Path(dir_okay=False, path_type=Path),
    help="File with the key before; REPLYRATE_VAULT_OLD_KEY_FILE when not given.",
)  # fmt: skip
@as_json
@guarded
def keys_rotate(old_key_file: Path | None, json_: bool) -> None:
    """Seal everything with the key of REPLYRATE_VAULT_KEY_FILE that is sealed with the key before it.

    First let every fetcher know both keys (docs/keys-and-backup.md, Rotate the vault key). It may be ended at any moment
    and started again: it goes on where it was, and fetchers go on meanwhile.
    """
    found = load_config()
    if old_key_file is not None:
        found = found.model_copy(update={"vault_old_key_file": old_key_file})
    old = found.old_vault_key()
    if old is None:
        raise ConfigError("the key before is not given; write --old-key-file or set REPLYRATE_VAULT_OLD_KEY_FILE")
    if old == found.vault_key():
        raise ConfigError(
            "REPLYRATE_VAULT_KEY_FILE and the old key file hold the same key; make a new one:"
            " head -c 32 /dev/urandom > FILE"
        )
    _go(found, old, json_, write=True)


def _go(found: Settings, old: bytes | None, json_: bool, *, write: bool) -> None:
    counts: Counter[str] = Counter()
    bad: list[SealedCounts] = []
    vault = Vault(found.vault_key(), old)
    with database(found) as connection, Progress(console=errors, transient=True, disable=not errors.is_terminal) as bar:
        rotation = Rotation(connection, vault)
        task = bar.add_task("sealing" if write else "opening", total=rotation.sealed())
        for sealed in rotation.rotate(write=write):
            counts[sealed.state] += 1
            bar.advance(task)
            if sealed.state in ("another-key", "unreadable"):
                bad.append(sealed)
    rows: list[dict[str, Any]] = [{"company_id": one.company_id, "what": one.what, "state": one.state} for one in bad]
    if json_:
        print_json({"key_id": vault.key_id, "counts": dict(counts), "bad": rows})
    else:
        for state, count in sorted(counts.items()):
            errors.print(f"{count} {SAYS[state]}", markup=False)
        for one in bad:
            errors.print(f"{one.company_id} {one.what}: {SAYS[one.state]}", style="red", markup=False)
        if not counts:
            errors.print("nothing is sealed yet")
        elif write and not bad:
            errors.print("done; take REPLYRATE_VAULT_OLD_KEY_FILE out of every fetcher's settings")
    if bad:
        sys.exit(EXIT_FAILED)
