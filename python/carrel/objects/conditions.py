"""Whether a store holds the conditions of writes, found out by trying: some take them, and write all the same.

One object beneath the place is written for it, under a key that is always the same and that no tenant's can be. It
stays there: who may not remove anything can try, and whoever comes next finds it. Hosts may try at once, and a try may
break off anywhere: no two writes have the same content, so a tag never comes back, and a write that another host's got
before is one whose condition did not hold, and was refused.
"""

import os
from typing import Final

from carrel.objects.protocol import ObjectChanged, ObjectMissing, ObjectStore, StoreRefused

KEY: Final = ".carrel-conditions"
_MOST: Final = 64 << 10


def try_out(store: ObjectStore) -> None:
    """Raise StoreRefused where a write is done whose condition does not hold, of either kind. A few small requests."""
    made = _written(store, absent=True)
    if made is not None and _written(store, absent=True) is not None:
        raise _ignores()
    tag = made if made is not None else _tag(store)
    if _written(store, replaces=tag) is not None and _written(store, replaces=tag) is not None:
        raise _ignores()


def _written(store: ObjectStore, *, replaces: str | None = None, absent: bool = False) -> str | None:
    """The tag of what was written, None where the condition was held against it."""
    content = f"Here Carrel tries out whether conditions of writes hold. {os.urandom(16).hex()}\n".encode()
    try:
        return store.put(KEY, content, replaces=replaces, absent=absent)
    except ObjectChanged:
        return None


def _tag(store: ObjectStore) -> str:
    try:
        return store.get(KEY, most=_MOST)[1]
    except ObjectMissing:
        raise StoreRefused(
            "This store refuses a write on condition that there is no such object, where there is none: use another "
            "store, or say `conditional_writes: false` where only one host writes there."
        ) from None  # fmt: skip


def _ignores() -> StoreRefused:
    return StoreRefused(
        "This store ignores conditional writes, so that two hosts could overwrite each other's list of backups: use "
        "another, say `dialect: gcs` where it is Google's under another name, or `conditional_writes: false` where "
        "only one host writes there."
    )
