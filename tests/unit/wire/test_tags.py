"""ETags of entries."""

from carrel.wire.tags import Tagged


class Entry(Tagged):
    """One for the test."""

    name: str
    version: int = 1


def test_an_entry_has_another_tag_as_soon_as_anything_of_it_is_another() -> None:
    first = Entry(name="a")
    assert first.etag == Entry(name="a", version=1).etag
    assert len({first.etag, Entry(name="b").etag, Entry(name="a", version=2).etag}) == 3


def test_it_goes_out_with_it_and_is_made_anew_where_it_comes_in() -> None:
    told = Entry(name="a").model_dump()
    assert told["etag"] == Entry(name="a").etag
    assert Entry.model_validate({**told, "version": 2}).etag == Entry(name="a", version=2).etag
