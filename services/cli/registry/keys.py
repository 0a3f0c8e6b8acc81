"""`keys`: which key seals the stored secrets, and how to rotate it."""

import sys
from collections import Counter
from pathlib import Path
from typing import Any, Final

import click
from rich.progress import Progress

from services.cli.context import as_json, database, guarded, load_config
from services.cli.output import errors, print_json
from services.common.display import printable
from services.common.errors import EXIT_FAILED, ConfigError
from services.common.settings import Settings
from services.registry.rotation import RotatedRow, Rotation
from services.registry.vault import Vault

STATES: Final = {
    "current": "sealed with the vault key",
    "old": "sealed with the previous key, or with the vault key by an earlier release",
    "rotated": "sealed again with the vault key",
    "another-key": "sealed with a key that was not given",
    "unreadable": "not readable; connect the mailbox again",
}


@click.group()
def keys() -> None:
    """The key that seals passwords, user names and addresses."""


@keys.command("check")
@as_json
@guarded
def keys_check(json_: bool) -> None:
    """Check which key opens each sealed value.

    Exit 1 when one does not open.
    """
    config = load_config()
    _check_or_rotate(config, config.old_vault_key(), json_, write=False)


@keys.command("rotate")
@click.option(
    "--old-key-file", type=click.Path(dir_okay=False, path_type=Path),
    help="File with the previous key. Default: REPLYRATE_VAULT_OLD_KEY_FILE.",
)  # fmt: skip
@as_json
@guarded
def keys_rotate(old_key_file: Path | None, json_: bool) -> None:
    """Seal every value again with the current vault key.

    Values sealed with the previous key, or with the same key by an earlier release, are sealed with the key of REPLYRATE_VAULT_KEY_FILE. For a new key, first give every fetcher both keys (docs/keys-and-backup.md, Rotate the vault key). The command may be interrupted and
    started again at any time; it continues where it was. Fetchers keep running meanwhile.
    """
    config = load_config()
    if old_key_file is not None:
        config = config.model_copy(update={"vault_old_key_file": old_key_file})
    old_key = config.old_vault_key()
    if old_key == config.vault_key():
        raise ConfigError(
            "REPLYRATE_VAULT_KEY_FILE and the old key file contain the same key; create a new one:"
            " head -c 32 /dev/urandom > FILE"
        )
    _check_or_rotate(config, old_key, json_, write=True)


def _check_or_rotate(config: Settings, old_key: bytes | None, json_: bool, *, write: bool) -> None:
    counts: Counter[str] = Counter()
    unopened: list[RotatedRow] = []
    vault = Vault(config.vault_key(), old_key)
    with (
        database(config) as connection,
        Progress(console=errors, transient=True, disable=not errors.is_terminal) as bar,
    ):
        rotation = Rotation(connection, vault)
        task = bar.add_task("sealing" if write else "opening", total=rotation.count())
        for sealed in rotation.rotate(write=write):
            counts[sealed.state] += 1
            bar.advance(task)
            if sealed.state in ("another-key", "unreadable"):
                unopened.append(sealed)
    if json_:
        rows: list[dict[str, Any]] = [
            {"company_id": sealed.company_id, "what": sealed.what, "state": sealed.state} for sealed in unopened
        ]
        print_json({"key_id": vault.key_id, "counts": dict(counts), "bad": rows})
    else:
        for state, count in sorted(counts.items()):
            errors.print(f"{count} {STATES[state]}", markup=False)
        for sealed in unopened:
            errors.print(
                f"{printable(sealed.company_id)} {printable(sealed.what)}: {STATES[sealed.state]}",
                style="red",
                markup=False,
            )
        if not counts:
            errors.print("Nothing is sealed yet.")
        elif write and not unopened:
            done = "Remove REPLYRATE_VAULT_OLD_KEY_FILE from the settings of every fetcher." if old_key else ""
            errors.print(f"Done. {done}".rstrip())
        if write and old_key is None and counts["another-key"]:
            errors.print(
                "The previous key is missing: pass --old-key-file, or set REPLYRATE_VAULT_OLD_KEY_FILE.", style="red"
            )
    if unopened:
        sys.exit(EXIT_FAILED)
