"""Pages of a few sentences: text stays text, and nothing is loaded or told on."""

from carrel.http.plain_page import plain_page


def test_everything_in_it_is_text() -> None:
    page = plain_page("<b>a</b>", '"q" & <script>', items=("<i>",), go_on=('/x?a=1&b="', "<go>"))
    text = page.text or ""
    for raw in ("<b>", "<script>", "<i>", "<go>", '"q"'):
        assert raw not in text
    assert '<a href="/x?a=1&amp;b=&quot;" rel="noreferrer">&lt;go&gt;</a>' in text
    assert "&lt;li" not in text
    assert page.content_type == "text/html"


def test_its_policy_lets_nothing_in_and_nothing_out() -> None:
    one, other = plain_page("a", "b"), plain_page("a", "b", status=404)
    policy = one.headers["Content-Security-Policy"]
    for part in ("default-src 'none'", "form-action 'none'", "frame-ancestors 'none'", "base-uri 'none'"):
        assert part in policy
    assert "script-src" not in policy
    assert policy != other.headers["Content-Security-Policy"], "a nonce of its own"
    assert (one.headers["Referrer-Policy"], one.headers["Cache-Control"]) == ("no-referrer", "no-store")
    assert other.status == 404
