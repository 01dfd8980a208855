// A WebSocket server on Node.js's `ws`: echoes every message as it came, or acks it by its id.
// node ws.js PORT [echo|ack] [LARGEST] [PEM] - prints a line when it listens; PORT 0 is any; over TLS with PEM.
"use strict";
const { WebSocketServer } = require("ws");

const [port, mode = "echo", largest = 2 * 1024 * 1024, pem] = process.argv.slice(2);
const both = pem && require("node:fs").readFileSync(pem);
const { createServer } = require(pem ? "node:https" : "node:http");
const listener = createServer(both ? { key: both, cert: both } : {});
const server = new WebSocketServer({
  server: listener,
  maxPayload: Number(largest),
  perMessageDeflate: true,
  handleProtocols: (offered) => (offered.has("orders.v2") ? "orders.v2" : false),
});
const answers = {
  echo: (socket, data, isBinary) => socket.send(data, { binary: isBinary }),
  ack: (socket, data) => {
    const { delivery_id } = JSON.parse(data);
    socket.send(JSON.stringify({ type: "ack", delivery_id }));
  },
};
server.on("connection", (socket) => {
  socket.on("message", (data, isBinary) => answers[mode](socket, data, isBinary));
  socket.on("error", () => {}); // a message over maxPayload: `ws` closes with 1009 by itself
});
listener.listen(Number(port), "127.0.0.1", () => console.log(`listening ${listener.address().port}`));
