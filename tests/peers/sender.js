// Sends messages one way in, each once: node sender.js http|gateway|tcp TARGET FILE PORT KEY
// ... tls TARGET FILE PORT KEY CA, udp TARGET FILE PORT KEY_ID SECRET, hook TARGET FILE PORT SECRET LISTENER
// FILE has a line a message: `bytes HEX` or `json TEXT`. Prints the ids of those acknowledged, in order, as JSON.
"use strict";
const crypto = require("node:crypto");
const fs = require("node:fs");
const [way, target, file, port, key, more] = process.argv.slice(2);
const lines = fs.readFileSync(file, "utf8").split("\n").slice(0, -1);

// Text, since JSON.stringify would write other numbers than those that were meant.
function message(line, n) {
  const at = line.indexOf(" ");
  const [kind, told] = [line.slice(0, at), line.slice(at + 1)];
  const bytes = () => `"payload_base64":"${Buffer.from(told, "hex").toString("base64")}"`;
  const member = kind === "bytes" ? `${bytes()},"content_type":"application/octet-stream"` : `"payload":${told}`;
  return `{"message_id":"corpus-${way}-${n}","target_system":"${target}",${member}}`;
}
const messages = lines.map(message);
const acknowledged = [];

function heard(text, end) {
  const { type, message_id } = JSON.parse(text);
  if (type === "ack") acknowledged.push(message_id);
  else if (type !== "ready") refused(text);
  if (type === "ack" && acknowledged.length === messages.length) end();
  return type === "ready";
}

function refused(text) {
  console.error(text.slice(0, 1000));
  process.exit(1);
}

function done() {
  console.log(JSON.stringify(acknowledged));
}

async function http() {
  for (const body of messages) {
    const headers = { "X-API-Key": key, "Content-Type": "application/json" };
    const told = await fetch(`http://127.0.0.1:${port}/api/v1/messages/`, { method: "POST", headers, body });
    if (told.status !== 202) refused(await told.text());
    acknowledged.push((await told.json()).message_id);
  }
  done();
}

function tls() {
  const ca = fs.readFileSync(more);
  converse(require("node:tls").connect({ port: Number(port), host: "127.0.0.1", servername: "localhost", ca }));
}

function tcp() {
  converse(require("node:net").connect(Number(port), "127.0.0.1"));
}

function converse(socket) {
  const say = (text) => {
    const body = Buffer.from(text);
    const head = Buffer.alloc(4);
    head.writeUInt32BE(body.length);
    socket.write(Buffer.concat([head, body]));
  };
  let rest = Buffer.alloc(0);
  socket.on(way === "tls" ? "secureConnect" : "connect", () => say(JSON.stringify({ type: "auth", token: key })));
  socket.on("data", (data) => {
    rest = Buffer.concat([rest, data]);
    while (rest.length >= 4 && rest.length >= 4 + rest.readUInt32BE(0)) {
      const end = 4 + rest.readUInt32BE(0);
      const text = rest.subarray(4, end).toString();
      rest = rest.subarray(end);
      if (heard(text, () => socket.end())) messages.forEach(say);
    }
  });
  socket.on("close", done);
}

function gateway() {
  const { WebSocket } = require("ws");
  const headers = { Authorization: `Bearer ${key}` };
  const socket = new WebSocket(`ws://127.0.0.1:${port}/ws/v1/gateway/`, { headers });
  socket.on("message", (data) => {
    const is_ready = heard(data.toString(), () => socket.close());
    if (is_ready) messages.forEach((text) => socket.send(`{"type":"send","message":${text}}`));
  });
  socket.on("close", done);
}

function udp() {
  const socket = require("node:dgram").createSocket("udp4");
  const say = (body) => {
    const [ts, nonce] = [Math.floor(Date.now() / 1000), crypto.randomUUID()];
    const mac = crypto.createHmac("sha256", more).update(`${ts}.${nonce}.${body}`).digest("hex");
    socket.send(JSON.stringify({ v: 1, key, ts, nonce, mac, body, ack: true }), Number(port), "127.0.0.1");
  };
  socket.on("message", (data) => {
    heard(data.toString(), () => socket.close());
    if (acknowledged.length < messages.length) say(messages[acknowledged.length]);
  });
  socket.on("close", done);
  socket.bind(0, "127.0.0.1", () => say(messages[0]));
}

// The body is the payload; who sent it, when, and which it is, are signed beside it.
async function hook() {
  for (const [n, line] of lines.entries()) {
    const [kind, told] = [line.slice(0, line.indexOf(" ")), line.slice(line.indexOf(" ") + 1)];
    const body = Buffer.from(told, kind === "bytes" ? "hex" : "utf8");
    const [id, ts] = [`corpus-${way}-${n}`, Math.floor(Date.now() / 1000)];
    const mac = crypto.createHmac("sha256", key).update(`${id}.${ts}.`).update(body).digest("base64");
    const headers = {
      "content-type": kind === "bytes" ? "application/octet-stream" : "application/json",
      "webhook-id": id,
      "webhook-timestamp": String(ts),
      "webhook-signature": `v1,${mac}`,
    };
    const answer = await fetch(`http://127.0.0.1:${port}/in/${more}/`, { method: "POST", headers, body });
    if (answer.status !== 202) refused(await answer.text());
    acknowledged.push((await answer.json()).message_id);
  }
  done();
}

({ http, tcp, tls, udp, gateway, hook })[way]();
