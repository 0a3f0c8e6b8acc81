"""`.env.example`: the variables of docker-compose.yml and of the services, rendered from the settings."""

from typing import Final

from services.common.settings import declarations

STACK: Final[tuple[tuple[str, str, str], ...]] = (
    ("SECRETS_DIR", "", "Folder of the keys and passwords; `make secrets` creates it and writes this line."),
    ("VAULT_OLD_KEY", "/dev/null", "File with the previous vault key, during a rotation; not needed otherwise."),
    ("REGISTRY", "", "Registry mirror that every image is pulled from, with a trailing slash: `mirror.example/`."),
    ("IMAGE_TAG", "local", "Tag of our images; `local` is the one that `docker compose build` gives to this source tree."),
    ("PYTHON_TAG", "3.11-slim-bookworm", "Tag of the Python base image that our images are built from."),
    ("PYTHON_DIGEST", "", "Digest of that base image, `@sha256:…`, so that builds are repeatable."),
    ("TELEMETRY", "", "`yes` builds OpenTelemetry into our images (docs/observability.md, Traces)."),
    ("REVISION", "unknown", "Commit that is written into the labels of built images."),
    ("POSTGRES_TAG", "18", "Tag of Postgres; a digest may follow any of these tags: `18@sha256:…`."),
    ("KAFKA_TAG", "4.4.0", "Tag of Apache Kafka."),
    ("PROMETHEUS_TAG", "v3.5.0", "Tag of Prometheus (profile observability)."),
    ("GRAFANA_TAG", "12.1.1", "Tag of Grafana (profile observability)."),
    ("POSTGRES_PORT", "5432", "Port of Postgres on the loopback interface of this machine."),
    ("KAFKA_PORT", "9092", "Port of Kafka on the loopback interface of this machine."),
    ("PORTAL_PORT", "8480", "Port of the portal on the loopback interface of this machine; your proxy with TLS forwards to it."),
    ("CONSOLE_PORT", "8481", "Port of the console on the loopback interface of this machine."),
    ("PROMETHEUS_PORT", "9090", "Port of Prometheus on the loopback interface of this machine."),
    ("GRAFANA_PORT", "3000", "Port of Grafana on the loopback interface of this machine."),
    ("FETCHER_REPLICAS", "1", "Number of fetchers."),
    ("MATCHER_REPLICAS", "1", "Number of matchers; at most `REPLYRATE_KAFKA__PARTITIONS`."),
    ("AGGREGATOR_REPLICAS", "1", "Number of aggregators; at most `REPLYRATE_KAFKA__PARTITIONS`."),
    ("FETCHER_MEMORY", "256m", "Memory limit of one fetcher."),
    ("MATCHER_MEMORY", "1g", "Memory limit of one matcher."),
    ("AGGREGATOR_MEMORY", "512m", "Memory limit of one aggregator."),
    ("PORTAL_MEMORY", "256m", "Memory limit of the portal."),
    ("CONSOLE_MEMORY", "256m", "Memory limit of the console."),
    ("POSTGRES_MEMORY", "1g", "Memory limit of Postgres."),
    ("KAFKA_MEMORY", "1g", "Memory limit of Kafka."),
    ("KAFKA_HEAP", "512m", "Java heap of Kafka; about half of its memory limit."),
    ("PROMETHEUS_MEMORY", "512m", "Memory limit of Prometheus."),
    ("GRAFANA_MEMORY", "512m", "Memory limit of Grafana."),
    ("KAFKA_SERVERS", "", "Your own brokers, `host:port,host:port` (for deploy/compose.own-kafka.yml, like the next six)."),
    ("KAFKA_OPERATOR_USER", "replyrate-operator", "Kafka user of `init` and the command line on those brokers."),
    ("KAFKA_FETCHER_USER", "replyrate-fetcher", "Kafka user of the fetchers on those brokers."),
    ("KAFKA_MATCHER_USER", "replyrate-matcher", "Kafka user of the matchers on those brokers."),
    ("KAFKA_AGGREGATOR_USER", "replyrate-aggregator", "Kafka user of the aggregators on those brokers."),
    ("KAFKA_PORTAL_USER", "replyrate-portal", "Kafka user of the portal on those brokers."),
    ("KAFKA_CONSOLE_USER", "replyrate-console", "Kafka user of the console on those brokers."),
    ("POSTGRES_SERVER", "", "Your own Postgres server, `host:port` (for deploy/compose.own-postgres.yml, like the next two)."),
    ("POSTGRES_ADMIN", "postgres", "User of that server that may create roles and databases."),
    ("POSTGRES_SSLMODE", "verify-full", "Certificate check for that server; `disable` is for a private network."),
    ("IMAP_CA_DIR", "demo-ca", "Folder with CA certificates (`*.pem`) to trust for IMAP servers."),
)  # fmt: skip
"""Variables of docker-compose.yml itself: name, default, meaning. A test compares them with the file."""

FIXED: Final = frozenset({
    "REPLYRATE_KAFKA__BOOTSTRAP_SERVERS", "REPLYRATE_POSTGRES__DSN", "REPLYRATE_POSTGRES__PASSWORD",
    "REPLYRATE_HASH_KEY_FILE", "REPLYRATE_VAULT_KEY_FILE", "REPLYRATE_VAULT_OLD_KEY_FILE", "REPLYRATE_IMAP__CA_FILE", "REPLYRATE_AGGREGATOR__ARCHIVE_DIR",
    "REPLYRATE_MATCHER__DATA_DIR",
    "REPLYRATE_HTTP__HOST", "REPLYRATE_HTTP__PORT", "REPLYRATE_PORTAL__HOST", "REPLYRATE_PORTAL__PORT",
    "REPLYRATE_CONSOLE__HOST", "REPLYRATE_CONSOLE__PORT",
})  # fmt: skip
"""Settings that docker-compose.yml sets itself, so .env cannot change them. A test compares them with the file."""

HEAD: Final = """\
# Settings of docker-compose.yml. Write your changes into .env, which `make secrets` creates, then run
# `docker compose up --wait` again. Rendered by `make docs`; docs/settings.md has the same settings as a table.
"""


def example() -> str:
    """The text of .env.example: every variable with its meaning, commented out, at its default."""
    lines = [HEAD, "# --- the stack", ""]
    for name, default, meaning in STACK:
        lines += [f"# {meaning}", f"#{name}={default}", ""]
    lines += ["# --- the services", ""]
    for setting in declarations():
        if setting.name in FIXED:
            continue
        default_text = "" if setting.default in (None, "not set", "none") else setting.default
        lines += [f"# {setting.description}", f"#{setting.name}={default_text}", ""]
    return "\n".join(lines).rstrip("\n") + "\n"
