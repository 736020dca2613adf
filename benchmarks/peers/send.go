// send PORT CONTENT COUNT CONNECTIONS WARM: Go's net/smtp, reusing each connection; prints messages a second.
package main

import (
	"fmt"
	"net/smtp"
	"os"
	"strconv"
	"sync"
	"time"
)

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func send(client *smtp.Client, content []byte, count int) {
	for i := 0; i < count; i++ {
		must(client.Mail("sender@example.org"))
		must(client.Rcpt("recipient@example.com"))
		data, err := client.Data()
		must(err)
		_, err = data.Write(content)
		must(err)
		must(data.Close())
	}
}

func number(text string) int {
	value, err := strconv.Atoi(text)
	must(err)
	return value
}

func main() {
	content, err := os.ReadFile(os.Args[2])
	must(err)
	count, connections, warm := number(os.Args[3]), number(os.Args[4]), number(os.Args[5])
	var ready, done sync.WaitGroup
	begin := make(chan struct{})
	ready.Add(connections)
	done.Add(connections)
	for i := 0; i < connections; i++ {
		share := count / connections
		if i < count%connections {
			share++
		}
		go func() {
			client, err := smtp.Dial("127.0.0.1:" + os.Args[1])
			must(err)
			send(client, content, warm)
			ready.Done()
			<-begin
			send(client, content, share)
			done.Done()
			client.Quit()
		}()
	}
	ready.Wait()
	start := time.Now()
	close(begin)
	done.Wait()
	fmt.Println(float64(count) / time.Since(start).Seconds())
}
