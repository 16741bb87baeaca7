"""The loop of a peer's program; run by the peer's Python, it uses the standard library alone."""

import json
import os
import sys
import traceback
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["serve"]


def serve(handlers: Mapping[str, Callable[..., dict[str, Any]]]) -> None:
    """Answer requests until standard input ends.

    A request is a line `{"do": NAME, ...}`; the handler NAME gets the rest as keyword arguments, and the object it
    returns is the answer. A handler's error is answered with {"error": TEXT}. Whatever else the process prints goes to
    standard error, also from libraries that write to the file descriptor.
    """
    answers = os.fdopen(os.dup(1), "w")
    sys.stdout.flush()
    os.dup2(2, 1)
    for line in sys.stdin:
        request = json.loads(line)
        answers.write(json.dumps(_answer(handlers, request)) + "\n")
        answers.flush()


def _answer(handlers: Mapping[str, Callable[..., dict[str, Any]]], request: dict[str, Any]) -> dict[str, Any]:
    """Return one answer; a package that is missing ends the program instead."""
    name = request.pop("do")
    if name not in handlers:
        return {"error": f"unknown request {name!r}; known: {', '.join(handlers)}"}
    try:
        return handlers[name](**request)
    except ImportError:
        raise
    except Exception as error:
        traceback.print_exc()
        return {"error": f"{type(error).__name__}: {' '.join(str(error).split())}"}
