// HOST PORT WAY USER PASSWORD CA FROM TO < message; needs the package nodemailer
const fs = require("fs");
const nodemailer = require("nodemailer");
const [host, port, way, user, pass, ca, from, to] = process.argv.slice(2);
const transport = nodemailer.createTransport({
  host,
  port: Number(port),
  secure: way === "implicit",
  ignoreTLS: way === "plain",
  requireTLS: way === "starttls" || way === "login",
  auth: way === "plain" ? undefined : { user, pass },
  authMethod: way === "login" ? "LOGIN" : "PLAIN",
  tls: { ca: fs.readFileSync(ca) },
});
transport.sendMail({ envelope: { from, to: [to] }, raw: fs.readFileSync(0) }).then(
  () => transport.close(),
  (error) => {
    console.error(error.message);
    process.exit(1);
  },
);
