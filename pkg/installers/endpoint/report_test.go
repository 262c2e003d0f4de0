package endpoint

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/acmed/acmed/pkg/trust"
)

const day = 24 * time.Hour

var begin = time.Now().Add(-time.Hour).Truncate(time.Second)

type signer struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// sign makes a certificate for name; without a parent it is self-signed.
func sign(t *testing.T, name string, parent *signer, days int) *signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name}, SubjectKeyId: []byte(name), NotBefore: begin,
		NotAfter: begin.Add(time.Duration(days) * day), BasicConstraintsValid: true, IsCA: true,
	}
	if strings.Contains(name, ".") {
		template.IsCA, template.DNSNames = false, []string{name, "*." + name}
		template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	}
	if parent == nil {
		parent = &signer{template, key}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent.cert, key.Public(), parent.key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &signer{c, key}
}

func TestJudge(t *testing.T) {
	root := sign(t, "Root", nil, 1000)
	upper, lower := sign(t, "Upper", root, 500), (*signer)(nil)
	lower = sign(t, "Lower", upper, 400)
	leaf, stranger := sign(t, "example.com", lower, 90), sign(t, "Stranger", nil, 90)
	clients := []*trust.Store{trust.New("partner", []*x509.Certificate{root.cert}).For(trust.OpenSSL), trust.New("nobody", []*x509.Certificate{stranger.cert})}
	for name, c := range map[string]struct {
		chain   []*signer
		host    string
		after   int
		must    []string
		problem []string // parts of the problems, in order
		note    []string
	}{
		"good":               {chain: []*signer{leaf, lower, upper}},
		"a name below":       {chain: []*signer{leaf, lower, upper}, host: "www.example.com"},
		"the one that must":  {chain: []*signer{leaf, lower, upper}, must: []string{"nobody"}, problem: []string{"nobody does not accept"}},
		"root presented":     {chain: []*signer{leaf, lower, upper, root}, note: []string{`root "Root"`}},
		"a stranger":         {chain: []*signer{leaf, lower, upper, stranger}, note: []string{`no use: "Stranger"`}},
		"misordered":         {chain: []*signer{leaf, upper, lower}, problem: []string{"order"}},
		"missing in between": {chain: []*signer{leaf, upper}, problem: []string{"no client", `ends at "example.com"; its issuer "Lower"`}, note: []string{`no use: "Upper"`}},
		"missing on top":     {chain: []*signer{leaf, lower}, problem: []string{"no client", `ends at "Lower"; its issuer "Upper"`}},
		"another host":       {chain: []*signer{leaf, lower, upper}, host: "example.org", problem: []string{"no client", "not for example.org"}},
		"soon over":          {chain: []*signer{leaf, lower, upper}, after: 80, problem: []string{"ends in 9 days"}},
		"over":               {chain: []*signer{leaf, lower, upper}, after: 100, problem: []string{"no client", "ended on"}},
		"not begun":          {chain: []*signer{leaf, lower, upper}, after: -2, problem: []string{"no client", "not valid before"}},
	} {
		t.Run(name, func(t *testing.T) {
			if c.host == "" {
				c.host = "example.com"
			}
			var chain []*x509.Certificate
			for _, s := range c.chain {
				chain = append(chain, s.cert)
			}
			r := Judge(chain, c.host, ReportOptions{Stores: clients, Must: c.must, At: time.Now().Add(time.Duration(c.after) * day), Days: 14})
			match(t, "problem", r.Problems, c.problem)
			match(t, "note", r.Notes, c.note)
			if len(r.Chain) != len(chain) || len(r.Clients) != 2 || !slices.Equal(r.Names, leaf.cert.DNSNames) {
				t.Errorf("%+v", r)
			}
		})
	}
}

func match(t *testing.T, what string, got, want []string) {
	t.Helper()
	if len(got) != len(want) {
		t.Errorf("%ss %q, want %q", what, got, want)
		return
	}
	for i := range want {
		if !strings.Contains(got[i], want[i]) {
			t.Errorf("%s %q, want %q", what, got[i], want[i])
		}
	}
}

func TestLook(t *testing.T) {
	root := sign(t, "Root", nil, 1000)
	leaf := sign(t, "example.com", root, 90)
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{
		Certificates: []tls.Certificate{{Certificate: [][]byte{leaf.cert.Raw}, PrivateKey: leaf.key}}, MinVersion: tls.VersionTLS11,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go serve(l)
	o := ReportOptions{Stores: []*trust.Store{trust.New("partner", []*x509.Certificate{root.cert})}, At: time.Now(), Days: 14}
	r, err := Examine(t.Context(), Endpoint{Addr: l.Addr().String(), ServerName: "example.com"}, o)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(r.Protocols, []string{"TLS 1.1", "TLS 1.2", "TLS 1.3"}) || len(r.Problems) > 0 || len(r.Notes) != 1 || r.DaysLeft != 89 {
		t.Errorf("%+v", r)
	}
	_ = l.Close()
	if _, err := Examine(t.Context(), Endpoint{Addr: l.Addr().String()}, o); err == nil {
		t.Error("nobody listens, and no error")
	}
}

func serve(l net.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			_ = conn.(*tls.Conn).Handshake()
			_ = conn.Close()
		}()
	}
}
