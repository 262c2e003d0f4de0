package endpoint

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"

	"github.com/acmed/acmed/internal/text"
)

// The bounds on what a server may say before TLS starts. RFC 5321 section 4.5.3.1 allows reply lines of 512 bytes, and
// no protocol here needs more than a screen of them.
const (
	maxLine     = 2048
	maxLines    = 100
	maxPreamble = 16 << 10
)

// startTLS asks the server to switch to TLS. It reads byte by byte, never ahead: what an attacker slips in behind the
// server's answer in clear text ends up in the TLS handshake, which fails.
func startTLS(conn net.Conn, e Endpoint) error {
	t := talk{conn}
	var err error
	switch e.StartTLS {
	case "":
		return nil
	case "smtp":
		err = t.smtp()
	case "imap":
		err = t.imap()
	case "pop3":
		err = t.pop3()
	case "ftp":
		err = t.ftp()
	case "ldap":
		err = t.ldap()
	case "postgres":
		err = t.postgres()
	case "mysql":
		err = t.mysql()
	case "xmpp":
		err = t.xmpp(e.sni())
	default:
		return fmt.Errorf("unknown STARTTLS protocol %q", e.StartTLS)
	}
	if err != nil {
		return fmt.Errorf("STARTTLS over %s: %w", e.StartTLS, err)
	}
	return nil
}

// farewell is what a client says over TLS before it hangs up, where a protocol has something for it.
func farewell(protocol string) string {
	switch protocol {
	case "smtp", "pop3", "ftp":
		return "QUIT\r\n"
	case "imap":
		return "b LOGOUT\r\n"
	}
	return ""
}

// talk is the clear-text part of a connection.
type talk struct{ io.ReadWriter }

func (t talk) say(text string) error {
	_, err := io.WriteString(t, text)
	return err
}

// line reads one line without its end.
func (t talk) line() (string, error) {
	var line []byte
	var b [1]byte
	for len(line) < maxLine {
		if _, err := io.ReadFull(t, b[:]); err != nil {
			return "", err
		}
		if b[0] == '\n' {
			return strings.TrimSuffix(string(line), "\r"), nil
		}
		line = append(line, b[0])
	}
	return "", fmt.Errorf("a line of more than %d bytes", maxLine)
}

func refused(line string) error {
	return errors.New("the server answered: " + text.Tail(line, 200))
}

// reply reads one reply of SMTP or FTP (RFC 5321 section 4.2.1): lines of "250-text", then "250 text".
func (t talk) reply(code string) (lines []string, err error) {
	for range maxLines {
		line, err := t.line()
		if err != nil {
			return nil, err
		}
		if !strings.HasPrefix(line, code) {
			return nil, refused(line)
		}
		text := line[len(code):]
		if !strings.HasPrefix(text, "-") {
			return append(lines, strings.TrimSpace(text)), nil
		}
		lines = append(lines, strings.TrimSpace(text[1:]))
	}
	return nil, fmt.Errorf("a reply of more than %d lines", maxLines)
}

// command sends one line and reads a reply.
func (t talk) command(line, code string) ([]string, error) {
	if err := t.say(line + "\r\n"); err != nil {
		return nil, err
	}
	return t.reply(code)
}

// smtp follows RFC 3207.
func (t talk) smtp() error {
	if _, err := t.reply("220"); err != nil {
		return err
	}
	offered, err := t.command("EHLO acmed.invalid", "250")
	if err != nil {
		return err
	}
	for _, extension := range offered {
		if strings.EqualFold(extension, "STARTTLS") {
			_, err := t.command("STARTTLS", "220")
			return err
		}
	}
	return errors.New("the server does not offer STARTTLS")
}

// ftp follows RFC 4217 section 4.
func (t talk) ftp() error {
	if _, err := t.reply("220"); err != nil {
		return err
	}
	_, err := t.command("AUTH TLS", "234")
	return err
}

// imap follows RFC 9051 section 6.2.1.
func (t talk) imap() error {
	greeting, err := t.line()
	if err != nil {
		return err
	}
	if !strings.HasPrefix(strings.ToUpper(greeting), "* OK") {
		return refused(greeting)
	}
	if err := t.say("a STARTTLS\r\n"); err != nil {
		return err
	}
	for range maxLines {
		line, err := t.line()
		if err != nil {
			return err
		}
		if strings.HasPrefix(line, "* ") {
			continue
		}
		if strings.HasPrefix(strings.ToUpper(line), "A OK") {
			return nil
		}
		return refused(line)
	}
	return fmt.Errorf("more than %d lines before the answer", maxLines)
}

// pop3 follows RFC 2595 section 4.
func (t talk) pop3() error {
	for _, command := range []string{"", "STLS\r\n"} {
		if err := t.say(command); err != nil {
			return err
		}
		line, err := t.line()
		if err != nil {
			return err
		}
		if !strings.HasPrefix(line, "+OK") {
			return refused(line)
		}
	}
	return nil
}

// postgres sends an SSLRequest, whose answer is one byte (PostgreSQL protocol 3.0, "SSL Session Encryption").
func (t talk) postgres() error {
	if err := t.say("\x00\x00\x00\x08\x04\xd2\x16\x2f"); err != nil {
		return err
	}
	var answer [1]byte
	if _, err := io.ReadFull(t, answer[:]); err != nil {
		return err
	}
	if answer[0] != 'S' {
		return errors.New("the server has TLS switched off")
	}
	return nil
}

// mysqlSSLRequest is the SSLRequest of the client/server protocol 4.1 with sequence number 1: the capabilities PROTOCOL_41,
// SSL and SECURE_CONNECTION, packets of 16 MiB, and utf8.
const mysqlSSLRequest = "\x20\x00\x00\x01\x00\x8a\x00\x00\x00\x00\x00\x01\x21" +
	"\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"

// mysql reads the server's greeting and sends an SSLRequest, for which there is no answer ("Protocol::HandshakeV10" and
// "Protocol::SSLRequest" of MySQL and MariaDB).
func (t talk) mysql() error {
	var head [4]byte
	if _, err := io.ReadFull(t, head[:]); err != nil {
		return err
	}
	length := int(head[0]) | int(head[1])<<8 | int(head[2])<<16
	if length > maxPreamble || length == 0 {
		return errors.New("the server sent no greeting of MySQL")
	}
	greeting := make([]byte, length)
	if _, err := io.ReadFull(t, greeting); err != nil {
		return err
	}
	if greeting[0] == 0xff { // an error packet: its code and the text
		return refused(string(greeting[min(3, length):]))
	}
	// Behind the version: thread (4 bytes), scramble (8) and a zero byte, then the lower half of the capabilities.
	end := bytes.IndexByte(greeting, 0)
	at := end + 1 + 4 + 8 + 1
	if greeting[0] != 10 || end < 0 || at+2 > length {
		return errors.New("the server sent no greeting of MySQL")
	}
	if greeting[at+1]&0x08 == 0 {
		return errors.New("the server has TLS switched off")
	}
	return t.say(mysqlSSLRequest)
}

// ldapStartTLS is the extended request of RFC 4511 section 4.14 with message ID 1, in BER.
const ldapStartTLS = "\x30\x1d\x02\x01\x01\x77\x18\x80\x161.3.6.1.4.1.1466.20037"

// ldap sends the extended request and reads the result code of the response (RFC 4511 section 4.12): a sequence of the
// message ID and an [APPLICATION 24] whose first element is an enumerated result, 0 for success.
func (t talk) ldap() error {
	if err := t.say(ldapStartTLS); err != nil {
		return err
	}
	message, err := t.element(0x30)
	if err != nil {
		return err
	}
	body := talk{readOnly{bytes.NewReader(message)}}
	if _, err := body.element(0x02); err != nil {
		return err
	}
	response, err := body.element(0x78)
	if err != nil {
		return err
	}
	result, err := talk{readOnly{bytes.NewReader(response)}}.element(0x0a)
	if err != nil {
		return err
	}
	if len(result) != 1 || result[0] != 0 {
		return fmt.Errorf("the server refused with LDAP result %x", result)
	}
	return nil
}

// element reads one BER element with the given tag and returns its content.
func (t talk) element(tag byte) ([]byte, error) {
	var head [2]byte
	if _, err := io.ReadFull(t, head[:]); err != nil {
		return nil, err
	}
	if head[0] != tag {
		return nil, fmt.Errorf("an LDAP element with tag %#x where %#x was expected", head[0], tag)
	}
	length := int(head[1])
	if length > 0x80 {
		more := make([]byte, length&0x7f)
		if len(more) > 4 {
			return nil, errors.New("an LDAP element that is too long")
		}
		if _, err := io.ReadFull(t, more); err != nil {
			return nil, err
		}
		length = 0
		for _, b := range more {
			length = length<<8 | int(b)
		}
	}
	if length > maxPreamble {
		return nil, errors.New("an LDAP element that is too long")
	}
	content := make([]byte, length)
	_, err := io.ReadFull(t, content)
	return content, err
}

type readOnly struct{ io.Reader }

func (readOnly) Write([]byte) (int, error) { return 0, errors.ErrUnsupported }

// xmpp follows RFC 6120 section 5.4. The domain went through [Parse] or is a name of a certificate; it is
// escaped all the same.
func (t talk) xmpp(domain string) error {
	to := strings.NewReplacer("&", "&amp;", "<", "&lt;", "'", "&apos;").Replace(domain)
	err := t.say("<?xml version='1.0'?><stream:stream xmlns='jabber:client' " +
		"xmlns:stream='http://etherx.jabber.org/streams' version='1.0' to='" + to + "'>")
	if err != nil {
		return err
	}
	features, err := t.until("</stream:features>", "</stream:stream>")
	if err != nil {
		return err
	}
	if at := strings.Index(features, "<stream:error"); at >= 0 {
		return refused(features[at:])
	}
	if !strings.Contains(features, "urn:ietf:params:xml:ns:xmpp-tls") {
		return errors.New("the server does not offer STARTTLS")
	}
	if err := t.say("<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>"); err != nil {
		return err
	}
	answer, err := t.until(">")
	if err != nil {
		return err
	}
	if !strings.HasPrefix(strings.TrimSpace(answer), "<proceed") {
		return refused(answer)
	}
	if !strings.HasSuffix(answer, "/>") {
		_, err = t.until("</proceed>")
	}
	return err
}

// until reads up to and with the first of the given ends.
func (t talk) until(ends ...string) (string, error) {
	var text []byte
	var b [1]byte
	for len(text) < maxPreamble {
		if _, err := io.ReadFull(t, b[:]); err != nil {
			return "", err
		}
		text = append(text, b[0])
		for _, end := range ends {
			if bytes.HasSuffix(text, []byte(end)) {
				return string(text), nil
			}
		}
	}
	return "", fmt.Errorf("more than %d bytes before TLS", maxPreamble)
}
