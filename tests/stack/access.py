"""Inside the command's image: makes the users and the rules of schemas/kafka-access.toml on the brokers' own listener."""

import tomllib
from pathlib import Path

from kafka.admin import (
    ACL,
    ACLOperation,
    ACLPermissionType,
    KafkaAdminClient,
    ResourcePattern,
    ResourceType,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

OPERATIONS = {
    "Create": ACLOperation.CREATE, "Delete": ACLOperation.DELETE, "Describe": ACLOperation.DESCRIBE, "DescribeConfigs": ACLOperation.DESCRIBE_CONFIGS,
    "Read": ACLOperation.READ, "Write": ACLOperation.WRITE,
}  # fmt: skip
NAMES = {"app_id": "replyrate-matcher", "group": "replyrate-aggregator"}


def main() -> None:
    """Every user of the file with the one password of the test, and every rule."""
    rules = tomllib.loads(Path("/app/schemas/kafka-access.toml").read_text("utf-8"))
    password = Path("/tls/password").read_text("utf-8").strip()
    admin = KafkaAdminClient(bootstrap_servers=["broker-1:19092", "broker-2:19092", "broker-3:19092"])
    results = admin.alter_user_scram_credentials(
        [UserScramCredentialUpsertion(user, ScramMechanism.SCRAM_SHA_512, password) for user in rules]
    )
    assert not any(results.values()), results
    acls = [
        ACL(f"User:{user}", "*", OPERATIONS[operation], ACLPermissionType.ALLOW, ResourcePattern(kind, name.format(**NAMES)))
        for user, resources in rules.items()
        for section, kind in (("topics", ResourceType.TOPIC), ("groups", ResourceType.GROUP))
        for name, operations in resources.get(section, {}).items()
        for operation in operations
    ]  # fmt: skip
    done = admin.create_acls(acls)
    assert not done["failed"], done["failed"]
    print(f"{len(rules)} users, {len(acls)} rules")


if __name__ == "__main__":
    main()
