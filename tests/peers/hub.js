// A hub of the `websocket` pack's contract on Node.js's `ws`; see docs/packs/websocket.md.
// node hub.js PORT - prints a line when it listens; PORT 0 is any.
"use strict";
const http = require("http");
const { WebSocketServer } = require("ws");

const [AUTH_MS, HEARTBEAT_MS, RETRY_MS, ATTEMPTS] = [700, 1000, 300, 3];
const RANKS = { high: 0, normal: 1, low: 2 };
const tenants = new Map(); // name -> {users: Map(name -> {sockets, waiting}), said, dead}
const unconfirmed = new Map();
let seq = 0;

const who = (token) => {
  const parts = String(token).split("/");
  return parts.length === 3 && parts.every(Boolean) && parts[2] === "hub-secret" ? parts.slice(0, 2) : null;
};
const say = (socket, frame) => socket.send(JSON.stringify(frame));

function enter(socket, tenant, name) {
  if (!tenants.has(tenant)) tenants.set(tenant, { users: new Map(), said: [], dead: [] });
  const here = tenants.get(tenant);
  if (!here.users.has(name)) here.users.set(name, { sockets: new Set(), waiting: [] });
  const user = here.users.get(name);
  say(socket, { type: "welcome", tenant, user: name });
  user.waiting.splice(0).sort((a, b) => RANKS[a.priority] - RANKS[b.priority]).forEach((each) => say(socket, each));
  user.sockets.add(socket);
  socket.on("close", () => user.sockets.delete(socket));
  socket.on("message", (data, isBinary) => answer(socket, here, tenant, name, isBinary ? null : data.toString()));
}

function parsed(text) {
  try {
    const frame = JSON.parse(text);
    return frame && typeof frame === "object" && !Array.isArray(frame) ? frame : {};
  } catch {
    return {};
  }
}

function deliver(here, name, message) {
  const user = here.users.get(name);
  const there = [...user.sockets].filter((socket) => socket.readyState === socket.OPEN); // not one that is leaving
  if (there.length) there.forEach((socket) => say(socket, message));
  else user.waiting.push(message);
}

function untilConfirmed(here, key, name, message, attempt) {
  if (attempt > ATTEMPTS) return void (unconfirmed.delete(key), here.dead.push(message));
  deliver(here, name, { ...message, attempt });
  unconfirmed.set(key, setTimeout(untilConfirmed, RETRY_MS, here, key, name, message, attempt + 1));
}

function take(here, tenant, from, frame) {
  const { id, to, text = "", thread = null, priority = "normal" } = frame;
  if (to !== "*" && !here.users.has(to)) return { type: "error", code: "unknown_user", id };
  const message = { type: "message", id, seq: (seq += 1), from, to, thread, text, priority, attempt: 1 };
  here.said.push(message);
  for (const name of to === "*" ? [...here.users.keys()].filter((each) => each !== from) : [to]) {
    if (frame.confirm) untilConfirmed(here, `${tenant}/${name}/${id}`, name, message, 1);
    else deliver(here, name, message);
  }
  return { type: "accepted", id };
}

function answer(socket, here, tenant, name, text) {
  const frame = parsed(text);
  const theirs = () => here.said.filter((each) => each.from === name || each.to === name);
  const kinds = {
    ping: () => ({ type: "pong", n: frame.n }),
    send: () => take(here, tenant, name, frame),
    confirm: () => void clearTimeout(unconfirmed.get(`${tenant}/${name}/${frame.id}`)),
    history: () => ({ type: "history", messages: theirs().filter((each) => each.thread === frame.thread) }),
    search: () => ({ type: "search", messages: theirs().filter((each) => each.text.includes(frame.text)) }),
    dead: () => ({ type: "dead", messages: here.dead.filter((each) => each.from === name) }),
  };
  const told = Object.hasOwn(kinds, frame.type) ? kinds[frame.type]() : { type: "error", code: "bad_frame" };
  if (told) say(socket, told);
}

const server = http.createServer();
const hub = new WebSocketServer({
  server,
  path: "/hub",
  maxPayload: 64 * 1024,
  handleProtocols: (offered) => (offered.has("hub.v1") ? "hub.v1" : false),
  verifyClient: ({ req }, done) => {
    const shown = req.headers.authorization;
    done(!shown || who(shown.replace("Bearer ", "")) !== null, 401);
  },
});
hub.on("headers", (headers, request) => {
  if (request.headers["x-request-id"]) headers.push(`X-Request-Id: ${request.headers["x-request-id"]}`);
});
hub.on("connection", (socket, request) => {
  socket.on("error", () => {}); // a frame over maxPayload: `ws` closes with 1009 by itself
  let isAlive = true;
  socket.on("pong", () => (isAlive = true));
  const beat = setInterval(() => {
    if (!isAlive) return socket.terminate();
    isAlive = false;
    socket.ping();
  }, HEARTBEAT_MS);
  socket.on("close", () => clearInterval(beat));
  const shown = request.headers.authorization;
  if (shown) return enter(socket, ...who(shown.replace("Bearer ", "")));
  const late = setTimeout(() => socket.close(4401, "no token in time"), AUTH_MS);
  socket.once("message", (data) => {
    clearTimeout(late);
    const frame = parsed(data.toString());
    const found = frame.type === "auth" && who(frame.token);
    if (found) enter(socket, ...found);
    else socket.close(4401, "the token is not good");
  });
});
server.listen(Number(process.argv[2]), "127.0.0.1", () => console.log(`listening ${server.address().port}`));
