// node cold.js MODE PORT [USER PASSWORD]: nodemailer sends one message over a connection of its own.
"use strict";
const nodemailer = require("nodemailer");

const [mode, port, user, pass] = process.argv.slice(2);
const transport = nodemailer.createTransport({
  host: "localhost", port: Number(port), name: "bench.example",
  secure: mode === "implicit", requireTLS: mode === "starttls", ignoreTLS: mode === "none",
  auth: user ? { user, pass } : undefined,
});
transport.sendMail({
  envelope: { from: "sender@example.org", to: ["recipient@example.com"] }, raw: "Subject: measured\r\n\r\nHi.\r\n",
}).catch((error) => { console.error(error); process.exit(1); });
