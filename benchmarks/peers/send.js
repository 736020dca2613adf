// node send.js PORT CONTENT COUNT CONNECTIONS WARM: nodemailer's pool; prints messages a second.
"use strict";
const fs = require("fs");
const nodemailer = require("nodemailer");

const [port, file, count, connections, warm] = process.argv.slice(2);
const raw = fs.readFileSync(file);
const envelope = { from: "sender@example.org", to: ["recipient@example.com"] };
const transport = nodemailer.createTransport({
  pool: true, host: "127.0.0.1", port: Number(port), ignoreTLS: true,
  maxConnections: Number(connections), maxMessages: Infinity,
});
const send = (n) => Promise.all(Array.from({ length: n }, () => transport.sendMail({ envelope, raw })));

(async () => {
  await send(Number(warm) * Number(connections));
  const start = process.hrtime.bigint();
  await send(Number(count));
  console.log(Number(count) / (Number(process.hrtime.bigint() - start) / 1e9));
  transport.close();
})();
