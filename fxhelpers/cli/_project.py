"""``fx init``, ``fx ui`` and ``fx server``: the folder of a project, its notebooks, and MLflow's own pages and server."""

import difflib
import json
import os
import shlex
import sys
from pathlib import Path
from typing import Any

import click

from fxhelpers.errors import ParamsError
from fxhelpers.system import UNREADABLE, create_exclusive, sha256, write_atomic

_FILES = ("params.yaml", ".env.example", ".gitignore")
_STATE = ".fxhelpers.json"
"""File of a project: for each notebook, the digest of the cells that ``fx init`` wrote last, as it or next to it."""

_NEW = "kept+new"


@click.command()
@click.argument("folder", required=False, type=click.Path(file_okay=False, path_type=Path))
@click.option("--upgrade", is_flag=True, help="Update the notebooks of an existing project (default: the current folder).")
def init(folder: Path | None, *, upgrade: bool) -> None:
    """Make FOLDER a project, with notebooks and settings.

    Creates notebooks/, params.yaml, .env.example and .gitignore. Existing files are kept.

    After a new release of fxhelpers, --upgrade shows how its notebooks differ from those of the project. A notebook whose
    cells you did not change is replaced. One that you changed is kept, and the new one is written next to it as
    NAME.ipynb.new: take over what you need and delete it. Outputs do not count as changes. params.yaml is never changed,
    missing files are created.
    """
    if folder is None and not upgrade:
        msg = "name the FOLDER of the new project; . is the current one"
        raise click.UsageError(msg)
    folder, source = folder or Path(), template_folder()
    if folder.is_dir() and folder.samefile(source):
        msg = f"{source} is the repository of fxhelpers, where the notebooks of new projects come from: name another folder"
        raise ParamsError(msg)
    if upgrade and not (folder / "params.yaml").is_file():
        msg = f"no params.yaml in {folder.resolve()}, so this is no project to upgrade: fx init {folder} makes one"
        raise ParamsError(msg)
    state = _read_state(folder / _STATE)
    done = {n: "created" if create_exclusive(folder / n, (source / n).read_bytes()) else "kept" for n in _FILES}
    done |= {
        f"notebooks/{new.name}": _lay(folder, new, state, upgrade=upgrade) for new in sorted(source.glob("notebooks/*.ipynb"))
    }
    write_atomic(folder / _STATE, f"{json.dumps({'notebooks': state}, indent=2)}\n".encode())
    click.echo("\n".join(f"{result:>9}  {name}" for name, result in done.items()))
    if not upgrade:
        click.echo(
            f"Next: cd {shlex.quote(str(folder))}, then fx demo or fx run train -p symbol AAPL. Settings are in params.yaml."
        )
    if _NEW in done.values():
        click.echo(f"{_NEW}: you changed this notebook; the new one is next to it, as NAME.ipynb.new.")


@click.command()
@click.option("--port", type=click.IntRange(1, 65535), default=5000, show_default=True, help="Port on this machine.")
def ui(port: int) -> None:
    """Open MLflow's own pages on the registry."""
    from fxhelpers.params import load_params

    params = load_params()
    if params.is_server:
        click.echo(f"The registry is a server: open {params.mlflow.tracking_uri}")
        return
    from fxhelpers.registry import RegistryClient

    _ = RegistryClient(params).experiment_id  # makes the database, so that the first page is not an error
    click.echo(f"MLflow on http://127.0.0.1:{port}, over {params.mlflow.tracking_uri} (Ctrl-C stops it)", err=True)
    os.environ["MLFLOW_BACKEND_STORE_URI"] = params.registry_uri  # as an argument, ps would show its password
    command = [sys.executable, "-m", "mlflow", "ui", "--host", "127.0.0.1", "--port", str(port)]
    os.execv(sys.executable, command)  # noqa: S606 (no shell, our own interpreter)


@click.command()
@click.option(
    "--port", type=click.IntRange(0, 65535), default=5000, show_default=True, help="Port on 127.0.0.1; 0: any free one."
)
@click.option("--folder", type=click.Path(path_type=Path), help="Folder for database, files and log.  [default: outputs/server]")
@click.option(
    "--database", default="", envvar="FX_SERVER_DATABASE", help="URI of a PostgreSQL.  [default: one from a wheel, in the folder]"
)
@click.option("--artifacts", default="", help="Where files go, e.g. s3://bucket/path.  [default: the folder]")
def server(port: int, folder: Path | None, database: str, artifacts: str) -> None:
    """Run a registry for a team: MLflow's server over PostgreSQL.

    It listens on 127.0.0.1 and runs until Ctrl-C.
    """
    from fxhelpers.cli._server import serve
    from fxhelpers.params import load_params

    serve(folder or load_params().folder / "outputs" / "server", port=port, database=database, artifacts=artifacts)


def find_notebook(name: str) -> Path:
    """Return the path of a notebook: a path, or the name of one in the project's ``notebooks/``."""
    from fxhelpers.params import load_params, nearest

    if name.endswith(".ipynb") and Path(name).is_file():
        return Path(name)
    projects = [load_params().folder, Path.cwd(), *Path.cwd().parents]
    folder = next((p / "notebooks" for p in projects if (p / "notebooks").is_dir()), projects[0] / "notebooks")
    known = sorted(path.stem for path in folder.glob("*.ipynb"))
    if name in known:
        return folder / f"{name}.ipynb"
    if not known:
        msg = f"no notebook {name!r}: {folder} has no notebooks; fx init {folder.parent} adds those of fxhelpers"
        raise ParamsError(msg)
    msg = f"no notebook {name!r}{nearest(name, known)} in {folder}; it has {', '.join(known)}"
    raise ParamsError(msg)


def template_folder() -> Path:
    """Return the folder with the files of a new project: part of a wheel, or the repository of an editable install."""
    package = Path(__file__).resolve().parents[1]
    inside = package / "project"
    return inside if inside.is_dir() else package.parent


def _lay(folder: Path, new: Path, state: dict[str, str], *, upgrade: bool) -> str:
    """Create a notebook unless there is one; with ``upgrade`` replace one that nobody edited. Return what was done."""
    path, content = folder / "notebooks" / new.name, new.read_bytes()
    fresh, known = _digest(content), state.get(new.name)
    if create_exclusive(path, content):
        state[new.name] = fresh
        return "created"
    there = path.read_bytes()
    if _digest(there) == fresh:
        state[new.name] = fresh
        return "unchanged"
    if not upgrade or known == fresh:
        return "kept"
    state[new.name] = fresh
    names = (f"notebooks/{new.name}", f"notebooks/{new.name} (new)")
    click.echo("\n".join(difflib.unified_diff(_text(there), _text(content), *names, lineterm="")))
    if _digest(there) == known:
        write_atomic(path, content)
        return "updated"
    write_atomic(path.with_name(f"{path.name}.new"), content)
    return _NEW


def _text(content: bytes) -> list[str]:
    """Return what counts of a notebook, as lines: its cells with their tags, and what makes it one of ours; no outputs."""
    try:
        nb = json.loads(content)
        lines = [f"# {json.dumps(nb['metadata'].get('fxhelpers'), sort_keys=True)}"]
        for cell in nb["cells"]:
            tags = " ".join(cell["metadata"].get("tags", []))
            lines += ["", f"# %% [{cell['cell_type']}] {tags}".rstrip(), *"".join(cell["source"]).splitlines()]
    except UNREADABLE:
        return content.decode(errors="replace").splitlines()
    return lines


def _digest(content: bytes) -> str:
    return sha256("\n".join(_text(content)).encode())


def _read_state(file: Path) -> dict[str, str]:
    """Return the digests of a project's notebooks as they were written; none for a project that ``fx init`` did not make."""
    if not file.exists():
        return {}
    try:
        state: dict[str, Any] = json.loads(file.read_bytes())["notebooks"]
        return {str(name): str(digest) for name, digest in state.items()}
    except UNREADABLE as error:
        msg = f"{file}: not what fx init wrote; delete it, and every notebook that differs counts as edited"
        raise ParamsError(msg) from error
