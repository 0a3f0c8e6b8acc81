// An in-memory IMAP server made of go-imap's imapserver, with TLS: imapmem ADDRESS CERTIFICATE KEY USER PASSWORD
package main

import (
	"crypto/tls"
	"log"
	"os"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapserver"
	"github.com/emersion/go-imap/v2/imapserver/imapmemserver"
)

func main() {
	address, certificate, key, name, password := os.Args[1], os.Args[2], os.Args[3], os.Args[4], os.Args[5]
	pair, err := tls.LoadX509KeyPair(certificate, key)
	if err != nil {
		log.Fatal(err)
	}
	user := imapmemserver.NewUser(name, password)
	if err := user.Create("INBOX", nil); err != nil {
		log.Fatal(err)
	}
	memory := imapmemserver.New()
	memory.AddUser(user)
	server := imapserver.New(&imapserver.Options{
		NewSession: func(*imapserver.Conn) (imapserver.Session, *imapserver.GreetingData, error) {
			return memory.NewSession(), nil, nil
		},
		Caps: imap.CapSet{imap.CapIMAP4rev1: {}},
	})
	listener, err := tls.Listen("tcp", address, &tls.Config{Certificates: []tls.Certificate{pair}})
	if err != nil {
		log.Fatal(err)
	}
	log.Fatal(server.Serve(listener))
}
