package notify_test

import (
	"bufio"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"mime/quotedprintable"
	"net"
	"net/http"
	"net/http/httptest"
	"net/mail"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/notify"
)

const canary = "canary8f3a"

var failure = notify.Event{
	Schema: 1, ID: "ID1", Kind: notify.Failed, Certificate: "www", Names: []string{"example.com"}, Host: "web1",
	Time: time.Date(2026, 11, 21, 8, 0, 0, 0, time.UTC), Message: "no new certificate could be obtained", Error: "refused\r\nBcc: x@example.com",
}

// receiver is an HTTP server that keeps what it was sent.
type receiver struct {
	*httptest.Server
	mu     sync.Mutex
	status int
	body   string
	header http.Header
}

func newReceiver(t *testing.T) *receiver {
	t.Helper()
	r := &receiver{status: http.StatusOK}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, _ := io.ReadAll(req.Body)
		r.mu.Lock()
		defer r.mu.Unlock()
		r.body, r.header = string(body), req.Header
		w.Header().Set("Location", "/elsewhere")
		w.WriteHeader(r.status)
		_, _ = io.WriteString(w, "you said "+req.URL.String())
	}))
	t.Cleanup(r.Close)
	return r
}

func TestWebhook(t *testing.T) {
	r := newReceiver(t)
	secret := certs.Secret("0123456789abcdef")
	now := time.Unix(1_800_000_000, 0)
	w, err := notify.NewWebhook(notify.WebhookConfig{URL: r.URL + "/" + canary}, secret, nil, func() time.Time { return now })
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Send(t.Context(), []notify.Event{failure}); err != nil {
		t.Fatal(err)
	}
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte("1800000000." + r.body))
	if got, want := r.header.Get("Acmed-Signature"), "v1="+hex.EncodeToString(mac.Sum(nil)); got != want {
		t.Errorf("signature %s, want %s", got, want)
	}
	if r.header.Get("Idempotency-Key") != "ID1" || r.header.Get("Acmed-Timestamp") != "1800000000" || r.header.Get("Content-Type") != "application/json" {
		t.Errorf("headers %v", r.header)
	}
	var e struct {
		Schema      int
		ID          string
		Kind        string
		Certificate string
	}
	if err := json.Unmarshal([]byte(r.body), &e); err != nil || e.Schema != 1 || e.ID != "ID1" || e.Kind != "failed" || e.Certificate != "www" {
		t.Errorf("%s: %+v, %v", r.body, e, err)
	}
	for status, refused := range map[int]bool{301: true, 307: true, 400: true, 404: true, 408: false, 429: false, 500: false, 503: false} {
		r.status = status
		err := w.Send(t.Context(), []notify.Event{failure})
		var rejected *notify.RejectedError
		if err == nil || errors.As(err, &rejected) != refused || strings.Contains(err.Error(), canary) {
			t.Errorf("%d: %v", status, err)
		}
	}
	r.Close()
	if err := w.Send(t.Context(), []notify.Event{failure}); err == nil || strings.Contains(err.Error(), canary) {
		t.Error(err)
	}
	if _, err := notify.NewWebhook(notify.WebhookConfig{URL: r.URL}, certs.Secret("short"), nil, time.Now); err == nil {
		t.Error("a short secret is taken")
	}
}

// TestURL: the generic service of the library reaches a server; whatever goes wrong, the token stays out of the error.
func TestURL(t *testing.T) {
	r := newReceiver(t)
	host := strings.TrimPrefix(r.URL, "http://")
	u, err := notify.NewURL(certs.Secret("generic://" + host + "/hook/" + canary + "?disabletls=yes\n"))
	if err != nil {
		t.Fatal(err)
	}
	if err := u.Send(t.Context(), []notify.Event{failure}); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"acmed on web1: www: failed", "no new certificate could be obtained", "why: refused Bcc: x@example.com", "names: example.com"} {
		if !strings.Contains(r.body, text) {
			t.Errorf("%q is missing in %s", text, r.body)
		}
	}
	if err := u.Send(t.Context(), []notify.Event{failure, failure}); err != nil || !strings.Contains(r.body, "2 events, 2 need attention") {
		t.Error(err, r.body)
	}
	r.status = http.StatusForbidden
	if err := u.Send(t.Context(), []notify.Event{failure}); err == nil || strings.Contains(err.Error(), canary) {
		t.Error(err)
	}
	for _, address := range []string{
		"generic://127.0.0.1:1/" + canary, "generic+http://127.0.0.1:1/" + canary, "slack://xoxb:" + canary, "telegram://" + canary + "@telegram?chats=x",
		"discord://" + canary, "slack://%zz" + canary, canary, "http s://" + canary, canary + "://x", "ntfy://:" + canary + "@127.0.0.1:1/x?scheme=http", "smtp://u:" + canary + "@127.0.0.1:1/?from=a@b.c&to=a@b.c",
	} {
		u, err := notify.NewURL(certs.Secret(address))
		if err == nil {
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			err = u.Send(ctx, []notify.Event{failure})
			cancel()
		}
		if err == nil || strings.Contains(err.Error(), canary) {
			t.Errorf("%s: %v", address, err)
		}
	}
}

// TestURLThatHangs: a service that does not answer is left behind, and not asked a second time meanwhile.
func TestURLThatHangs(t *testing.T) {
	release := make(chan struct{})
	slow := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release }))
	defer slow.Close()
	defer close(release)
	u, err := notify.NewURL(certs.Secret("generic://" + strings.TrimPrefix(slow.URL, "http://") + "/?disabletls=yes"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"no answer", "still hangs"} {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		if err := u.Send(ctx, []notify.Event{failure}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
		cancel()
	}
}

func TestCommand(t *testing.T) {
	var env []string
	var input []byte
	c := notify.NewCommand(notify.CommandConfig{Run: []string{"/x", "a"}}, func(_ context.Context, argv, e []string, stdin []byte) error {
		env, input = e, stdin
		return errors.New("exit 1 of " + argv[1])
	})
	if err := c.Send(t.Context(), []notify.Event{failure}); err == nil || err.Error() != "command: exit 1 of a" {
		t.Error(err)
	}
	var e notify.Event
	if err := json.Unmarshal(input, &e); err != nil || e.Certificate != "www" {
		t.Errorf("%s: %v", input, err)
	}
	all := strings.Join(env, "\n")
	for _, want := range []string{"ACMED_EVENT=failed\n", "ACMED_CERTIFICATE=www\n", "ACMED_NAMES=example.com\n", "ACMED_ERROR=refused Bcc: x@example.com"} {
		if !strings.Contains(all, want) {
			t.Errorf("%q is missing in %s", want, all)
		}
	}
}

// postbox is a mail server for one message at a time: STARTTLS, or TLS from the start, and a login.
type postbox struct {
	addr, login, data string
	rcpt              []string
	refuse            bool
	roots             *x509.CertPool
}

func newPostbox(t *testing.T, implicit bool) *postbox {
	t.Helper()
	pair := httptest.NewUnstartedServer(nil)
	pair.StartTLS()
	p := &postbox{roots: x509.NewCertPool()}
	p.roots.AddCert(pair.Certificate())
	conf := &tls.Config{Certificates: pair.TLS.Certificates}
	pair.Close()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	p.addr = l.Addr().String()
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			if implicit {
				conn = tls.Server(conn, conf)
			}
			p.serve(conn, conf)
			_ = conn.Close()
		}
	}()
	return p
}

func (p *postbox) serve(conn net.Conn, conf *tls.Config) {
	r := bufio.NewReader(conn)
	say := func(text string) { _, _ = io.WriteString(conn, text+"\r\n") }
	say("220 postbox ESMTP")
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		switch verb, rest, _ := strings.Cut(strings.TrimSpace(line), " "); strings.ToUpper(verb) {
		case "EHLO":
			say("250-postbox\r\n250-STARTTLS\r\n250 AUTH PLAIN")
		case "STARTTLS":
			say("220 go")
			conn = tls.Server(conn, conf)
			r = bufio.NewReader(conn)
		case "AUTH":
			p.login = rest
			say("235 welcome")
		case "RCPT":
			if p.refuse {
				say("550 nobody here")
				continue
			}
			p.rcpt = append(p.rcpt, rest)
			say("250 ok")
		case "DATA":
			say("354 go")
			var b strings.Builder
			for line, err = r.ReadString('\n'); err == nil && line != ".\r\n"; line, err = r.ReadString('\n') {
				b.WriteString(line)
			}
			p.data = b.String()
			say("250 taken")
		case "QUIT":
			say("221 bye")
			return
		default:
			say("250 ok")
		}
	}
}

func TestEmail(t *testing.T) {
	for _, mode := range []string{"starttls", "implicit"} {
		t.Run(mode, func(t *testing.T) {
			p := newPostbox(t, mode == "implicit")
			conf := notify.EmailConfig{Server: p.addr, TLS: mode, From: "acmed@example.com", To: []string{"ops@example.com", "b@example.com"}, Username: "acmed"}
			m, err := notify.NewEmail(conf, certs.Secret(canary), &tls.Config{RootCAs: p.roots, MinVersion: tls.VersionTLS12})
			if err != nil {
				t.Fatal(err)
			}
			evil := failure
			evil.Certificate = "ü\r\nBcc: x@example.com"
			if err := m.Send(t.Context(), []notify.Event{evil}); err != nil {
				t.Fatal(err)
			}
			msg, err := mail.ReadMessage(strings.NewReader(p.data))
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(quotedprintable.NewReader(msg.Body))
			if err != nil || !strings.Contains(string(body), "why: refused Bcc: x@example.com") {
				t.Errorf("%s, %v", body, err)
			}
			h := msg.Header
			if len(h) != 9 || h.Get("Bcc") != "" || h.Get("To") != "<ops@example.com>, <b@example.com>" || h.Get("Message-ID") != "<ID1@example.com>" {
				t.Errorf("headers %v", h)
			}
			if len(p.rcpt) != 2 || p.login == "" {
				t.Errorf("recipients %q, login %q", p.rcpt, p.login)
			}
			p.refuse = true
			var rejected *notify.RejectedError
			if err := m.Send(t.Context(), []notify.Event{failure}); !errors.As(err, &rejected) || strings.Contains(err.Error(), canary) {
				t.Error(err)
			}
			strict, err := notify.NewEmail(conf, certs.Secret(canary), nil)
			if err != nil {
				t.Fatal(err)
			}
			if err := strict.Send(t.Context(), []notify.Event{failure}); err == nil || !strings.Contains(err.Error(), "certificate") {
				t.Error("an unknown certificate is taken:", err)
			}
		})
	}
}

// TestEmailThatHangs: a server that says nothing is left after the timeout.
func TestEmailThatHangs(t *testing.T) {
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	m, err := notify.NewEmail(notify.EmailConfig{Server: l.Addr().String(), From: "a@b.c", To: []string{"a@b.c"}, Timeout: 100 * time.Millisecond}, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	if err := m.Send(t.Context(), []notify.Event{failure}); err == nil || time.Since(begun) > time.Minute {
		t.Error(err, time.Since(begun))
	}
}
