"""MLflow's own logins, ``--app-name basic-auth``: each operation works, or says which permission is missing."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests
from conftest import NAME, Project
from servers import PASSWORD, Server

from fxhelpers import ModelRegistry
from fxhelpers.errors import RegistryUnavailableError, VersionNotFoundError

ADMIN = ("admin", PASSWORD)


@pytest.fixture
def as_user(
    request: pytest.FixtureRequest, older: str, tmp_path: Path, project: Project, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[str], ModelRegistry]]:
    """Start a server whose users have the permission of the test's parameter, and give the registry of one of them."""
    if older:
        pytest.skip("MLflow's logins are those of today")
    server = Server(tmp_path / "server", database=f"sqlite:///{tmp_path}/server.db", auth=request.param).start()
    for user in ("ann", "bob"):
        ask(server.uri, "2.0/mlflow/users/create", username=user, password=PASSWORD)

    def connect(user: str) -> ModelRegistry:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri.replace("//", f"//{user}:{PASSWORD}@"))
        return ModelRegistry()

    yield connect
    server.stop()


def ask(uri: str, message: str, **values: str) -> None:
    requests.post(f"{uri}/api/{message}", json=values, auth=ADMIN, timeout=60).raise_for_status()


def looks(registry: ModelRegistry) -> None:
    """Whatever only reads works."""
    assert registry.connection.aliases
    assert registry.connection.stages
    champion = registry.load_champion("AAPL")
    assert champion is not None
    assert champion.version.version == 1
    assert registry.get_production_model("nobody") is None
    assert registry.get_model_versions("nobody") == []
    with pytest.raises(VersionNotFoundError, match="not found"):
        registry.client.version(NAME, 99)
    assert registry.overview().serving[NAME] == 1
    assert registry.history("AAPL").ledger.decisions
    assert not registry.verify("AAPL").problems


@pytest.mark.usefixtures("thorough")
@pytest.mark.parametrize("as_user", ["READ"], indirect=True)
def test_who_may_read_can_begin_and_others_need_what_is_named(project: Project, as_user: Callable[[str], ModelRegistry]) -> None:
    ann = as_user("ann")
    assert ann.get_production_model(NAME) is None
    assert ann.register_model(project.bundle(max_iter=2), stage="Production").version == 1
    looks(ann)
    bob = as_user("bob")
    looks(bob)
    bundle, granted = project.bundle(max_iter=3), list[str]()
    while len(granted) < 4:
        try:
            made = bob.register_model(bundle, stage="Production")
            break
        except RegistryUnavailableError as error:
            _, _, missing = str(error).partition("'Permission denied': bob needs the permission EDIT on the ")
            assert missing.endswith("; an MLflow administrator can grant it"), error  # noqa: PT017 (it may also end well)
            assert len(str(error)) < 300  # noqa: PT017
            granted.append(missing.partition(";")[0])
        kind, _, name = granted[-1].rpartition(" ")
        number = bob.client.find_experiment(name) if kind == "experiment" else name
        asked = {"resource_type": kind.replace(" ", "_"), "resource_id": str(number), "permission": "EDIT"}
        ask(bob.client.uri, "3.0/mlflow/users/permissions/grant", username="bob", **asked)
    assert sorted(granted) == sorted(["experiment fx-ledger", "experiment MLP_Stock_Prediction", f"registered model {NAME}"])
    assert made.version == 2
    assert as_user("admin").get_production_model(NAME)["version"] == 2  # type: ignore[index]


@pytest.mark.usefixtures("thorough")
@pytest.mark.parametrize("as_user", ["EDIT"], indirect=True)
def test_who_may_edit_can_do_all_but_take_the_champion_away(
    project: Project, as_user: Callable[[str], ModelRegistry], caplog: pytest.LogCaptureFixture
) -> None:
    assert as_user("ann").register_model(project.bundle(max_iter=2), stage="Production").version == 1
    bob = as_user("bob")
    looks(bob)
    assert bob.register_model(project.bundle(max_iter=3)).version == 2
    assert bob.transition_stage(NAME, 2, "Production").stage == "Production"
    assert "alias challenger stays where it is: bob needs the permission MANAGE" in caplog.text
    with pytest.raises(RegistryUnavailableError, match=f"bob needs the permission MANAGE on the registered model {NAME}"):
        bob.transition_stage(NAME, 2, "Archived")
    assert as_user("admin").transition_stage(NAME, 1, "Production").stage == "Production"


@pytest.mark.usefixtures("thorough")
@pytest.mark.parametrize("as_user", ["NO_PERMISSIONS"], indirect=True)
def test_who_may_nothing_is_told_so_and_not_that_nothing_is_there(
    project: Project, as_user: Callable[[str], ModelRegistry]
) -> None:
    admin = as_user("admin")
    assert admin.register_model(project.bundle(max_iter=2), stage="Production").version == 1
    looks(admin)
    with pytest.raises(RegistryUnavailableError, match=f"bob needs the permission READ on the registered model {NAME}"):
        as_user("bob").get_production_model(NAME)
