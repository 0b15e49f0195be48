import ctypes
import mmap
import subprocess
import sys
from pathlib import Path

import pytest

from carrel.main.footprint import give_back


def resident(path: Path) -> int:
    """Kilobytes of ``path`` that are mapped and in memory."""
    total, here = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if "-" in line.split(" ")[0]:
            here = line.endswith(str(path))
        elif here and line.startswith("Rss:"):
            total += int(line.split()[1])
    return total


def test_pages_of_a_file_are_let_go_and_come_back_where_they_are_read(tmp_path: Path) -> None:
    place = tmp_path / "library"
    place.write_bytes(b"text" * (1 << 18))
    with place.open("rb") as file, mmap.mmap(file.fileno(), 0, mmap.MAP_PRIVATE, mmap.PROT_READ) as view:
        assert view[:] == place.read_bytes()
        assert resident(place) == 1024
        assert give_back() >= 1 << 20
        assert resident(place) == 0
        assert view[:] == place.read_bytes()


def test_a_mapping_that_may_be_written_keeps_what_was_written(tmp_path: Path) -> None:
    place = tmp_path / "data"
    place.write_bytes(b"old!" * (1 << 18))
    with place.open("rb") as file:
        protection = mmap.PROT_READ | mmap.PROT_WRITE
        with mmap.mmap(file.fileno(), 0, mmap.MAP_PRIVATE, protection) as view:
            view[:4] = b"new!"
            give_back()
            assert view[:8] == b"new!old!"


def test_a_mapping_that_was_written_and_then_closed_to_writing_keeps_it_too() -> None:
    # As the linker does with a library's addresses: in a process of its own, for it would crash if they were lost.
    program = (
        "import ctypes, mmap, tempfile; from carrel.main.footprint import give_back\n"
        "file = tempfile.TemporaryFile(); file.write(b'old!' * 4096); file.flush()\n"
        "view = mmap.mmap(file.fileno(), 0, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE); view[:4] = b'new!'\n"
        "libc = ctypes.CDLL(None); at = ctypes.addressof(ctypes.c_char.from_buffer(view))\n"
        "libc.mprotect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)\n"
        "assert libc.mprotect(at, 16384, 1) == 0\n"
        "give_back(); import ssl, decimal; ssl.create_default_context(); print(bytes(view[:8]).decode())\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "new!old!\n"), done.stderr


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_info"), reason="a C library with no arenas to tell of")
def test_all_threads_take_memory_from_one_place() -> None:
    program = (
        "import ctypes, sys, threading; from carrel.main.footprint import share_one_arena\n"
        "assert sys.argv[1] == 'apart' or share_one_arena()\n"
        "libc = ctypes.CDLL(None); libc.malloc.restype = ctypes.c_void_p; meet = threading.Barrier(4)\n"
        "def take(): libc.malloc(5000); meet.wait()\n"
        "threads = [threading.Thread(target=take) for _ in range(4)]\n"
        "[t.start() for t in threads]; [t.join() for t in threads]\n"
        "libc.malloc_info(0, ctypes.c_void_p.in_dll(libc, 'stdout')); libc.fflush(None)\n"
    )
    heaps = [
        subprocess.run([sys.executable, "-c", program, how], capture_output=True, text=True, check=True).stdout.count(
            "<heap "
        )
        for how in ("apart", "shared")
    ]
    assert heaps[0] > heaps[1] == 1


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="a C library that does not tell what it maps")
def test_a_large_block_is_mapped_by_itself_also_after_a_larger_one_was_given_back() -> None:
    program = (
        "import ctypes, sys; from carrel.main.footprint import LARGE, keep_large_apart\n"
        "assert sys.argv[1] == 'as it is' or keep_large_apart()\n"
        "class Told(ctypes.Structure): _fields_ = [(name, ctypes.c_size_t) for name in 'abcdmfghij']\n"
        "libc = ctypes.CDLL(None); libc.mallinfo2.restype = Told; before = libc.mallinfo2().m\n"
        "large = bytes(4 * LARGE); assert libc.mallinfo2().m - before > 4 * LARGE; del large\n"
        "again = bytes(2 * LARGE); print(libc.mallinfo2().m - before > 2 * LARGE)\n"
    )
    told = [
        subprocess.run([sys.executable, "-c", program, how], capture_output=True, text=True, check=True).stdout.strip()
        for how in ("as it is", "apart")
    ]
    assert told == ["False", "True"]
