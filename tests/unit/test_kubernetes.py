"""The Kubernetes base: valid by the published schemas, and as closed as the design asks for."""

import re
from ipaddress import ip_network
from typing import Any

import kubernetes_validate
import pytest
import yaml

from services.common.settings import ConsoleConfig, declarations, load_settings
from services.portal.pages.redirect_sign_in import CALLBACK_PATH
from services.standalone.servers.paths import ROOT
from tests.support.docker_stages import docker_stages

BASE = ROOT / "deploy" / "kubernetes"
KUSTOMIZATION = yaml.safe_load((BASE / "kustomization.yaml").read_text("utf-8"))
VERSIONS = ("1.30", "1.33", kubernetes_validate.latest_version())
DOCUMENTS: list[dict[str, Any]] = [
    document for name in KUSTOMIZATION["resources"] for document in yaml.safe_load_all((BASE / name).read_text("utf-8"))
]
WORKLOADS = [document for document in DOCUMENTS if document["kind"] in ("Deployment", "Job")]
DEPLOYED = {document["metadata"]["name"]: document for document in DOCUMENTS if document["kind"] == "Deployment"}
CLI = DEPLOYED["replyrate-cli"]
SERVICES = {name: document for name, document in DEPLOYED.items() if document is not CLI}
HASHING = (SERVICES["replyrate-fetcher"], SERVICES["replyrate-matcher"], CLI)
PRIVATE_NETWORKS = {
    ip_network(cidr) for cidr in ("10.0.0.0/8", "100.64.0.0/10", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7")
}
PORTAL_PODS = {"matchLabels": {"app.kubernetes.io/name": "replyrate-portal"}}
SETTINGS = {declaration.name for declaration in declarations()} | {
    f"{declaration.name}_FILE" for declaration in declarations() if declaration.secret
}


def name_of(document: dict[str, Any]) -> str:
    return f"{document['kind']}-{document['metadata']['name']}"


def pod(document: dict[str, Any]) -> dict[str, Any]:
    spec: dict[str, Any] = document["spec"]["template"]["spec"]
    return spec


def containers(document: dict[str, Any]) -> list[dict[str, Any]]:
    return [*pod(document).get("initContainers", ()), *pod(document)["containers"]]


def files(document: dict[str, Any]) -> set[str]:
    """Secret files that a pod gets."""
    return {
        item["key"] for volume in pod(document)["volumes"] if "secret" in volume for item in volume["secret"]["items"]
    }


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_a_document_is_valid(document: dict[str, Any], version: str) -> None:
    kubernetes_validate.validate(document, version, strict=True)


def test_a_document_that_is_not_valid_is_found_out() -> None:
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate({**WORKLOADS[0], "spec": {"replica": 1}}, VERSIONS[-1], strict=True)


def test_every_file_is_part_of_the_base() -> None:
    there = {file.name for file in BASE.iterdir()} - {"kustomization.yaml", "settings.env", "examples"}
    assert there == set(KUSTOMIZATION["resources"])
    assert {image["name"] for image in KUSTOMIZATION["images"]} == {
        container["image"] for document in WORKLOADS for container in containers(document)
    }


def test_every_setting_exists() -> None:
    named = {line.partition("=")[0] for line in (BASE / "settings.env").read_text("utf-8").split()}
    named |= {
        variable["name"]
        for document in WORKLOADS
        for container in containers(document)
        for variable in container["env"]
    }
    assert len(named) > 10 and named <= SETTINGS


@pytest.mark.parametrize("document", WORKLOADS, ids=name_of)
def test_a_pod_has_no_rights(document: dict[str, Any]) -> None:
    security = pod(document)["securityContext"]
    assert (
        security["runAsNonRoot"]
        and security["runAsUser"] > 0
        and security["seccompProfile"]["type"] == "RuntimeDefault"
    )
    for container in containers(document):
        limited = container["securityContext"]
        assert limited["readOnlyRootFilesystem"] and limited["allowPrivilegeEscalation"] is False
        assert limited["capabilities"] == {"drop": ["ALL"]}
        assert container["resources"]["limits"]["memory"]
        mounted = {mount["mountPath"] for mount in container["volumeMounts"]}
        for variable in container["env"]:
            # Only fetcher, matcher and command line hold the hash key; to the others it is a setting without a file.
            if variable["name"].endswith("_FILE") and (
                variable["name"] != "REPLYRATE_HASH_KEY_FILE" or document in HASHING
            ):
                folder, _, file = variable["value"].rpartition("/")
                assert folder in mounted and file in files(document), variable


def test_each_service_gets_its_own_secrets_only() -> None:
    assert files(SERVICES["replyrate-fetcher"]) == {"fetcher-dsn", "hash.key", "vault.key"}
    assert files(SERVICES["replyrate-matcher"]) == {"hash.key"}
    assert files(SERVICES["replyrate-aggregator"]) == {"aggregator-dsn"}
    assert files(SERVICES["replyrate-portal"]) == {"portal-dsn"}
    assert files(SERVICES["replyrate-console"]) == {"console-dsn", "console-client-secret"}
    assert files(CLI) == {"migrator-dsn", "hash.key", "vault.key"}


def test_the_secret_of_the_sign_in_may_be_missing_and_the_login_of_the_database_may_not() -> None:
    console = SERVICES["replyrate-console"]
    optional = {
        item["key"]: volume["secret"].get("optional", False)
        for volume in pod(console)["volumes"]
        if "secret" in volume
        for item in volume["secret"]["items"]
    }
    assert optional == {"console-dsn": False, "console-client-secret": True}
    (container,) = pod(console)["containers"]
    paths = {variable["name"]: variable["value"] for variable in container["env"]}
    environ = {
        **dict(line.split("=", 1) for line in (BASE / "settings.env").read_text("utf-8").split()),
        "REPLYRATE_POSTGRES__DSN": "postgresql://db/replyrate",
        "REPLYRATE_CONSOLE__CLIENT_SECRET_FILE": paths["REPLYRATE_CONSOLE__CLIENT_SECRET_FILE"],
    }
    assert load_settings(environ, ConsoleConfig).console.client_secret is None, "no file is looked for"


def test_the_command_line_is_scaled_to_zero_until_it_is_needed() -> None:
    """The commands of docs/kubernetes.md find what they name."""
    assert CLI["spec"]["replicas"] == 0, "a pod with every key that is not needed all the time"
    (container,) = pod(CLI)["containers"]
    assert container["image"] == "replyrate/cli"
    assert 'ENTRYPOINT ["python", "-m", "services.cli"]' in docker_stages()["cli"].text
    page = (ROOT / "docs" / "kubernetes.md").read_text("utf-8")
    commands = re.findall(r"^kubectl (.+)$", page, re.MULTILINE)
    assert len(commands) >= 4
    for line in commands:
        assert f"-n {KUSTOMIZATION['namespace']} " in line and f"deployment/{CLI['metadata']['name']} " in f"{line} "


@pytest.mark.parametrize("version", VERSIONS)
def test_the_ingress_of_the_example_leads_to_the_portal(version: str) -> None:
    examples = list(yaml.safe_load_all((BASE / "examples" / "ingress.yaml").read_text("utf-8")))
    service = next(document for document in DOCUMENTS if name_of(document) == "Service-replyrate-portal")
    (port,) = service["spec"]["ports"]
    logged = {}
    for example in examples:
        kubernetes_validate.validate(example, version, strict=True)
        (rule,) = example["spec"]["rules"]
        assert (
            f"REPLYRATE_PORTAL__PUBLIC_URL=https://{rule['host']}" in (BASE / "settings.env").read_text("utf-8").split()
        )
        assert example["spec"]["tls"][0]["hosts"] == [rule["host"]]
        annotations = example["metadata"]["annotations"]
        for path in rule["http"]["paths"]:
            assert path["backend"]["service"]["name"] == service["metadata"]["name"]
            assert path["backend"]["service"]["port"]["name"] == port["name"]
            logged[path["path"]] = annotations.get("nginx.ingress.kubernetes.io/enable-access-log") != "false"
    assert logged == {"/": True, "/link/": False, f"{CALLBACK_PATH}/": False}
    portal = SERVICES["replyrate-portal"]
    assert service["spec"]["selector"].items() <= portal["spec"]["template"]["metadata"]["labels"].items()
    (container,) = pod(portal)["containers"]
    (number,) = [open["containerPort"] for open in container["ports"] if open["name"] == port["targetPort"]]
    assert {"name": "REPLYRATE_PORTAL__PORT", "value": str(number)} in container["env"]


def test_the_console_is_reached_by_the_ingress_of_the_staff_alone() -> None:
    console = SERVICES["replyrate-console"]
    (container,) = pod(console)["containers"]
    assert container["image"] == "replyrate/portal" and container["command"] == [
        "python",
        "-m",
        "services.portal.console",
    ]
    policy = next(document["spec"] for document in DOCUMENTS if name_of(document) == "NetworkPolicy-replyrate-console")
    ((rule,), (egress,)) = policy["ingress"], policy["egress"]
    assert rule["ports"] == [{"protocol": "TCP", "port": 8481}]
    assert rule["from"] == [{"namespaceSelector": {"matchLabels": {"replyrate/staff-ingress": "true"}}}]
    assert '`replyrate/staff-ingress: "true"`' in (ROOT / "docs" / "kubernetes.md").read_text("utf-8")
    # The OpenID provider; no port of mail.
    assert egress["ports"] == [{"protocol": "TCP", "port": 443}]


def test_the_portal_is_reached_by_ingress_controllers_and_reaches_kafka_and_postgres_only() -> None:
    labels = SERVICES["replyrate-portal"]["spec"]["template"]["metadata"]["labels"]
    policies = [document["spec"] for document in DOCUMENTS if document["kind"] == "NetworkPolicy"]
    ((rule,),) = [spec["ingress"] for spec in policies if spec["podSelector"] == PORTAL_PODS]
    assert rule["ports"] == [{"protocol": "TCP", "port": 8480}]
    (namespace,) = rule["from"]
    ((name, value),) = namespace["namespaceSelector"]["matchLabels"].items()
    page = (ROOT / "docs" / "kubernetes.md").read_text("utf-8")
    assert f'`{name}: "{value}"`' in page and f'`{name}: "{value}"`' in (BASE / "examples" / "ingress.yaml").read_text(
        "utf-8"
    )
    allowed = [
        egress
        for spec in policies
        if selects(spec["podSelector"], labels)
        for egress in spec.get("egress", ())
    ]  # fmt: skip
    # Name servers, Kafka, Postgres, and a collector in a labelled namespace.
    assert {port["port"] for egress in allowed for port in egress["ports"]} == {53, 9092, 9093, 5432, 4318}
    for egress in allowed:
        assert egress["to"], "a rule without destinations allows every address"
        for peer in egress["to"]:
            if "ipBlock" in peer:
                assert ip_network(peer["ipBlock"]["cidr"]) in PRIVATE_NETWORKS
            else:
                assert "namespaceSelector" in peer


def test_servers_are_in_networks_that_mail_is_kept_out_of() -> None:
    """Where Kafka and Postgres may be, no mail server is looked for, and the other way round."""
    destinations = {
        document["metadata"]["name"]: [peer["ipBlock"] for rule in document["spec"]["egress"] for peer in rule["to"] if "ipBlock" in peer]
        for document in DOCUMENTS
        if document["kind"] == "NetworkPolicy" and document["metadata"]["name"] in ("replyrate-servers", "replyrate-mail")
    }  # fmt: skip
    servers = {ip_network(block["cidr"]) for block in destinations["replyrate-servers"]}
    assert servers == PRIVATE_NETWORKS
    for block in destinations["replyrate-mail"]:
        excepted = {ip_network(cidr) for cidr in block.get("except", ())}
        assert all(
            network in excepted or not ip_network(block["cidr"]).overlaps(network)
            for network in servers
            if network.version == ip_network(block["cidr"]).version
        )


def selects(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    """Whether a policy is one for pods with these labels."""
    return selector.get("matchLabels", {}).items() <= labels.items() and all(
        labels.get(expression["key"]) in expression["values"] for expression in selector.get("matchExpressions", ())
    )


def test_spans_reach_a_labelled_collector() -> None:
    (policy,) = [document["spec"] for document in DOCUMENTS if document["metadata"]["name"] == "replyrate-collector"]
    ((selector,),) = [rule["to"] for rule in policy["egress"]]
    label = selector["namespaceSelector"]["matchLabels"]
    assert policy["podSelector"]["matchExpressions"] == [
        {"key": "replyrate/needs", "operator": "In", "values": ["servers", "mail"]}
    ]
    (setting,) = [declaration for declaration in declarations() if declaration.name == "REPLYRATE_TELEMETRY__ENDPOINT"]
    (port,) = [port["port"] for rule in policy["egress"] for port in rule["ports"]]
    assert f":{port}/" in setting.description
    ((name, value),) = label.items()
    assert f'`{name}: "{value}"`' in (ROOT / "docs" / "kubernetes.md").read_text("utf-8")


@pytest.mark.parametrize("name", SERVICES)
def test_probes_and_stops_are_those_of_the_services(name: str) -> None:
    (container,) = pod(SERVICES[name])["containers"]
    assert container["livenessProbe"]["httpGet"]["path"] == container["startupProbe"]["httpGet"]["path"] == "/healthz"
    assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"
    assert pod(SERVICES[name])["terminationGracePeriodSeconds"] > 25
    if name in ("replyrate-matcher", "replyrate-aggregator"):
        assert SERVICES[name]["spec"]["strategy"]["rollingUpdate"]["maxSurge"] == 0


def test_budgets_and_policies_select_what_there_is() -> None:
    labels = [document["spec"]["template"]["metadata"]["labels"] for document in WORKLOADS]
    budgets = [document for document in DOCUMENTS if document["kind"] == "PodDisruptionBudget"]
    assert {budget["metadata"]["name"] for budget in budgets} == set(SERVICES)
    for budget in budgets:
        wanted = budget["spec"]["selector"]["matchLabels"].items()
        assert sum(wanted <= pod_labels.items() for pod_labels in labels) == 1
    policies = {
        document["metadata"]["name"]: document["spec"] for document in DOCUMENTS if document["kind"] == "NetworkPolicy"
    }
    assert policies["replyrate-closed"]["podSelector"] == {}
    assert set(policies["replyrate-closed"]["policyTypes"]) == {"Ingress", "Egress"}
    mail = policies["replyrate-mail"]["podSelector"]["matchLabels"].items()
    reaching = {pod_labels["app.kubernetes.io/name"] for pod_labels in labels if mail <= pod_labels.items()}
    assert reaching == {"replyrate-fetcher", "replyrate-cli"}
    outside = [rule for spec in policies.values() for rule in spec.get("egress", ()) if "993" in str(rule)]
    assert len(outside) == 1, "mail servers are for these two alone"
    # Mailboxes that sign in (OAuth2) need their provider's token endpoint too.
    assert {port["port"] for port in outside[0]["ports"]} == {443, 993, 143}
