"""Messages about what runs ended with: a real receiver, real Apprise, and no secret in any file."""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import nbformat
import pytest
from conftest import PAPERMILL, Project

from fxhelpers import load_params
from fxhelpers.cli._server import free_port
from fxhelpers.errors import ParamsError, RunRefusedError
from fxhelpers.notify import Event, _messages, send
from fxhelpers.runs import run_notebook

FX = [str(Path(sys.executable).with_name("fx")), "run"]
SECRET, PASSWORD = "hook-of-the-desk-7d2f", "pa55-w0rd!x"
PROBE = (
    (
        "import os\nfrom fxhelpers import load_params, summary\n"
        "print(os.environ['FX_NOTIFY_URL'], load_params(), [address.url for address in load_params().addresses])"
    ),
    (
        "if result == 'raise': raise ValueError(os.environ['FX_NOTIFY_URL'])\n"
        "summary('probe', symbol=symbol, result=result, decided=f'What came of {symbol} {os.environ[\"FX_NOTIFY_URL\"]}.')"
    ),
)


class Receiver:
    """A web hook on this machine, which keeps what it gets."""

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []
        self.seconds = 0.0  # until it answers
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                content = self.rfile.read(int(self.headers["Content-Length"]))
                time.sleep(outer.seconds)
                outer.messages.append(json.loads(content))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"json://ann:{PASSWORD}@127.0.0.1:{self.server.server_port}/{SECRET}"


@pytest.fixture
def receiver(project: Project, monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    """One that the project's settings name by a variable, for all events but refused."""
    one = Receiver()
    monkeypatch.setenv("FX_NOTIFY_URL", one.url)
    project.write(notify={"to": ["env:FX_NOTIFY_URL"]})
    yield one
    one.server.shutdown()
    one.server.server_close()


def probe(project: Project) -> Path:
    parameters = 'symbol: str = "AAPL"  # ticker\nresult: str = "promoted"\napply: bool = True'
    return project.probe(*PROBE, parameters=parameters)


def files_with_a_secret(folder: Path) -> list[Path]:
    words = [word.encode() for word in (SECRET, PASSWORD)]
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert any(path.suffix == ".ipynb" for path in files)
    return [path for path in files if any(word in path.read_bytes() for word in words)]


@pytest.mark.usefixtures("thorough")
def test_a_promotion_and_a_refusal_are_messages(project: Project, receiver: Receiver, registered: Callable[..., int]) -> None:
    project.write(notify={"events": ["promoted", "refused"]})
    promote = project.folder / "notebooks" / "promote.ipynb"
    registered("regularised")
    assert (run_notebook(promote, {"symbol": "AAPL", "apply": True}).summary or {})["result"] == "promoted"
    registered("original")
    refused = run_notebook(promote, {"symbol": "AAPL", "apply": True})
    assert [message["title"] for message in receiver.messages] == ["AAPL promoted", "AAPL refused"]
    first, second = (message["message"] for message in receiver.messages)
    assert "AAPL promoted: no evidence of skill: " in first
    assert f"(AAPL/{refused.record.name})" in second
    assert [message["type"] for message in receiver.messages] == ["success", "info"]
    assert files_with_a_secret(project.folder) == []


@pytest.mark.usefixtures("thorough")
def test_papermill_alone_sends_what_a_summary_says_and_writes_no_secret(project: Project, receiver: Receiver) -> None:
    command = [*PAPERMILL, str(probe(project)), "-", "-p", "result"]
    done = subprocess.run([*command, "alarm"], check=True, capture_output=True, stdin=subprocess.DEVNULL)
    failed = subprocess.run([*command, "raise"], check=False, capture_output=True, stdin=subprocess.DEVNULL)
    assert failed.returncode == 1
    told = [(message["title"], message["type"]) for message in receiver.messages]
    assert told == [("AAPL alarm", "failure"), ("AAPL failed", "failure")]
    assert "AAPL alarm: What came of AAPL [hidden]." in receiver.messages[0]["message"]
    assert "AAPL failed: ValueError: [hidden]" in receiver.messages[1]["message"]
    assert files_with_a_secret(project.folder) == []
    for said in (done.stdout, done.stderr, failed.stdout, failed.stderr, json.dumps(receiver.messages).encode()):
        assert SECRET.encode() not in said
        assert PASSWORD.encode() not in said


def test_a_look_is_no_message_whatever_it_ends_with(project: Project, receiver: Receiver) -> None:
    result = run_notebook(probe(project), {"result": "raise", "apply": False})
    assert result.status == "failed"
    assert receiver.messages == []


@pytest.mark.usefixtures("thorough")
def test_a_batch_is_one_message(project: Project, receiver: Receiver) -> None:
    path = probe(project)
    nb = nbformat.read(path, as_version=4)
    nb.cells[1].source += "\nresult = {'AAPL': 'promoted', 'IBM': 'raise', 'MSFT': 'refused'}[symbol]"
    nbformat.write(nb, path)
    (project.folder / "portfolio.ipynb").symlink_to(project.folder / "notebooks" / "portfolio.ipynb")
    done = subprocess.run([*FX, str(path), "--symbols", "AAPL,IBM,MSFT"], check=False, capture_output=True, text=True)
    assert done.returncode == 1
    (message,) = receiver.messages
    assert message["title"] == "probe of 3 symbols: 1 promoted, 1 failed"
    lines = message["message"].splitlines()
    assert [line.partition(":")[0] for line in lines[:-1]] == ["AAPL promoted", "IBM failed", "others", "record"]
    assert lines[2] == "others: 1 refused"
    assert (project.folder / "outputs" / "records" / lines[3].removeprefix("record: ")).is_file()
    assert files_with_a_secret(project.folder) == []
    assert SECRET not in done.stdout + done.stderr


@pytest.mark.usefixtures("thorough")
@pytest.mark.parametrize("batch", [False, True])
def test_a_dead_receiver_is_a_warning_and_nothing_else(project: Project, monkeypatch: pytest.MonkeyPatch, *, batch: bool) -> None:
    monkeypatch.setenv("FX_NOTIFY_URL", f"json://ann:{PASSWORD}@127.0.0.1:{free_port()}/{SECRET}")
    project.write(notify={"to": ["env:FX_NOTIFY_URL", "env:FX_NOT_SET"]})
    (project.folder / "portfolio.ipynb").symlink_to(project.folder / "notebooks" / "portfolio.ipynb")
    words = ["--symbols", "AAPL"] if batch else []
    done = subprocess.run([*FX, str(probe(project)), *words], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (record,) = project.records()
    assert nbformat.read(record, as_version=4).metadata["fxhelpers"]["record"]["status"] == "completed"
    assert "notify.to.0 (FX_NOTIFY_URL in the environment or in .env), json://127.0.0.1 did not take it" in done.stderr
    assert "no message was sent to notify.to.1 (FX_NOT_SET in the environment or in .env): it is not set" in done.stderr
    assert "Traceback" not in done.stderr
    assert SECRET not in done.stdout + done.stderr
    assert PASSWORD not in done.stdout + done.stderr
    assert files_with_a_secret(project.folder) == []


def test_a_slow_receiver_holds_nothing_up_and_others_have_the_message(
    project: Project, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = Receiver()
    slow.seconds = 60
    monkeypatch.setattr(_messages, "SECONDS", 6.0)
    project.write(notify={"to": [f"{slow.url}?rto=50", "env:FX_NOTIFY_URL"]})
    begun = time.monotonic()
    (warning,) = send([Event(kind="stale", symbol="IBM", sentence="Prices end on 2013-03-01.")], load_params())
    assert time.monotonic() - begun < 9
    assert warning.startswith("notify: a message was not delivered: notify.to.0, json://127.0.0.1 did not answer within 6 s")
    assert [message["title"] for message in receiver.messages] == ["IBM stale"]
    assert receiver.messages[0]["type"] == "warning"


def test_events_that_are_not_chosen_and_none_at_all_send_nothing(project: Project, receiver: Receiver) -> None:
    refused = Event(kind="refused", symbol="AAPL", sentence="It was not better.")
    assert send([refused], load_params()) == []
    assert send([], load_params(), others={"refused": 3}) == []
    assert receiver.messages == []
    many = [Event(kind="failed", symbol=f"S{number}", sentence="x" * 900) for number in range(500)]
    assert send([*many, refused], load_params(), about="train of 501 symbols") == []
    (message,) = receiver.messages
    assert message["title"] == "train of 501 symbols: 500 failed"
    assert "… and 400 more, in the record\nothers: 1 refused\n" in message["message"]


def test_without_apprise_a_warning_says_how_to_install_it(
    project: Project, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "apprise", None)  # as where it is not installed
    assert send([Event(kind="alarm", symbol="IBM", sentence="Worse than zero.")], load_params()) == [
        "notify: no message was sent: Apprise is not installed; pip install 'fxhelpers[notify]'"
    ]
    assert receiver.messages == []


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"events": ["promotd"]}, "notify.events.0: Input should be 'promoted', .* found 'promotd'"),
        ({"to": [f"jsn://127.0.0.1/{SECRET}"]}, r"notify.to.0: Apprise knows no such address, jsn://…;"),
        ({"to": [f"tgram://{SECRET}"]}, r"notify.to.0: Apprise knows no such address, tgram://…;"),
        ({"to": ["env:WRONG"]}, r"notify.to.0 \(WRONG in the environment or in .env\): Apprise knows no such address, a text"),
        ({"to": [f"env:{SECRET}"]}, "notify.to.0: write a variable of the environment as env:NAME"),
        ({"to": f"json://127.0.0.1/{SECRET}"}, "notify.to: Input should be a valid tuple"),
        ([f"json://127.0.0.1/{SECRET}"], "notify: addresses belong below to: "),
        ({"to": [f"json://127.0.0.1/{SECRET} x"]}, "notify.to.0: an address has no white space in it"),
    ],
)
def test_what_apprise_or_we_do_not_know_is_refused_without_the_secret(
    project: Project, monkeypatch: pytest.MonkeyPatch, settings: Any, message: str
) -> None:
    monkeypatch.setenv("WRONG", SECRET)
    project.settings["notify"] = settings
    with pytest.raises(ParamsError, match=message) as caught:
        load_params(project.write())
    assert SECRET not in str(caught.value)
    assert str(project.folder / "params.yaml") in str(caught.value)


def test_an_address_is_no_parameter_and_yaml_that_cannot_be_read_does_not_show_it(project: Project, receiver: Receiver) -> None:
    with pytest.raises(RunRefusedError, match="parameter result looks like a secret") as refused:
        run_notebook(probe(project), {"result": f"see /{SECRET}"})
    (project.folder / "params.yaml").write_text(f"notify: {{to: [{receiver.url}")
    with pytest.raises(ParamsError, match="cannot be read as YAML") as broken:
        load_params()
    assert SECRET not in str(refused.value) + str(broken.value)
    assert project.records() == []


def test_what_apprise_masks_in_an_address_is_hidden(project: Project) -> None:
    written = [
        "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ/#desk",
        "mailto://ann:pa%2055word@mail.example?to=bo@mail.example",
    ]
    project.write(notify={"to": written})
    params = load_params()
    assert params.without_secrets("TIiajkdnlazkcOXrIdevi7FQ #desk pa 55word pa%2055word mail.example") == (
        "[hidden] #desk [hidden] [hidden] mail.example"
    )
    assert "TIiajkdnlazkcOXrIdevi7FQ" not in f"{params!r} {params.model_dump()} {params.addresses!r}"
    assert [address.name for address in params.addresses] == ["notify.to.0, slack://…", "notify.to.1, mailto://mail.example"]
