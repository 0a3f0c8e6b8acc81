"""The files that an operator deploys agree with each other: docker-compose.yml, the Dockerfile, .env.example."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from services.cli.pages.environment import FIXED, STACK
from services.common.settings import declarations
from services.standalone.servers.paths import ROOT
from tests.support.docker_stages import copied_rooms, docker_stages

TEXT = (ROOT / "docker-compose.yml").read_text("utf-8")
COMPOSE: dict[str, Any] = yaml.safe_load(TEXT)
OWN_SERVERS = {file.stem.rpartition("-")[2]: file for file in sorted((ROOT / "deploy").glob("compose.own-*.yml"))}
"""Server of the compose file → the file beside it that puts an operator's own in its place."""
OURS = {
    name: service
    for name, service in COMPOSE["services"].items()
    if service["image"].startswith("${REGISTRY:-}replyrate/")
}
TARGETS = ("fetcher", "matcher", "aggregator", "portal", "cli", "demo")
"""The targets of the Dockerfile: an image for each."""
SERVICES = ("fetcher", "matcher", "aggregator", "portal", "console")
"""What runs all the time; the console is the image of the portal with another command."""
VARIABLE = re.compile(r"\$\{([A-Z_]+)(?::-([^}]*)|:\?[^}]*)?\}")


def test_variables_of_the_compose_file_are_those_of_the_example() -> None:
    used: dict[str, str] = {}
    texts = [TEXT, *(file.read_text("utf-8") for file in OWN_SERVERS.values())]
    for name, default in (reference for text in texts for reference in VARIABLE.findall(text)):
        used.setdefault(name, default)
        assert used[name] == default, f"{name} has two defaults"
    settings = {declaration.name for declaration in declarations()}
    assert {name: default for name, default in used.items() if name not in settings} == {
        name: default for name, default, _ in STACK
    }


def test_settings_that_the_compose_file_sets_are_not_in_the_example() -> None:
    decided = {
        name.removesuffix("_FILE") if name.endswith("PASSWORD_FILE") else name
        for service in OURS.values()
        for name, value in service.get("environment", {}).items()
        # An empty value only keeps a setting away from one container.
        if name.startswith("REPLYRATE_") and "${" not in str(value) and value != ""
    }
    assert decided == FIXED
    assert set(FIXED) <= {declaration.name for declaration in declarations()}


@pytest.mark.parametrize("name", sorted(COMPOSE["services"]))
def test_every_container_is_guarded(name: str) -> None:
    service = COMPOSE["services"][name]
    assert (
        service["cap_drop"] == ["ALL"]
        and service["security_opt"] == ["no-new-privileges:true"]
        and service["init"] is True
        and service["ulimits"] == {"core": 0}
    )
    assert service["mem_limit"] and service["logging"]["options"]["max-size"]
    assert service.get("read_only") is True or name == "kafka"
    assert "container_name" not in service
    for port in service.get("ports", ()):
        assert port.startswith("127.0.0.1:")
    for text in service.get("environment", {}).values():
        assert not re.search(r"//[^/@]*:[^/@]*@", str(text)), "a password in the environment"
    once = name in ("init", "replyrate")
    assert once or "healthcheck" in service or name in SERVICES, f"{name} has no health check"
    for condition in service.get("depends_on", {}).values():
        assert condition["condition"] in ("service_healthy", "service_completed_successfully")


def test_services_can_be_scaled() -> None:
    for name in ("fetcher", "matcher", "aggregator"):
        assert not {"ports", "container_name", "hostname"} & COMPOSE["services"][name].keys()
        # A setting, not an option: the next command would undo what an option of one command scaled.
        assert COMPOSE["services"][name]["scale"] == f"${{{name.upper()}_REPLICAS:-1}}"
        # A volume with a name is shared by every copy, as the archive has to be.
        writable = [volume for volume in COMPOSE["services"][name].get("volumes", ()) if not volume.endswith(":ro")]
        writable = [volume for volume in writable if volume != "archive:/var/lib/replyrate/archive"]
        assert all(":" not in volume for volume in writable)


class Beside(yaml.SafeLoader):
    """Reads a file beside the compose file: what it tags `!reset` is None."""


Beside.add_constructor("!reset", lambda loader, node: None)


def merged(whole: dict[str, Any], beside: dict[str, Any]) -> dict[str, Any]:
    """Compose's merge of two files: mappings are merged, lists of networks and secrets appended, None removes a key."""
    result = dict(whole)
    for name, value in beside.items():
        before = result.get(name)
        if value is None:
            result.pop(name, None)
        elif isinstance(value, dict) and isinstance(before, dict):
            result[name] = merged(before, value)
        elif isinstance(value, list) and isinstance(before, list) and name in ("networks", "secrets"):
            result[name] = [*before, *value]
        else:
            result[name] = value
    return result


@pytest.mark.parametrize("servers", [("kafka",), ("postgres",), ("kafka", "postgres")], ids="-".join)
def test_no_container_waits_for_a_server_that_the_operator_runs_elsewhere(servers: tuple[str, ...]) -> None:
    """tests/stack runs the services with these files; Compose's own merge is compared there."""
    whole = COMPOSE
    for server in servers:
        whole = merged(whole, yaml.load(OWN_SERVERS[server].read_text("utf-8"), Beside))
    services = whole["services"]
    assert set(COMPOSE["services"]) - set(services) == {*servers, "demo", "demo-mail"}
    for name, service in services.items():
        assert set(service.get("depends_on", ())) <= set(services), name
        environment = " ".join(str(text) for text in (service.get("environment") or {}).values())
        uses = {
            "kafka": "REPLYRATE_KAFKA__BOOTSTRAP_SERVERS" in service.get("environment", ()),
            "postgres": "REPLYRATE_POSTGRES__PASSWORD_FILE" in service.get("environment", ()),
        }
        for server in servers:
            if uses[server]:
                assert f"{server}:" not in environment and f"@{server}" not in environment, name
                assert "outside" in service["networks"], f"{name} has no way to {server}"
                assert f"{server}-ca" in service["secrets"]
        for secret in service.get("secrets", ()):
            assert (secret if isinstance(secret, str) else secret["source"]) in whole["secrets"]
    named = {
        name
        for service in services.values()
        for name in service.get("environment", ())
        if name.startswith("REPLYRATE_")
    }
    assert {name for name in named if not name.startswith("REPLYRATE_DASHBOARD")} - {"REPLYRATE_PROMETHEUS_URL"} <= {
        f"{declaration.name}{end}" for declaration in declarations() for end in ("", "_FILE")
    }


@pytest.mark.parametrize("target", TARGETS)
def test_images_share_their_layers_and_their_rules(target: str) -> None:
    stages = docker_stages()
    image = stages[target]
    base = stages["service" if target in SERVICES else "base"]
    assert image.parent == base.name and (base.name == "base" or base.parent == "base"), "the layers are not shared"
    assert "COPY" not in stages["service"].text and "RUN" not in stages["service"].text
    assert (
        image.text.count("USER 10001:0\n") == 1
        and image.text.count("HEALTHCHECK") + base.text.count("HEALTHCHECK") == 1
    )
    assert re.search(r'^ENTRYPOINT \["python", "-m", "services\.', image.text, re.MULTILINE)
    copied = copied_rooms(target)
    assert len(copied) == len(set(copied))
    room = "standalone" if target == "demo" else target
    assert set(copied) == imported(room, {"common"}), "what is copied is not what is imported"


def test_every_image_has_the_same_libraries_checked_by_hash() -> None:
    text = (ROOT / "Dockerfile").read_text("utf-8")
    stages = docker_stages()
    assert set(stages) == {
        "packages",
        "base",
        "service",
        "archive-packages",
        "portal-packages",
        "demo-packages",
        *TARGETS,
    }
    assert (
        "COPY --from=packages /opt/venv /opt/venv\n" in stages["base"].text and text.count("/opt/venv /opt/venv") == 1
    )
    assert "--require-hashes --only-binary :all: -r /requirements/runtime.txt" in stages["packages"].text
    assert text.count("--require-hashes --only-binary :all:") == text.count("pip --python") == 4
    # An extra of one image would cost every host the layers of two.
    assert (
        text.count("ARG TELEMETRY=\n")
        == text.count('$(test "$TELEMETRY" != yes || echo "-r /requirements/telemetry.txt")')
        == 1
    )
    assert not re.search(r"# syntax|--mount|--link|--chmod|<<", text), "the classic builder does not know this"


def test_the_compose_file_builds_every_image_from_its_target() -> None:
    built = {name: service["build"]["target"] for name, service in OURS.items() if "build" in service}
    assert set(built.values()) == set(TARGETS)
    assert len(built.keys() - {"console"}) == len(TARGETS), "the console is the image of the portal"
    for name, target in built.items():
        assert OURS[name]["image"] == f"${{REGISTRY:-}}replyrate/{target}:${{IMAGE_TAG:-local}}"
        assert OURS[name]["build"]["context"] == "." and "dockerfile" not in OURS[name]["build"]


def test_health_checks_request_an_existing_page() -> None:
    pages = (ROOT / "services" / "common" / "http.py").read_text("utf-8")
    request = re.search(r"c\.request\('GET', '(/[a-z]+)'\)", docker_stages()["service"].text)
    assert request and f'case "{request[1]}"' in pages


def imported(room: str, rooms: set[str]) -> set[str]:
    """The rooms of services/ that `room` imports, directly or through others, with itself."""
    rooms = rooms | {room}
    for file in (ROOT / "services" / room).rglob("*.py"):
        for needed in re.findall(r"(?:from|import) services\.(\w+)", file.read_text("utf-8")):
            if needed not in rooms:
                rooms |= imported(needed, rooms)
    # `from services.x import y` and `from services import x` are the two forms there are; the second is not used.
    return rooms


def test_the_demo_installs_what_the_lock_of_the_embedded_servers_has() -> None:
    lock = (ROOT / "requirements" / "standalone.txt").read_text("utf-8")
    blocks = re.split(r"^(?=[a-z])", (ROOT / "requirements" / "demo.txt").read_text("utf-8"), flags=re.MULTILINE)
    assert len(blocks) > 3
    for block in blocks:
        assert block in lock


def pins(name: str) -> dict[str, str]:
    text = (ROOT / "requirements" / f"{name}.txt").read_text("utf-8")
    return dict(re.findall(r"^([a-z0-9._-]+)==(\S+) \\$", text, re.MULTILINE))


def test_the_portal_installs_what_is_tested_and_agrees_with_what_all_images_have() -> None:
    """Its image has these beside the shared libraries; of a library in both, only the shared files are there."""
    extra, runtime, tested = pins("portal"), pins("runtime"), pins("dev")
    assert {"fastapi", "uvicorn", "jinja2", "python-multipart"} <= extra.keys() - runtime.keys()
    assert {name: tested[name] for name in extra} == extra
    assert {name: version for name, version in runtime.items() if name in extra}.items() <= extra.items()


def test_only_what_reads_the_archive_has_its_library() -> None:
    """Some 80 MB that the other images need not have."""
    stages = docker_stages()
    images = {
        name for name in TARGETS if "COPY --from=archive-packages /opt/archive /opt/archive\n" in stages[name].text
    }
    assert images == {"aggregator", "cli"}
    assert pins("archive").keys() == {"pyarrow"} and pins("archive").items() <= pins("dev").items()


def test_the_portal_has_no_key_and_no_way_out() -> None:
    portal = COMPOSE["services"]["portal"]
    assert portal["secrets"] == ["postgres-portal"]
    assert "REPLYRATE_VAULT_KEY_FILE" not in portal["environment"]
    assert portal["ports"] == ["127.0.0.1:${PORTAL_PORT:-8480}:8480"]
    assert portal["networks"] == ["inside", "published"]
    assert COMPOSE["networks"]["inside"] == {"internal": True}
    masquerade = COMPOSE["networks"]["published"]["driver_opts"]["com.docker.network.bridge.enable_ip_masquerade"]
    assert masquerade == "false"
    users = [name for name, service in COMPOSE["services"].items() if "published" in service.get("networks", ())]
    assert users == ["portal", "console"]


def test_the_console_is_reached_from_this_machine_only_and_has_no_key() -> None:
    portal, console = COMPOSE["services"]["portal"], COMPOSE["services"]["console"]
    assert console["image"] == portal["image"] and console["build"] == portal["build"]
    assert console["entrypoint"] == ["python", "-m", "services.portal.console"]
    assert console["secrets"] == ["postgres-console"] and "REPLYRATE_VAULT_KEY_FILE" not in console["environment"]
    assert console["ports"] == ["127.0.0.1:${CONSOLE_PORT:-8481}:8481"]
    assert console["networks"] == ["inside", "published"]
    sign_in = yaml.safe_load((ROOT / "deploy" / "compose.console-sign-in.yml").read_text("utf-8"))
    name = "console-client-secret"
    assert sign_in["services"] == {
        "console": {
            "environment": {"REPLYRATE_CONSOLE__CLIENT_SECRET_FILE": f"/run/secrets/{name}"}, "secrets": [name], "networks": ["outside"],
        }
    }  # fmt: skip
    assert sign_in["secrets"] == {name: {"file": f"${{SECRETS_DIR}}/{name}"}}
    assert f"`secrets/{name}`" in (ROOT / "docs" / "console.md").read_text("utf-8")


def test_the_telemetry_extra_pins_the_versions_that_are_installed_and_tested() -> None:
    extra, runtime, tested = pins("telemetry"), pins("runtime"), pins("dev")
    assert {"opentelemetry-sdk", "opentelemetry-exporter-otlp-proto-http"} <= extra.keys()
    assert {name: tested[name] for name in extra} == extra
    shared = extra.keys() & runtime.keys()
    assert shared and {name: runtime[name] for name in shared} == {name: extra[name] for name in shared}


def test_an_image_is_built_from_named_files_only() -> None:
    lines = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    assert not [
        rule for rule in rules if rule.startswith("!") and ("test" in rule or "secret" in rule or "env" in rule)
    ]
    named = {rule.removeprefix("!") for rule in rules if rule.startswith("!")}
    copies = re.findall(r"^COPY (?!--from)(.+) \S+$", (ROOT / "Dockerfile").read_text("utf-8"), re.MULTILINE)
    copied = {path.rstrip("/") for line in copies for path in line.split()}
    assert len(copied) > 10
    assert not {path for path in copied if not named & {path, *map(str, Path(path).parents)}}, (
        "name it in .dockerignore"
    )


def test_grafana_uses_the_dashboard_login_and_prometheus_scrapes_every_service() -> None:
    text = (ROOT / "deploy/grafana/provisioning/datasources/replyrate.yml").read_text("utf-8")
    grafana = COMPOSE["services"]["grafana"]
    assert set(re.findall(r"\$\{(\w+)\}", text)) == {
        name for name in grafana["environment"] if name.startswith("REPLYRATE_")
    }
    assert grafana["environment"]["REPLYRATE_DASHBOARD_USER"] == "replyrate_dashboard"
    (file,) = re.findall(r"\$__file\{/run/secrets/(\w+)\}", text)
    assert {"source": "postgres-dashboard", "target": file} in grafana["secrets"]
    boards = yaml.safe_load((ROOT / "deploy/grafana/provisioning/dashboards/replyrate.yml").read_text("utf-8"))
    paths = {provider["options"]["path"] for provider in boards["providers"]}
    mounted = "/var/lib/grafana/dashboards"
    assert paths == {f"{mounted}/{folder.name}" for folder in (ROOT / "deploy/grafana/dashboards").iterdir()}
    assert len({provider["folder"] for provider in boards["providers"]}) == len(paths) == 2
    assert f"./deploy/grafana/dashboards:{mounted}:ro" in grafana["volumes"]
    rules = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text("utf-8"))["rule_files"]
    assert [(ROOT / "deploy/prometheus" / rule.removeprefix("/etc/prometheus/")).exists() for rule in rules] == [True]
    jobs = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text("utf-8"))["scrape_configs"]
    names = {name for job in jobs for target in job.get("dns_sd_configs", ()) for name in target["names"]}
    assert names == set(SERVICES)


def test_the_previous_vault_key_is_empty_until_a_file_is_named() -> None:
    secret = COMPOSE["secrets"]["vault-old.key"]["file"]
    ((name, default),) = VARIABLE.findall(secret)
    assert (name, secret) == ("VAULT_OLD_KEY", "${VAULT_OLD_KEY:-/dev/null}")
    assert Path(default).read_bytes() == b"", "the file always exists and has no key"
    for service, service in COMPOSE["services"].items():
        # A service that opens secrets may also need the previous key; no other service gets it.
        assert ("vault-old.key" in service.get("secrets", ())) == ("vault.key" in service.get("secrets", ())), service
        if "vault.key" in service.get("secrets", ()):
            assert service["environment"]["REPLYRATE_VAULT_OLD_KEY_FILE"] == "/run/secrets/vault-old.key"


def secrets(folder: Path, code: int = 0) -> str:
    """The output of `make secrets` for a stack in `folder`."""
    done = subprocess.run([ROOT / "deploy" / "secrets", folder], capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    return done.stdout + done.stderr


def test_every_secret_of_the_compose_file_is_made_and_kept(tmp_path: Path) -> None:
    assert "is new, but other" not in secrets(tmp_path)
    folder = tmp_path / "secrets"
    files = {
        secret["file"].rpartition("}/")[2] for secret in COMPOSE["secrets"].values() if "SECRETS_DIR" in secret["file"]
    }
    contents = {file.name: file.read_bytes() for file in folder.iterdir()}
    assert set(contents) == files and (tmp_path / ".env").read_text("utf-8") == "SECRETS_DIR=./secrets\n"
    assert "all secrets exist" in secrets(tmp_path)
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == contents


def test_a_secret_that_is_missing_empty_or_unreadable_is_fixed_and_reported(tmp_path: Path) -> None:
    secrets(tmp_path)
    folder = tmp_path / "secrets"
    (folder / "postgres-admin.password").chmod(0o600)
    (folder / "postgres-admin.password").write_text("", "utf-8")
    (folder / "grafana-admin.password").unlink()
    (folder / "grafana-admin.password").mkdir()  # what Docker creates in place of a missing file
    (folder / "vault.key").chmod(0o400)
    (folder / "hash.key").unlink()
    output = secrets(tmp_path)
    for line in (
        "created ./secrets/postgres-admin.password", "created ./secrets/grafana-admin.password", "created ./secrets/hash.key",
        "./secrets/hash.key is new, but other secrets are older", "made ./secrets/vault.key readable for the containers",
    ):  # fmt: skip
        assert line in output
    assert all(file.stat().st_size >= 32 and file.stat().st_mode & 0o777 == 0o444 for file in folder.iterdir())
    assert folder.stat().st_mode & 0o077 == 0


def test_a_damaged_key_is_not_replaced(tmp_path: Path) -> None:
    secrets(tmp_path)
    key = tmp_path / "secrets" / "vault.key"
    key.chmod(0o600)
    key.write_bytes(b"short")
    assert "must have 32 bytes but has 5" in secrets(tmp_path, code=1)
    assert key.read_bytes() == b"short"
    key.unlink()
    key.mkdir()
    (key / "something").touch()
    assert "must be a file but is a folder" in secrets(tmp_path, code=1)


def test_a_secret_of_an_oauth2_client_in_the_file_of_variables_does_not_reach_the_web_process() -> None:
    secrets = {setting.name for setting in declarations() if setting.secret and "CLIENT_SECRET" in setting.name}
    console = "REPLYRATE_CONSOLE__CLIENT_SECRET"
    for name, unused in (("portal", secrets), ("console", secrets - {console})):
        emptied = {name for name, value in COMPOSE["services"][name]["environment"].items() if value == ""}
        assert emptied == unused
    assert console in secrets and len(secrets) == 4
