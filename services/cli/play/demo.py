"""`demo`: the whole pipeline on embedded servers, and its report."""

import signal
import sys
import threading
import webbrowser

import click

from services.cli.context import as_json, guarded
from services.cli.output import StatusLine, errors, print_json
from services.common.errors import EXIT_FAILED
from services.registry.staff_sessions import LINK_MINUTES
from services.standalone.demo.connect_offer import ConnectOffer
from services.standalone.demo.demo import run
from services.standalone.demo.report import DemoReport, print_differences, print_report


@click.command()
@click.option(
    "--keep", is_flag=True, help="Keep everything running afterwards and print the addresses; Ctrl-C stops it."
)
@click.option(
    "--open", "open_", is_flag=True,
    help="Open the portal's connect page in the web browser, with a link for one of the sellers; keeps everything running.",
)  # fmt: skip
@click.option("--seed", type=int, default=1, show_default=True, help="Random seed for the demo data.")
@as_json
@guarded
def demo(keep: bool, open_: bool, seed: int, json_: bool) -> None:
    """Show the reply rates of eight invented sellers.

    Their inquiries and mail run through the real services on embedded servers; needs only `make setup`. Every number is compared with an independent recount before it is
    shown; if they differ, the differences are printed and the exit code is 1.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    interrupted = threading.Event()

    def interrupt(*_: object) -> None:
        # Remembered, because a library that is in the middle of a callback may swallow the exception.
        interrupted.set()
        raise KeyboardInterrupt

    signal.signal(signal.SIGINT, interrupt)
    with StatusLine() as status:

        def progress(step: str) -> None:
            if interrupted.is_set():
                raise KeyboardInterrupt
            status.update(step)

        def keep_running(report: DemoReport) -> None:
            status.stop()
            show_report(report, json_)
            errors.print(
                f"\nThe portal is at\n\n  {report.portal}\n\nPostgres  {report.postgres}\nKafka     {report.kafka}\nlogs      {report.folder}/services",
                markup=False,
                soft_wrap=True,
            )
            if report.connect_offer is not None:
                print_offer(report.connect_offer)
                errors.print(
                    f"\nThe staff console, as an operator; the link can be opened once, within {LINK_MINUTES} minutes:\n\n  {report.console_link}",
                    markup=False,
                    soft_wrap=True,
                )
                if open_ and not webbrowser.open(report.connect_offer.url):
                    errors.print("No web browser was found; open the link yourself.")
            errors.print("\nEverything keeps running. Press Ctrl-C to stop.")
            threading.Event().wait()

        try:
            report = run(seed=seed, progress=progress, keep=keep_running if keep or open_ else None)
            if interrupted.is_set():
                raise KeyboardInterrupt
        except KeyboardInterrupt:
            errors.print("\nStopped and cleaned up.")
            sys.exit(0 if keep or open_ else 130)
    show_report(report, json_)
    if not json_:
        errors.print("\nTo look at it in the portal and the console: make demo OPEN=1")
    if report.differences:
        sys.exit(EXIT_FAILED)


def print_offer(offer: ConnectOffer) -> None:
    """Print links to the panel and to the connect page, and what to type there."""
    errors.print(
        f"\nThe panel of {offer.panel_title}, with its rate; the link can be opened once:\n\n  {offer.panel_url}",
        markup=False,
        soft_wrap=True,
    )
    errors.print(
        f"\nConnect the backup mailbox of {offer.title} as the seller would; the link can be opened once:\n\n  {offer.url}\n\n"
        f"address   {offer.address}\npassword  {offer.password}\nserver    {offer.host}, port {offer.port}",
        markup=False,
        soft_wrap=True,
    )


def show_report(report: DemoReport, json_: bool) -> None:
    """Print the report as one JSON document or for people; differences go first, to standard error."""
    print_differences(report)
    if json_:
        print_json(report.as_json())
    else:
        print_report(report)
