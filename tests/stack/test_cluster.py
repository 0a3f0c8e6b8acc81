"""Three brokers with TLS, passwords and access rules: every service under its own user, one broker lost, then two."""

import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.stack.conftest import FIGURES, IMPATIENT
from tests.stack.mail import HOST, IMAGE, PASSWORD, Dovecot, ago, stamp
from tests.stack.stack import ROOT, SERVICES, WEB, Seller, Stack, inquiry, run, running

pytestmark = pytest.mark.timeout(1500)
HERE = Path(__file__).parent
BUYER = "{}@buyers.example"

TRY = """
import ssl, sys
from kafka import KafkaProducer, errors
user, password, topic = sys.argv[1:]
options = {}
if user:
    options = dict(security_protocol="SASL_SSL", sasl_mechanism="SCRAM-SHA-512", sasl_plain_username=user,
        sasl_plain_password=password, ssl_context=ssl.create_default_context(cafile="/tls/ca.pem"))
try:
    producer = KafkaProducer(bootstrap_servers="broker-1:19093", bootstrap_timeout_ms=8000, max_block_ms=8000,
        request_timeout_ms=8000, delivery_timeout_ms=9000, **options)
    producer.send(topic, b"{}").get(10)
except errors.KafkaError as error:
    print(type(error).__name__)
else:
    print("written")
"""


class Cluster(Stack):
    """The stack with deploy/compose.own-kafka.yml, the operator's own brokers (cluster.yml) and its mail server."""

    mail: Dovecot

    def files(self) -> list[Path]:
        return [*super().files(), ROOT / "deploy" / "compose.own-kafka.yml", HERE / "cluster.yml"]


@pytest.fixture(scope="module")
def cluster(images: None, session_folder: Path) -> Iterator[Cluster]:
    folder = session_folder / "cluster"
    tls, mail = folder / "tls", Dovecot(folder / "dovecot")
    make_tls(tls)
    stack = Cluster(
        folder / "stack",
        {
            "CLUSTER_TLS": str(tls),
            "CLUSTER_ACCESS": str(HERE / "access.py"),
            "KAFKA_SERVERS": "broker-1:19093,broker-2:19093,broker-3:19093",
            "REPLYRATE_KAFKA__PARTITIONS": "3",
            "REPLYRATE_KAFKA__REPLICATION_FACTOR": "3",
            "REPLYRATE_KAFKA__MIN_INSYNC_REPLICAS": "2",
            "IMAP_CA_DIR": str(mail.folder / "ca"),
            **IMPATIENT,
        },
    )
    stack.make_secrets()
    own = stack.folder / "secrets"
    shutil.copy(tls / "ca.pem", own / "kafka-ca.pem")
    for name in ("operator", *SERVICES, *WEB):
        shutil.copy(tls / "password", own / f"kafka-{name}.password")
    with running(stack):
        stack.up()
        mail.start(stack)
        stack.mail = mail
        try:
            yield stack
        finally:
            mail.stop()


def make_tls(folder: Path) -> None:
    """A certificate for the three brokers that is its own authority, and the password of every user."""
    folder.mkdir(parents=True)
    names = ",".join(f"DNS:{name}" for name in ("broker-1", "broker-2", "broker-3"))
    run([
        "docker", "run", "--rm", "--user", "0", "--volume", f"{folder}:/tls", "--entrypoint", "openssl", IMAGE,
        "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=kafka of the system tests",
        "-addext", f"subjectAltName={names}", "-keyout", "/tls/key.pem", "-out", "/tls/ca.pem",
    ])  # fmt: skip
    (folder / "kafka.pem").write_text((folder / "key.pem").read_text("utf-8") + (folder / "ca.pem").read_text("utf-8"))
    (folder / "password").write_text("a-password-of-the-cluster\n", "utf-8")
    for file in folder.iterdir():
        file.chmod(0o444)


@pytest.fixture(scope="module")
def seller(cluster: Cluster) -> Seller:
    seller = Seller(cluster)
    cluster.mail.append(seller.address, BUYER.format("first"), ago(minutes=1))
    seller.connect(HOST, PASSWORD)
    return seller


def write_as(cluster: Cluster, user: str, topic: str, password: str = "a-password-of-the-cluster") -> str:
    """The broker's answer when `user` writes to `topic`; no user: without TLS and password."""
    return run([
        "docker", "run", "--rm", "--network", f"{cluster.project}_inside", "--volume",
        f"{cluster.folder.parent}/tls:/tls:ro", "--entrypoint", "python", "replyrate/cli:local", "-c", TRY, user,
        password, topic,
    ]).strip()  # fmt: skip


def round_trip(cluster: Cluster, seller: Seller, name: str, seconds: float = 90) -> None:
    """An inquiry and its answer, through all three services."""
    seller.publish(inquiry(name, stamp(ago(minutes=5)), BUYER.format(name)))
    cluster.mail.append(seller.address, BUYER.format(name), ago())
    seller.await_outcome(name, "timely", seconds)


def test_the_broker_of_the_stack_is_not_there(cluster: Cluster) -> None:
    assert "kafka" not in cluster.compose("--profile", "*", "config", "--services").split()
    for service in ("init", *SERVICES, *WEB):
        (container,) = cluster.containers(service)
        networks = cluster.inspect(container)["NetworkSettings"]["Networks"]
        assert f"{cluster.project}_outside" in networks, f"{service} has no way to brokers elsewhere"
    mounted = {
        service: run(["docker", "exec", *cluster.containers(service), "ls", "/run/secrets"]).split()
        for service in (*SERVICES, *WEB)
    }
    for service, files in mounted.items():
        assert {file for file in files if file.startswith("kafka")} == {"kafka-ca", f"kafka-{service}"}


def test_every_service_works_under_its_own_user(cluster: Cluster, seller: Seller) -> None:
    round_trip(cluster, seller, "first")
    topics = json.loads(cluster.replyrate("topics", "check", "--json"))
    assert topics == {"problems": []}


def test_a_user_may_do_its_own_and_no_more(cluster: Cluster) -> None:
    assert write_as(cluster, "replyrate-platform", "inquiries.v1") == "written"
    for user, topic in (
        ("replyrate-platform", "sent-messages.v1"), ("replyrate-fetcher", "inquiries.v1"),
        ("replyrate-aggregator", "inquiry-replies.v1"), ("replyrate-matcher", "sent-messages.v1"),
    ):  # fmt: skip
        assert "Authorization" in write_as(cluster, user, topic), (user, topic)
    # A wrong password, no password and no TLS: the client library only sees that no broker answers.
    assert write_as(cluster, "replyrate-platform", "inquiries.v1", "another") != "written"
    assert write_as(cluster, "", "inquiries.v1") != "written"
    refused = cluster.composed(
        "run", "--rm", "-T", "--env", "REPLYRATE_KAFKA__SASL_USERNAME=stranger", "replyrate", "topics", "check"
    )
    assert refused.returncode == 69 and "REPLYRATE_KAFKA__SASL_" in refused.stderr, refused.stderr


def test_an_aggregator_that_may_not_see_how_far_the_matcher_is_says_what_to_allow(cluster: Cluster) -> None:
    refused = cluster.composed(
        "run", "--rm", "-T", "--no-deps", "--env", "REPLYRATE_MATCHER__APP_ID=nobodys", "aggregator"
    )
    assert refused.returncode == 78, refused.stdout + refused.stderr
    assert "Describe on the group nobodys" in refused.stdout + refused.stderr


def test_one_broker_lost_costs_nothing_and_two_are_waited_for(cluster: Cluster, seller: Seller) -> None:
    run(["docker", "kill", *cluster.containers("broker-3")])
    round_trip(cluster, seller, "one-lost", 300)
    # With one of three nothing may be written: what comes meanwhile waits, and is neither lost nor counted twice.
    seller.publish(inquiry("two-lost", stamp(ago(minutes=5)), BUYER.format("two-lost")))
    seller.await_outcome("two-lost", "pending")
    run(["docker", "kill", *cluster.containers("broker-2")])
    cluster.mail.append(seller.address, BUYER.format("two-lost"), ago())
    time.sleep(15)
    assert seller.outcomes()["two-lost"]["outcome"] == "pending"
    run(["docker", "start", *cluster.containers("broker-2"), *cluster.containers("broker-3")])
    took = seller.await_outcome("two-lost", "timely", 180)
    FIGURES["two of three brokers back, until the rate, s"] = f"{took:.0f}"
    round_trip(cluster, seller, "all-back", 300)
    assert {name: outcome["outcome"] for name, outcome in seller.outcomes().items()} == dict.fromkeys(
        ("first", "one-lost", "two-lost", "all-back"), "timely"
    )
