"""`carrel completion`: a script that teaches a shell the commands and their options."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Final, Literal

from cyclopts import App, Parameter

from carrel.cli import screen
from carrel.cli.failures import DONE
from carrel.cli.installed import install
from carrel.cli.manual import data_directory
from carrel.cli.options import Json

Shell = Literal["bash", "zsh", "fish"]
_END: Final = {
    "zsh": """
# As a file in $fpath this is the body of a function that is called; read by `source` it says whose completion it is.
if [[ ${funcstack[1]} == _carrel ]]; then
  _cyclopts_carrel "$@"
else
  compdef _cyclopts_carrel carrel
fi
""",
}
"""What a script lacks as it is made: by itself it would only define a function that nobody calls."""


def completion_command(app: App) -> Callable[..., int]:
    """The command that prints or installs ``app``'s completion script."""

    def completion(
        shell: Annotated[Shell, Parameter(name="SHELL", help="The shell to write for.")],
        /,
        *,
        install_it: Annotated[
            bool,
            Parameter(
                name="--install",
                negative=(),
                show_default=False,
                help="Put it where the shell finds it by itself; of zsh it is told what else it takes.",
            ),
        ] = False,
        json: Json = False,
    ) -> int:
        """Print a completion script, as `source <(carrel completion bash)` takes it, or install it."""
        script = app.generate_completion(prog_name="carrel", shell=shell).rstrip("\n") + "\n" + _END.get(shell, "")
        if install_it:
            path = install(place_of(shell), script)
            if json:
                screen.show_json({"shell": shell, "path": str(path), "next": what_next(shell, path)})
            else:
                screen.say(f"{path} is written. {what_next(shell, path)}")
        elif json:
            screen.show_json({"shell": shell, "script": script})
        else:
            screen.write(script)
        return DONE

    return completion


def place_of(shell: Shell) -> Path:
    """Where ``shell`` looks for a person's own completions of `carrel`."""
    match shell:
        case "bash":
            return data_directory() / "bash-completion" / "completions" / "carrel"
        case "zsh":
            return data_directory() / "zsh" / "site-functions" / "_carrel"
        case "fish":
            named = os.environ.get("XDG_CONFIG_HOME", "")
            base = Path(named) if named.startswith("/") else Path.home() / ".config"
            return base / "fish" / "completions" / "carrel.fish"


def what_next(shell: Shell, path: Path) -> str:
    """What is left to do."""
    if shell == "zsh":
        return f"Put `fpath=({path.parent} $fpath)` before `compinit` in ~/.zshrc, and start a new shell."
    if shell == "bash":
        return "It is loaded by the package bash-completion: start a new shell."
    return "Start a new shell."
