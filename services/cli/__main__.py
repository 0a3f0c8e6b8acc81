"""`replyrate`: set-up, mailboxes, numbers. `replyrate COMMAND --help` explains each."""

import click

from services.cli.account import account, company
from services.cli.demo import demo
from services.cli.mailbox import mailbox
from services.cli.publish import publish
from services.cli.rate import rate
from services.cli.setup import config, migrate, topics
from services.common.version import version


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(version(), prog_name="replyrate")
def main() -> None:
    """Reply rates of sellers, counted from their Sent folders and the platform's inquiries.

    Exit codes: 0 done, 1 failed, 2 usage, 69 a dependency is away, 70 state unsure (restart), 78 configuration.
    """


for command in (demo, migrate, topics, config, company, account, mailbox, publish, rate):
    main.add_command(command)


if __name__ == "__main__":
    main()
