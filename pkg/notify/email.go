package notify

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"mime"
	"mime/quotedprintable"
	"net"
	"net/mail"
	"net/smtp"
	"net/textproto"
	"slices"
	"strings"
	"time"

	"github.com/acmed/acmed/internal/text"
	"github.com/acmed/acmed/pkg/certs"
)

// How a connection to a mail server is protected.
const (
	tlsStart    = "starttls"
	tlsImplicit = "implicit"
	tlsNone     = "none"
)

// EmailConfig is a mail server and who gets mail through it.
type EmailConfig struct {
	// Server is the mail server, HOST:PORT.
	Server string `mapstructure:"server"`
	// TLS is starttls, implicit, or none for a mail server of this machine. Default implicit on port 465, else starttls.
	TLS string `mapstructure:"tls"`
	// From is the address of the sender.
	From string `mapstructure:"from"`
	// To lists the addresses of the recipients.
	To []string `mapstructure:"to"`
	// Username is for servers that want one. Optional.
	Username string `mapstructure:"username"`
	// PasswordFile holds the password, chmod 600. It is only sent over TLS, or within this machine. Optional.
	PasswordFile string `mapstructure:"password_file"`
	// CAFile is a PEM file with the roots of the server's certificate. Default: the system's trust store.
	CAFile string `mapstructure:"ca_file"`
	// Timeout is for one message, at most 30s. Default 20s.
	Timeout time.Duration `mapstructure:"timeout"`
}

// Validate reports what is wrong, each at its key.
func (c *EmailConfig) Validate() error {
	var errs []error
	report := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	host, port, err := net.SplitHostPort(c.Server)
	if err != nil || host == "" || port == "" {
		report("server: %q is not HOST:PORT", c.Server)
	}
	switch c.TLS {
	case "", tlsStart, tlsImplicit:
	case tlsNone:
		if !loopback(host) {
			report("tls: none is for a mail server of this machine only")
		}
	default:
		report("tls: %q is none of starttls, implicit, none", c.TLS)
	}
	if !isAddress(c.From) {
		report("from: %q is not a plain email address such as acmed@example.com", c.From)
	}
	if i := slices.IndexFunc(c.To, func(to string) bool { return !isAddress(to) }); i >= 0 {
		report("to: %q is not a plain email address such as ops@example.com", c.To[i])
	} else if len(c.To) == 0 {
		report("to: the list of recipients is empty")
	}
	if (c.Username == "") != (c.PasswordFile == "") {
		report("username: give both username and password_file, or neither")
	}
	return errors.Join(append(errs, checkTimeout(c.Timeout))...)
}

func isAddress(text string) bool {
	a, err := mail.ParseAddress(text)
	return err == nil && a.Address == text && !strings.ContainsAny(text, "\r\n<>\" ")
}

// Email sends events by mail.
type Email struct {
	conf     EmailConfig
	password certs.Secret
	tls      *tls.Config
}

var _ Sender = (*Email)(nil)

// NewEmail returns a sender. tlsConfig may be nil: the roots are those of the system then.
func NewEmail(c EmailConfig, password certs.Secret, tlsConfig *tls.Config) (*Email, error) {
	host, port, err := net.SplitHostPort(c.Server)
	if err != nil {
		return nil, fmt.Errorf("server: %w", err)
	}
	if c.TLS == "" {
		c.TLS = tlsStart
		if port == "465" {
			c.TLS = tlsImplicit
		}
	}
	if tlsConfig == nil {
		tlsConfig = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	tlsConfig = tlsConfig.Clone()
	tlsConfig.ServerName = host
	return &Email{conf: c, password: password, tls: tlsConfig}, nil
}

// Send sends all events in one message to all recipients.
func (m *Email) Send(ctx context.Context, events []Event) error {
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(m.conf.Timeout, 20*time.Second))
	defer cancel()
	if err := m.deliver(ctx, m.message(events)); err != nil {
		err = fmt.Errorf("mail server %s: %w", m.conf.Server, err)
		var code *textproto.Error
		if errors.As(err, &code) && code.Code >= 500 {
			return &RejectedError{err}
		}
		return err
	}
	return nil
}

func (m *Email) deliver(ctx context.Context, message []byte) error {
	client, end, err := m.connect(ctx)
	if err != nil {
		return err
	}
	defer end()
	if m.conf.Username != "" {
		host, _, _ := net.SplitHostPort(m.conf.Server)
		if err := client.Auth(smtp.PlainAuth("", m.conf.Username, string([]byte(m.password)), host)); err != nil {
			return fmt.Errorf("log in: %w", err)
		}
	}
	if err := client.Mail(m.conf.From); err != nil {
		return err
	}
	for _, to := range m.conf.To {
		if err := client.Rcpt(to); err != nil {
			return fmt.Errorf("recipient %s: %w", to, err)
		}
	}
	w, err := client.Data()
	if err != nil {
		return err
	}
	if _, err := w.Write(message); err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	_ = client.Quit() // the message is taken; how they part does not matter
	return nil
}

// connect returns a client on a connection that is protected as configured. It never falls back to plain text.
func (m *Email) connect(ctx context.Context) (client *smtp.Client, end func(), err error) {
	raw, err := new(net.Dialer).DialContext(ctx, "tcp", m.conf.Server)
	if err != nil {
		return nil, nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = raw.SetDeadline(time.Unix(1, 0)) }) // ends what waits
	hangUp := func() { stop(); _ = raw.Close() }
	defer func() {
		if err != nil {
			hangUp()
		}
	}()
	conn := raw
	if m.conf.TLS == tlsImplicit {
		conn = tls.Client(raw, m.tls)
	}
	host, _, _ := net.SplitHostPort(m.conf.Server)
	if client, err = smtp.NewClient(conn, host); err != nil {
		return nil, nil, err
	}
	_, domain, _ := strings.Cut(m.conf.From, "@")
	if err = client.Hello(domain); err != nil {
		return nil, nil, err
	}
	if m.conf.TLS == tlsStart {
		if err = client.StartTLS(m.tls); err != nil {
			return nil, nil, fmt.Errorf("STARTTLS: %w", err)
		}
	}
	return client, hangUp, nil
}

// message writes headers and body. Nothing from an event gets into a header but through the encoder of the subject.
func (m *Email) message(events []Event) []byte {
	var b bytes.Buffer
	_, domain, _ := strings.Cut(m.conf.From, "@")
	for _, h := range [][2]string{
		{"From", "<" + m.conf.From + ">"},
		{"To", "<" + strings.Join(m.conf.To, ">, <") + ">"},
		{"Subject", mime.QEncoding.Encode("utf-8", text.Line(subject(events), 150))},
		{"Date", events[0].Time.Format(time.RFC1123Z)},
		{"Message-ID", "<" + events[0].ID + "@" + domain + ">"},
		{"Auto-Submitted", "auto-generated"},
		{"MIME-Version", "1.0"},
		{"Content-Type", "text/plain; charset=utf-8"},
		{"Content-Transfer-Encoding", "quoted-printable"},
	} {
		b.WriteString(h[0] + ": " + h[1] + "\r\n")
	}
	b.WriteString("\r\n")
	w := quotedprintable.NewWriter(&b)
	_, _ = w.Write([]byte(strings.ReplaceAll(messageText(events, mailText), "\n", "\r\n") + "\r\n")) // into memory
	_ = w.Close()
	return b.Bytes()
}
