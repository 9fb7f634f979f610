"""The chain: nothing can be changed in it, taken out of it or put into it without being seen."""

import json
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from fxhelpers.errors import LedgerError
from fxhelpers.ledger import (
    AGAINST,
    FACTS,
    KINDS,
    NEW_DAYS,
    NO_SKILL,
    NOT_COMPARED,
    Attempt,
    Entry,
    Facts,
    Identity,
    IntentFacts,
    Ledger,
    Link,
    OutcomeFacts,
    StoredRun,
    attempt_number,
    entry_name,
    first_name,
    link_name,
)
from fxhelpers.ledger._entry import LONGEST_ENTRY

START = datetime(2026, 11, 23, tzinfo=UTC)
Runs = list[tuple[str, dict[str, str]]]

champions = st.lists(st.one_of(st.none(), st.integers(1, 5)), min_size=1, max_size=8)


def story(moves: list[int | None]) -> Runs:
    """Return a ledger in which each decision, a minute after the one before, makes another version champion."""
    head: Entry | None = None
    now: int | None = None
    runs = []
    for number, champion in enumerate(moves):
        texts = {}
        told: dict[str, dict[str, Any]] = {
            "intent": {"kind": "promotion", "version": champion, "actor": "ann@desk", "reason": "it has to be"},
            "outcome": {"result": "promoted", "from": now, "to": champion},
            "seal": {"record": None},
        }
        for step, (kind, facts) in enumerate(told.items()):
            time = (START + timedelta(minutes=number, seconds=step)).isoformat(timespec="milliseconds")
            if kind == "outcome" and now != champion:
                facts["moved"] = time
            head = Entry.after(head, ledger="M", decision=f"d{number}", now=time, facts=FACTS[kind].read(facts))
            texts[kind] = head.to_json()
        runs.append((f"run{number}", texts))
        now = champion
    return runs


def linked(runs: Runs) -> list[StoredRun]:
    """Return a ledger as it is kept, each entry linked from the one before; what is edited stays where it was kept."""
    whole = {run: [Entry.read(text) for text in texts.values()] for run, texts in runs}
    chain = sorted(((entry, run) for run, entries in whole.items() for entry in entries), key=lambda item: item[0].seq)
    links: dict[str, dict[str, Link]] = {run: {} for run in whole}
    for (before, keeper), (after, run) in pairwise(chain):
        links[keeper][link_name(before.digest)] = Link(after.digest, run)
    if chain:
        links[chain[0][1]][first_name("M")] = Link(chain[0][0].digest, chain[0][1])
    return [StoredRun(run, {entry_name(e): e.to_json() for e in entries}, links[run]) for run, entries in whole.items()]


def as_kept(runs: Runs) -> list[StoredRun]:
    return [StoredRun(run, texts) for run, texts in runs]


def faults(runs: Iterable[StoredRun] | Runs) -> list[str]:
    return [fault.message for fault in Ledger.read("M", [StoredRun(*run) for run in runs]).faults]


@given(champions)
def test_a_ledger_that_was_only_appended_to_has_no_fault(moves: list[int | None]) -> None:
    runs = story(moves)
    assert faults(runs) == []
    assert faults(runs[::-1]) == []  # the order in which MLflow returns them does not matter
    assert Ledger.read("M", as_kept(runs)).champion == moves[-1]
    kept = linked(runs)
    assert Ledger.read("M", kept[::-1]) == Ledger.read("M", as_kept(runs))  # as earlier releases kept it
    assert faults(kept) == []


@settings(max_examples=300)
@given(champions, st.data())
def test_any_edit_of_any_entry_is_seen(moves: list[int | None], data: st.DataObject) -> None:
    runs = story(moves)
    run, texts = runs[data.draw(st.integers(0, len(runs) - 1))]
    kind = data.draw(st.sampled_from(sorted(texts)))
    text = texts[kind]
    place = data.draw(st.integers(0, len(text) - 1))
    edited = text[:place] + data.draw(st.characters(codec="utf-8")) + text[place + 1 :]
    assume(_meaning(edited) != _meaning(text))
    kept = linked(runs)
    name = next(name for run_id, there, _, _ in kept if run_id == run for name in there if name.startswith(kind))
    texts[kind] = edited
    assert faults(runs), run
    assert faults([k._replace(texts=k.texts | {name: edited}) if k.run_id == run else k for k in kept]), run


@given(champions, st.data())
def test_an_entry_that_is_taken_out_is_missed_unless_it_is_the_last(moves: list[int | None], data: st.DataObject) -> None:
    runs = story(moves)
    places = [(number, kind) for number, (_, texts) in enumerate(runs) for kind in texts][:-1]
    number, kind = data.draw(st.sampled_from(places))
    del runs[number][1][kind]
    assert faults(runs)


@given(champions, st.data())
def test_an_entry_that_is_taken_out_of_a_linked_ledger_is_missed_also_at_its_end(
    moves: list[int | None], data: st.DataObject
) -> None:
    kept = linked(story(moves))
    place = data.draw(st.integers(0, len(kept) - 1))
    gone = data.draw(st.sampled_from(sorted(kept[place].texts)))
    kept[place] = kept[place]._replace(texts={name: text for name, text in kept[place].texts.items() if name != gone})
    assert faults(kept)


@given(champions, st.data())
def test_a_decision_of_another_ledger_is_seen(moves: list[int | None], data: st.DataObject) -> None:
    runs, others = story(moves), story([9, *moves])
    place = data.draw(st.integers(0, len(runs) - 1))
    runs[place] = others[data.draw(st.integers(0, len(others) - 1))]
    assume(runs != story(moves))
    assert faults(runs) or len(runs) == 1  # alone and from the start, it is a ledger of its own


def test_a_fork_is_called_one() -> None:
    runs = story([1, 2, 3])
    head = Entry.read(runs[0][1]["seal"])
    other = Entry.after(head, ledger="M", decision="dx", now=head.time, facts=IntentFacts(kind="promotion"))
    assert any("forked: entry 4 is there twice" in message for message in faults([*runs, ("runx", {"intent": other.to_json()})]))


def test_a_decision_whose_creation_was_sent_twice_is_one_decision() -> None:
    runs = story([1, 2])
    twin = ("run0b", {"intent": runs[0][1]["intent"]})
    for order in ([*runs, twin], [twin, *runs]):
        ledger = Ledger.read("M", as_kept(order))
        assert (len(ledger.decisions), ledger.faults, ledger.champion) == (2, (), 2)


@given(champions, st.floats(-1, 10))
def test_who_was_in_production_at_a_moment_is_what_a_replay_says(moves: list[int | None], minutes: float) -> None:
    ledger = Ledger.read("M", as_kept(story(moves)))
    moment = START + timedelta(minutes=minutes)
    expected = None
    for number, champion in enumerate(moves):
        if START + timedelta(minutes=number, seconds=1) <= moment:
            expected = champion
    found = [period.version for period in ledger.during(moment, moment + timedelta(microseconds=1))]
    assert found == [expected] or (found == [] and expected is None)
    for before, after in pairwise(ledger.production_periods()):
        assert before.until == after.since


def test_the_previous_champion_is_the_one_before_also_after_a_rollback() -> None:
    assert Ledger.read("M", as_kept(story([1, 2, 3]))).former == Identity(2)
    assert Ledger.read("M", as_kept(story([1, 2, 3, 2]))).former == Identity(3)
    assert Ledger.read("M", as_kept(story([1, 2, None]))).former == Identity(2)
    assert Ledger.read("M", as_kept(story([1]))).former is None


def test_a_champion_that_came_without_a_decision_is_in_the_history() -> None:
    runs = story([1, 2])
    head = Entry.read(runs[-1][1]["seal"])
    facts = OutcomeFacts.read({"result": "refused", "from": 7, "to": 7})
    intent = Entry.after(head, ledger="M", decision="d9", now=head.time, facts=IntentFacts(kind="promotion"))
    outcome = Entry.after(intent, ledger="M", decision="d9", now=head.time, facts=facts)
    ledger = Ledger.read("M", as_kept([*runs, ("run9", {"intent": intent.to_json(), "outcome": outcome.to_json()})]))
    assert ledger.faults == ()
    assert [(period.version, period.decision) for period in ledger.production_periods()] == [(1, "d0"), (2, "d1"), (7, None)]


class Store:
    """What MLflow keeps: runs whose tags can be set at any time, and whose params keep their first value."""

    def __init__(self) -> None:
        self.texts: dict[str, dict[str, str]] = {"root": {}}
        self.params: dict[str, dict[str, Link]] = {"root": {}}

    def write(self, run: str, entry: Entry) -> None:
        self.params.setdefault(run, {})
        self.texts.setdefault(run, {})[entry_name(entry)] = entry.to_json()

    def link(self, holder: str, name: str, link: Link) -> bool:
        return self.params[holder].setdefault(name, link) == link

    def kept(self) -> list[StoredRun]:
        return [StoredRun(run, texts, self.params[run]) for run, texts in self.texts.items() if run != "root"]

    def ledger(self) -> Ledger:
        return Ledger.read("M", self.kept(), self.params["root"].get(first_name("M")))


def writer(store: Store, name: str) -> Iterator[bool | None]:
    """Take a decision in steps, between which others go on; each step yields, at last whether it was acknowledged."""
    run = f"run-{name}"
    for kind in ("intent", "outcome", "seal"):
        ledger = store.ledger()
        head = ledger.head
        holder = next((d.run_id for d in ledger.decisions if head in d.entries), "root")
        facts = {"kind": "promotion"} if kind == "intent" else {"result": name, "from": None, "to": None}
        entry = Entry.after(head, ledger="M", decision=name, now=START.isoformat(), facts=FACTS[kind].read(facts))
        yield None
        store.write(run, entry)
        yield None
        if not store.link(holder, link_name(head.digest) if head else first_name("M"), Link(entry.digest, run)):
            yield False
            return
    yield True


@settings(max_examples=300)
@given(st.integers(0, 3), st.lists(st.integers(0, 4), max_size=60), st.booleans())
def test_no_schedule_of_writers_forks_a_ledger(before: int, turns: list[int], twice: bool) -> None:
    """Each turn one of five goes a step further, or never again; all that is written may arrive once more at the end."""
    store = Store()
    for run, texts in story([1, 2, 3][:before]):  # as an earlier release left it
        store.texts[run], store.params[run] = dict(texts), {}
    writers = {number: writer(store, f"w{number}") for number in range(5)}
    done: dict[int, bool] = {}
    for number in (n for n in turns if n not in done):
        if (acknowledged := next(writers[number])) is not None:
            done[number] = acknowledged
    if twice:
        for name, text in [item for texts in store.texts.values() for item in texts.items() if item[0].startswith("intent.")]:
            store.texts[f"{name}-again"], store.params[f"{name}-again"] = {name: text}, {}
    ledger = store.ledger()
    assert ledger.faults == ()
    finished = [d.result for d in ledger.decisions if d.seal and d.id.startswith("w")]
    assert sorted(finished) == sorted(f"w{number}" for number, acknowledged in done.items() if acknowledged)
    assert len({d.id for d in ledger.decisions}) == len(ledger.decisions)


def test_what_would_be_cut_is_refused() -> None:
    with pytest.raises(LedgerError, match=f"at most {LONGEST_ENTRY} can be stored"):
        Entry.after(None, ledger="M", decision="d", now="2026-11-23T00:00:00.000+00:00", facts=IntentFacts(reason="y" * 5000))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=4,
)
known_keys = sorted({field.alias or name for facts in FACTS.values() for name, field in facts.model_fields.items()})


@settings(max_examples=300)
@given(st.sampled_from(KINDS), st.dictionaries(st.sampled_from(known_keys) | st.text(max_size=9), json_values, max_size=8))
def test_what_any_release_wrote_is_read_to_the_letter(kind: str, stored: dict[str, Any]) -> None:
    """Unknown keys, absent keys, digits, and values of another type, which are faults and stop nobody."""
    text = Entry.after(None, ledger="M", decision="d", now=START.isoformat(), facts=FACTS[kind].read(stored)).to_json()
    assert f'"facts":{json.dumps(stored, sort_keys=True, separators=(",", ":"), ensure_ascii=False)},' in text
    entry = Entry.read(text)
    assert (entry.intact, entry.to_json()) == (True, text)
    assert set(entry.facts.unusable) <= set(stored)
    ledger = Ledger.read("M", [StoredRun("run", {kind: text})])
    assert any("of another type" in fault.message for fault in ledger.faults) == bool(entry.facts.unusable)
    for decision in ledger.decisions:
        assert all(name in decision for name in dict(decision))  # every property can be read
        assert decision.message
        assert decision._repr_html_()


@pytest.mark.parametrize("facts", list(FACTS.values()))
def test_every_key_of_an_entry_says_what_it_is(facts: type[Facts]) -> None:
    assert [name for name, field in facts.model_fields.items() if not field.description] == []


def test_time_never_runs_backwards_in_a_chain() -> None:
    first = Entry.after(None, ledger="M", decision="d", now="2026-11-23T00:00:05.000+00:00", facts=IntentFacts())
    second = Entry.after(first, ledger="M", decision="d", now="2026-11-23T00:00:01.000+00:00", facts=OutcomeFacts())
    assert second.time == first.time


def _meaning(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        return text


@pytest.mark.parametrize(
    ("facts", "mark"),
    [
        ({"skill": False}, NO_SKILL),
        ({"skill": True}, ""),
        ({"skill": False, "rests_on": "override", "verdict": "keep"}, f"{AGAINST}, {NO_SKILL}"),
        ({"rests_on": "not compared"}, NOT_COMPARED),
        ({"gates": [{"id": "skill", "result": "warn"}]}, NO_SKILL),  # as earlier releases wrote it
        ({"gates": [{"id": "skill", "result": "pass"}]}, ""),
        (
            {"gates": [{"id": "mine", "result": "warn"}], "reason": "It passes. Beside that: there is no evidence of skill."},
            NO_SKILL,
        ),
        ({}, ""),
        ({"result": "refused", "skill": False}, ""),
    ],
)
def test_a_promotion_without_skill_is_marked_also_in_outcomes_that_do_not_say_so(facts: dict[str, Any], mark: str) -> None:
    (run,) = story([1])
    intent = Entry.read(run[1]["intent"])
    told = {"result": "promoted", "from": None, "to": 1, "moved": intent.time, "rests_on": "compared", **facts}
    outcome = Entry.after(intent, ledger="M", decision=intent.decision, now=intent.time, facts=OutcomeFacts.read(told))
    ledger = Ledger.read("M", [StoredRun("run", {"intent": intent.to_json(), "outcome": outcome.to_json()})])
    (decision,), (period,) = ledger.decisions, ledger.production_periods()
    assert (decision.mark, period.mark) == (mark, mark)
    assert decision.came_to == ", ".join(filter(None, [told["result"], mark]))
    assert mark.rpartition(", ")[2] in decision.message
    assert mark in period.standing


def decided(*outcomes: dict[str, Any] | None, kind: str = "promotion") -> Ledger:
    """Return a ledger of decisions with these outcomes, one a day; None: it was abandoned."""
    head: Entry | None = None
    runs = []
    for number, told in enumerate(outcomes):
        now = (START + timedelta(days=number)).isoformat(timespec="milliseconds")
        texts = {}
        for facts in (IntentFacts(kind=kind), *([OutcomeFacts.read(told)] if told is not None else [])):
            head = Entry.after(head, ledger="M", decision=f"d{number}", now=now, facts=facts)
            texts[facts.entry] = head.to_json()
        runs.append((f"run{number}", texts))
    ledger = Ledger.read("M", as_kept(runs))
    assert ledger.faults == ()
    return ledger


def contest(frame: str, recipe: str = "", day: str = "2026-11-20", **facts: Any) -> dict[str, Any]:
    window = {"first_day": "2020-01-02", "last_day": day, "days": 900}
    known = {"recipe": recipe, "change": "contest"} if recipe else {}
    told = {"result": "refused", "rests_on": "compared", "frame_sha256": frame, "policy_sha256": "p", "window": window}
    return {**told, "from": 1, "to": 1, **known, **facts}


def test_attempts_are_recipes_and_neither_refreshes_nor_first_champions() -> None:
    ledger = decided(
        contest("f0", change="first", attempt=0),
        contest("f1", "A", attempt=1),
        contest("f2", "A", attempt=1, attempt_frame="f1", day="2026-12-20"),
        contest("f3", "A", attempt=2, day="2027-03-20"),
        contest("f4", "B", change="refresh", attempt=0),
        None,
        {"result": "failed", "from": 1, "to": 1},
        contest("f5", "B", attempt=4),
        contest("f6", "B", result="unchanged"),
        contest("f7", "B", rests_on="not compared"),
    )
    assert [(a.key, a.policy, a.number, a.day, a.frame) for a in ledger.attempts] == [
        ("A", "p", 1, "2026-11-20", "f1"),
        ("A", "p", 2, "2027-03-20", "f3"),
        ("d5", "", 3, "", ""),
        ("B", "p", 4, "2026-11-20", "f5"),
    ]
    assert ledger.attempts[2].time == ledger.decisions[5].intent.time
    assert ledger.attempts_before(ledger.decisions[3]) == ledger.attempts[:1]
    assert ledger.tried("p") == {}


def test_attempts_of_an_earlier_release_count_as_they_were_made() -> None:
    """By frame and policy, first champions too; an abandoned one by itself."""
    ledger = decided(
        contest("f0", attempt=1, to=None, **{"from": None}),
        contest("f1", attempt=2),
        contest("f1", attempt=2),
        contest("f2", attempt=2, attempt_frame="f1"),
        contest("f1", attempt=3, policy_sha256="q"),
        None,
        contest("f3", attempt=5),
    )
    found = [(a.key, a.policy, a.number) for a in ledger.attempts]
    assert found == [("f0", "p", 1), ("f1", "p", 2), ("f1", "q", 3), ("d5", "", 4), ("f3", "p", 5)]
    assert {frame: d.id for frame, d in ledger.tried("p").items()} == {"f0": "d0", "f1": "d1", "f3": "d6"}


def test_a_recipe_was_registered_when_its_first_version_was() -> None:
    told = [{"result": "registered", "version": n, "recipe": recipe} for n, recipe in enumerate(("A", "B", "A"), 1)]
    ledger = decided(*told, {"result": "registered", "version": 4}, kind="registration")
    assert ledger.recipes == {"A": ledger.decisions[0].time, "B": ledger.decisions[1].time}


@given(st.lists(st.tuples(st.sampled_from("ABC"), st.integers(1, 80)), max_size=30), st.booleans())
def test_numbers_of_attempts_are_counted_up_and_given_again_only_within_63_new_days(
    made: list[tuple[str, int]], by_recipe: bool
) -> None:
    days, end, attempts = pd.bdate_range("2010-01-04", periods=3_000), 500, list[Attempt]()
    for key, new in made:
        end += new
        number = attempt_number(attempts, key=key, policy="p", days=days[:end], by_recipe=by_recipe)
        last = next((a for a in reversed(attempts) if a.key == key), None)
        if last and (not by_recipe or end - 1 - days.get_loc(last.day) < NEW_DAYS):
            assert number == last.number
            continue
        assert number == len(attempts) + 1
        day = f"{days[end - 1]:%Y-%m-%d}"
        attempts.append(Attempt(key=key, policy="p", number=number, day=day, time=f"{day}T20:00:00.000+00:00"))
        assert attempt_number(attempts, key=key, policy="another", days=days[:end], by_recipe=by_recipe) == number + 1
    later = attempt_number(attempts, key="D", policy="p", days=days[:end], yearly_from="2012-06-01")
    assert later == 1 + sum(attempt.day >= "2012-06-01" for attempt in attempts)
