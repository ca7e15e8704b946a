// HOST PORT WAY USER PASSWORD CA FROM TO < message
package main

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"log"
	"net"
	"net/smtp"
	"os"
)

func must(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func main() {
	host, port, way, user, password, ca, from, to := os.Args[1], os.Args[2], os.Args[3], os.Args[4], os.Args[5], os.Args[6], os.Args[7], os.Args[8]
	message, err := io.ReadAll(os.Stdin)
	must(err)
	config := &tls.Config{ServerName: host}
	if pem, err := os.ReadFile(ca); err == nil {
		config.RootCAs = x509.NewCertPool()
		config.RootCAs.AppendCertsFromPEM(pem)
	}
	var connection net.Conn
	switch way {
	case "implicit":
		connection, err = tls.Dial("tcp", net.JoinHostPort(host, port), config)
	case "unix":
		connection, err = net.Dial("unix", port)
	default:
		connection, err = net.Dial("tcp", net.JoinHostPort(host, port))
	}
	must(err)
	client, err := smtp.NewClient(connection, host)
	must(err)
	if way == "starttls" {
		must(client.StartTLS(config))
	}
	if way == "starttls" || way == "implicit" {
		must(client.Auth(smtp.PlainAuth("", user, password, host)))
	}
	must(client.Mail(from))
	must(client.Rcpt(to))
	body, err := client.Data()
	must(err)
	_, err = body.Write(message)
	must(err)
	must(body.Close())
	must(client.Quit())
}
