"""The program `wmkit`: finds the command, lets tyro read its options, and turns a user's mistake into one line.

The commands are known here by name and summary alone, so that `wmkit --help` imports neither tyro nor torch. A command
`name` is the module `wmkit.scripts.name` with a frozen dataclass `Name`, its options, and `run(config)`. The module's
docstring is the command's help. A module that lists `COMMANDS` of its own has subcommands: `wmkit name part` is the
module `wmkit.scripts.name_part` with a dataclass `PartName`.

Exit codes: 0 done; 1 a defect in wmkit, with a traceback; 2 a mistake that the user can mend; 130 interrupted; 141 the
reader of the output went away.
"""

import contextlib
import importlib
import os
import sys
from collections.abc import Sequence

from wmkit import __version__
from wmkit.errors import UserError
from wmkit.threads import limit_threads

__all__ = ["COMMANDS", "main"]

COMMANDS = {
    "quickstart": "the whole loop in minutes: collect, train, evaluate, write a report",
    "collect": "record episodes of an environment with an expert, a trained proposal or random actions",
    "train": "train a world model on recorded episodes",
    "adapt": "fine-tune a run's dynamics on data of a changed robot; all else stays as it is",
    "distil": "make students of a run's diffusion models that sample in a few steps",
    "eval": "plan with a trained model on held-out starts and goals, beside the floors",
    "calibrate": "calibrate a model's surprise monitor on nominal episodes",
    "surprise": "change something in mid-episode and see whether the surprise monitor notices",
    "demo": "a window in which a model plays and you interfere; also without a display, into a GIF",
    "inspect": "what a model's latents hold, and what it imagines: probes and pictures on one page",
    "bench": "measure rates on this machine",
    "data": "describe or check a folder of recorded episodes",
    "info": "versions, hardware, what is registered, and what a model folder holds",
}
"""Command -> summary, in the order of the help."""

_HELP = """usage: wmkit [--traceback] COMMAND [OPTIONS]

World models and model-predictive control for robotics.

commands:
{commands}

options:
  -h, --help    show this help; `wmkit COMMAND --help` shows a command's options
  --version     show the version
  --traceback   on an error, show where it happened

Start with `wmkit quickstart`."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: what follows the program's name; None reads `sys.argv`.

    Returns:
        The exit code, as in the module's text; tyro itself exits, with 2, on options that it cannot read.
    """
    limit_threads()
    words = list(sys.argv[1:] if arguments is None else arguments)
    traceback = "--traceback" in words
    words = [word for word in words if word != "--traceback"]
    if not words or words[0] in ("-h", "--help"):
        return _show(_HELP.format(commands="\n".join(f"  {name:<12}  {text}" for name, text in COMMANDS.items())))
    if words[0] == "--version":
        return _show(f"wmkit {__version__}")
    if words[0] not in COMMANDS:
        return _fail(_unknown(words[0], [*COMMANDS, "--help", "--version", "--traceback"]))
    return _run(words[0], words[1:]) if traceback else _guarded(words[0], words[1:])


def _run(name: str, options: Sequence[str]) -> int:
    """Import one command, read its options, run it; every error passes through."""
    module, words = importlib.import_module(f"wmkit.scripts.{name}"), [name]
    parts = getattr(module, "COMMANDS", None)
    if parts is not None and options and not options[0].startswith("-"):
        words, options = [name, options[0]], options[1:]
        if words[1] not in parts:
            raise UserError(f"{name}: {_unknown(words[1], list(parts))}")
        module = importlib.import_module(f"wmkit.scripts.{'_'.join(words)}")
    import tyro

    options_class = getattr(module, "".join(word.capitalize() for word in reversed(words)))
    config = tyro.cli(options_class, prog=f"wmkit {' '.join(words)}", description=module.__doc__, args=options)
    module.run(config)
    sys.stdout.flush()
    return 0


def _guarded(name: str, options: Sequence[str]) -> int:
    """Run one command; what the user can mend becomes one line, anything else keeps its traceback."""
    try:
        return _run(name, options)
    except KeyboardInterrupt:
        return _fail("interrupted", code=130)
    except BrokenPipeError:
        return _silence()
    except UserError as error:
        return _fail(str(error))
    except OSError as error:
        _silence()
        return _fail(f"{error} (--traceback shows where)")
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("wmkit"):
            raise
        return _fail(f"the package {error.name!r} is missing; `pip install 'wmkit[demo,train]'` brings all")


def _unknown(name: str, known: Sequence[str]) -> str:
    """Say what was not understood, and the nearest thing that would be."""
    import difflib

    kind = "option" if name.startswith("-") else "command"
    near = difflib.get_close_matches(name, known, n=1)
    commands = ", ".join(word for word in known if not word.startswith("-"))
    return f"unknown {kind} {name!r}" + (f"; did you mean {near[0]!r}?" if near else f"; known: {commands}")


def _show(text: str) -> int:
    """Print to standard output; a reader that went away is no error."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        return _silence()
    return 0


def _silence() -> int:
    """Send what output is left nowhere, so that the interpreter's exit does not fail on it again."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 141


def _fail(text: str, code: int = 2) -> int:
    """Print one line to standard error."""
    print(f"wmkit: error: {' '.join(text.split())}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
