// cold MODE PORT [USER PASSWORD]: Go's net/smtp sends one message over a connection of its own.
package main

import (
	"crypto/tls"
	"net"
	"net/smtp"
	"os"
)

const host = "localhost"

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func dial(mode, port string) *smtp.Client {
	address := net.JoinHostPort(host, port)
	if mode == "implicit" {
		line, err := tls.Dial("tcp", address, &tls.Config{ServerName: host})
		must(err)
		client, err := smtp.NewClient(line, host)
		must(err)
		return client
	}
	client, err := smtp.Dial(address)
	must(err)
	if mode == "starttls" {
		must(client.StartTLS(&tls.Config{ServerName: host}))
	}
	return client
}

func main() {
	client := dial(os.Args[1], os.Args[2])
	if len(os.Args) > 3 {
		must(client.Auth(smtp.PlainAuth("", os.Args[3], os.Args[4], host)))
	}
	must(client.Mail("sender@example.org"))
	must(client.Rcpt("recipient@example.com"))
	data, err := client.Data()
	must(err)
	_, err = data.Write([]byte("Subject: measured\r\n\r\nHi.\r\n"))
	must(err)
	must(data.Close())
	must(client.Quit())
}
