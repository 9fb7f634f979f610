"""``fx``: the commands."""

import os
from typing import Any

import click

from fxhelpers.cli._demo import demo
from fxhelpers.cli._prices import prices
from fxhelpers.cli._project import init, server, ui
from fxhelpers.cli._run import forecast, rollback, run, watch
from fxhelpers.cli._show import history, records, status, verify, versions
from fxhelpers.errors import FxError

__all__ = ["cli", "main"]


class _Group(click.Group):
    """Commands that report no usage to anybody. Expected errors are one line, and each option is given once."""

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        """Refuse an option that is given twice: click would silently take the last value."""
        name, command, rest = super().resolve_command(ctx, args)
        if command is not None and not ctx.resilient_parsing:
            own = click.Context(command, parent=ctx, info_name=name)
            for option in (given := command.make_parser(own).parse_args(list(rest))[2]):
                if isinstance(option, click.Option) and not (option.multiple or option.is_flag) and given.count(option) > 1:
                    own.fail(f"{option.opts[-1]} is given twice; give it once. Nothing was run.")
        return name, command, rest

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401 (click's signature)
        from fxhelpers.params import NO_TELEMETRY
        from fxhelpers.system import provide_home

        os.environ.update(NO_TELEMETRY)
        provide_home()
        try:
            return super().invoke(ctx)
        except FxError as error:
            raise click.ClickException(str(error)) from error
        except BrokenPipeError:
            raise
        except OSError as error:  # of the machine, such as a full disk or a folder without write permission
            where = f"{error.filename}: " if error.filename else ""
            msg = f"{where}{error.strerror or error}; files written before this error are kept"
            raise click.ClickException(msg) from error


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="fxhelpers")
def cli() -> None:
    """Register, compare and promote stock-return models.

    Every step is a notebook, and the executed notebook is the record of the decision.
    """


for _command in (demo, forecast, history, init, prices, records, rollback, run, server, status, ui, verify, versions, watch):
    cli.add_command(_command)


def main() -> None:
    """Run ``fx``."""
    cli()
