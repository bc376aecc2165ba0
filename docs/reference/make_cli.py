"""Write docs/reference/cli.md from the command line itself; a test holds the page to it.

Run ``make reference-pages`` after a change of a command.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from typer.main import get_command

from stylematch.cli.program import app
from stylematch.tables.contract import EXIT_MEANINGS

PAGE = Path(__file__).with_name("cli.md")
PROGRAM = "stylematch-batch"


def cli_page() -> str:
    """Return the page as Markdown."""
    lines = [
        "# The command line",
        "",
        "This page is made from the program by `make reference-pages`. `--help` says the same of every command.",
        "",
        "| command | what it does |",
        "| --- | --- |",
    ]
    commands = list(_commands(get_command(app), ()))
    lines += [f"| [`{' '.join(name)}`](#{'-'.join(name)}) | {_first(command)} |" for name, command in commands]
    lines += ["", "## Of every command", "", "`--log-format` may stand anywhere.", *_options(get_command(app))]
    for name, command in commands:
        lines += ["", *_section(name, command)]
    codes = "; ".join(f"{int(code)}: {meaning}" for code, meaning in EXIT_MEANINGS.items())
    return "\n".join([*lines, "", "## Exit codes", "", f"Of every command: {codes}.", ""])


def _commands(command: Any, name: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    children = getattr(command, "commands", None)
    if children is None:
        yield name, command
        return
    for child in sorted(children):
        if not children[child].hidden:
            yield from _commands(children[child], (*name, child))


def _first(command: Any) -> str:
    return _cell((command.help or "").split("\n\n")[0])


def _section(name: tuple[str, ...], command: Any) -> list[str]:
    parameters = [parameter for parameter in command.params if parameter.name != "help"]
    arguments = [parameter for parameter in parameters if parameter.param_type_name == "argument"]
    options = _options(command)
    usage = " ".join([PROGRAM, *name, *(_argument(argument) for argument in arguments), "[OPTIONS]" if options else ""])
    # Only the command's own words make the anchor that the table above points at.
    lines = [f"## {' '.join(name)}", "", "```sh", usage.rstrip(), "```", "", command.help or ""]
    if arguments:
        lines += ["", "| argument | meaning |", "| --- | --- |"]
        lines += [f"| `{_metavar(argument)}` | {_cell(argument.help)} |" for argument in arguments]
    return lines + options


def _options(command: Any) -> list[str]:
    """Return the lines of a command's table of options; none where it has none."""
    options = [option for option in command.params if option.param_type_name == "option" and option.name != "help"]
    if not options:
        return []
    hints = get_type_hints(command.callback)
    lines = ["", "| option | default | meaning |", "| --- | --- | --- |"]
    lines += [
        f"| {_option(option, hints[option.name])} | {_default(option)} | {_cell(option.help)} |" for option in options
    ]
    return lines


def _metavar(parameter: Any) -> str:
    return str(parameter.metavar or parameter.name.upper())


def _argument(argument: Any) -> str:
    metavar = _metavar(argument)
    return metavar if argument.required else f"[{metavar}]"


def _option(option: Any, hint: Any) -> str:
    names = "/".join([*option.opts, *option.secondary_opts])
    choices = _choices(hint)
    if option.is_flag:
        value = ""
    elif choices:
        value = " " + "\\|".join(choices)
    else:
        value = " " + _metavar(option).replace("|", "\\|")
    return f"`{names}{value}`"


def _choices(hint: Any) -> list[str]:
    """Return what a Literal within a type allows."""
    if get_origin(hint) is Literal:
        return [str(choice) for choice in get_args(hint)]
    return [choice for part in get_args(hint) for choice in _choices(part)]


def _default(option: Any) -> str:
    default = option.default
    if option.required:
        return "needed"
    if option.is_flag:
        return ("on" if default else "off") if option.secondary_opts else ""
    if default is None or default == () or default == [] or not isinstance(default, (str, int, float, Path)):
        return ""
    return f"`{default}`"


def _cell(text: str | None) -> str:
    return " ".join((text or "").split()).replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(cli_page(), encoding="utf-8")
