"""A Jupyter kernel provisioner that forks kernels from the forkserver."""

import os
import shutil
import sys
from contextlib import suppress
from multiprocessing import forkserver, reduction
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

from jupyter_client.connect import KernelConnectionInfo
from jupyter_client.kernelspec import KernelSpec, KernelSpecManager, NoSuchKernel
from jupyter_client.manager import AsyncKernelManager
from jupyter_client.provisioning.local_provisioner import LocalProvisioner

from fxhelpers.errors import RunRefusedError
from fxhelpers.kernels import SERVER, ForkedKernel, start_preloading

# what jupyter_client replaces by this Python, whatever is on the PATH
_THIS_PYTHON = ("python", f"python{sys.version_info.major}", f"python{sys.version_info.major}.{sys.version_info.minor}")


class _Process:
    """A forked kernel, with the part of :class:`subprocess.Popen` that jupyter_client uses."""

    stdin = stdout = stderr = None

    def __init__(self, kernel: ForkedKernel) -> None:
        # Not a Process of get_context("forkserver"): it imports the runner's __main__ again in every kernel, refuses to start
        # in daemonic processes such as Dask's workers, and shares one server with the program. So this uses the forkserver's
        # own protocol, which multiprocessing does not document.
        start_preloading()
        self._status, self._lifeline = SERVER.connect_to_new_process([])
        self.returncode: int | None = None
        try:
            with os.fdopen(os.dup(self._lifeline), "wb") as pipe:
                reduction.dump({}, pipe)  # preparation of a child, which a kernel does not need
                reduction.dump(kernel, pipe)
            self.pid = forkserver.read_signed(self._status)
        except BaseException:
            self._close(1)
            raise

    def poll(self) -> int | None:
        return self.wait(0)

    def wait(self, timeout: float | None = None) -> int | None:
        """Return the exit status; None after a timeout."""
        if self.returncode is None and wait([self._status], timeout):
            try:
                self._close(forkserver.read_signed(self._status))
            except (EOFError, OSError):  # the forkserver is gone, and its kernels with it
                self._close(255)
        return self.returncode

    def send_signal(self, signum: int) -> None:
        if self.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signum)

    def _close(self, returncode: int) -> None:
        self.returncode = returncode
        os.close(self._status)
        os.close(self._lifeline)


class PreloadedProvisioner(LocalProvisioner):
    """Forks kernels from a process that has imported the libraries."""

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> KernelConnectionInfo:  # noqa: ANN401 (jupyter_client's signature)
        """Fork a kernel; the command must be that of an IPython kernel of this Python."""
        process = _Process(_kernel(cmd, kwargs["env"], kwargs.get("cwd")))
        self.process = process  # type: ignore[assignment]  # which has the methods of a Popen
        self.pid = self.pgid = process.pid  # it leads a session of its own, as ordinary kernels do
        return self.connection_info


class PreloadedKernelManager(AsyncKernelManager):
    """Starts preloaded kernels, whatever provisioner the kernel specification names."""

    @property
    def kernel_spec(self) -> KernelSpec | None:
        """The specification, with our provisioner."""
        spec = super().kernel_spec
        if spec is not None:
            spec.metadata = {**spec.metadata, "kernel_provisioner": {"provisioner_name": "fxhelpers-preloaded", "config": {}}}
        return spec


def can_preload(kernel_name: str) -> bool:
    """Return whether a kernel specification is that of an IPython kernel of this Python."""
    try:
        first, *rest = KernelSpecManager().get_kernel_spec(kernel_name).argv
    except (NoSuchKernel, ValueError):
        return False
    return _is_ours([sys.executable if first in _THIS_PYTHON else first, *rest])


def _is_ours(cmd: list[str]) -> bool:
    return (
        bool(cmd)
        and os.path.realpath(shutil.which(cmd[0]) or cmd[0]) == os.path.realpath(sys.executable)
        and "ipykernel_launcher" in cmd
    )


def _kernel(cmd: list[str], env: dict[str, str], cwd: str | None) -> ForkedKernel:
    if not _is_ours(cmd):
        msg = (
            f"the kernel {' '.join(cmd[:3])!r} is not IPython on {sys.executable}, so it cannot be preloaded; "
            "run with --no-preload, or fix the kernel specification (jupyter kernelspec list)"
        )
        raise RunRefusedError(msg)
    return ForkedKernel(argv=cmd[cmd.index("ipykernel_launcher") :], env=dict(env), cwd=str(cwd or Path.cwd()))
