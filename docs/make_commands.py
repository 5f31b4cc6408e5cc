"""Print docs/commands.md, the help of every command word for word: `make docs` writes it."""

import os

os.environ.update(COLUMNS="100", NO_COLOR="1", TERM="dumb", TERMINAL_WIDTH="100")

from typer.testing import CliRunner

from luthier.cli import app


def help_of(*args: str) -> str:
    return CliRunner().invoke(app, [*args, "--help"], prog_name="luthier").output.strip()


def page() -> str:
    names = sorted(command.name or command.callback.__name__ for command in app.registered_commands if command.callback)
    parts = ["# Commands", "", "Made by `make docs` from the program itself.", ""]
    for args in ([], *([name] for name in names)):
        parts += [f"## `{' '.join(['luthier', *args])}`", "", "```text", help_of(*args), "```", ""]
    return "\n".join(parts)


if __name__ == "__main__":
    print(page(), end="")
