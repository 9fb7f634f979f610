"""The start page's overview: every symbol and the latest decisions, from two searches."""

from collections.abc import Callable
from urllib.parse import unquote

import pytest
from conftest import NAME, ROOT, Project
from mlflow import MlflowClient

from fxhelpers import ModelRegistry
from fxhelpers.engine import run_notebook
from fxhelpers.errors import ParamsError


def links(text: str) -> list[str]:
    return [unquote(part.partition('"')[0]) for part in text.split('<a href="')[1:]]


def test_with_nothing_registered_it_says_what_to_type(project: Project) -> None:
    overview = ModelRegistry().overview()
    told = overview._repr_html_()
    assert "Nothing is registered at sqlite:///" in told
    assert "fx run register -p symbol AAPL" in told
    assert f"There is no gallery of the records in {project.folder / 'outputs' / 'records'} yet: fx records makes it." in told
    assert overview.summary() == {"symbols": 0, "champions": 0, "decisions": 0, "last_decision": None, "doubts": []}
    with pytest.raises(ParamsError, match="latest: the number of decisions to show is expected, 1 or more, found 0"):
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
    assert "doubt" not in champions
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
    assert overview.doubts == ["AAPL"]
    (row,) = overview.champions.frame.to_dict("records")
    assert (row["in Production"], row["since (UTC)"], row["doubt"]) == ("version 2", "", "fx verify AAPL")


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
