// A TCP or TLS server in Node.js: node tcp.js PORT FRAMING LEDGER [HOLD] [PEM [CA]]
// It writes each body it got as a line of hex into LEDGER and acknowledges it; the first HOLD it
// only writes down. With a PEM it speaks TLS, with a CA it wants a certificate signed by that.
const fs = require("fs");
const [port, framing, ledger, hold = "0", pem, ca] = process.argv.slice(2);
let held = Number(hold);

const take = {
  line(buffer) {
    const end = buffer.indexOf(0x0a);
    return end < 0 ? null : [buffer.subarray(0, end), end + 1];
  },
  length(buffer) {
    if (buffer.length < 4 || buffer.length < 4 + buffer.readUInt32BE(0)) return null;
    return [buffer.subarray(4, 4 + buffer.readUInt32BE(0)), 4 + buffer.readUInt32BE(0)];
  },
  mllp(buffer) {
    const end = buffer.indexOf(Buffer.from([0x1c, 0x0d]));
    return end < 0 ? null : [buffer.subarray(1, end), end + 2];
  },
}[framing];
const frame = {
  line: (body) => Buffer.concat([body, Buffer.from("\n")]),
  length: (body) => {
    const head = Buffer.alloc(4);
    head.writeUInt32BE(body.length);
    return Buffer.concat([head, body]);
  },
  mllp: (body) => Buffer.concat([Buffer.from([0x0b]), body, Buffer.from([0x1c, 0x0d])]),
}[framing];

function acknowledge(body) {
  if (framing !== "mllp") return body; // the very bytes, so that the other side can compare them
  const header = body.toString("latin1").split("\r")[0].split("|");
  const code = header[8] === "ADT^A01" ? "AA" : "AE";
  return Buffer.from(`MSH|^~\\&|PEER|LAB|${header[2]}|${header[3]}|20260102||ACK|1|P|2.5\rMSA|${code}|${header[9]}\r`);
}

function converse(socket) {
  let buffer = Buffer.alloc(0);
  socket.on("error", () => {});
  socket.on("data", (data) => {
    buffer = buffer.length ? Buffer.concat([buffer, data]) : data;
    for (let found = take(buffer); found; found = take(buffer)) {
      const body = Buffer.from(found[0]);
      buffer = buffer.subarray(found[1]);
      fs.appendFileSync(ledger, body.toString("hex") + "\n");
      if (held > 0) held -= 1;
      else socket.write(frame(acknowledge(body)));
    }
  });
}

const server = pem
  ? require("tls").createServer(
      { key: fs.readFileSync(pem), cert: fs.readFileSync(pem), ca: ca && fs.readFileSync(ca), requestCert: !!ca },
      converse,
    )
  : require("net").createServer(converse);
server.listen(Number(port), "127.0.0.1", () => console.log("listening"));
