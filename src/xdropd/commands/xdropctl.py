"""xdropctl: ask and command the daemon. Picks the verb and maps what goes wrong to exit codes, see xdropctl(8).

`block`, which scripts call for every ban, loads nothing that it does not need; so imports stand where they are used.
"""

from __future__ import annotations

import os
import sys

from xdropd.commands import arguments, client, exits, paths
from xdropd.commands.arguments import Chosen, WrongLine

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any

    from xdropd.commands.replies import Columns
    from xdropd.commands.tables import Screen
    from xdropd.errors import Problem

_INTERRUPTED = 130  # 128 and SIGINT, as a shell has it


def main(line: list[str] | None = None) -> int:
    """Run; the exit status of xdropctl(8)."""
    words = sys.argv[1:] if line is None else line
    _prepare_streams()
    try:
        status = _run(words)
        sys.stdout.flush()
    except BrokenPipeError:
        # `xdropctl list | head` has what it wanted. What is left must not be written when Python ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return exits.DONE
    except KeyboardInterrupt:
        return _INTERRUPTED
    except OSError as problem:
        what = problem.filename or "the output cannot be written"  # a write to a stream names no file
        sys.stderr.write(f"xdropctl: error: {what}: {problem.strerror or problem}\n")
        return exits.UNAVAILABLE
    return status


def _prepare_streams() -> None:
    """Streams may be closed (`>&-`), or in an encoding that lacks a character."""
    sys.stdin = sys.stdin or os.fdopen(os.open(os.devnull, os.O_RDONLY))
    sys.stdout = sys.stdout or os.fdopen(os.open(os.devnull, os.O_WRONLY), "w")
    sys.stderr = sys.stderr or os.fdopen(os.open(os.devnull, os.O_WRONLY), "w")
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="replace")  # type: ignore[union-attr]  # a TextIOWrapper


def _run(words: list[str]) -> int:
    try:
        chosen = arguments.read(words)
        if chosen.asks_for:
            return _tell_about(chosen)
        return _VERBS[chosen.verb](chosen)
    except WrongLine as mistake:
        if "--json" in words:
            _print_json({"error": str(mistake)})
        else:
            sys.stderr.write(f"xdropctl: error: {mistake}\n{arguments.usage(mistake.verb)}")
        return exits.WRONG_USAGE
    except OSError:
        raise
    except Exception as problem:  # noqa: BLE001  # any other is a bug, which has an exit status of its own
        return _failed(problem, as_json="--json" in words)


def _failed(problem: Exception, *, as_json: bool) -> int:
    from xdropd.errors import ErrorAnswer, XdropdError

    if not isinstance(problem, XdropdError):
        import traceback

        for line in "".join(traceback.format_exception(problem)).splitlines():
            sys.stderr.write(f"{_printable(line)}\n")
        if as_json:
            _print_json({"error": f"a bug in xdropctl: {type(problem).__name__}: {problem}"})
        return exits.BUG
    problems: list[Problem] = getattr(problem, "problems", [])
    if as_json:
        said = [each.as_json() for each in problems]
        _print_json({"error": str(problem), "problems": said} if said else {"error": str(problem)})
    else:
        for each in map(str, problems):
            sys.stderr.write(f"{_printable(each)}\n")
        for each in [] if problems else str(problem).splitlines():
            sys.stderr.write(f"xdropctl: error: {_printable(each)}\n")
    return exits.code_for_kind(problem.kind) if isinstance(problem, ErrorAnswer) else exits.code_for(problem)


def _tell_about(chosen: Chosen) -> int:
    if chosen.asks_for == "help":
        sys.stdout.write(arguments.help_text(chosen.verb))
    else:
        import xdropd

        sys.stdout.write(f"xdropctl {xdropd.__version__}\n")
    return exits.DONE


# ---- asking ----


def _status(chosen: Chosen) -> int:
    reply = client.ask(chosen.socket, {"verb": "status"})
    if chosen.json:
        return _print_json(reply)
    from xdropd.commands import reports, tables

    return _print_lines(reports.status(reply, _screen(), tables.now()))


def _list(chosen: Chosen) -> int:
    request = {"verb": "list"}
    if "source" in chosen.options:
        from xdropd.text import names

        name = str(chosen.options["source"])
        request["source"] = names.given(paths.of_list(name) if "/" in name else name)
    return _print_rows(chosen, client.columns(chosen.socket, request))


def _lookup(chosen: Chosen) -> int:
    from xdropd.commands import batch

    address = batch.address(chosen.operands[0], chosen.verb)
    reply = client.ask(chosen.socket, {"verb": "lookup", "address": address})
    if chosen.json:
        _print_json(reply)
    else:
        from xdropd.commands import reports, tables

        _warn(reply.get("remarks", ()))
        state = client.ask(chosen.socket, {"verb": "status"})["state"]
        _print_lines(reports.lookup(reply, state, _screen(), tables.now()))
    return exits.DONE if reply["blocked"] else exits.NO


def _top(chosen: Chosen) -> int:
    by, count = str(chosen.options.get("by", "packets")), chosen.options.get("count", 20)
    from xdropd.commands import top

    assert isinstance(count, int)
    if not chosen.json and "once" not in chosen.options and sys.stdout.isatty():
        return top.live(chosen.socket, by, count if "count" in chosen.options else None, _screen())
    return _print_rows(chosen, top.once(chosen.socket, by, count), with_rates=by == "rate")


def _print_rows(chosen: Chosen, rows: Iterable[Columns], *, with_rates: bool = False) -> int:
    if chosen.json:
        from xdropd.commands.replies import rows_of

        for some in rows:
            for row in rows_of(some):
                _print_json(row)
        return exits.DONE
    from xdropd.commands import reports, tables

    return _print_lines(reports.entries(rows, _screen(), tables.now(), with_rates=with_rates))


# ---- changing ----


def _block(chosen: Chosen) -> int:
    given = _given(chosen, "source", "reason")
    if isinstance(seconds := chosen.options.get("for"), int):
        given["seconds"] = seconds
    return _change(chosen, given, ("blocked", "warnings"), "blocked")


def _unblock(chosen: Chosen) -> int:
    return _change(chosen, _given(chosen, "source"), ("unblocked", "remarks"), "taken back")


def _flush(chosen: Chosen) -> int:
    reply = client.ask(chosen.socket, {"verb": "flush", **_given(chosen, "source")})
    return _tell_change(chosen, reply, ("unblocked", ""), "taken back")


def _change(chosen: Chosen, given: Mapping[str, Any], keys: tuple[str, str], done: str) -> int:
    """Ask for it. `keys` of the reply: how many, and what is to be said of some. Nearly always nothing is."""
    from xdropd.commands import batch

    asked = batch.entries(chosen.operands, chosen.verb, sys.stdin.buffer)
    plain = {keys[0]: len(asked.entries), keys[1]: []}
    if not asked.entries:
        return _tell_change(chosen, plain, keys, done)
    if asked.must_follow:
        reply = client.ask(chosen.socket, {"verb": chosen.verb, **given}, follow=asked.lines())
        return _tell_change(chosen, reply, keys, done)
    expected = f'{{"result":{{"{keys[0]}":{len(asked.entries)},"{keys[1]}":[]}}}}'.encode()
    request = {"verb": chosen.verb, "entries": asked.entries, **given}
    return _tell_change(chosen, client.ask(chosen.socket, request, usual=(expected, plain)), keys, done)


def _replace(chosen: Chosen) -> int:
    from xdropd.commands import batch

    if chosen.operands != ["-"]:
        raise WrongLine("replace reads entries from standard input: write -", chosen.verb)
    asked = batch.entries(chosen.operands, chosen.verb, sys.stdin.buffer)
    if not asked.entries and "empty" not in chosen.options:
        from xdropd.errors import RefusedFile

        why = "there is no entry, nothing was changed; to take back everything, say --empty"
        raise RefusedFile([_problem_of_input(batch.NAME, why)])
    reply = client.ask(chosen.socket, {"verb": "replace", **_given(chosen, "source")}, follow=asked.lines())
    if chosen.json:
        return _print_json(reply)
    _warn(reply["warnings"])
    told = ", ".join(f"{reply[key]} {key}" for key in ("added", "removed", "changed", "kept"))
    sys.stdout.write(f"{told}\n")
    return exits.DONE


def _problem_of_input(name: str, why: str) -> Problem:
    from xdropd.errors import Problem

    return Problem(name, 0, 0, why)


def _watch(chosen: Chosen) -> int:
    """Until it is interrupted; a daemon that restarts is asked again, from the last place on."""
    from xdropd.errors import Unavailable

    request = {"verb": "watch", **_given(chosen, "source", "cursor")}
    while True:
        has_heard = False
        try:
            for event in client.rows(chosen.socket, request):
                has_heard = True
                request["cursor"] = event["cursor"]
                _tell_event(event, as_json=chosen.json)
        except Unavailable:
            if not has_heard:
                raise


def _tell_event(event: Mapping[str, Any], *, as_json: bool) -> None:
    if as_json:
        _print_json(event)
    elif event["event"] != "cursor":
        from xdropd.commands import reports

        sys.stdout.write(f"{_printable(reports.event(event))}\n")
    sys.stdout.flush()


def _tell_change(chosen: Chosen, reply: Mapping[str, Any], keys: tuple[str, str], done: str) -> int:
    if chosen.json:
        return _print_json(reply)
    count, remarks = reply[keys[0]], reply[keys[1]] if keys[1] else ()
    _warn(remarks)
    sys.stdout.write(f"{count} {'entry' if count == 1 else 'entries'} {done}\n")
    return exits.DONE


def _warn(remarks: Iterable[str]) -> None:
    for remark in remarks:
        sys.stderr.write(f"xdropctl: warning: {_printable(remark)}\n")


def _given(chosen: Chosen, *options: str) -> dict[str, Any]:
    return {option: chosen.options[option] for option in options if option in chosen.options}


def _reload(chosen: Chosen) -> int:
    request = {"verb": "reload"}
    if "accept" in chosen.options:
        from xdropd.text import names

        request["accept"] = names.given(paths.of_list(str(chosen.options["accept"])))
    reply = client.ask(chosen.socket, request)
    if chosen.json:
        _print_json(reply if reply["ok"] else {"error": "refused, what was in force stays in force", **reply})
    else:
        from xdropd.commands import reports

        for problem in reply["problems"]:
            sys.stderr.write(f"{_printable(reports.problem(problem))}\n")
        _warn(reply.get("warnings", ()))  # a daemon from before an upgrade says nothing of them
        for trouble in reply["troubles"]:
            sys.stderr.write(f"xdropctl: warning: degraded: {_printable(trouble)}\n")
        sys.stdout.write(f"{_printable(reply['status'])}\n")
    return exits.DONE if reply["ok"] else exits.BAD_INPUT


def _fetch(chosen: Chosen) -> int:
    request = {"verb": "fetch", "urls": list(chosen.operands)} if chosen.operands else {"verb": "fetch"}
    reply = client.ask(chosen.socket, request)
    failed = [each for each in reply["fetched"] if not each["ok"]]
    if chosen.json:
        _print_json({"error": f"not fetched: {len(failed)}", **reply} if failed else reply)
    else:
        from xdropd.commands import reports

        _print_lines(map(_printable, reports.fetched(reply["fetched"])))
    return exits.UNAVAILABLE if failed else exits.DONE


# ---- the rest ----


def _check(chosen: Chosen) -> int:
    from xdropd.commands import xdropd

    blocklist = chosen.operands[0] if chosen.operands else xdropd.BLOCKLIST
    if not chosen.json:
        return xdropd.check(xdropd.SETTINGS, blocklist, chosen.socket)
    problems, warnings = xdropd.problems_of(xdropd.SETTINGS, blocklist, chosen.socket)
    said = {
        name: [each.as_json() for each in found] for name, found in (("problems", problems), ("warnings", warnings))
    }
    if problems:
        _print_json({"error": f"problems: {len(problems)}", **said})
        return exits.BAD_INPUT
    return _print_json({"ok": True, **said})


def _exporter(chosen: Chosen) -> int:
    try:
        from xdropd.commands import exporter
    except ModuleNotFoundError as missing:
        from xdropd.errors import Unavailable

        hint = "install python3-prometheus-client"
        raise Unavailable(f"the exporter needs the Python module {missing.name}", hint) from None
    exporter.serve(chosen.socket, str(chosen.options.get("listen", arguments.LISTEN)))
    return exits.DONE


_VERBS: dict[str, Callable[[Chosen], int]] = {
    "status": _status,
    "list": _list,
    "lookup": _lookup,
    "block": _block,
    "unblock": _unblock,
    "replace": _replace,
    "flush": _flush,
    "watch": _watch,
    "check": _check,
    "reload": _reload,
    "fetch": _fetch,
    "top": _top,
    "exporter": _exporter,
}


# ---- printing ----


def _screen() -> Screen:
    from xdropd.commands.tables import Screen

    return Screen.of(sys.stdout, os.environ)


def _print_lines(lines: Iterable[str]) -> int:
    sys.stdout.writelines(f"{line}\n" for line in lines)
    return exits.DONE


def _print_json(value: Mapping[str, Any]) -> int:
    import json

    sys.stdout.write(f"{json.dumps(value)}\n")
    return exits.DONE


def _printable(text: str) -> str:
    """Nothing that a terminal would take for a command."""
    if text.isprintable():
        return text
    from xdropd.text import names

    return names.printable(text)


if __name__ == "__main__":
    sys.exit(main())
