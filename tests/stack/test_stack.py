"""docker-compose.yml end to end: from no secrets to a rate, scaled, killed, restarted, emptied, taken down."""

import time
import urllib.request
from datetime import timedelta

import psycopg
import pytest

from tests.stack.conftest import FIGURES, memory
from tests.stack.mail import HOST, PASSWORD, Dovecot, ago, stamp
from tests.stack.stack import CONSOLE, PORTAL, SERVICES, WEB, Seller, Stack, inquiry, run, until
from tests.support.docker_stages import copied_rooms

pytestmark = pytest.mark.timeout(1500)
BUYER = "buyer-{}@buyers.example"


@pytest.fixture(scope="module")
def seller(stack: Stack, mail_server: Dovecot) -> Seller:
    """A company whose mailbox is connected and read."""
    connected = Seller(stack)
    mail_server.append(connected.address, BUYER.format("old"), ago(days=10, hours=-2))
    assert connected.connect(HOST, PASSWORD)["sent_folders"] == ["Sent"]
    return connected


def ask(seller: Seller, name: str) -> None:
    """Publish a new inquiry without an answer."""
    seller.publish(inquiry(name, stamp(ago(minutes=5)), BUYER.format(name)))
    seller.await_outcome(name, "pending")


def answer(seller: Seller, mail_server: Dovecot, name: str, seconds: float = 90) -> float:
    """Answer by mail as the seller; returns the seconds until the outcome is timely."""
    mail_server.append(seller.address, BUYER.format(name), ago())
    return seller.await_outcome(name, "timely", seconds)


def test_mail_becomes_a_rate_that_the_dashboard_reads(stack: Stack, seller: Seller, mail_server: Dovecot) -> None:
    received = ago(days=10)
    seller.publish(
        inquiry("answered", stamp(received), BUYER.format("old")),
        inquiry("forgotten", stamp(received + timedelta(hours=1)), BUYER.format("forgotten")),
    )
    seller.await_outcome("answered", "timely")
    seller.await_outcome("forgotten", "unanswered")
    statement = """
        SELECT timely, unanswered, rate FROM report_v1.reply_rate_latest
        WHERE company_id = %(company_id)s AND rule_set = 'first-reply-24h' AND level = 'company'
    """
    (numbers,) = stack.rows(statement, company_id=seller.company_id)
    assert (numbers["timely"], numbers["unanswered"], float(numbers["rate"])) == (1, 1, 0.5)
    (health,) = stack.rows(
        "SELECT state, messages_seen FROM report_v1.mailbox_health WHERE company_id = %(company_id)s",
        company_id=seller.company_id,
    )
    assert (health["state"], health["messages_seen"]) == ("active", 1)
    ask(seller, "fresh")
    FIGURES["from APPEND to the outcome (poll every 2 s), s"] = f"{answer(seller, mail_server, 'fresh'):.1f}"


def test_each_login_may_do_its_own_and_no_more(stack: Stack) -> None:
    refused = {
        "dashboard": ("SELECT 1 FROM ledger.inquiries", "SELECT 1 FROM registry.mailboxes", "CREATE TABLE x ()"),
        "aggregator": ("SELECT 1 FROM registry.secrets", "UPDATE registry.mailboxes SET state = 'paused'"),
        "fetcher": ("SELECT 1 FROM ledger.inquiries", "CREATE TABLE report_v1.x ()"),
        "portal": (
            "SELECT 1 FROM registry.secrets",
            "DELETE FROM ledger.inquiries",
            "SELECT sealed FROM registry.connect_requests",
        ),
        "console": (
            "SELECT 1 FROM registry.secrets",
            "DELETE FROM ledger.inquiries",
            "SELECT sealed FROM registry.connect_requests",
        ),
    }
    for login, statements in refused.items():
        with psycopg.connect(stack.dsn(login), autocommit=True) as connection:
            for statement in statements:
                with pytest.raises((psycopg.errors.InsufficientPrivilege, psycopg.errors.ReadOnlySqlTransaction)):
                    connection.execute(statement.encode())
    for login, sees_rows in (("aggregator", True), ("portal", False), ("console", False)):
        with psycopg.connect(stack.dsn(login)) as connection:
            (row_count,) = connection.execute("SELECT count(*) FROM ledger.inquiries").fetchone() or (0,)
            assert (row_count > 0) == sees_rows, f"without a token {login} sees no row of a company"
    with psycopg.connect(stack.dsn("dashboard")) as connection:
        assert connection.execute("SHOW default_transaction_read_only").fetchone() == ("on",)
        assert connection.execute("SHOW search_path").fetchone() == ("report_v1",)


def test_containers_are_closed(stack: Stack) -> None:
    for service in (*SERVICES, *WEB):
        image = PORTAL if service == CONSOLE else service
        (container,) = stack.containers(service)
        details = stack.inspect(container)
        host = details["HostConfig"]
        assert details["Config"]["User"] == "10001:0", service
        assert host["ReadonlyRootfs"] and host["CapDrop"] == ["ALL"] and not host["CapAdd"], service
        assert "no-new-privileges:true" in host["SecurityOpt"] and host["Memory"] > 0 and host["PidsLimit"] > 0, service
        assert host["LogConfig"]["Config"]["max-size"], service
        assert bool(host["PortBindings"]) == (service in WEB), service
        assert details["Config"]["Labels"]["org.opencontainers.image.title"] == f"replyrate {image}"
        environment = " ".join(details["Config"]["Env"])
        for file in (stack.folder / "secrets").glob("*.password"):
            assert file.read_text("utf-8").strip() not in environment, f"{service} has a password in its environment"
        rooms = run(["docker", "exec", container, "ls", "/app/services"]).split()
        assert rooms == sorted(["__init__.py", "__pycache__", *copied_rooms(image)])
        mounted = run(["docker", "exec", container, "ls", "/run/secrets"]).split()
        assert ("vault.key" in mounted) == (service == "fetcher"), f"{service} has {mounted}"
        assert ("hash.key" in mounted) == (service in ("fetcher", "matcher")), f"{service} has {mounted}"
    for service in ("postgres", "kafka", *WEB):
        bindings = stack.inspect(stack.containers(service)[0])["HostConfig"]["PortBindings"]
        assert {binding["HostIp"] for ports in bindings.values() for binding in ports} == {"127.0.0.1"}, service


CONNECT = """
import socket, sys
for address in sys.argv[1:]:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), 5).close()
        print("open")
    except OSError:
        print("closed")
"""


def test_pages_are_reached_from_this_machine_and_reach_no_mail_server(stack: Stack, mail_server: Dovecot) -> None:
    with urllib.request.urlopen(f"http://127.0.0.1:{stack.ports['PORTAL_PORT']}/", timeout=10) as page:
        assert page.status == 200 and page.headers["content-security-policy"].startswith("default-src 'none'")
    sign_in = f"http://127.0.0.1:{stack.ports['CONSOLE_PORT']}/sign-in"
    with urllib.request.urlopen(sign_in, timeout=10) as page:
        assert page.status == 200 and page.headers["content-security-policy"].startswith("default-src 'none'")
    address = stack.inspect(mail_server.container)["NetworkSettings"]["Networks"][f"{stack.project}_outside"][
        "IPAddress"
    ]

    def tried(container: str) -> list[str]:
        return run(["docker", "exec", container, "python", "-c", CONNECT, f"{address}:993", "postgres:5432"]).split()

    assert tried(*stack.containers("fetcher")) == ["open", "open"]
    for service in WEB:
        assert tried(*stack.containers(service)) == ["closed", "open"], service


def test_images_work_under_any_user_number(images: None) -> None:
    for image in (*SERVICES, PORTAL):
        command = ["docker", "run", "--rm", "--read-only", "--tmpfs", "/tmp", "--user", "4711:0", "--network", "none", f"replyrate/{image}:local"]  # fmt: skip
        with pytest.raises(AssertionError) as caught:
            run(command)
        assert "ended with 78" in str(caught.value) and "REPLYRATE_KAFKA__BOOTSTRAP_SERVERS is not set" in str(
            caught.value
        )
    command = ["docker", "run", "--rm", "--user", "4711:0", "--entrypoint", "mkdir", "replyrate/matcher:local", "/var/lib/replyrate/matcher"]  # fmt: skip
    run(command)
    version = run(["docker", "run", "--rm", "--read-only", "--user", "4711:0", "replyrate/cli:local", "--version"])
    assert version.startswith("replyrate, version ") and not version.endswith(" 0\n")


def test_scaled_out_and_back(stack: Stack, seller: Seller, mail_server: Dovecot) -> None:
    ask(seller, "before")
    settings = stack.folder / ".env"
    before = settings.read_text("utf-8")
    settings.write_text(before + "FETCHER_REPLICAS=3\nMATCHER_REPLICAS=2\nAGGREGATOR_REPLICAS=2\n", "utf-8")
    stack.up()
    assert [len(stack.containers(service)) for service in SERVICES] == [3, 2, 2]
    # Later commands of the pages leave it so.
    stack.up("--force-recreate", "fetcher")
    stack.up()
    assert [len(stack.containers(service)) for service in SERVICES] == [3, 2, 2]
    answer(seller, mail_server, "before")
    sellers = [Seller(stack) for _ in range(3)]
    for another in sellers:
        another.connect(HOST, PASSWORD)
        ask(another, "scaled")
        mail_server.append(another.address, BUYER.format("scaled"), ago())
    for another in sellers:
        another.await_outcome("scaled", "timely")
    # Both of each kind have work: a worker without partitions would never have become healthy.
    for service in ("matcher", "aggregator"):
        assert all(
            stack.inspect(container)["State"]["Health"]["Status"] == "healthy"
            for container in stack.containers(service)
        )
    FIGURES["memory of matcher, after some work"] = memory(stack, "matcher")
    ask(seller, "shrinking")
    settings.write_text(before, "utf-8")
    stack.up()
    assert [len(stack.containers(service)) for service in SERVICES] == [1, 1, 1]
    answer(seller, mail_server, "shrinking")


@pytest.mark.parametrize("service", SERVICES)
def test_a_killed_service_comes_back_and_goes_on(
    stack: Stack, seller: Seller, mail_server: Dovecot, service: str
) -> None:
    name = f"killed-{service}"
    ask(seller, name)
    (container,) = stack.containers(service)
    before = stack.inspect(container)["RestartCount"]
    stack.kill_process(container)
    mail_server.append(seller.address, BUYER.format(name), ago())
    seller.await_outcome(name, "timely", 300)
    assert stack.inspect(container)["RestartCount"] == before + 1
    until(lambda: stack.healthy(service), 90, lambda: stack.logs(service, 30))


def test_a_killed_broker_and_database_keep_what_they_had(stack: Stack, seller: Seller, mail_server: Dovecot) -> None:
    ask(seller, "killed-servers")
    before = seller.outcomes()
    started = time.monotonic()
    for service, user in (("kafka", None), ("postgres", "postgres")):
        (container,) = stack.containers(service)
        stack.kill_process(container, user)
        until(
            lambda restarted=container: stack.inspect(restarted)["RestartCount"] > 0,  # type: ignore[misc]
            30,
            lambda name=service: f"{name} was not restarted",  # type: ignore[misc]
        )
    until(lambda: stack.healthy("kafka") and stack.healthy("postgres"), 300, lambda: stack.logs("kafka", 30))
    FIGURES["broker and database killed, healthy again, s"] = f"{time.monotonic() - started:.0f}"
    assert seller.outcomes().keys() >= before.keys()
    answer(seller, mail_server, "killed-servers", 150)
    for service in SERVICES:
        until(lambda name=service: stack.healthy(name), 300, lambda name=service: stack.logs(name, 30))  # type: ignore[misc]


def test_an_empty_volume_is_filled_from_the_changelog(stack: Stack, seller: Seller, mail_server: Dovecot) -> None:
    ask(seller, "remembered")
    (old,) = stack.containers("matcher")
    stack.compose("rm", "--stop", "--force", "--volumes", "matcher")
    stack.up()
    (new,) = stack.containers("matcher")
    assert new != old
    recovered = stack.logged("matcher", "recovery-done")
    assert sum(line["rows"] for line in recovered) > 0
    # The inquiry was published before: only the recovered state knows it.
    answer(seller, mail_server, "remembered")


COMPACTED = ("inquiry-replies.v1", "replyrate-matcher-joined-changelog")
COMPACT_SOON = """
from kafka import KafkaAdminClient
from kafka.admin import ConfigResource, ConfigResourceType
soon = {"segment.ms": "500", "min.cleanable.dirty.ratio": "0.001"}
admin = KafkaAdminClient(bootstrap_servers="kafka:19092")
admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, name, soon) for name in sys.argv[1:]])
"""
COUNT = """
from kafka import KafkaConsumer, TopicPartition
consumer = KafkaConsumer(bootstrap_servers="kafka:19092", auto_offset_reset="earliest", enable_auto_commit=False)
for topic in sys.argv[1:]:
    where = [TopicPartition(topic, number) for number in consumer.partitions_for_topic(topic)]
    consumer.assign(where)
    consumer.seek_to_beginning(*where)
    ends, keys = consumer.end_offsets(where), []
    while any(consumer.position(one) < end for one, end in ends.items()):
        keys += [record.key for records in consumer.poll(timeout_ms=1000).values() for record in records]
    print(topic, len(keys), len(set(keys)))
"""


def in_kafka(stack: Stack, script: str) -> dict[str, tuple[int, int]]:
    """Run a script beside the broker; the lines it prints: topic → (records, keys)."""
    arguments = ("run", "--rm", "-T", "--entrypoint", "python", "replyrate", "-c", "import sys" + script, *COMPACTED)
    lines = [line.split() for line in stack.compose(*arguments).splitlines()]
    return {topic: (int(records), int(keys)) for topic, records, keys in lines}


def test_compaction_takes_nothing_away(stack: Stack, seller: Seller, mail_server: Dovecot) -> None:
    ask(seller, "compacted")
    outcomes = seller.outcomes()
    before = in_kafka(stack, COUNT)
    in_kafka(stack, COMPACT_SOON)
    time.sleep(1)
    # A segment is closed by the next record, and only closed ones are compacted.
    ask(seller, "closes-the-segment")

    def compacted() -> bool:
        now = in_kafka(stack, COUNT)
        return all(now[topic][0] < before[topic][0] and now[topic][1] >= before[topic][1] for topic in COMPACTED)

    until(compacted, 300, lambda: f"before {before}, now {in_kafka(stack, COUNT)}")
    stack.compose("restart", "matcher", "aggregator")
    stack.up()
    answer(seller, mail_server, "compacted")
    shown = seller.outcomes()
    assert {name: shown[name]["outcome"] for name in outcomes if name != "compacted"} == {
        name: outcome["outcome"] for name, outcome in outcomes.items() if name != "compacted"
    }


def test_the_vault_key_is_changed_while_mailboxes_are_read(stack: Stack, seller: Seller, mail_server: Dovecot) -> None:
    """docs/keys-and-backup.md, Rotate the vault key, step by step: with both keys, sealed with the new key, with the new key alone."""
    keys, settings = stack.folder / "secrets", stack.folder / ".env"
    before = settings.read_text("utf-8")
    old = (keys / "vault.key").read_bytes()
    (keys / "vault.key").rename(keys / "vault-old.key")
    stack.make_secrets()
    assert (keys / "vault.key").read_bytes() != old
    settings.write_text(before + "VAULT_OLD_KEY=./secrets/vault-old.key\n", "utf-8")
    stack.up("--force-recreate", "fetcher")
    ask(seller, "with-both-keys")
    answer(seller, mail_server, "with-both-keys")
    stack.replyrate("keys", "rotate")
    stack.replyrate("keys", "check")
    settings.write_text(before, "utf-8")
    (keys / "vault-old.key").unlink()
    stack.up("--force-recreate", "fetcher")
    ask(seller, "with-the-new-key")
    answer(seller, mail_server, "with-the-new-key")


def test_passwords_of_the_database_are_changed_while_servers_go_on(
    stack: Stack, seller: Seller, mail_server: Dovecot
) -> None:
    """docs/keys-and-backup.md, Rotate everything else: the command of its first row leaves Postgres, Kafka and the matcher alone."""
    started_at = {
        service: stack.inspect(stack.containers(service)[0])["State"]["StartedAt"]
        for service in ("postgres", "kafka", "matcher")
    }
    old = {login: stack.dsn(login) for login in ("fetcher", "aggregator", "migrator")}
    for login in old:
        (stack.folder / "secrets" / f"postgres-{login}.password").unlink()
    stack.make_secrets()
    stack.up("--force-recreate", "init", "fetcher", "aggregator")
    for login, dsn in old.items():
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            psycopg.connect(dsn)
        psycopg.connect(stack.dsn(login)).close()
    assert started_at == {
        service: stack.inspect(stack.containers(service)[0])["State"]["StartedAt"] for service in started_at
    }
    assert all(
        stack.inspect(stack.containers(service)[0])["RestartCount"] == 0 for service in ("fetcher", "aggregator")
    )
    ask(seller, "with-new-passwords")
    answer(seller, mail_server, "with-new-passwords")


def test_services_stop_in_order(stack: Stack, seller: Seller) -> None:
    started = time.monotonic()
    stack.compose("stop", *SERVICES)
    FIGURES["stop of the three services, s"] = f"{time.monotonic() - started:.1f}"
    for service in SERVICES:
        (container,) = stack.containers(service)
        assert stack.inspect(container)["State"]["ExitCode"] == 0, stack.logs(service, 20)
    stack.up()
