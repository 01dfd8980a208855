// A UDP server in Node.js: node udp.js PORT FRAMING LEDGER [HOLD]
// It writes each datagram as a line of hex into LEDGER and sends it back; the first HOLD it only writes down.
const fs = require("fs");
const [port, , ledger, hold = "0"] = process.argv.slice(2);
let held = Number(hold);
const server = require("dgram").createSocket("udp4");
server.on("message", (message, from) => {
  fs.appendFileSync(ledger, message.toString("hex") + "\n");
  if (held > 0) held -= 1;
  else server.send(message, from.port, from.address);
});
server.bind(Number(port), "127.0.0.1", () => console.log("listening"));
