"""The web terminal in a real browser: logging in, typing, colours, coming back, and what it lets nobody do."""

import json
import re
import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from tests.fakes.cut import Cut
from tests.fakes.gateway_process import GatewayProcess
from tests.fakes.patience import PATIENCE

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or "chromium"
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
STOLEN = r"printf '\e]0;stolen\a\e]2;stolen\a\e]52;c;c3RvbGVu\a\e]8;;https://evil.example\alink\e]8;;\a'"
ASKED = r"printf '\e[c\e[>c\e[5n\e[6n\e[?6n\e[21t\e[18t\e]11;?\a\e]4;1;?\a\eP$qm\e\\\\\e[?1$p'"
OPENS = """async (given) => {
  const socket = new WebSocket(given.url, ["carrel.v1", "carrel.ticket." + given.ticket]);
  return await new Promise((done) => {
    socket.onopen = () => done("open");
    socket.onclose = () => done("refused");
  });
}"""
TICKET = """async () => {
  const view = await (await fetch("/v1/browser/session")).json();
  const headers = {"X-Carrel-CSRF": view.csrf};
  return (await (await fetch("/v1/browser/tickets", {method: "POST", headers})).json()).ticket;
}"""
REACHED = """async (url) => {
  try { return (await fetch(url, {credentials: "include"})).status; } catch { return 0; }
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        made = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield made
        made.close()


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    made = browser.new_context(viewport={"width": 1000, "height": 640})
    made.set_default_timeout(PATIENCE * 1000)
    expect.set_options(timeout=PATIENCE * 1000)
    yield made
    made.close()


@pytest.fixture
def page(context: BrowserContext, gateway: GatewayProcess) -> Page:
    """A page that is logged in, on a new terminal."""
    made = context.new_page()
    made.on("pageerror", lambda error: pytest.fail(str(error)))
    log_in(made, gateway)
    return made


def log_in(page: Page, gateway: GatewayProcess, token: str | None = None, *, port: int | None = None) -> None:
    page.goto(f"http://127.0.0.1:{port or gateway.port}/terminal")
    expect(page.locator("#token")).to_be_focused()
    page.fill("#token", token or gateway.token)
    page.keyboard.press("Enter")
    expect(page.locator("#status")).to_have_text("connected")
    expect(page.locator(".xterm-helper-textarea")).to_be_focused()


def shows(page: Page, text: str) -> None:
    expect(page.locator(".xterm-rows")).to_contain_text(text)


def types(page: Page, text: str) -> None:
    page.keyboard.insert_text(text)
    page.keyboard.press("Enter")


def ends(page: Page) -> None:
    page.click("#close")
    expect(page.locator("#status")).to_have_text("ended")


def colour_of(page: Page, text: str) -> str:
    cell = page.locator(".xterm-rows span", has_text=re.compile(f"^{text}$")).last
    return str(cell.evaluate("(cell) => getComputedStyle(cell).color"))


def test_a_person_types_sees_colours_and_unicode_and_resizes(page: Page) -> None:
    types(page, r"printf '\e[31mRED\e[0m \e[38;2;10;200;30mTRUE\e[0m \e[1mBOLD\e[0m\n'; echo 'grüß dich ┌─┐ 日本'")
    shows(page, "grüß dich ┌─┐ 日本")
    assert colour_of(page, "RED") == "rgb(240, 128, 140)"
    assert colour_of(page, "TRUE") == "rgb(10, 200, 30)"
    wide = page.locator("#size").inner_text()
    page.set_viewport_size({"width": 390, "height": 700})
    expect(page.locator("#size")).not_to_have_text(wide)
    columns, rows = re.findall(r"\d+", page.locator("#size").inner_text())
    types(page, "stty size")
    shows(page, f"{rows} {columns}")
    assert page.evaluate("() => document.documentElement.scrollWidth <= innerWidth")
    ends(page)


def test_what_is_pasted_comes_bracketed_and_keys_are_keys(page: Page) -> None:
    types(page, r"printf '\e[?2004h'; cat -v")
    page.evaluate(
        "() => { const data = new DataTransfer(); data.setData('text/plain', 'one\\ntwo'); document.querySelector("
        "'.xterm-helper-textarea').dispatchEvent(new ClipboardEvent('paste', {clipboardData: data, bubbles: true})); }"
    )
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Enter")
    shows(page, "^[[200~one")
    shows(page, "two^[[201~^[[A")
    page.keyboard.press("Control+c")
    types(page, "echo a''live")
    shows(page, "alive")
    ends(page)


def test_a_reload_and_a_lost_connection_come_back_with_what_was_shown(
    context: BrowserContext, gateway: GatewayProcess
) -> None:
    with Cut(gateway.port) as way:
        page = context.new_page()
        log_in(page, gateway, port=way.port)
        types(page, "export KEPT=k''ept; echo be''fore")
        shows(page, "before")
        page.reload()
        shows(page, "before")
        expect(page.locator("#status")).to_have_text("connected")
        types(page, "(sleep 0.5; echo while-a''way) & echo $KEPT-1")
        shows(page, "kept-1")
        way.cut()
        expect(page.locator("#notice")).to_contain_text("Trying again")
        expect(page.locator("#notice-do")).to_be_focused()
        way.mend()
        page.click("#notice-do")
        expect(page.locator("#status")).to_have_text("connected")
        shows(page, "while-away")
        assert page.locator(".xterm-rows").inner_text().count("kept-1") == 1
        # The key is let go when the shell is gone, and the focus with it.
        page.keyboard.insert_text("exit 4")
        page.keyboard.down("Enter")
        expect(page.locator("#notice")).to_contain_text("exit code 4")
        expect(page.locator("#notice-do")).to_be_focused()
        page.keyboard.up("Enter")
        page.click("#notice-do")
        expect(page.locator("#status")).to_have_text("connected")
        types(page, 'echo "[$KEPT]"')
        shows(page, "[]")
        ends(page)


def test_S6_02_escape_sequences_do_nothing_but_draw(page: Page, context: BrowserContext) -> None:
    title = page.title()
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.evaluate("() => navigator.clipboard.writeText('mine')")
    page.locator("#screen").click()
    types(page, f"stty -echo; {STOLEN}; {ASKED}; echo; read -t 1 -r -d X answer; printf 'answer=[%q]\\n' \"$answer\"")
    shows(page, "answer=['']")
    assert page.title() == title
    assert page.evaluate("() => navigator.clipboard.readText()") == "mine"
    page.mouse.click(30, 62)
    page.mouse.click(30, 78)
    assert page.locator(".xterm-rows a").count() == 0
    assert len(context.pages) == 1
    ends(page)


def test_what_a_person_did_wrong_is_said_and_nothing_is_kept(context: BrowserContext, gateway: GatewayProcess) -> None:
    page = context.new_page()
    page.goto(f"{gateway.url}/terminal")
    page.fill("#token", "tk_demo_" + "0" * 32)
    page.keyboard.press("Enter")
    expect(page.locator("#login-error")).to_have_text("That token is not known here.")
    log_in(page, gateway)
    kept = page.evaluate(
        "() => JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie, location.href])"
    )
    assert gateway.token not in kept
    assert json.loads(kept)[2] == ""
    ends(page)
    page.click("#logout")
    expect(page.locator("#token")).to_be_focused()
    page.reload()
    expect(page.locator("#token")).to_be_focused()
    assert gateway.token not in gateway.text.replace(gateway.token, "", 1)


def test_S6_01_in_a_browser_a_ticket_is_good_once_and_another_origin_gets_nothing(
    page: Page, browser: Browser, gateway: GatewayProcess
) -> None:
    url = gateway.url.replace("http", "ws") + "/ws"
    first = page.evaluate(TICKET)
    assert page.evaluate(OPENS, {"url": url, "ticket": first}) == "open"
    assert page.evaluate(OPENS, {"url": url, "ticket": first}) == "refused"
    # The same browser, by another of the gateway's names: to the gateway it is another origin.
    elsewhere = page.context.new_page()
    elsewhere.goto(f"http://localhost:{gateway.port}/healthz")
    second = page.evaluate(TICKET)
    assert elsewhere.evaluate(OPENS, {"url": url, "ticket": second}) == "refused"
    assert elsewhere.evaluate(REACHED, f"{gateway.url}/v1/browser/session") == 0
    assert page.evaluate(OPENS, {"url": url, "ticket": second}) == "open"
    ends(page)


def test_S1_03_a_page_of_a_token_that_ends_is_at_the_login(context: BrowserContext, gateway: GatewayProcess) -> None:
    issued = gateway.cli("tenants", "token", "issue", "demo", "--name", "guest", "--json")
    assert issued.returncode == 0, issued.stderr
    page = context.new_page()
    log_in(page, gateway, json.loads(issued.stdout)["token"])
    assert gateway.cli("tenants", "token", "revoke", "demo", "guest").returncode == 0
    expect(page.locator("#login-error")).to_contain_text("its token ended")
