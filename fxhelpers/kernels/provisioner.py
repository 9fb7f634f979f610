"""The provisioner: jupyter_client asks it for a kernel, it asks the forkserver."""

import asyncio
import os
import pickle
import sys
from multiprocessing import forkserver
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

from jupyter_client.connect import KernelConnectionInfo
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from jupyter_client.provisioning.local_provisioner import LocalProvisioner

from fxhelpers.errors import RunRefusedError
from fxhelpers.kernels._forked import SERVER, ForkedKernel, start_preloading

PROVISIONER = "fxhelpers-preloaded"
"""Name under which Jupyter finds it."""


class _Process:
    """A forked kernel with the methods of :class:`subprocess.Popen` that jupyter_client uses."""

    stdin = stdout = stderr = None

    def __init__(self, kernel: ForkedKernel) -> None:
        # Not multiprocessing.Process: that one would import the runner's __main__ again in every kernel, and is refused
        # in the daemonic processes that Dask's workers are.
        # So its forkserver is spoken to as it does itself; nothing documented starts a process there without that.
        start_preloading()
        self._answers, self._lifeline = SERVER.connect_to_new_process([])
        self.returncode: int | None = None
        try:
            with os.fdopen(os.dup(self._lifeline), "wb") as pipe:
                pipe.write(pickle.dumps({}) + pickle.dumps(kernel))
            self.pid = forkserver.read_signed(self._answers)
        except BaseException:
            self._close(1)
            raise

    def poll(self) -> int | None:
        """Return the exit status; None while it runs."""
        if self.returncode is None and wait([self._answers], 0):
            self.wait()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int | None:
        """Wait for the end, and return the exit status."""
        if self.returncode is None and wait([self._answers], timeout):
            try:
                self._close(forkserver.read_signed(self._answers))
            except (EOFError, OSError):  # the forkserver is gone, and its kernels with it
                self._close(255)
        return self.returncode

    def send_signal(self, signum: int) -> None:
        """Send a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, signum)

    def kill(self) -> None:
        """Kill it."""
        self.send_signal(9)

    def terminate(self) -> None:
        """Ask it to end."""
        self.send_signal(15)

    def _close(self, returncode: int) -> None:
        self.returncode = returncode
        os.close(self._answers)
        os.close(self._lifeline)


class PreloadedProvisioner(LocalProvisioner):
    """Forks kernels from a process that has imported everything."""

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> KernelConnectionInfo:  # noqa: ANN401 (jupyter_client's signature)
        """Fork a kernel; the command has to be that of an IPython kernel of this Python."""
        process = _Process(_kernel(cmd, kwargs["env"], kwargs.get("cwd")))
        self.process = process  # type: ignore[assignment]  # which does what is asked of a Popen
        self.pid = self.pgid = process.pid  # it leads a session of its own, as others do
        return self.connection_info

    async def wait(self) -> int | None:
        """Wait for the end without looking ten times a second: a batch would lose those moments."""
        if self.process:
            code: int | None = await asyncio.to_thread(self.process.wait)
            self.process = None
            return code
        return 0


class PreloadedKernelManager(AsyncKernelManager):
    """Starts preloaded kernels, whatever the kernel's specification says about provisioners."""

    @property
    def kernel_spec(self) -> KernelSpec | None:
        """The specification, with our provisioner."""
        spec = super().kernel_spec
        if spec is not None:
            spec.metadata = {**spec.metadata, "kernel_provisioner": {"provisioner_name": PROVISIONER, "config": {}}}
        return spec


def _kernel(cmd: list[str], env: dict[str, str], cwd: str | None) -> ForkedKernel:
    ours = os.path.realpath(cmd[0]) == os.path.realpath(sys.executable) and "ipykernel_launcher" in cmd
    if not ours:
        msg = (
            f"the kernel {' '.join(cmd[:3])!r} is not IPython on {sys.executable}, so it cannot be preloaded; "
            "run with --no-preload, or mend the kernel's specification (jupyter kernelspec list)"
        )
        raise RunRefusedError(msg)
    return ForkedKernel(argv=cmd[cmd.index("ipykernel_launcher") :], env=dict(env), cwd=str(cwd or Path.cwd()))
