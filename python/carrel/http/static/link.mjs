// The page's ways to the gateway: the browser's session over HTTP, and calls and notifications over one WebSocket.

const JSON_TYPE = { "Content-Type": "application/json" };

async function ask(method, path, headers = {}) {
  const reply = await fetch(path, { method, headers, credentials: "same-origin", cache: "no-store" }).catch(() => {
    throw new Refusal("The gateway does not answer.");
  });
  const text = await reply.text();
  let body = null;
  try { body = text ? JSON.parse(text) : null; } catch { /* said below */ }
  if (!reply.ok) throw new Refusal(body?.detail ?? `The gateway answered ${reply.status}.`, body?.code, reply.status);
  return body;
}

export class Refusal extends Error {
  constructor(message, code, status) {
    super(message);
    this.code = code;
    this.status = status;
  }
}

export class Session {
  constructor(view) { Object.assign(this, view); }

  static async logIn(token) {
    return new Session(await ask("POST", "/v1/browser/session", { Authorization: `Bearer ${token}` }));
  }

  static async current() {
    try {
      return new Session(await ask("GET", "/v1/browser/session"));
    } catch (error) {
      if (error instanceof Refusal && (error.status === 401 || error.status === 403)) return null;
      throw error;
    }
  }

  async logOut() { await ask("DELETE", "/v1/browser/session", { "X-Carrel-CSRF": this.csrf }); }

  async ticket() {
    return (await ask("POST", "/v1/browser/tickets", { ...JSON_TYPE, "X-Carrel-CSRF": this.csrf })).ticket;
  }
}

export class Link {
  // `told` takes notifications by their name; `ended` takes the code and the reason, once.
  static async open(session, told, ended) {
    const ticket = await session.ticket();
    const url = new URL("/ws?events=terminal", location.href);
    url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
    const socket = new WebSocket(url, ["carrel.v1", `carrel.ticket.${ticket}`]);
    const link = new Link(socket);
    await new Promise((resolve, reject) => {
      socket.onopen = resolve;
      socket.onclose = () => reject(new Refusal("The connection could not be opened."));
    });
    socket.onmessage = (event) => link.#take(JSON.parse(event.data), told);
    socket.onclose = (event) => { link.#lost(); ended(event.code, event.reason); };
    return link;
  }

  #socket; #next = 1; #waiting = new Map();

  constructor(socket) { this.#socket = socket; }

  call(method, params = {}) {
    if (this.#socket.readyState !== WebSocket.OPEN) return Promise.reject(new Refusal("Not connected."));
    const id = this.#next++;
    this.#socket.send(JSON.stringify({ jsonrpc: "2.0", id, method, params }));
    return new Promise((resolve, reject) => this.#waiting.set(id, { resolve, reject }));
  }

  // Without an answer.
  tell(method, params) {
    if (this.#socket.readyState === WebSocket.OPEN) {
      this.#socket.send(JSON.stringify({ jsonrpc: "2.0", method, params }));
    }
  }

  close() { this.#socket.close(1000); }

  #take(frame, told) {
    if (frame.method) return told(frame.method, frame.params);
    const waiting = this.#waiting.get(frame.id);
    this.#waiting.delete(frame.id);
    if (frame.error) waiting?.reject(new Refusal(frame.error.message, frame.error.data?.code));
    else waiting?.resolve(frame.result);
  }

  #lost() {
    for (const { reject } of this.#waiting.values()) reject(new Refusal("The connection was lost."));
    this.#waiting.clear();
  }
}
