// A client of the gateway on Node.js's `ws`: sends COUNT messages, acknowledges what it gets, replies to requests.
// node gateway.js URL KEY COUNT - prints one JSON line once all are acknowledged and as many deliveries came.
"use strict";
const { WebSocket } = require("ws");

const [url, key, count] = process.argv.slice(2);
const socket = new WebSocket(url, { headers: { Authorization: `Bearer ${key}` } });
const found = { ready: null, acks: [], nacks: [], got: [], unknown: [] };
const say = (frame) => socket.send(JSON.stringify(frame));
const frames = {
  ready: (frame) => {
    found.ready = frame;
    for (let number = 0; number < count; number += 1) {
      say({ type: "send", ref: `r${number}`, message: { target_system: frame.system, payload: { number, text: "ü \u{1F600}" } } });
    }
  },
  ack: (frame) => found.acks.push(frame.ref),
  nack: (frame) => found.nacks.push(frame),
  delivery: ({ delivery_id, message }) => {
    found.got.push(message.payload);
    say({ type: message.message_type === "request" ? "reply" : "ack", delivery_id, payload: message.payload });
  },
};
socket.on("message", (data) => {
  const frame = JSON.parse(data);
  (frames[frame.type] || ((other) => found.unknown.push(other)))(frame);
  if (found.acks.length + found.nacks.length >= count && found.got.length >= count) socket.close();
});
socket.on("close", (code) => {
  console.log(JSON.stringify({ ...found, code }));
});
socket.on("error", (error) => console.error(String(error)));
