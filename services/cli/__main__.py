"""The command `replyrate`: set-up, mailboxes, numbers. `replyrate COMMAND --help` describes each."""

from pathlib import Path

import click

from services.cli.context import PrintableErrors, guarded, use_environment
from services.cli.numbers.doctor import doctor
from services.cli.numbers.explain import explain
from services.cli.numbers.message import message
from services.cli.numbers.rate import rate
from services.cli.numbers.recompute import recompute_command
from services.cli.numbers.replay import replay_command
from services.cli.numbers.rules import rules_group
from services.cli.operate.config import config
from services.cli.operate.dlq import dlq
from services.cli.operate.init import init
from services.cli.operate.migrate import migrate
from services.cli.operate.publish import publish
from services.cli.operate.storage import storage_command
from services.cli.operate.topics import topics
from services.cli.play.demo import demo
from services.cli.play.standalone import standalone
from services.cli.registry.account import account, company
from services.cli.registry.api_key import api_key
from services.cli.registry.connect_link import connect_link, panel_link
from services.cli.registry.console_link import console_link
from services.cli.registry.erase import erase
from services.cli.registry.keys import keys
from services.cli.registry.mailbox import mailbox
from services.cli.registry.privacy import privacy
from services.cli.registry.provider import provider
from services.common import core_dumps
from services.common.version import version
from services.standalone.installation import read_settings


@click.group(cls=PrintableErrors, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(version(), prog_name="replyrate")
@click.option(
    "--data",
    type=click.Path(file_okay=False, path_type=Path),
    envvar="REPLYRATE_DATA",
    help="Use the servers and settings of the `replyrate standalone` in this folder.",
)
@click.pass_context
@guarded
def main(context: click.Context, data: Path | None) -> None:
    """Measure the reply rates of sellers from their Sent folders and the platform's inquiries.

    Exit codes: 0 done, 1 failed, 2 usage, 69 dependency unavailable, 70 inconsistent local state (restart), 78 configuration.
    """
    core_dumps.forbid()
    if data is not None and context.invoked_subcommand not in ("standalone", "demo"):
        use_environment(read_settings(data))


for command in (
    demo,
    init,
    migrate,
    topics,
    config,
    company,
    account,
    mailbox,
    connect_link,
    panel_link,
    console_link,
    provider,
    publish,
    rate,
    explain,
    message,
    doctor,
    recompute_command,
    replay_command,
    rules_group,
    dlq,
    storage_command,
    keys,
    api_key,
    privacy,
    erase,
    standalone,
):
    main.add_command(command)


if __name__ == "__main__":
    main()
