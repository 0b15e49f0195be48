"""`carrel completion`: a script that teaches a shell the commands and their options."""

from collections.abc import Callable
from typing import Annotated, Literal

from cyclopts import App, Parameter

from carrel.cli import screen
from carrel.cli.failures import DONE
from carrel.cli.options import Json


def completion_command(app: App) -> Callable[..., int]:
    """The command that prints ``app``'s completion script."""

    def completion(
        shell: Annotated[Literal["bash", "zsh", "fish"], Parameter(name="SHELL", help="The shell to write for.")],
        /,
        *,
        json: Json = False,
    ) -> int:
        """Print a completion script, as `source <(carrel completion bash)` takes it."""
        script = app.generate_completion(prog_name="carrel", shell=shell).rstrip("\n") + "\n"
        if json:
            screen.show_json({"shell": shell, "script": script})
        else:
            screen.write(script)
        return DONE

    return completion
