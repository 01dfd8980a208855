// Sends COUNT signed datagrams: node udp_sender.js PORT COUNT KEY_ID SECRET. Prints which were acknowledged as JSON.
"use strict";
const crypto = require("node:crypto");
const dgram = require("node:dgram");

const [port, count, key, secret] = process.argv.slice(2);
const acknowledged = [];
const socket = dgram.createSocket("udp4");

function send(n) {
  const body = JSON.stringify({ message_id: `node-${n}`, payload: { n, text: "\u{1F9EA}" } });
  const ts = Math.floor(Date.now() / 1000);
  const nonce = crypto.randomUUID();
  const mac = crypto.createHmac("sha256", secret).update(`${ts}.${nonce}.${body}`).digest("hex");
  socket.send(JSON.stringify({ v: 1, key, ts, nonce, mac, body, ack: true }), Number(port), "127.0.0.1");
}

socket.on("message", (data) => {
  const told = JSON.parse(data.toString());
  acknowledged.push(told.message_id);
  if (acknowledged.length === Number(count)) {
    console.log(JSON.stringify(acknowledged));
    socket.close();
  } else {
    send(acknowledged.length);
  }
});
socket.bind(0, "127.0.0.1", () => send(0));
