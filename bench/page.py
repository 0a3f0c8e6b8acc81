"""docs/dev/speed.md and the measured part of docs/scaling.md, rendered from the newest results: `python -m bench.page`."""

import json
import sys
from pathlib import Path
from typing import Any, Final

RESULTS: Final = Path(__file__).with_name("results")
PAGE: Final = Path(__file__).parents[1] / "docs" / "dev" / "speed.md"
SCALING: Final = Path(__file__).parents[1] / "docs" / "scaling.md"
MEASURED: Final = (
    "<!-- Rendered by `python -m bench.page` from bench/results/stack-*.json; do not edit. -->",
    "<!-- End. -->",
)
"""The lines around the part that is measured on the compose file."""

JUDGED_AT_POINTS: Final = "recompute-2026-11-29"
"""Files of recomputes before this one were measured before decision 0063."""

MOST_TABLES: Final = 8
"""Tables whose growth in a simulated year is shown."""

WHY: Final = {
    "matcher_vs_quix": "The join itself (decode, hash, merge, encode) is most of what both do, and it is the same for both.",
    "fetcher_vs_raw_imap": (
        "The socket reads bytes; the fetcher also parses and hashes each message, sends it through a Kafka client"
        " written in Python, and keeps the record it published in Postgres (so that a rescan publishes the same bytes)."
        " Ordinary headers are parsed by a pattern each and records are built into batches as a whole; what is left is spread over"
        " reading the answer (15 %), parsing (30 %), the event with its hashes and kind (25 %), and storing it (17 %)."
    ),
    "fetcher_vs_envelope": (
        "The other side neither publishes nor stores anything; that is two thirds of the fetcher's cost of a message."
    ),
    "recompute_vs_floor": (
        "The floor writes one row per inquiry; judging joins statuses, replies, coverage and owners first, one company"
        " at a time, and writes the rates too."
    ),
    "matcher_growth": (
        "When the first stretch is the slow one, as the table below shows, it is a process that has just started, not one that"
        " has grown: compare the two others."
    ),
    "portal_p95_ms": (
        "Other work kept both cores busy (load average above), or a call waited for another service: CPU and the median in the"
        " tables below tell which."
    ),
    "rss_slope_matcher": (
        "It goes up by the size of a batch and down again; the figures of each minute are in the file, and a leak would not"
        " go down again."
    ),
}
"""Why a figure misses its reach."""

HEAD: Final = """# Speed

<!-- Rendered by `python -m bench.page` from the newest files in bench/results/; do not edit. -->

`make bench` measures replyrate beside the usual alternatives, both in the same run on one machine, so that only ratios count
({cores} cores, Python {python}, shared by the services, Kafka, Postgres and Dovecot). Medians of up to {repeats} runs; figures with one
value were measured once. Each figure is of the newest run that measured it: `make bench PARTS=fetcher` measures those of the fetcher alone.
"""


def newest(kind: str) -> dict[str, Any]:
    """The results of `bench`, `soak` or another kind: each figure as the newest file with it says, the rest from the newest file."""
    results: dict[str, Any] = {}
    figures: dict[str, Any] = {}
    for file in sorted(RESULTS.glob(f"{kind}-*.json")):  # partial results have another name, or are not committed
        results = json.loads(file.read_text("utf-8"))
        figures |= results["figures"]
    return {**results, "figures": figures}


def render() -> str:
    """The page."""
    bench, soak = newest("bench"), newest("soak")
    figures: dict[str, dict[str, Any]] = bench["figures"]
    repeats = max(len(figure["repeats"]) for figure in figures.values())
    lines = [HEAD.format(cores=bench["cores"], python=bench["python"], repeats=repeats)]
    lines += _table(figures)
    missed = _missed(figures)
    if missed:
        lines += ["", "## What misses its reach", ""]
        lines += [f"- `{name}`: {WHY.get(name, 'not investigated yet.')}" for name in missed]
    fetcher, recompute = figures["fetcher_vs_raw_imap"], figures["recompute_vs_floor"]
    lines += [
        "",
        f"The fetcher takes {_middle(fetcher['cpu_us_per_message'])} µs of CPU for a message of a first scan and"
        f" {_middle(fetcher['peak_rss_mb'])} MB; CPU times are higher while other work shares the cores. A new rule set is judged for every day, not for today"
        f" only: {1000 * float(_median(recompute['seconds_all_days_each_company'])):,.0f} ms for a company of 500 inquiries."
        " The aggregator takes"
        f" {figures['aggregator_cpu_us_per_state']['median']:,.0f} µs for a state with two rule sets, and"
        f" {figures['aggregator_peak_rss_mb']['median']:,.0f} MB.",
    ]
    matcher = figures["matcher_vs_naive_faust"]
    lines += [
        "",
        "## The matcher and its peers",
        "",
        "| | events/s | CPU µs per event | peak RSS, MB |",
        "|---|---|---|---|",
    ]
    for name, title in PEERS.items():
        cells = [_middle(matcher[name][key]) for key in ("events_per_second", "cpu_us_per_event", "peak_rss_mb")]
        lines.append(f"| {title} | {' | '.join(cells)} |")
    growth = figures["matcher_growth"]
    lines += ["", "## Growth", "", "| inquiries stored | events/s | CPU µs per event |", "|---|---|---|"]
    for stretch in zip(
        growth["inquiries_stored"], growth["events_per_second"], growth["cpu_us_per_event"], strict=True
    ):
        lines.append(f"| {' | '.join(f'{cell:,}' for cell in stretch)} |")
    large = newest("recompute")["figures"]
    lines += [
        "",
        "## A large recompute",
        "",
        "`make bench PARTS=recompute`: the floor is one aggregate scan and a bare INSERT of as many outcome rows, which took"
        f" {large['recompute_3m_seconds']['floor_seconds']:g} s; {large['recompute_3m_seconds']['rows_of_reply_rate']:,} rows of"
        " reply_rate came out. Run once, with other work on the machine."
        + (
            ""
            if max(file.name for file in RESULTS.glob("recompute-*.json")) > JUDGED_AT_POINTS
            else " The run is from before decision 0063, which judges an inquiry only where its outcome can change."
        ),
        "",
        *_table(large),
    ]
    lines += _portal(newest("portal")["figures"])
    lines += [
        "",
        "## Soak",
        "",
        "`make soak`: all services for minutes with the same facts repeatedly, where memory that grows is a leak; and"
        " the matcher with millions of messages in RocksDB.",
        "",
        *_table(soak["figures"]),
        "",
        *(f"- `{name}`: {WHY.get(name, 'not investigated yet.')}\n" for name in _missed(soak["figures"])),
        *(simulated_year(year) if (year := newest("year")["figures"]) else ()),
    ]
    return "\n".join(lines)


def _missed(figures: dict[str, dict[str, Any]]) -> list[str]:
    return [name for name, figure in figures.items() if figure["reached"] is False]


def _portal(figures: dict[str, dict[str, Any]]) -> list[str]:
    """What the web process takes for each kind of request and page, and for 1,000 mailboxes."""
    calls, registered = figures["portal_p95_ms"], figures["portal_register_1000_seconds"]
    cpu = ", ".join(f"{name} {seconds:g}" for name, seconds in registered["cpu_seconds"].items())
    return [
        "",
        "## The portal",
        "",
        f"`make bench PARTS=portal`: {calls['mailboxes']:,} mailboxes of {calls['companies']:,} companies, {calls['inquiries']:,} inquiries, of"
        " which the largest company has 15,000 and half of the companies fewer than 360. Companies are called as often as they have"
        " inquiries, and the largest besides. Times are those of the client, on cores that other work shares (load average"
        f" {calls['load_average'][0]:g} to {calls['load_average'][1]:g} on two cores); CPU is that of the processes.",
        "",
        *_table(figures),
        "",
        *(f"- `{name}`: {WHY.get(name, 'not investigated yet.')}\n" for name in _missed(figures)),
        f"The import was accepted in {registered['accepted_seconds']:g} s ({registered['lines_per_second']:,} lines a second), then"
        f" {registered['connected_per_second']:g} mailboxes a second became active; no request expired, and the longest waited"
        f" {registered['longest_wait_seconds']:g} s of its 600. CPU seconds: {cpu}. Mail servers that answer after"
        f" {1000 * registered['slow']['answer_seconds']:g} ms instead of {1000 * registered['answer_seconds']:g} ms make it"
        f" {registered['slow']['connected_per_second']:g} a second.",
        "",
        "| Request | calls | p50, ms | p95, ms | CPU of the portal, ms | CPU of Postgres, ms | compressed, kB |",
        "|---|---|---|---|---|---|---|",
        *(f"| {' | '.join(str(cell) for cell in (f'`{name}`', *cells))} |" for name, *cells in calls["requests"]),
        "",
        "| Page | calls | p50, ms | p95, ms | CPU of the portal, ms | CPU of Postgres, ms | compressed, kB |",
        "|---|---|---|---|---|---|---|",
        *(f"| {' | '.join(str(cell) for cell in cells)} |" for cells in calls["pages"]),
    ]


def simulated_year(figures: dict[str, dict[str, Any]]) -> list[str]:
    """What an installation takes in each month of its first year: lines of Markdown, from the figures of bench/year.py as `write` writes them."""
    judged, size, cpu = figures["year_judgement_growth"], figures["year_bytes"], figures["year_cpu_growth"]
    outcomes = figures["year_outcomes_as_planned"]["outcomes"]
    memory = {
        name: figures[f"year_rss_growth_{name}"]["mb_each_month"] for name in ("fetcher", "matcher", "aggregator")
    }
    seconds: dict[str, list[float]] = cpu["seconds_each_month"]
    kilobytes: dict[str, list[int]] = size["kilobytes_each_month"]
    rows = [
        ("inquiries so far", [f"{inquiries:,}" for inquiries in size["inquiries_each_month"]]),
        ("a narrow judgement, CPU of Postgres, ms", [f"{taken:.1f}" for taken in judged["ms_each_month"]]),
        *((f"memory of {name}, MB", [f"{megabytes:.0f}" for megabytes in memory[name]]) for name in memory),
        *((f"CPU of {name}, s", [f"{taken:.0f}" for taken in seconds[name]]) for name in seconds),
        *(
            (f"`{name}`, MB", [f"{kilobyte / 1024:.1f}" for kilobyte in kilobytes[name]])
            for name in sorted(kilobytes, key=lambda name: -kilobytes[name][-1])[:MOST_TABLES]
        ),
    ]  # fmt: skip
    months = range(1, len(size["inquiries_each_month"]) + 1)
    return [
        "",
        "## A simulated year",
        "",
        "`python -m bench.year`: polls, inquiries and answers of a year through the services on a clock that jumps from step to step."
        f" At the end {sum(outcomes.values()):,} inquiries have an outcome ({', '.join(f'{count:,} {name}' for name, count in outcomes.items())}).",
        "",
        *_table(figures),
        "",
        *(f"- `{name}`: {WHY.get(name, 'not investigated yet.')}\n" for name in _missed(figures)),
        f"By month; of the tables, the {MOST_TABLES} largest after the last month. The last month may be shorter.",
        "",
        f"| | {' | '.join(map(str, months))} |",
        "|---" * (len(months) + 1) + "|",
        *(f"| {name} | {' | '.join(cells)} |" for name, cells in rows),
    ]


def render_scaling() -> str:
    """docs/scaling.md with its measured part rendered."""
    begin, end = MEASURED
    before, after_begin = SCALING.read_text("utf-8").split(begin)
    return "\n".join([before + begin, "", *_measured(), "", end]) + after_begin.split(end)[1]


def _measured() -> list[str]:
    results = newest("stack")
    figure = results["figures"]["stack_first_scan_growth"]
    sizes: list[dict[str, Any]] = figure["sizes"]
    lines = [
        f"`make bench PARTS=stack` on {results['cores']} cores: the compose file unchanged, {figure['workers']} workers, a poll every"
        f" {figure['poll_seconds']} s; each mailbox with {figure['mails']} mails, {figure['inquiries']} inquiries, two of them"
        " answered, five mailboxes a company. The mail server shares the cores, and in the first scan it and Postgres take most of"
        " them, so seconds apply to this machine; memory and bytes apply anywhere.",
        "",
        "| " + " | ".join(["", *(f"{size['mailboxes']:,} mailboxes" for size in sizes)]) + " |",
        "|---" * (len(sizes) + 1) + "|",
    ]

    def row(name: str, cells: list[str]) -> None:
        lines.append(f"| {name} | {' | '.join(cells)} |")

    row("up --wait, nothing to healthy", [f"{size['start_seconds']:.0f} s" for size in sizes])
    row("first scan of all", [f"{size['first_scan_seconds']:,.0f} s" for size in sizes])
    row("… until every outcome is judged", [f"{size['settled_seconds']:,.0f} s" for size in sizes])
    for name in sizes[0]["idle_mb"]:
        row(f"memory of {name}: idle, highest, an ordinary minute", [
            f"{size['idle_mb'][name]:,.0f}, {size['loaded_mb'][name]:,.0f}, {size['ordinary_mb'][name]:,.0f} MB" for size in sizes
        ])  # fmt: skip
    for name in sizes[0]["idle_mb"]:
        row(f"cores of {name} in ordinary work", [f"{size['ordinary_cores'][name]:.3f}" for size in sizes])
    row("CPU of the fetcher for a first scan, a mailbox", [
        f"{1000 * size['first_scan_cpu_seconds']['fetcher'] / size['mailboxes']:.1f} ms" for size in sizes
    ])  # fmt: skip
    row("mail to outcome, its poll being due: median, 95 %", [
        f"{size['mail_to_rate_seconds']['p50']:.1f}, {size['mail_to_rate_seconds']['p95']:.1f} s" for size in sizes
    ])  # fmt: skip
    row("connections of the services to Postgres", [str(size["connections"]) for size in sizes])
    lines += [
        "",
        f"Mailboxes a second in the first scan, {sizes[-1]['mailboxes']:,} ÷ {sizes[0]['mailboxes']:,}: {figure['median']:.2f}.",
        "The arithmetic above beside this measurement, for each unit:",
        "",
        "| " + " | ".join(["", "above", *(f"{size['mailboxes']:,}" for size in sizes)]) + " |",
        "|---" * (len(sizes) + 2) + "|",
    ]
    row("polls a second in ordinary work", [
        f"mailboxes ÷ {figure['poll_seconds']} s",
        *(f"{size['mailboxes'] / figure['poll_seconds']:.1f} predicted, {size['ordinary_polls_per_second']:.1f} measured" for size in sizes),
    ])  # fmt: skip
    row("cores of the fetcher, and 30 mails a day", ["polls a minute ÷ 10,450", *(
        f"{60 * size['ordinary_polls_per_second'] / 10_450:.3f} predicted, {size['ordinary_cores']['fetcher']:.3f} measured" for size in sizes
    )])  # fmt: skip
    row(
        "stored published messages, a message",
        ["180 B", *(f"{size['published_bytes'] / size['published_rows']:,.0f} B" for size in sizes)],
    )
    row(
        "entries of the matcher's state, a message",
        ["2.8", *(f"{size['state_entries'] / size['published_rows']:.1f}" for size in sizes)],
    )
    row(
        "ledger, an inquiry",
        ["3.8 kB", *(f"{size['ledger_bytes'] / size['inquiries'] / 1000:.1f} kB" for size in sizes)],
    )
    lines += [
        "",
        "Mailboxes are due again in the order and at the pace of their first scan, so these minutes have more polls than an even day."
        " Every mail here is a reply that quotes what it answers, so its record and its state are larger than assumed. In a run"
        " before decision 0065 the ledger holds a row of `reply_rate` for each account, rule set and day: with few inquiries a mailbox, as here,"
        " those are most of it. In a run before decision 0064 a published message is stored as a whole.",
    ]
    return lines


PEERS: Final = {
    "ours": "replyrate, state and outputs durable",
    "two": "replyrate, two workers (CPU of both)",
    "bare": "aiokafka in batches, nothing durable",
    "quix": "Quix Streams, RocksDB and changelog",
    "naive": "Faust as documented, memory tables",
}


def _table(figures: dict[str, dict[str, Any]]) -> list[str]:
    lines = ["| Figure | Median | Repeats | Reach | Means |", "|---|---|---|---|---|"]
    for name, figure in figures.items():
        sign = "≤" if figure.get("smaller_is_better") else "≥"
        reach = (
            "" if figure["reach"] is None else f"{sign} {figure['reach']:g}{'' if figure['reached'] else ' (missed)'}"
        )
        repeats = " ".join(f"{value:.3g}" for value in figure["repeats"])
        lines.append(f"| `{name}` | {figure['median']:,.4g} | {repeats} | {reach} | {figure['meaning']} |")
    return lines


def _median(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]


def _middle(values: list[float]) -> str:
    return f"{_median(values):,.0f}"


if __name__ == "__main__":
    PAGE.write_text(render(), "utf-8")
    SCALING.write_text(render_scaling(), "utf-8")
    sys.exit(0)
