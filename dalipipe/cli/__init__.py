"""The command line: `dalipipe COMMAND`. The only part of dalipipe that prints or exits.

A command is a module of this package with a function `register(app)`. At the top it imports typer and light modules
only; what it needs of torch, torchvision or DALI it imports when it runs, so that `--help` is quick.
"""

import logging
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from dalipipe import __version__
from dalipipe.cli import bench, check, evaluate, export, index, parity, predict, preview, recipes, streams, train
from dalipipe.cli.console import compiling_said, complain, printable, warn
from dalipipe.cli.statuses import FAILED, INTERRUPTED, SIGNALLED, USAGE_ERROR
from dalipipe.errors import DalipipeError, DecodeError, DivergedError, PeerError, ResourceError, StoppedError
from dalipipe.training.launch import Launch

COMMANDS = (train, evaluate, predict, export, bench, recipes, preview, parity, check, index)

_OWN = (DecodeError, PeerError, ResourceError)  # what one process may meet alone

# What a command line that can't be read raises, UsageError. Where typer keeps it differs between its versions.
_CommandLineError: type[Any] = typer.BadParameter.__mro__[1]


class _Group(TyperGroup):
    """Ends the process as every command should: mistakes in one line, without a traceback."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        ended = "interrupted"
        _show_warnings()
        try:
            with compiling_said() if _speaks() else nullcontext():
                status = super().main(args, prog_name, complete_var, False, windows_expand_args, **extra)
        except StoppedError as error:
            status, ended = SIGNALLED + error.signum, printable(error)
        except DalipipeError as error:
            # Of several processes, one on each machine speaks of what all of them meet.
            if _speaks() or isinstance(error, _OWN):
                complain(error)
            status = FAILED if isinstance(error, DivergedError | PeerError | ResourceError) else USAGE_ERROR
        except _CommandLineError as error:
            message = error.format_message()
            end = "" if message.endswith((".", "?")) else "."
            complain(f"{message}{end} Add --help to see what there is.")
            status = USAGE_ERROR
        except typer.Abort:
            status = INTERRUPTED
        except OSError as error:
            if not streams.is_of_output(error):
                raise
            status = streams.give_up(error)
        status = streams.flushed(status if isinstance(status, int) else 0)
        if status > SIGNALLED and _speaks():
            print(ended, file=sys.stderr)
        if not standalone_mode:
            return status
        sys.exit(status)


class _Lines(logging.Handler):
    """Shows what is logged as the command line shows warnings; of several processes on a machine, one does."""

    def emit(self, record: logging.LogRecord) -> None:
        if _speaks():
            warn(record.getMessage())


def _show_warnings() -> None:
    log = logging.getLogger("dalipipe")
    if not any(isinstance(handler, _Lines) for handler in log.handlers):
        log.addHandler(_Lines(logging.WARNING))


def _speaks() -> bool:
    try:
        return Launch.from_environment().speaks
    except DalipipeError:  # the environment is what is wrong
        return True


app = typer.Typer(
    cls=_Group,
    name="dalipipe",
    help="Train on folders of images, loaded and augmented by NVIDIA DALI or torchvision from one recipe.",
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"dalipipe {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _root(
    ctx: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    if ctx.invoked_subcommand is None:
        typer.echo(ctx.get_help())
    elif ctx.invoked_subcommand != "train":
        _let_one_work(ctx.invoked_subcommand)


def _let_one_work(command: str) -> None:
    """Let the first of several processes do a command's work: only training is shared."""
    launch = Launch.from_environment()
    if launch.size == 1:
        return
    if not launch.is_first:
        raise typer.Exit
    warn(f"{command}: one of {launch.size} processes does the work, the others end; only train shares it.")


for command in COMMANDS:
    command.register(app)


def main() -> None:
    """Run the command that the process was started with, and exit with its status."""
    streams.open_closed()
    app()
