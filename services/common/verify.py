"""What a service looks at before it begins: the schema of the database, the topics of the broker."""

from collections.abc import Collection

from services.common import migrations
from services.common.errors import ConfigError
from services.common.kafka import Admin
from services.common.postgres import connect
from services.common.settings import Settings
from services.common.topics import TopicSpec, specs


def wanted_topics(settings: Settings) -> tuple[TopicSpec, ...]:
    """Every topic of this installation as it must be."""
    kafka = settings.kafka
    return specs(
        partitions=kafka.partitions,
        horizon_days=settings.horizon_days,
        replication_factor=kafka.replication_factor,
        min_insync_replicas=kafka.min_insync_replicas,
        app_id=settings.matcher.app_id,
    )


def schema(settings: Settings, client: str) -> None:
    """ConfigError with the command when the database is not of this release, TransientError when it is away."""
    with connect(settings.postgres.dsn.get_secret_value(), client) as connection:
        migrations.verify(connection)


def topics(settings: Settings, client: str, names: Collection[str] | None = None) -> None:
    """ConfigError with what mends them when topics (all, or those named) are missing or differ."""
    wanted = [spec for spec in wanted_topics(settings) if names is None or spec.name in names]
    with Admin(settings.kafka, client) as admin:
        if problems := admin.check_topics(wanted):
            raise ConfigError(problems)


def matcher_group(settings: Settings, client: str) -> None:
    """ConfigError with what mends it when Kafka does not tell this user how far the matcher is."""
    group = settings.matcher.app_id
    with Admin(settings.kafka, client) as admin:
        try:
            admin.committed(group)
        except ConfigError as error:
            raise ConfigError(
                f"Kafka does not tell this user how far the matcher is, and without that answers on their way look like"
                f" silence; allow it Describe on the group {group} (schemas/kafka-access.toml has every rule)"
            ) from error
