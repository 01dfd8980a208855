// Answers each delivery with what it got: as a client of the gateway (Node.js's `ws`), or as a consumer that fetches.
// node echo.js gateway|pull URL SYSTEM KEY - runs until it is killed.
// JSON goes back as the text it came as, since JSON.parse would round its numbers; bytes are decoded and encoded anew.
"use strict";
const [way, url, system, key] = process.argv.slice(2);

// The payload is the last member of the last message in what we say.
function answer(text, message) {
  if (message.payload_base64) return bytes(Buffer.from(message.payload_base64, "base64"));
  if (message.payload_base64 === "") return bytes(Buffer.alloc(0));
  const told = text.slice(text.indexOf('"payload":'));
  return told.slice(0, told.lastIndexOf(way === "pull" ? ',"payload_base64":null' : "}}"));
}

function bytes(body) {
  return `"content_type":"application/octet-stream","payload_base64":"${body.toString("base64")}"`;
}

function gateway() {
  const { WebSocket } = require("ws");
  const address = `${url.replace("http", "ws")}/ws/v1/gateway/`;
  const socket = new WebSocket(address, { headers: { Authorization: `Bearer ${key}` } });
  socket.on("message", (data) => {
    const text = data.toString("utf8");
    const { type, delivery_id, message } = JSON.parse(text);
    if (type === "ready") console.log("listening");
    else if (type === "delivery") socket.send(`{"type":"reply","delivery_id":"${delivery_id}",${answer(text, message)}}`);
    else console.error(text);
  });
}

async function pull() {
  const headers = { "X-API-Key": key, "Content-Type": "application/json" };
  console.log("listening");
  for (;;) {
    const fetched = await fetch(`${url}/api/v1/systems/${system}/inbox/?max=1&wait=10`, { headers });
    const text = await fetched.text();
    for (const { delivery_id, attempt, message } of JSON.parse(text).results) {
      const body = `{"attempt":${attempt},${answer(text, message)}}`;
      const said = await fetch(`${url}/api/v1/deliveries/${delivery_id}/ack/`, { method: "POST", headers, body });
      if (said.status !== 200) console.error(await said.text());
    }
  }
}

({ gateway, pull })[way]();
