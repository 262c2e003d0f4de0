package issuer

import (
	"crypto/x509"
	"math/big"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/acmed/acmed/internal/text"
)

func TestARIID(t *testing.T) {
	aki := []byte{0x69, 0x88, 0x5B, 0x6B, 0x87, 0x46, 0x40, 0x41, 0xE1, 0xB3, 0x7B, 0x84, 0x7B, 0xA0, 0xAE, 0x2C, 0xDE, 0x01, 0xC8, 0xD4}
	for _, tc := range []struct {
		aki    []byte
		serial *big.Int
		want   string
	}{
		{aki, big.NewInt(0x87654321), "aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE"}, // RFC 9773 section 4.1
		{aki, big.NewInt(0x07654321), "aYhba4dGQEHhs3uEe6CuLN4ByNQ.B2VDIQ"},
		{nil, big.NewInt(1), ""},
		{aki, big.NewInt(0), ""},
	} {
		if got := ariID(&x509.Certificate{AuthorityKeyId: tc.aki, SerialNumber: tc.serial}); got != tc.want {
			t.Errorf("got %s, want %s", got, tc.want)
		}
	}
}

func TestClean(t *testing.T) {
	for said, want := range map[string]string{
		"plain":          "plain",
		"grün ✓":         "grün ✓",
		"a\x1b[31mb":     `a\u001b[31mb`,
		"a\r\nb\x00":     `a\r\nb\u0000`,
		"a\u202eb\u2028": `a\u202eb\u2028`,
		"a\xffb":         `a\ufffdb`,
		"":               "",
		"it's":           "it's",
	} {
		if got := text.Short(said, 100); got != want {
			t.Errorf("%q: got %q, want %q", said, got, want)
		}
	}
	if got := text.Short(strings.Repeat("\x1b", 1000), 100); len(got) > 103 {
		t.Errorf("%d bytes", len(got))
	}
}

func FuzzClean(f *testing.F) {
	f.Add("a\x1b[31m\r\n\u202e'\"", 20)
	f.Fuzz(func(t *testing.T, said string, limit int) {
		limit = max(0, limit%5000)
		got := text.Short(said, limit)
		if len(got) > limit+len("…") || strings.ContainsFunc(got, func(r rune) bool { return r < ' ' || r == 0x7f || r == 0x202e }) {
			t.Errorf("%q to %d: %q", said, limit, got)
		}
	})
}

func FuzzAlternateLinks(f *testing.F) {
	f.Add(`<https://ca.example/alt/1>;rel="alternate", <x>; title="a"; rel=up`)
	f.Fuzz(func(t *testing.T, header string) {
		for _, u := range alternateLinks("https://ca.example/cert", []string{header}) {
			if u == "" {
				t.Errorf("an empty link from %q", header)
			}
		}
	})
}

func TestAlternateLinks(t *testing.T) {
	got := alternateLinks("https://ca.example/cert/1", []string{
		`<https://ca.example/dir>;rel="index"`,
		`<https://ca.example/cert/1/1>;rel="alternate"`,
		`</cert/1/2>; title=x; rel=alternate, <https://ca.example/cert/1/3>;REL="Alternate"`,
		`<https://ca.example/cert/1/1>;rel="alternate"`,
		`<https://ca.example/cert/1>;rel="alternate"`,
		`https://ca.example/none;rel="alternate"`, `<`, `>`, ``, `<>;rel=alternate`, "<\x7f>;rel=alternate",
	})
	want := []string{"https://ca.example/cert/1/1", "https://ca.example/cert/1/2", "https://ca.example/cert/1/3"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestPoller(t *testing.T) {
	now := time.Now()
	for _, tc := range []struct {
		name    string
		private bool
		header  string
		age     time.Duration
		want    time.Duration
	}{
		{"public", false, "", 0, 250 * time.Millisecond},
		{"public is told", false, "3", 0, 3 * time.Second},
		{"public is told to hurry", false, "0", 0, 250 * time.Millisecond},
		{"public is told an hour", false, "3600", 0, time.Minute},
		{"public is told nonsense", false, "-1", 0, 250 * time.Millisecond},
		{"private", true, "", 0, time.Millisecond},
		{"private is told early", true, "3", 500 * time.Millisecond, time.Millisecond},
		{"private is told late", true, "3", time.Second, 3 * time.Second},
	} {
		if got := newPolling(tc.private).begin(now).next(tc.header, now.Add(tc.age)); got != tc.want {
			t.Errorf("%s: %s, want %s", tc.name, got, tc.want)
		}
	}
	for private, want := range map[bool][]time.Duration{
		true:  {0, time.Millisecond, 1500 * time.Microsecond},
		false: {250 * time.Millisecond, 375 * time.Millisecond},
	} {
		p := newPolling(private).beginSigning(now)
		for n, pause := range want {
			if got := p.next("", now); got != pause {
				t.Errorf("private %t, look %d after finalize: %s, want %s", private, n, got, pause)
			}
		}
	}
	p := newPolling(true).begin(now)
	total, looks := time.Duration(0), 0
	for ; total < time.Minute; looks++ {
		pause := p.next("", now)
		if pause > 5*time.Second {
			t.Fatalf("a pause of %s", pause)
		}
		total += pause
	}
	if looks > 40 {
		t.Errorf("%d looks in a minute", looks)
	}
}

func TestProblemText(t *testing.T) {
	p := newProblem(403, http.Header{}, []byte(`{"type":"urn:ietf:params:acme:error:compound","detail":"some failed","subproblems":[
		{"type":"urn:ietf:params:acme:error:caa","detail":"CAA forbids","identifier":{"type":"dns","value":"a.example"}},
		{"detail":"b"},{"detail":"c"},{"detail":"d"},{"detail":"e"},{"detail":"f"},{"detail":"g"}]}`))
	want := "some failed; a.example: CAA forbids; b; c; d; e; and 2 more (compound, HTTP status 403)"
	if p.Error() != want {
		t.Errorf("got %s", p)
	}
	if got := newProblem(502, http.Header{}, []byte("<h1>Bad \x1b</h1>")).Error(); got != `HTTP status 502: no problem document, but "<h1>Bad \x1b</h1>"` {
		t.Errorf("got %s", got)
	}
	if got := newProblem(502, http.Header{}, nil).Error(); got != "HTTP status 502: no problem document" {
		t.Errorf("got %s", got)
	}
}

func TestPublicOnly(t *testing.T) {
	for address, ok := range map[string]bool{
		"172.65.32.248:443": true, "[2606:4700:60:0:f53d:5624:85c7:3a2c]:443": true,
		"127.0.0.1:443": false, "10.0.0.1:443": false, "192.168.1.1:443": false, "169.254.169.254:443": false, "100.64.0.1:443": false,
		"[::1]:443": false, "[fe80::1]:443": false, "[fd00::1]:443": false, "[::ffff:10.0.0.1]:443": false, "0.0.0.0:443": false, "nonsense": false,
	} {
		if err := publicOnly("tcp", address, nil); (err == nil) != ok {
			t.Errorf("%s: %v", address, err)
		}
	}
}
