import re

import pytest
import yaml
from kubernetes import client

from tests.unit.charts.rendering import SIZES, rendered
from tests.unit.charts.run_pods import instance


def _databases(size: str) -> dict[str, tuple[str, str, str]]:
    """Owner, and where its password is, of each database."""
    server = rendered("postgres", size).one(client.V1StatefulSet, "postgres").spec.template.spec
    (preparing,) = server.init_containers
    passwords = {each.name: each.value_from.secret_key_ref for each in preparing.env if each.value_from}
    script = rendered("postgres", size).one(client.V1ConfigMap, "postgres-config").data["prepare.sh"]
    made = re.findall(r'PASSWORD="\$(PASSWORD_\d+)" create "(\w+)" "(\w+)"', script)
    return {
        database: (owner, passwords[variable].name, passwords[variable].key)
        for variable, database, owner in made
    }


@pytest.mark.parametrize("size", SIZES)
def test_dagster_finds_its_database(size: str) -> None:
    pod = rendered("dagster", size).one(client.V1Deployment, "dagster-daemon").spec.template.spec
    (password,) = (each for each in pod.containers[0].env if each.name == "DAGSTER_PG_PASSWORD")
    config = instance(size)["run_storage"]["config"]["postgres_db"]
    assert config["hostname"] == "postgres"
    secret = password.value_from.secret_key_ref
    assert _databases(size)[config["db_name"]] == (config["username"], secret.name, secret.key)


@pytest.mark.parametrize("size", SIZES)
def test_mlflow_finds_its_database(size: str) -> None:
    release = rendered("mlflow", size)
    config = release.one(client.V1ConfigMap, "mlflow-env-configmap").data
    assert (config["PGHOST"], config["PGPORT"]) == ("postgres", "5432")
    pod = release.one(client.V1Deployment, "mlflow").spec.template.spec
    variables = {each.name: each for each in pod.containers[0].env}
    password = variables["PGPASSWORD"].value_from.secret_key_ref
    _, secret, key = _databases(size)[config["PGDATABASE"]]
    assert (password.name, password.key) == (secret, key)


def test_a_cluster_that_was_cut_short_while_it_was_made_is_never_started() -> None:
    script = rendered("postgres").one(client.V1ConfigMap, "postgres-config").data["prepare.sh"]
    assert script.index('initdb --pgdata="$PGDATA.new"') < script.index('mv "$PGDATA.new" "$PGDATA"')


def test_passwords_are_asked_of_everyone_who_comes_over_the_network() -> None:
    rules = rendered("postgres").one(client.V1ConfigMap, "postgres-config").data["pg_hba.conf"]
    assert "host all all all scram-sha-256" in rules
    assert not [line for line in rules.splitlines() if line.startswith("host") and "trust" in line]


def test_only_dagster_and_mlflow_reach_the_server() -> None:
    policy = rendered("postgres").one(client.V1NetworkPolicy, "postgres")
    (rule,) = policy.spec.ingress
    (peer,) = rule._from
    (expression,) = peer.pod_selector.match_expressions
    for release, name in (("dagster", "dagster-daemon"), ("mlflow", "mlflow")):
        labels = rendered(release).one(client.V1Deployment, name).spec.template.metadata.labels
        assert labels[expression.key] in expression.values


def test_artefacts_pass_through_the_tracking_server_onto_a_volume_that_is_kept() -> None:
    pod = rendered("mlflow").one(client.V1Deployment, "mlflow").spec
    (container,) = pod.template.spec.containers
    assert pod.strategy.type == "Recreate"
    assert "--serve-artifacts" in container.args
    assert "--artifacts-destination=/artefacts" in container.args
    assert "--workers=1" in container.args
    mounts = {mount.mount_path: mount.name for mount in container.volume_mounts}
    claims = {each.name: each.persistent_volume_claim for each in pod.template.spec.volumes}
    claim = rendered("platform").one(client.V1PersistentVolumeClaim, claims[mounts["/artefacts"]].claim_name)
    assert claim.metadata.annotations["helm.sh/resource-policy"] == "keep"


def test_mlflow_is_where_the_others_look_for_it() -> None:
    service = rendered("mlflow").one(client.V1Service, "mlflow")
    address = f"http://{service.metadata.name}:{service.spec.ports[0].port}"
    assert (
        rendered("platform").one(client.V1ConfigMap, "usedcars").data["USEDCARS_MLFLOW_TRACKING_URI"]
        == address
    )
    hosts = rendered("mlflow").one(client.V1ConfigMap, "mlflow-env-configmap").data
    assert service.metadata.name in hosts["MLFLOW_SERVER_ALLOWED_HOSTS"]
    assert not yaml.safe_load(hosts.get("MLFLOW_SERVER_CORS_ALLOWED_ORIGINS", "null"))
