// hoodiecrow with TLS: node hoodiecrow.js INSTALLED PORT CERTIFICATE KEY USER PASSWORD
const fs = require("fs");
const [installed, port, certificate, key, user, password] = process.argv.slice(2);
const hoodiecrow = require(installed + "/node_modules/hoodiecrow-imap");
const server = hoodiecrow({
  plugins: ["enable", "id", "special-use", "uidplus", "literalplus", "namespace", "idle", "auth-plain", "sasl-ir"],
  secureConnection: true,
  credentials: { key: fs.readFileSync(key), cert: fs.readFileSync(certificate) },
  id: { name: "hoodiecrow", version: "2.1.0" },
  users: { [user]: { password } },
  storage: { INBOX: {}, "": { separator: "/", folders: { Sent: { "special-use": "\\Sent", messages: [] } } } },
  debug: false,
});
server.listen(+port, "127.0.0.1");
// A client that is cut off must not end the server.
process.on("uncaughtException", (error) => console.error(error.stack));
