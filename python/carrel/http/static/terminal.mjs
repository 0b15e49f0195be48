// The web terminal: logging in, one WebSocket, one screen, and coming back to what runs.

import { Terminal } from "./vendor/xterm.mjs";
import { FitAddon } from "./vendor/addon-fit.mjs";
import { Unicode11Addon } from "./vendor/addon-unicode11.mjs";
import { allowStyles, makeInert } from "./inert.mjs";
import { Link, Refusal, Session } from "./link.mjs";

const ACK_BYTES = 32 << 10;
const ACK_MS = 100;
const AGAIN_SECONDS = [1, 2, 4, 8, 15, 30];
const LAST = "carrel.terminal";
const THEME = {
  background: "#14161b", foreground: "#d8dce4", cursor: "#d8dce4", cursorAccent: "#14161b",
  selectionBackground: "#3b4a6b", black: "#2c313b", red: "#f0808c", green: "#7fc08a", yellow: "#e0af68",
  blue: "#7aa2f7", magenta: "#c099e0", cyan: "#74c7cf", white: "#c5cad5", brightBlack: "#6b7485",
  brightRed: "#ff98a3", brightGreen: "#98d6a2", brightYellow: "#f0c88a", brightBlue: "#9bbaff",
  brightMagenta: "#d6b4f2", brightCyan: "#93dde4", brightWhite: "#f2f4f8",
};
const ENDINGS = {
  closed: "It was closed.", idle: "It was idle for too long.", total_time: "Its longest time is over.",
  revoked: "The token that opened it ended.", suspended: "The tenant is suspended.",
  shutdown: "The gateway stops.", memory: "It needed more memory than it may.", cpu: "Its processor time is used up.",
  disk: "The disk is full.", disk_quota: "The workspace is full.", launcher_lost: "The sandbox was lost.",
};

const at = (id) => document.getElementById(id);
allowStyles(document.querySelector("script[nonce]").nonce);

const screen = new Terminal({
  allowProposedApi: true, cursorBlink: true, scrollback: 10_000, theme: THEME, minimumContrastRatio: 3,
  fontFamily: '"DejaVu Sans Mono", "Cascadia Mono", Menlo, Consolas, "Noto Sans Mono", monospace',
  fontSize: matchMedia("(max-width: 560px)").matches ? 12 : 14,
});
const fit = new FitAddon();
let session = null, link = null, current = null, tries = 0, timer = null;
let shown = 0, acked = 0, ackTimer = null;

// --- what the person sees ---

function say(text, state) {
  at("status").textContent = text;
  if (state) at("dot").dataset.state = state;
}

function notice(text, label, act) {
  at("notice").hidden = !text;
  at("notice-text").textContent = text ?? "";
  const button = at("notice-do");
  button.hidden = !label;
  button.textContent = label ?? "";
  button.onclick = act ? () => { notice(); act(); } : null;
  if (text && label) button.focus();
}

function showLogin(error = "") {
  clearTimeout(timer);
  link?.close();
  session = link = current = null;
  at("desk").hidden = true;
  at("login").hidden = false;
  at("login-error").textContent = error;
  at("token").value = "";
  at("token").focus();
}

function showDesk() {
  at("login").hidden = true;
  at("desk").hidden = false;
  const who = session.display_name ?? session.tenant;
  at("tenant").textContent = session.member ? `${who} · ${session.member}` : who;
  document.title = `Terminal · ${session.tenant}`;
  if (!screen.element) {
    screen.loadAddon(fit);
    screen.loadAddon(new Unicode11Addon());
    screen.unicode.activeVersion = "11";
    makeInert(screen);
    screen.open(at("screen"));
    new ResizeObserver(() => requestAnimationFrame(resize)).observe(at("screen"));
  }
  fit.fit();
  showSize();
}

function showSize() { at("size").textContent = `${screen.cols}×${screen.rows}`; }

async function showList() {
  if (!link) return [];
  const { sessions } = await link.call("terminal.list");
  const options = sessions.map((one, place) => {
    const option = new Option(`${place + 1} · ${new Date(one.createdAt).toLocaleTimeString([], { timeStyle: "short" })}`);
    option.value = one.terminalId;
    return option;
  });
  if (!sessions.some((one) => one.terminalId === current)) {
    options.unshift(new Option(current ? "ended" : "none", ""));
  }
  at("which").replaceChildren(...options);
  at("which").value = sessions.some((one) => one.terminalId === current) ? current : "";
  at("close").disabled = at("which").value === "";
  return sessions;
}

// --- the connection ---

async function connect() {
  clearTimeout(timer);
  say("connecting…", "wait");
  try {
    link = await Link.open(session, told, lost);
    tries = 0;
    notice();
    const running = (await link.call("terminal.list")).sessions.map((one) => one.terminalId);
    const wanted = current ?? sessionStorage.getItem(LAST);
    if (running.includes(wanted)) await attach(wanted);
    else if (current) told("terminal.exit", { terminalId: current, reason: "gone" });
    else if (running.length) await attach(running.at(-1));
    else await open();
    await showList();
  } catch (error) {
    if (link === null) await again(error.message);
    else say(error.message, "on");
  }
}

function lost(code, reason) {
  link = null;
  if (!session) return;
  again(reason === "shutdown" ? "The gateway stops." : reason === "revoked" ? "" : "The connection was lost.");
}

async function again(why) {
  let known;
  try {
    known = await Session.current();
  } catch {
    known = undefined; // Not reachable: it may be again.
  }
  if (known === null) return showLogin("The session is over: its token ended, or the gateway was started anew.");
  if (known) session = known;
  const seconds = AGAIN_SECONDS[Math.min(tries++, AGAIN_SECONDS.length - 1)];
  say("not connected", "gone");
  notice(`${why || "The connection was lost."} Trying again in ${seconds} s.`, "Now", connect);
  clearTimeout(timer);
  timer = setTimeout(connect, seconds * 1000);
}

function told(name, params) {
  if (name === "event") return void showList().catch(() => {});
  if (params.terminalId !== current) return;
  if (name === "terminal.output") {
    screen.write(params.data, () => seen(params.terminalId, params.next));
  } else if (name === "terminal.exit") {
    const how = params.signal ? `signal ${params.signal}` : `exit code ${params.exitCode}`;
    const why = params.reason === "exit" ? `The shell ended (${how}).` : ENDINGS[params.reason] ?? "It has ended.";
    sessionStorage.removeItem(LAST);
    current = null;
    say("ended", "off");
    notice(why, "Open another", open);
    showList().catch(() => {});
  } else if (name === "terminal.detached") {
    notice("This page did not keep up, and is shown no more.", "Go on", () => attach(params.terminalId));
  }
}

function seen(terminal, next) {
  if (terminal !== current) return;
  shown = next;
  if (shown - acked >= ACK_BYTES) ack();
  else ackTimer ??= setTimeout(ack, ACK_MS);
}

function ack() {
  clearTimeout(ackTimer);
  ackTimer = null;
  if (current && shown > acked) link?.tell("terminal.ack", { terminalId: current, at: (acked = shown) });
}

// --- terminals ---

function take(terminal, position) {
  current = terminal;
  shown = acked = position;
  sessionStorage.setItem(LAST, terminal);
  say("connected", "on");
  notice();
  // A key that was let go after the focus had moved is let go here: else the next text of an input method is lost.
  screen.textarea.dispatchEvent(new KeyboardEvent("keyup"));
  screen.focus();
}

async function attach(terminal) {
  const left = current;
  if (left && left !== terminal) link.tell("terminal.detach", { terminalId: left });
  const after = terminal === current && shown > 0 ? shown : undefined;
  if (after === undefined) screen.reset();
  current = terminal;
  const got = await link.call("terminal.attach", { terminalId: terminal, after, cols: screen.cols, rows: screen.rows });
  if (after !== undefined && got.at > after) screen.reset();
  take(terminal, got.at);
}

async function open() {
  const slow = setTimeout(() => notice("Opening. The first time, the packages of the sandbox are made ready."), 1500);
  say("opening…", "wait");
  try {
    const made = await link.call("terminal.spawn", { cols: screen.cols, rows: screen.rows });
    screen.reset();
    take(made.terminalId, 0);
    await showList();
  } catch (error) {
    say("connected", "on");
    notice(error.message, "Try again", open);
  } finally {
    clearTimeout(slow);
  }
}

function type(data, encoding) {
  if (!current || !link) return;
  link.call("terminal.write", { terminalId: current, data, encoding }).catch((error) => notice(error.message));
}

function resize() {
  if (at("desk").hidden) return;
  fit.fit();
  showSize();
}

screen.onData((data) => type(data));
screen.onBinary((data) => type(btoa(data), "base64"));
screen.onResize(({ cols, rows }) => {
  showSize();
  if (current && link) link.call("terminal.resize", { terminalId: current, cols, rows }).catch(() => {});
});
screen.attachCustomKeyEventHandler((event) => {
  if (event.type === "keydown" && event.ctrlKey && event.shiftKey && event.code === "KeyC") {
    event.preventDefault();
    navigator.clipboard?.writeText(screen.getSelection());
    return false;
  }
  return true;
});

// --- what the person does ---

at("login-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const button = event.target.querySelector("button");
  const token = at("token").value.trim();
  button.disabled = true;
  at("login-error").textContent = "";
  try {
    session = await Session.logIn(token);
    if ((await Session.current()) === null) throw new Refusal("The browser did not keep the session: use https.");
    at("token").value = "";
    showDesk();
    await connect();
  } catch (error) {
    session = null;
    at("login-error").textContent = error.status === 401 ? "That token is not known here." : error.message;
    at("token").select();
  } finally {
    button.disabled = false;
  }
});
at("new").onclick = () => open();
at("close").onclick = () => current && link?.call("terminal.close", { terminalId: current });
at("which").onchange = () => at("which").value && attach(at("which").value).catch((error) => notice(error.message));
at("logout").onclick = async () => {
  try { await session.logOut(); } catch { /* it is over in any case */ }
  sessionStorage.removeItem(LAST);
  showLogin();
};
at("desk").addEventListener("click", (event) => { if (event.target.closest("footer, #screen")) screen.focus(); });

session = await Session.current().catch(() => null);
if (session) {
  showDesk();
  await connect();
} else {
  showLogin();
}
