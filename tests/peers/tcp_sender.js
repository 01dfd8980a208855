// Sends COUNT messages to a TCP listener: node tcp_sender.js PORT FRAMING COUNT TOKEN. Prints its acks as JSON.
"use strict";
const net = require("node:net");

const [port, framing, count, token] = process.argv.slice(2);
const acknowledged = [];
let rest = Buffer.alloc(0);

function frame(value) {
  const body = Buffer.from(JSON.stringify(value));
  if (framing === "line") return Buffer.concat([body, Buffer.from("\n")]);
  const length = Buffer.alloc(4);
  length.writeUInt32BE(body.length);
  return Buffer.concat([length, body]);
}

function* frames(data) {
  rest = Buffer.concat([rest, data]);
  for (;;) {
    const end = framing === "line" ? rest.indexOf(10) : rest.length < 4 ? -1 : 4 + rest.readUInt32BE(0);
    if (end < 0 || end > rest.length) return;
    yield JSON.parse(rest.subarray(framing === "line" ? 0 : 4, end).toString());
    rest = rest.subarray(framing === "line" ? end + 1 : end);
  }
}

const socket = net.connect(Number(port), "127.0.0.1", () => socket.write(frame({ type: "auth", token })));
socket.on("data", (data) => {
  for (const told of frames(data)) {
    if (told.type === "ready") {
      for (let n = 0; n < Number(count); n += 1) {
        socket.write(frame({ message_id: `node-${n}`, ref: n, payload: { n, text: "\u{1F9EA} žluťoučký \u0001" } }));
      }
    } else if (told.type === "ack" && told.message_id === `node-${told.ref}`) {
      acknowledged.push(told.message_id);
      if (acknowledged.length === Number(count)) socket.end();
    } else {
      console.error(told);
      process.exit(1);
    }
  }
});
socket.on("close", () => console.log(JSON.stringify(acknowledged)));
