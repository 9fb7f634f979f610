"""Kernels that start fast: forked from a process that has imported everything, each still a process of its own.

A batch of notebooks spends most of its time on importing the same libraries.
Here the standard library's forkserver imports them once, and a Jupyter kernel
provisioner lets it fork a kernel for each notebook. A kernel ends with the
process that asked for it, however that ends.
"""

from fxhelpers.kernels._forked import start_preloading

__all__ = ["start_preloading"]
