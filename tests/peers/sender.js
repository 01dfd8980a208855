// Sends messages one way in, each once: node sender.js http|tcp|gateway PORT KEY TARGET FILE
// FILE has a line a message: `bytes HEX` or `json TEXT`. Prints the ids of those acknowledged, in order, as JSON.
"use strict";
const fs = require("node:fs");
const [way, port, key, target, file] = process.argv.slice(2);
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

function tcp() {
  const socket = require("node:net").connect(Number(port), "127.0.0.1");
  const say = (text) => {
    const body = Buffer.from(text);
    const head = Buffer.alloc(4);
    head.writeUInt32BE(body.length);
    socket.write(Buffer.concat([head, body]));
  };
  let rest = Buffer.alloc(0);
  socket.on("connect", () => say(JSON.stringify({ type: "auth", token: key })));
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

({ http, tcp, gateway })[way]();
