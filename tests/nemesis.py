"""A nemesis: from a seed, it kills and stops clients, cuts and confuses their networks, and restarts MLflow and PostgreSQL."""

import signal
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import replace
from multiprocessing.process import BaseProcess
from pathlib import Path
from random import Random
from threading import Timer
from typing import Self

import faults
import hosts
import psutil
from hosts import EXPIRY, PAUSE, Orders
from proxies import Proxy, proxy_to
from servers import Server

CLIENTS = 4
CLOCKS = (0, 0, 0, 120, -120, 7200, -7200)
"""Seconds by which a client's clock is off."""

HELD, FATAL = 0.02, 0.01
"""Shares of the calls of a client that write: those held up until its lock is gone, and those at which it dies."""

WIRES = {"held": 3, "late": 2, "twice": 6, "drop": 3, "lose": 3}
"""What happens to requests on a bad network, by its share in a hundred."""


class Nemesis:
    """Four clients, and what befalls them.

    Used as a context: nothing of it is left afterwards. ``did`` tells what was
    done, second by second.
    """

    def __init__(self, seed: str, folder: Path, bundles: list[Path], server: Server | None) -> None:
        self._some, self._seed, self._server = Random(seed), seed, server  # noqa: S311 (the same every time)
        self._orders = Orders(name="", seed="", folder=folder, uri="", bundles=bundles, clock=0, held=HELD, fatal=FATAL)
        self._hosts: dict[int, BaseProcess] = {}
        self._stopped: set[int] = set()
        self._proxies: list[Proxy] = []
        self._started = 0
        self.did: list[str] = []

    def __enter__(self) -> Self:
        self._stack = ExitStack()
        if self._server:
            self._proxies = [self._stack.enter_context(proxy_to(self._server.uri)) for _ in range(CLIENTS)]
        for proxy in self._proxies:
            proxy.delay = PAUSE
        return self

    def __exit__(self, *_: object) -> None:
        for client in list(self._hosts):
            self._signal(client, signal.SIGKILL)
            self._hosts[client].join()
        self._stack.close()

    def rage(self, seconds: float) -> None:
        """Let clients decide for so long, and torment them; return once all are at rest and nothing is on its way any more."""
        faults.warm_up()
        self._begin = time.monotonic()
        for client in range(CLIENTS):
            self._start(client)
        restarts = [self._restart_postgresql, self._restart_mlflow] if self._server else []
        self._some.shuffle(restarts)
        for restart in restarts:
            self._torment(seconds / 3)
            restart()
        self._torment(seconds / 3 if restarts else seconds)
        self._calm()
        time.sleep(max(2 * EXPIRY, PAUSE))  # what is held up arrives, and nobody was seen for two times of a lock

    def _torment(self, seconds: float) -> None:
        torments = [self._kill, self._stop, self._stop]
        torments += [self._cut, self._confuse, self._confuse] if self._server else []
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self._some.choice(torments)()
            for client, host in list(self._hosts.items()):
                if host.exitcode:
                    self._note(f"{host.name} has died at a call")
                    self._start(client)
            time.sleep(self._some.uniform(1, 5))

    def _calm(self) -> None:
        """Heal all networks, let all go on, and wait until they are done."""
        self._orders.end.touch()
        for proxy in self._proxies:
            proxy.fault = _well
        for client in list(self._stopped):
            self._wake(client, self._hosts[client])
        for client, host in self._hosts.items():
            host.join(60)
            if host.exitcode is None:
                self._note(f"{host.name} did not come to an end")
                self._signal(client, signal.SIGKILL)
                host.join()

    def _start(self, client: int) -> None:
        self._started += 1
        self._stopped.discard(client)
        name, clock = f"c{client}x{self._started}", self._some.choice(CLOCKS)
        uri = self._proxies[client].uri if self._proxies else ""
        self._hosts[client] = hosts.start(replace(self._orders, name=name, seed=f"{self._seed} {name}", uri=uri, clock=clock))
        self._note(f"{name} begins, its clock is off by {clock} s")

    def _kill(self) -> None:
        client = self._some.randrange(CLIENTS)
        host = self._hosts[client]
        if host.exitcode is None:
            self._note(f"{host.name} is killed")
            self._signal(client, signal.SIGKILL)
            host.join()
        self._start(client)

    def _stop(self) -> None:
        client = self._some.randrange(CLIENTS)
        host = self._hosts[client]
        if host.exitcode is not None or client in self._stopped or len(self._stopped) > 1:
            return
        self._note(f"{host.name} is stopped")
        self._signal(client, signal.SIGSTOP)
        self._stopped.add(client)
        waking = Timer(PAUSE, self._wake, (client, host))
        waking.daemon = True
        waking.start()

    def _wake(self, client: int, host: BaseProcess) -> None:
        if self._hosts[client] is host and client in self._stopped:
            self._note(f"{host.name} goes on")
            self._signal(client, signal.SIGCONT)
            self._stopped.discard(client)

    def _signal(self, client: int, number: signal.Signals) -> None:
        with suppress(psutil.NoSuchProcess):  # it has ended by itself
            for process in psutil.Process(self._hosts[client].pid).children():
                process.send_signal(number)

    def _cut(self) -> None:
        client, seconds = self._some.randrange(CLIENTS), self._some.uniform(1, PAUSE)
        self._note(f"the network of client {client} is cut for {seconds:.0f} s")
        self._network(client, lambda _number, _method, _path: "drop", seconds)

    def _confuse(self) -> None:
        client, seconds, some = self._some.randrange(CLIENTS), self._some.uniform(5, 2 * PAUSE), Random(self._some.random())  # noqa: S311
        kinds, shares = [*WIRES, None], [*WIRES.values(), 100 - sum(WIRES.values())]
        self._note(f"the network of client {client} is bad for {seconds:.0f} s")
        self._network(client, lambda _number, _method, _path: some.choices(kinds, shares)[0], seconds)

    def _network(self, client: int, fault: Callable[[int, str, str], str | None], seconds: float) -> None:
        proxy = self._proxies[client]
        end = time.monotonic() + seconds
        proxy.fault = lambda *request: fault(*request) if time.monotonic() < end else None

    def _restart_mlflow(self) -> None:
        assert self._server
        self._note("MLflow is killed and started again")
        self._server.kill()
        self._server.start()
        self._note("MLflow is there again")

    def _restart_postgresql(self) -> None:
        assert self._server
        self._note("PostgreSQL is restarted, as after a crash")
        self._server.restart_postgresql()

    def _note(self, message: str) -> None:
        self.did.append(f"{time.monotonic() - self._begin:5.1f} {message}")


def _well(_number: int, _method: str, _path: str) -> None:
    """Let a request pass."""
