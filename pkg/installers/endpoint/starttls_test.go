package endpoint_test

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/installers/endpoint"
	"github.com/acmed/acmed/pkg/installers/installertest"
)

// talker is the server's side of a conversation before TLS. It stops at the first surprise.
type talker struct {
	t *testing.T
	r *bufio.Reader
	w io.Writer
}

func (s *talker) say(text string) { _, _ = io.WriteString(s.w, text) }

func (s *talker) hear(line string) {
	got, err := s.r.ReadString('\n')
	if err != nil || got != line+"\r\n" {
		s.t.Errorf("the client said %q (%v), want %q", got, err, line)
	}
}

func (s *talker) hearBytes(want string) {
	got := make([]byte, len(want))
	if _, err := io.ReadFull(s.r, got); err != nil || string(got) != want {
		s.t.Errorf("the client said %q (%v), want %q", got, err, want)
	}
}

func (s *talker) hearUntil(end string) string {
	var got []byte
	for !bytes.HasSuffix(got, []byte(end)) {
		b, err := s.r.ReadByte()
		if err != nil {
			s.t.Errorf("the client said %q (%v), want it to end in %q", got, err, end)
			break
		}
		got = append(got, b)
	}
	return string(got)
}

// talk starts a server that holds a conversation, speaks TLS with b, and hangs up.
func talk(t *testing.T, b *certs.Bundle, conversation func(s *talker)) string {
	t.Helper()
	return talkOn(t, b, conversation, func(*tls.Conn) {})
}

// talkOn starts a server that holds a conversation, speaks TLS with b, and goes on before it hangs up.
func talkOn(t *testing.T, b *certs.Bundle, conversation func(s *talker), goOn func(*tls.Conn)) string {
	t.Helper()
	pairs, err := installertest.KeyPairs(b)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		conversation(&talker{t: t, r: bufio.NewReaderSize(conn, 16), w: conn})
		server := tls.Server(conn, &tls.Config{Certificates: pairs})
		if server.Handshake() == nil {
			goOn(server)
		}
	})
	t.Cleanup(func() {
		listener.Close()
		wg.Wait()
	})
	return listener.Addr().String()
}

// ldapOK is an ExtendedResponse with result code 0, with long-form lengths as some servers send them.
const ldapOK = "\x30\x84\x00\x00\x00\x10\x02\x01\x01\x78\x84\x00\x00\x00\x07\x0a\x01\x00\x04\x00\x04\x00"

func TestStartTLS(t *testing.T) {
	tests := []struct {
		name, protocol string
		conversation   func(s *talker)
		want           string // part of the error; "" for success
	}{
		{"smtp", "smtp", func(s *talker) {
			s.say("220-mail.example ESMTP\r\n220 welcome\r\n")
			s.hear("EHLO acmed.invalid")
			s.say("250-mail.example\r\n250-PIPELINING\r\n250-starttls\r\n250 8BITMIME\r\n")
			s.hear("STARTTLS")
			s.say("220 2.0.0 Ready\r\n")
		}, ""},
		{"smtp without", "smtp", func(s *talker) {
			s.say("220 mail.example\r\n")
			s.hear("EHLO acmed.invalid")
			s.say("250 mail.example\r\n")
		}, "does not offer STARTTLS"},
		{"smtp busy", "smtp", func(s *talker) { s.say("421 too \x1b[31mbusy\r\n") }, `answered: 421 too \u001b[31mbusy`},
		{"smtp refuses", "smtp", func(s *talker) {
			s.say("220 x\r\n")
			s.hear("EHLO acmed.invalid")
			s.say("250 STARTTLS\r\n")
			s.hear("STARTTLS")
			s.say("454 TLS not available\r\n")
		}, "454 TLS not available"},
		{"smtp endless reply", "smtp", func(s *talker) { s.say(strings.Repeat("220-x\r\n", 200)) }, "more than 100 lines"},
		{"smtp endless line", "smtp", func(s *talker) { s.say("220 " + strings.Repeat("x", 5000)) }, "more than 2048 bytes"},
		{"imap", "imap", func(s *talker) {
			s.say("* OK [CAPABILITY IMAP4rev1 STARTTLS] ready\r\n")
			s.hear("a STARTTLS")
			s.say("* CAPABILITY IMAP4rev1\r\na OK begin\r\n")
		}, ""},
		{"imap bye", "imap", func(s *talker) { s.say("* BYE later\r\n") }, "* BYE later"},
		{"imap bad", "imap", func(s *talker) {
			s.say("* OK\r\n")
			s.hear("a STARTTLS")
			s.say("a BAD unknown\r\n")
		}, "a BAD unknown"},
		{"imap chatter", "imap", func(s *talker) {
			s.say("* OK\r\n")
			s.hear("a STARTTLS")
			s.say(strings.Repeat("* x\r\n", 200))
		}, "more than 100 lines"},
		{"pop3", "pop3", func(s *talker) {
			s.say("+OK ready\r\n")
			s.hear("STLS")
			s.say("+OK begin\r\n")
		}, ""},
		{"pop3 refuses", "pop3", func(s *talker) {
			s.say("+OK ready\r\n")
			s.hear("STLS")
			s.say("-ERR no\r\n")
		}, "-ERR no"},
		{"ftp", "ftp", func(s *talker) {
			s.say("220 ready\r\n")
			s.hear("AUTH TLS")
			s.say("234 go\r\n")
		}, ""},
		{"ftp refuses", "ftp", func(s *talker) {
			s.say("220 ready\r\n")
			s.hear("AUTH TLS")
			s.say("502 no\r\n")
		}, "502 no"},
		{"mysql", "mysql", func(s *talker) {
			s.say("\x1b\x00\x00\x00\x0a10.11-x\x00\x01\x00\x00\x00saltsalt\x00\xfe\xff\x08\x02\x00")
			s.hearBytes("\x20\x00\x00\x01\x00\x8a\x00\x00\x00\x00\x00\x01\x21" + strings.Repeat("\x00", 23))
		}, ""},
		{"mysql off", "mysql", func(s *talker) {
			s.say("\x1b\x00\x00\x00\x0a10.11-x\x00\x01\x00\x00\x00saltsalt\x00\xfe\xf7\x08\x02\x00")
		}, "switched off"},
		{"mysql full", "mysql", func(s *talker) { s.say("\x0b\x00\x00\x00\xff\x10\x04Too many") }, "Too many"},
		{"not mysql", "mysql", func(s *talker) { s.say("\x04\x00\x00\x00\x0aabc") }, "no greeting"},
		{"postgres", "postgres", func(s *talker) { s.hearBytes("\x00\x00\x00\x08\x04\xd2\x16\x2f"); s.say("S") }, ""},
		{"postgres off", "postgres", func(s *talker) { s.hearBytes("\x00\x00\x00\x08\x04\xd2\x16\x2f"); s.say("N") }, "switched off"},
		{"ldap", "ldap", func(s *talker) {
			s.hearBytes("\x30\x1d\x02\x01\x01\x77\x18\x80\x161.3.6.1.4.1.1466.20037")
			s.say(ldapOK)
		}, ""},
		{"ldap short lengths", "ldap", func(s *talker) {
			s.hearUntil("20037")
			s.say("\x30\x0c\x02\x01\x01\x78\x07\x0a\x01\x00\x04\x00\x04\x00")
		}, ""},
		{"ldap refuses", "ldap", func(s *talker) {
			s.hearUntil("20037")
			s.say("\x30\x0c\x02\x01\x01\x78\x07\x0a\x01\x02\x04\x00\x04\x00")
		}, "LDAP result 02"},
		{"ldap nonsense", "ldap", func(s *talker) { s.hearUntil("20037"); s.say("HTTP/1.1 400") }, "tag 0x48"},
		{"ldap too long", "ldap", func(s *talker) { s.hearUntil("20037"); s.say("\x30\x84\xff\xff\xff\xff") }, "too long"},
		{"ldap far too long", "ldap", func(s *talker) { s.hearUntil("20037"); s.say("\x30\xff") }, "too long"},
		{"xmpp", "xmpp", func(s *talker) {
			if got := s.hearUntil("to='chat.example'>"); !strings.Contains(got, "xmlns='jabber:client'") {
				s.t.Errorf("the client said %q", got)
			}
			s.say("<?xml version='1.0'?><stream:stream id='x'><stream:features><starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'><required/></starttls></stream:features>")
			s.hearUntil("<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>")
			s.say("<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>")
		}, ""},
		{"xmpp long form", "xmpp", func(s *talker) {
			s.hearUntil(">")
			s.say("<stream:features><starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/></stream:features>")
			s.hearUntil("-tls'/>")
			s.say("<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'></proceed>")
		}, ""},
		{"xmpp without", "xmpp", func(s *talker) { s.hearUntil(">"); s.say("<stream:features></stream:features>") }, "does not offer"},
		{"xmpp stranger", "xmpp", func(s *talker) {
			s.hearUntil(">")
			s.say("<?xml version='1.0'?><stream:stream id=''><stream:error><host-unknown/></stream:error></stream:stream>")
		}, "answered: <stream:error><host-unknown/>"},
		{"xmpp fails", "xmpp", func(s *talker) {
			s.hearUntil(">")
			s.say("<stream:features>urn:ietf:params:xml:ns:xmpp-tls</stream:features>")
			s.hearUntil("-tls'/>")
			s.say("<failure/>")
		}, "<failure/>"},
		{"xmpp endless", "xmpp", func(s *talker) { s.hearUntil(">"); s.say(strings.Repeat("x", 20000)) }, "more than 16384 bytes"},
		{"injected", "smtp", func(s *talker) {
			s.say("220 x\r\n")
			s.hear("EHLO acmed.invalid")
			s.say("250 STARTTLS\r\n")
			s.hear("STARTTLS")
			s.say("220 go\r\n250 injected\r\n")
		}, "TLS handshake failed"},
	}
	b := installertest.Bundle(t, "chat.example")
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			e := endpoint.Endpoint{Addr: talk(t, b, tt.conversation), ServerName: "chat.example", StartTLS: tt.protocol}
			if tt.want == "" {
				if err := endpoint.Look(t.Context(), []endpoint.Endpoint{e}, b); err != nil {
					t.Error(err)
				}
				return
			}
			if _, err := endpoint.Handshake(t.Context(), e); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("Handshake = %v, want %q", err, tt.want)
			}
		})
	}
	if _, err := endpoint.Handshake(t.Context(), endpoint.Endpoint{Addr: "127.0.0.1:1", StartTLS: "gopher"}); err == nil {
		t.Error("an unknown protocol was accepted")
	}
}

// TestHandshakeEndsInOrder: a server never sees a connection that breaks, and one that does not hang up delays nobody.
func TestHandshakeEndsInOrder(t *testing.T) {
	b := installertest.Bundle(t, "mail.example")
	imap := func(s *talker) {
		s.say("* OK\r\n")
		s.hear("a STARTTLS")
		s.say("a OK\r\n")
	}
	tests := []struct {
		name, protocol string
		conversation   func(s *talker)
		want           string
	}{
		{"TLS at once", "", func(*talker) {}, ""},
		{"imap", "imap", imap, "b LOGOUT\r\n"},
		{"pop3", "pop3", func(s *talker) {
			s.say("+OK\r\n")
			s.hear("STLS")
			s.say("+OK\r\n")
		}, "QUIT\r\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			addr := talkOn(t, b, tt.conversation, func(server *tls.Conn) {
				if heard, err := io.ReadAll(server); string(heard) != tt.want || err != nil {
					t.Errorf("the client said %q (%v) over TLS, want %q", heard, err, tt.want)
				}
			})
			if _, err := endpoint.Handshake(t.Context(), endpoint.Endpoint{Addr: addr, StartTLS: tt.protocol}); err != nil {
				t.Error(err)
			}
		})
	}
	t.Run("no end", func(t *testing.T) {
		done := make(chan struct{})
		addr := talkOn(t, b, imap, func(*tls.Conn) { <-done })
		begun := time.Now()
		_, err := endpoint.Handshake(t.Context(), endpoint.Endpoint{Addr: addr, StartTLS: "imap"})
		close(done)
		if took := time.Since(begun); err != nil || took > time.Minute {
			t.Errorf("Handshake = %v after %s", err, took)
		}
	})
}
