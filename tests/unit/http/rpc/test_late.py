"""Methods that are loaded at the first call: all of them, once, and not before."""

import asyncio
import subprocess
import sys

from carrel.http.rpc.late import LateMethods
from carrel.http.rpc.methods import REGISTRY


async def test_first_callers_together_get_the_one_registry_with_every_method() -> None:
    late = LateMethods()
    one, other, *_ = await asyncio.gather(*(late.registry() for _ in range(8)))
    assert one is other is REGISTRY
    assert one is await late.registry()
    assert "sessions.send" in {method.name for method in one}


def test_the_application_is_made_without_them() -> None:
    program = (
        "import sys, carrel.http.server\nassert 'carrel.http.rpc.methods' not in sys.modules\n"
        "import asyncio\nfrom carrel.http.rpc.late import METHODS\n"
        "print(len(list(asyncio.run(METHODS.registry()))), 'carrel.http.rpc.methods' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(len(list(REGISTRY))), "True"]
