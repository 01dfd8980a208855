// A server of the `communication` pack's contract: HTTP and WebSocket on one port, TCP (lines) and UDP.
// node communication.js PORT TCP_PORT UDP_PORT - prints a line when all listen; PORT 0 is any.
"use strict";
const http = require("http");
const net = require("net");
const dgram = require("dgram");
const { WebSocketServer } = require("ws");

const [port, tcpPort, udpPort] = process.argv.slice(2).map(Number);
const health = { status: "ok", uptime_s: 0 };

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

// Answer by `say`; a broadcast goes to all of `everybody`.
function answer(body, say, everybody) {
  const kind = parsed(body)?.type;
  if (kind === "health") say(JSON.stringify({ type: "health", ...health }));
  else if (kind === "broadcast") everybody.forEach((each) => each(body));
  else say(body);
}

const web = http.createServer((request, response) => {
  const json = (status, value) => response.writeHead(status, { "content-type": "application/json" }).end(value);
  if (request.method === "GET" && request.url === "/health") return json(200, JSON.stringify(health));
  if (request.method !== "POST" || request.url !== "/echo") return json(404, "{}");
  const parts = [];
  request.on("data", (part) => parts.push(part));
  request.on("end", () => json(200, Buffer.concat(parts)));
});

const sockets = new Set();
new WebSocketServer({ server: web, path: "/ws" }).on("connection", (socket) => {
  const say = (body) => socket.send(body);
  sockets.add(say);
  socket.on("close", () => sockets.delete(say));
  socket.on("message", (data, isBinary) => (isBinary ? socket.send(data) : answer(data.toString(), say, sockets)));
});

const lines = new Set();
const tcp = net.createServer((socket) => {
  const say = (body) => socket.write(body + "\n");
  let rest = "";
  lines.add(say);
  socket.setEncoding("utf8");
  socket.on("error", () => {});
  socket.on("close", () => lines.delete(say));
  socket.on("data", (data) => {
    const found = (rest + data).split("\n");
    rest = found.pop();
    found.forEach((line) => answer(line, say, lines));
  });
});

const udp = dgram.createSocket("udp4");
udp.on("message", (data, from) => answer(data.toString(), (body) => udp.send(body, from.port, from.address), []));

udp.bind(udpPort, "127.0.0.1", () =>
  tcp.listen(tcpPort, "127.0.0.1", () =>
    web.listen(port, "127.0.0.1", () => console.log(`listening ${web.address().port}`)),
  ),
);
