package trust

import (
	"crypto/ecdsa"
	"crypto/x509"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/acmed/acmed/pkg/certs"
)

// world is a small public key infrastructure with the accidents of real ones: roots that expire, intermediates signed by
// two of them, certificates of the same name with other keys, wrong usages.
type world struct {
	t     *testing.T
	r     *rand.Rand
	all   []*x509.Certificate // everything but the leaf
	leaf  *x509.Certificate
	key   *ecdsa.PrivateKey // of the leaf
	asked []string
}

func (w *world) one(n int) bool { return w.r.IntN(n) == 0 }

func (w *world) life() time.Duration { return time.Duration(10+w.r.IntN(400)) * day }

// spoil changes a few CA certificates so that some client minds.
func (w *world) spoil(c *x509.Certificate) {
	switch w.r.IntN(24) {
	case 0:
		c.IsCA = false
	case 1:
		c.KeyUsage = x509.KeyUsageDigitalSignature
	case 2:
		c.MaxPathLen, c.MaxPathLenZero = 0, true
	case 3:
		c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	case 4:
		c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageAny}
	case 5:
		c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	case 6:
		c.NotBefore = epoch.Add(50 * day)
	case 7:
		c.PermittedDNSDomainsCritical, c.PermittedDNSDomains = true, []string{"example.com"}
	case 8:
		c.PermittedDNSDomainsCritical, c.ExcludedDNSDomains = true, []string{"example.com"}
	case 9:
		c.SubjectKeyId = nil
	}
}

func (w *world) spoilLeaf(c *x509.Certificate) {
	asLeaf(w.asked...)(c)
	switch w.r.IntN(16) {
	case 0:
		c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	case 1:
		c.ExtKeyUsage = nil
	case 2:
		c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageAny}
	case 3:
		c.KeyUsage = x509.KeyUsageCRLSign
	case 4:
		c.NotBefore = epoch.Add(60 * day)
	case 5:
		c.DNSNames, c.IPAddresses = []string{"*.example.com"}, []net.IP{net.IPv4(192, 0, 2, 1)}
	}
}

func newWorld(t *testing.T, r *rand.Rand) *world {
	w := &world{t: t, r: r, asked: []string{"www.example.com", "example.com"}}
	var roots, middle []*authority
	for i := range 1 + r.IntN(3) {
		root := newAuthority(t, "root "+strconv.Itoa(i))
		if w.one(8) {
			root.id = nil
		}
		roots = append(roots, root)
		w.all = append(w.all, root.sign(t, root, w.life(), w.spoil))
	}
	if len(roots) > 1 { // an old root vouches for a new one
		w.all = append(w.all, roots[1].sign(t, roots[0], w.life(), w.spoil))
	}
	parents := roots
	for level := range r.IntN(3) {
		middle = nil
		for i := range 1 + r.IntN(2) {
			name := fmt.Sprintf("intermediate %d.%d", level, i)
			if w.one(6) {
				name = fmt.Sprintf("intermediate %d.0", level)
			}
			a := newAuthority(t, name)
			if w.one(6) {
				a.id = nil
			}
			middle = append(middle, a)
			for range 1 + r.IntN(2) {
				w.all = append(w.all, a.sign(t, parents[r.IntN(len(parents))], w.life(), w.spoil))
			}
		}
		parents = middle
	}
	leaf := newAuthority(t, "leaf")
	w.key = leaf.key
	signer := parents[r.IntN(len(parents))]
	if w.one(20) {
		signer = leaf
	}
	w.leaf = leaf.sign(t, signer, w.life(), w.spoilLeaf)
	return w
}

// some is a random choice of certificates, in random order.
func (w *world) some(from []*x509.Certificate, most int) []*x509.Certificate {
	list := append([]*x509.Certificate(nil), from...)
	w.r.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	return list[:w.r.IntN(min(most, len(list))+1)]
}

type question struct {
	anchors, chain []*x509.Certificate
	host           string
	at             time.Time
}

// openssl asks the program the same question and returns what it prints.
func openssl(t *testing.T, q question) (bool, string) {
	dir := t.TempDir()
	args := []string{"verify", "-no-CApath", "-no-CAstore", "-partial_chain", "-purpose", "sslserver", "-attime", strconv.FormatInt(q.at.Unix(), 10)}
	if net.ParseIP(q.host) != nil {
		args = append(args, "-verify_ip", q.host)
	} else {
		args = append(args, "-verify_hostname", q.host)
	}
	put := func(name string, list []*x509.Certificate) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, encode(list...), 0o600); err != nil {
			t.Error(err)
		}
		return file
	}
	if len(q.anchors) > 0 {
		args = append(args, "-CAfile", put("anchors", q.anchors))
	} else {
		args = append(args, "-no-CAfile")
	}
	if len(q.chain) > 1 {
		args = append(args, "-untrusted", put("chain", q.chain[1:]))
	}
	out, err := exec.Command("openssl", append(args, put("leaf", q.chain[:1]))...).CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Error(err)
	}
	return err == nil, string(out)
}

// TestLikeOpenSSL compares the verdicts on generated worlds, and wants a fair share of each.
func TestLikeOpenSSL(t *testing.T) {
	if _, err := exec.LookPath("openssl"); err != nil {
		t.Skip("there is no openssl")
	}
	seed := rand.Uint64()
	if text := os.Getenv("TRUST_SEED"); text != "" {
		seed, _ = strconv.ParseUint(text, 10, 64)
	}
	t.Logf("seed %d (TRUST_SEED repeats it)", seed)
	cases := 500
	if text := os.Getenv("TRUST_CASES"); text != "" {
		cases, _ = strconv.Atoi(text)
	}
	var mu sync.Mutex
	count := map[bool]int{}
	var group sync.WaitGroup
	for part := range 4 {
		group.Go(func() {
			r := rand.New(rand.NewPCG(seed, uint64(part)))
			for n := range cases / 4 {
				w := newWorld(t, r)
				accepted := compare(t, fmt.Sprintf("%d/%d", part, n), question{
					anchors: w.some(append(w.all, w.leaf), 4), chain: append([]*x509.Certificate{w.leaf}, w.some(w.all, 6)...),
					host: []string{"www.example.com", "www.example.com", "www.example.com", "example.org", "192.0.2.1"}[r.IntN(5)],
					at:   epoch.Add(time.Duration(r.IntN(120)) * day),
				})
				mu.Lock()
				count[accepted]++
				mu.Unlock()
			}
		})
	}
	group.Wait()
	t.Logf("%d accepted, %d refused", count[true], count[false])
	if count[true] < cases/10 || count[false] < cases/10 {
		t.Error("the cases are too one-sided to mean anything")
	}
}

func compare(t *testing.T, name string, q question) bool {
	id, _, err := certs.ParseIdentifier(q.host)
	if err != nil {
		t.Error(err)
	}
	got := New("client", q.anchors).For(OpenSSL).Verify(q.chain, []certs.Identifier{id}, q.at)
	want, said := openssl(t, q)
	if (got == nil) != want {
		t.Errorf("case %s: we say %v, openssl says %s\n%s", name, got, strings.TrimSpace(said), describe(q))
	}
	return want
}

func describe(q question) string {
	var b strings.Builder
	fmt.Fprintf(&b, "host %s at day %d\n", q.host, q.at.Sub(epoch)/day)
	for title, list := range map[string][]*x509.Certificate{"anchor": q.anchors, "chain": q.chain} {
		for _, c := range list {
			fmt.Fprintf(&b, "%s: %s (%x) by %s (%x), days %d-%d, CA %v/%v, pathlen %d, usage %d, ext %v, permitted %v, excluded %v, names %v %v, serial %x\n",
				title, c.Subject.CommonName, c.SubjectKeyId, c.Issuer.CommonName, c.AuthorityKeyId, c.NotBefore.Sub(epoch)/day,
				c.NotAfter.Sub(epoch)/day, c.IsCA, c.BasicConstraintsValid, c.MaxPathLen, c.KeyUsage, c.ExtKeyUsage,
				c.PermittedDNSDomains, c.ExcludedDNSDomains, c.DNSNames, c.IPAddresses, c.SerialNumber)
		}
	}
	return b.String()
}
