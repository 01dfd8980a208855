// An HTTP server in Node.js that answers with the body it got; with PEM (key and certificate) over TLS.
// node http.js PORT [PEM] - prints a line when it listens.
"use strict";
const [port, pem] = process.argv.slice(2);
const both = pem && require("node:fs").readFileSync(pem);
const { createServer } = require(pem ? "node:https" : "node:http");
const server = createServer(both ? { key: both, cert: both } : {}, (request, response) => {
  const parts = [];
  request.on("data", (part) => parts.push(part));
  request.on("end", () => {
    const body = Buffer.concat(parts);
    response.writeHead(200, { "content-type": "application/octet-stream", "content-length": body.length });
    response.end(body);
  });
});
server.listen(Number(port), "127.0.0.1", () => console.log(`listening ${server.address().port}`));
