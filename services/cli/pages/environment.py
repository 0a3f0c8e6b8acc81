"""`.env.example`: what can be written into .env for docker-compose.yml, rendered from the settings."""

from typing import Final

from services.common.settings import declarations

STACK: Final[tuple[tuple[str, str, str], ...]] = (
    ("SECRETS_DIR", "", "Folder of the keys and passwords; `make secrets` makes it and writes this line."),
    ("VAULT_OLD_KEY", "/dev/null", "File with the vault key before, while it is changed; nothing else needs one."),
    ("REGISTRY", "", "Mirror that every image comes from, with a slash at its end: `mirror.example/`."),
    ("IMAGE_TAG", "local", "Release of our images; `local` is what `docker compose build` makes of this tree."),
    ("PYTHON_TAG", "3.11-slim-bookworm", "Base of our images when they are built."),
    ("PYTHON_DIGEST", "", "Digest of that base, `@sha256:…`, so that a build is the same tomorrow."),
    ("TELEMETRY", "", "`yes` builds OpenTelemetry into our images (docs/observability.md, Traces)."),
    ("REVISION", "unknown", "Commit that is written into the labels of built images."),
    ("POSTGRES_TAG", "18", "Release of Postgres; a digest may follow any of these tags, `18@sha256:…`."),
    ("KAFKA_TAG", "4.4.0", "Release of Apache Kafka."),
    ("PROMETHEUS_TAG", "v3.5.0", "Release of Prometheus (profile observability)."),
    ("GRAFANA_TAG", "12.1.1", "Release of Grafana (profile observability)."),
    ("POSTGRES_PORT", "5432", "Port of Postgres on this machine's loopback."),
    ("KAFKA_PORT", "9092", "Port of Kafka on this machine's loopback."),
    ("PROMETHEUS_PORT", "9090", "Port of Prometheus on this machine's loopback."),
    ("GRAFANA_PORT", "3000", "Port of Grafana on this machine's loopback."),
    ("FETCHER_REPLICAS", "1", "How many fetchers run."),
    ("MATCHER_REPLICAS", "1", "How many matchers run; at most `REPLYRATE_KAFKA__PARTITIONS`."),
    ("AGGREGATOR_REPLICAS", "1", "How many aggregators run; at most `REPLYRATE_KAFKA__PARTITIONS`."),
    ("FETCHER_MEMORY", "256m", "Most memory of one fetcher."),
    ("MATCHER_MEMORY", "1g", "Most memory of one matcher."),
    ("AGGREGATOR_MEMORY", "512m", "Most memory of one aggregator."),
    ("POSTGRES_MEMORY", "1g", "Most memory of Postgres."),
    ("KAFKA_MEMORY", "1g", "Most memory of Kafka."),
    ("KAFKA_HEAP", "512m", "Java heap of Kafka; about half of its memory."),
    ("PROMETHEUS_MEMORY", "512m", "Most memory of Prometheus."),
    ("GRAFANA_MEMORY", "512m", "Most memory of Grafana."),
    ("KAFKA_SERVERS", "", "Brokers of your own, `host:port,host:port` (deploy/compose.own-kafka.yml; so are the next four)."),
    ("KAFKA_OPERATOR_USER", "replyrate-operator", "User of `init` and the command line there."),
    ("KAFKA_FETCHER_USER", "replyrate-fetcher", "User of the fetchers there."),
    ("KAFKA_MATCHER_USER", "replyrate-matcher", "User of the matchers there."),
    ("KAFKA_AGGREGATOR_USER", "replyrate-aggregator", "User of the aggregators there."),
    ("POSTGRES_SERVER", "", "Postgres of your own, `host:port` (deploy/compose.own-postgres.yml; so are the next two)."),
    ("POSTGRES_ADMIN", "postgres", "User there who may make roles and databases."),
    ("POSTGRES_SSLMODE", "verify-full", "How its certificate is looked at; `disable` is for a private network."),
    ("IMAP_CA_DIR", "demo-ca", "Folder with authorities (`*.pem`) that IMAP servers may have their certificate from."),
)  # fmt: skip
"""Variables of docker-compose.yml itself: name, default, meaning. A test compares them with the file."""

DECIDED: Final = frozenset({
    "REPLYRATE_KAFKA__BOOTSTRAP_SERVERS", "REPLYRATE_POSTGRES__DSN", "REPLYRATE_POSTGRES__PASSWORD",
    "REPLYRATE_HASH_KEY_FILE", "REPLYRATE_VAULT_KEY_FILE", "REPLYRATE_VAULT_OLD_KEY_FILE", "REPLYRATE_IMAP__CA_FILE",
    "REPLYRATE_MATCHER__DATA_DIR",
    "REPLYRATE_HTTP__HOST", "REPLYRATE_HTTP__PORT",
})  # fmt: skip
"""Settings that docker-compose.yml decides; in .env they would change nothing. A test compares them with the file."""

HEAD: Final = """\
# Settings of docker-compose.yml. Write what you change into .env, which `make secrets` begins, then run
# `docker compose up --wait` again. Rendered by `make docs`; docs/settings.md has the same settings as a table.
"""


def example() -> str:
    """The text of .env.example: every variable with its meaning, commented out, at its default."""
    lines = [HEAD, "# --- the stack", ""]
    for name, default, text in STACK:
        lines += [f"# {text}", f"#{name}={default}", ""]
    lines += ["# --- the services", ""]
    for one in declarations():
        if one.name in DECIDED:
            continue
        default = "" if one.default in (None, "not set", "none") else one.default
        lines += [f"# {one.description}", f"#{one.name}={default}", ""]
    return "\n".join(lines).rstrip("\n") + "\n"
