"""Secrets taken out of what comes back, wherever it is cut."""

import base64
import gzip
import json
import zlib
from collections.abc import Callable
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carrel.errors import UpstreamError
from carrel.wire.scrub import MAY_SHOW, PIECE, Scrubber, decoder_of, forms_of

VALUE = "s3cr3t-Va/lue+with=odd\\signs"


@given(st.lists(st.sampled_from([VALUE, VALUE[:7], VALUE[5:], "plain ", "s", "\n"]), max_size=12), st.data())
def test_S5_02_it_is_found_across_every_border(parts: list[str], data: st.DataObject) -> None:
    whole = "".join(parts).encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=8)))
    pieces = [whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    scrubber = Scrubber({VALUE.encode(): b"<mark>"})
    told = b"".join(map(scrubber.feed, pieces)) + scrubber.finish()
    assert VALUE[MAY_SHOW + 1 :].encode() not in told
    assert told.count(b"<mark>") == whole.count(VALUE.encode())
    masking = Scrubber({VALUE.encode(): b"*" * len(VALUE)})
    masked = b"".join(map(masking.feed, pieces)) + masking.finish()
    assert len(masked) == len(whole)
    plain = whole.replace(VALUE.encode(), b"*" * len(VALUE))
    assert all(a in (b, ord("*")) or b == ord("*") for a, b in zip(masked, plain, strict=True))
    assert sum(a != b for a, b in zip(masked, plain, strict=True)) <= MAY_SHOW * whole.count(VALUE.encode())


def test_a_frame_that_ends_like_a_secret_begins_does_not_wait() -> None:
    scrubber = Scrubber({VALUE.encode(): b"<mark>"})
    assert scrubber.feed(b"yes") == b"yes"
    assert scrubber.feed(VALUE[1:].encode()) == b"<mark>"
    assert scrubber.feed(b" s3cr") == b" ", "so much of it is held back"
    assert scrubber.feed(b"et") == b"s3cret"


def test_S5_02_it_is_found_in_the_forms_that_answers_say_things_back_in() -> None:
    forms = forms_of(VALUE)
    said = [base64.b64encode(f"{before}{VALUE}:x".encode()).decode() for before in ("", "u", "us", "user:")]
    said += [VALUE, quote(VALUE, safe=""), quote_plus(VALUE), json.dumps(VALUE)]
    for text in said:
        scrubber = Scrubber(dict.fromkeys(forms, b"<mark>"))
        told = scrubber.feed(f"before {text} after".encode()) + scrubber.finish()
        assert b"<mark>" in told, text
        assert text[10:24].encode() not in told, text


def test_without_anything_to_find_nothing_is_held_back() -> None:
    scrubber = Scrubber({})
    assert scrubber.feed(b"s3cr") == b"s3cr"
    assert scrubber.text("s3cr") == "s3cr"


def test_each_has_its_own_mark_and_the_longest_goes_first() -> None:
    scrubber = Scrubber({b"secret": b"1", b"secret-long": b"2"})
    assert scrubber.feed(b"a secret and a secret-long one") + scrubber.finish() == b"a 1 and a 2 one"


@pytest.mark.parametrize(
    ("encodings", "made"),
    [([], bytes), (["identity"], bytes), (["gzip"], gzip.compress), (["x-gzip, identity"], gzip.compress),
     (["deflate"], zlib.compress)],
)  # fmt: skip
def test_an_encoding_is_undone_in_bounded_pieces(encodings: list[str], made: Callable[[bytes], bytes]) -> None:
    data = b"\0" * (4 << 20)
    decoder = decoder_of(encodings)
    encoded, pieces = made(data), []
    for at in range(0, len(encoded), 1000):
        pieces += list(decoder.decoded(encoded[at : at + 1000]))
    assert b"".join([*pieces, decoder.rest()]) == data
    assert max(map(len, pieces)) <= PIECE


@pytest.mark.parametrize("encodings", [["br"], ["gzip, gzip"], ["gzip", "gzip"], ["identity", "zstd"], ["gzip;q=1"]])
def test_S5_02_what_cannot_be_searched_is_not_passed(encodings: list[str]) -> None:
    with pytest.raises(UpstreamError):
        decoder_of(encodings)


def test_several_in_a_row_are_one_content() -> None:
    decoder = decoder_of(["gzip"])
    data = gzip.compress(b"one, ") + gzip.compress(b"") + gzip.compress(b"two")
    out = b"".join(piece for byte in data for piece in decoder.decoded(bytes([byte])))
    assert out + decoder.rest() == b"one, two"
    assert b"".join(decoder_of(["gzip"]).decoded(data)) == b"one, two"


def test_S5_02_what_is_not_encoded_as_it_says_is_not_passed() -> None:
    with pytest.raises(UpstreamError, match="not compressed as it says"):
        list(decoder_of(["gzip"]).decoded(b"plain text"))
    cut = decoder_of(["gzip"])
    list(cut.decoded(gzip.compress(b"x" * 1000)[:-4]))
    with pytest.raises(UpstreamError, match="no end"):
        cut.rest()
