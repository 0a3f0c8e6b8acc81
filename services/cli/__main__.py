"""`replyrate`: set-up, mailboxes, numbers. `replyrate COMMAND --help` explains each."""

from pathlib import Path

import click

from services.cli.numbers.doctor import doctor
from services.cli.numbers.explain import explain
from services.cli.numbers.rate import rate
from services.cli.numbers.recompute import recompute
from services.cli.numbers.replay import replay
from services.cli.numbers.rules import rules
from services.cli.operate.dlq import dlq
from services.cli.operate.init import init
from services.cli.operate.publish import publish
from services.cli.operate.setup import config, migrate, topics
from services.cli.play.demo import demo
from services.cli.play.standalone import standalone, use_world
from services.cli.registry.account import account, company
from services.cli.registry.erase import erase
from services.cli.registry.keys import keys
from services.cli.registry.mailbox import mailbox
from services.cli.registry.privacy import privacy
from services.cli.registry.provider import provider
from services.common.version import version


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(version(), prog_name="replyrate")
@click.option(
    "--data",
    type=click.Path(file_okay=False, path_type=Path),
    envvar="REPLYRATE_DATA",
    help="Folder of a `replyrate standalone`: use its servers and settings.",
)
def main(data: Path | None) -> None:
    """Reply rates of sellers, counted from their Sent folders and the platform's inquiries.

    Exit codes: 0 done, 1 failed, 2 usage, 69 a dependency is away, 70 state unsure (restart), 78 configuration.
    """
    if data is not None and click.get_current_context().invoked_subcommand not in ("standalone", "demo"):
        use_world(data)


for command in (
    demo,
    init,
    migrate,
    topics,
    config,
    company,
    account,
    mailbox,
    provider,
    publish,
    rate,
    explain,
    doctor,
    recompute,
    replay,
    rules,
    dlq,
    keys,
    privacy,
    erase,
    standalone,
):
    main.add_command(command)


if __name__ == "__main__":
    main()
