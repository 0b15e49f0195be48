from carrel.backup.seen import Seen


def test_each_name_comes_once_and_is_taken_once_as_it_came() -> None:
    seen = Seen()
    names = [f"d/{number}" for number in range(5000)]
    assert all(seen.add(name, (name, 1)) for name in names)
    assert not any(seen.add(name, (name, 2)) for name in names)
    assert (len(seen), seen.left, seen.has("d/7"), seen.has("d/x")) == (5000, 5000, True, False)
    assert not seen.take("d/7", ("d/7", 2))
    assert not seen.take("d/x", ("d/x", 1))
    assert all(seen.take(name, (name, 1)) for name in names)
    assert not seen.take("d/7", ("d/7", 1))
    assert seen.left == 0


def test_names_of_any_length_take_the_same_room() -> None:
    seen = Seen()
    for number in range(1000):
        seen.add(f"{number}/" + "x" * 4000, "")
    assert len(seen._names) * seen._names.itemsize == 16 << 10
