"""The start page's overview: every symbol and the latest decisions, from two searches."""

from collections.abc import Callable
from typing import Any
from urllib.parse import unquote

import pytest
from conftest import NAME, ROOT, Project
from mlflow import MlflowClient

from fxhelpers import ModelRegistry
from fxhelpers.errors import ParamsError, RegistryError
from fxhelpers.registry import RegistryClient, storage
from fxhelpers.runs import run_notebook


def links(text: str) -> list[str]:
    return [unquote(part.partition('"')[0]) for part in text.split('<a href="')[1:]]


def test_with_nothing_registered_it_says_what_to_type(project: Project) -> None:
    overview = ModelRegistry().overview()
    told = overview._repr_html_()
    assert "Nothing is registered at sqlite:///" in told
    assert "fx run register -p symbol AAPL" in told
    assert f"There is no gallery of the records in {project.folder / 'outputs' / 'records'} yet: fx records makes it." in told
    assert overview.summary() == {"symbols": 0, "champions": 0, "decisions": 0, "last_decision": None, "doubts": []}
    with pytest.raises(ParamsError, match="latest: the number of decisions to show must be 1 or more, found 0"):
        ModelRegistry().overview(0)


def test_every_symbol_and_the_latest_decisions_are_shown_with_what_they_rest_on(
    project: Project, registered: Callable[..., int]
) -> None:
    registry = ModelRegistry()
    registered("original", stage="Production")
    registered("lighter")
    registered("regularised", model_name="mine")
    registry.promote(registry.propose("AAPL", 2, apply=True, override=True, reason="<b>a try</b> " + "x" * 200))
    overview = registry.overview(latest=3)
    champions = overview.champions.frame
    assert list(champions["symbol"]) == ["AAPL", "mine"]
    assert list(champions["in Production"]) == ["version 2", "none"]
    assert list(champions["rests on"]) == ["AGAINST THE VERDICT, no evidence of skill", ""]
    assert "warning" not in champions
    decisions = overview.decisions.frame
    assert list(decisions["decision"]) == ["promotion", "registration", "registration"]
    assert decisions["result"].iloc[0] == "promoted, AGAINST THE VERDICT, no evidence of skill"
    assert len(decisions["reason"].iloc[0]) == 140
    assert list(decisions["record"]) == ["none"] * 3
    assert (overview.summary()["symbols"], overview.summary()["champions"]) == (2, 1)


def test_a_champion_that_nobody_decided_about_is_doubted(project: Project, registered: Callable[..., int]) -> None:
    registered("original", stage="Production")
    registered("lighter")
    registry = ModelRegistry()
    MlflowClient(registry.params.registry_uri).set_registered_model_alias(NAME, "champion", "2")
    overview = registry.overview()
    assert overview.warnings == ["AAPL"]
    (row,) = overview.champions.frame.to_dict("records")
    assert (row["in Production"], row["since (UTC)"], row["warning"]) == ("version 2", "", "fx verify AAPL")


def test_the_start_page_leads_to_the_records_and_to_the_gallery_where_there_is_one(project: Project) -> None:
    project.bundle()
    made = run_notebook(ROOT / "notebooks" / "register.ipynb", {"stage": "Production"}, preloaded=True)
    page = project.folder / "outputs" / "records" / "index.html"
    page.touch()
    result = run_notebook(ROOT / "notebooks" / "index.ipynb", {}, preloaded=True)
    assert result.summary is not None
    assert (result.summary["symbols"], result.summary["champions"], result.summary["doubts"]) == (1, 1, [])
    assert result.record.parent.name == "_index"
    text = result.record.read_text().replace('\\"', '"')
    found = [there for there in links(text) if there.startswith("..")]
    assert {(result.record.parent / there).resolve() for there in found} == {made.record.resolve(), page.resolve()}
    assert ModelRegistry().verify().findings == ()  # its folder is no symbol's
    assert links(ModelRegistry().overview().gallery._repr_html_()) == ["outputs/records/index.html"]  # from this folder


def test_no_model_is_hidden_by_what_is_deleted_between_two_pages(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    client, search = RegistryClient(ModelRegistry().params), MlflowClient.search_registered_models
    names = [f"MLP_Stock_Predictor_{n}" for n in range(7)]
    monkeypatch.setattr(storage, "_PAGE", 3)
    at_work = iter(("delete", "again", "rename", ""))

    def search_and_meanwhile(self: MlflowClient, *args: Any, **kwargs: Any) -> Any:
        page = search(self, *args, **kwargs)
        doing = "" if page.token is None else next(at_work, "")
        if doing == "delete":
            self.delete_registered_model(names[0])
        elif doing == "again":  # what was there before, and what is made anew, are two
            self.create_registered_model(names[0])
        elif doing == "rename":
            self.rename_registered_model(names[1], f"{names[1]}9")
        return page

    with client.session("make models") as mlflow:
        for name in names:
            mlflow.create_registered_model(name)
        monkeypatch.setattr(MlflowClient, "search_registered_models", search_and_meanwhile)
        assert sorted(storage.registered_models(client)) == sorted({*names, f"{names[1]}9"} - {names[1]})
        assert storage.registered_symbols(client) == sorted({*"023456", "19"})


def test_models_that_never_stand_still_are_an_error_and_no_shorter_list(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, search = RegistryClient(ModelRegistry().params), MlflowClient.search_registered_models
    monkeypatch.setattr(storage, "_PAGE", 1)

    def search_and_meanwhile(self: MlflowClient, *args: Any, **kwargs: Any) -> Any:
        page = search(self, *args, **kwargs)
        if page.token:
            self.delete_registered_model(page[0].name)
            self.create_registered_model(page[0].name)
        return page

    with client.session("make models") as mlflow:
        for n in range(2):
            mlflow.create_registered_model(f"MLP_Stock_Predictor_{n}")
    monkeypatch.setattr(MlflowClient, "search_registered_models", search_and_meanwhile)
    with pytest.raises(RegistryError, match="come and go while they are listed, 20 times in a row; try again"):
        storage.registered_models(client)
