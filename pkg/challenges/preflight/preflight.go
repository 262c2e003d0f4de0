package preflight

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"syscall"
	"time"

	"github.com/acmed/acmed/internal/guard"
	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/challenges"
	"github.com/acmed/acmed/pkg/challenges/internal/listener"
)

// Config says how to look. The zero value looks at DNS only.
type Config struct {
	Resolver          string            // host:port of the DNS server; "": the first of /etc/resolv.conf
	HTTPPort, TLSPort int               // where the CA connects; 0: 80 and 443
	HTTP              challenges.Solver // presents the http-01 probe; nil: HTTP is not probed
	TLSALPN           challenges.Solver // presents the tls-alpn-01 probe; nil: TLS is not probed
	Thumbprint        string            // of the account, for a proxy that answers by itself; "": a random one
	CAAIdentities     []string          // of the CA's directory; empty: CAA is shown and not judged
	AccountURI        string            // for dns-persist-01; "": its record is not judged
	PersistIssuers    []string          // the CA's names in records of dns-persist-01; empty: CAAIdentities
	Timeout           time.Duration     // of one probe; 0: 10 seconds, as CAs do
}

// defaultTimeout is what Let's Encrypt allows for one connection and its answer.
const defaultTimeout = 10 * time.Second

// cleanUpTimeout is for taking probes away after the caller gave up.
const cleanUpTimeout = 5 * time.Second

func (c *Config) setDefaults() {
	if c.HTTPPort == 0 {
		c.HTTPPort = 80
	}
	if c.TLSPort == 0 {
		c.TLSPort = 443
	}
	if c.Timeout == 0 {
		c.Timeout = defaultTimeout
	}
}

// Run looks at one identifier and judges what it saw. It never fails: what could not be found out is in the report.
func Run(ctx context.Context, c Config, id certs.Identifier) *Report {
	c.setDefaults()
	r := &Report{Findings: Findings{Identifier: id.Value, Addresses: []Address{}}}
	res := newResolver(c.Resolver, c.Timeout)
	r.lookUp(ctx, res, id)
	if len(r.Addresses) > 0 {
		r.probe(ctx, &c, res, id)
	}
	r.Verdict = Judge(&r.Findings, id, c.CAAIdentities)
	return r
}

func (r *Report) lookUp(ctx context.Context, res *resolver, id certs.Identifier) {
	if id.Type == certs.IP {
		if addr, err := netip.ParseAddr(id.Value); err == nil {
			r.Addresses = []Address{{Address: addr}}
		}
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 2*res.timeout)
	defer cancel()
	var list []netip.Addr
	var errAddresses, errCAA error
	if !id.IsWildcard() {
		list, r.DNS.CNAME, errAddresses = res.addresses(ctx, id.Value)
	}
	r.DNS.CAA, r.DNS.Zone, errCAA = res.caa(ctx, id.Base())
	for _, addr := range list {
		if addr.IsUnspecified() || addr.Is4() && addr.As4()[0] == 0 { // the kernel would take it for this machine
			errAddresses = errors.Join(errAddresses, fmt.Errorf("the address %s in the DNS is none that a CA can connect to", addr))
			continue
		}
		r.Addresses = append(r.Addresses, Address{Address: addr})
	}
	err := errors.Join(errAddresses, errCAA)
	r.DNS.Bogus = errors.Is(err, errBogus)
	var silent *silentError
	if r.DNS.Silent = errors.As(err, &silent); r.DNS.Silent {
		err = silent // once, not for each question
	}
	if err != nil {
		r.DNS.Error = err.Error()
	}
}

// probe presents a random answer and asks for it at every address.
func (r *Report) probe(ctx context.Context, c *Config, res *resolver, id certs.Identifier) {
	h := httpProbe{resolver: res, timeout: c.Timeout, ports: map[string]int{"80": c.HTTPPort, "443": c.TLSPort}}
	t := tlsProbe{port: strconv.Itoa(c.TLSPort), timeout: c.Timeout}
	challenge := makeChallenge(id, c.Thumbprint)
	var running guard.Group
	own := ownAddresses()
	for i := range r.Addresses {
		r.Addresses[i].Own = own[r.Addresses[i].Address] && !r.Addresses[i].Address.IsLoopback()
	}
	if c.HTTP != nil {
		r.Webroot = directory(c.HTTP)
		defer r.present(ctx, c.HTTP, challenge)()
		for i := range r.Addresses {
			a := &r.Addresses[i]
			running.Go(func() { a.HTTP = h.run(ctx, a.Address, challenge) })
		}
	}
	if c.TLSALPN != nil {
		defer r.present(ctx, c.TLSALPN, challenge)()
		for i := range r.Addresses {
			a := &r.Addresses[i]
			running.Go(func() { a.TLS = t.run(ctx, a.Address, challenge) })
		}
	}
	running.Wait()
}

// present makes the probe visible and returns how to take it away. Where it cannot be presented, the probes still tell
// who answers instead.
func (r *Report) present(ctx context.Context, s challenges.Solver, c challenges.Challenge) (cleanUp func()) {
	c.Type = s.Type()
	if err := s.Present(ctx, c); err != nil {
		local := Local{Type: c.Type, Error: err.Error(), Path: directory(s)}
		var bind *challenges.BindError
		if errors.As(err, &bind) {
			local.Addr = bind.Addr
			local.Taken, local.Holder = bind.Holder != nil || errors.Is(err, syscall.EADDRINUSE), bind.Holder
		}
		r.Local = append(r.Local, local)
	}
	return func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanUpTimeout)
		defer cancel()
		if err := s.CleanUp(ctx, c); err != nil {
			r.Local = append(r.Local, Local{Type: c.Type, Error: err.Error()})
		}
	}
}

// directory is where a solver writes, "" if it does not.
func directory(s challenges.Solver) string {
	if w, ok := s.(interface{ Directory() string }); ok {
		return w.Directory()
	}
	return ""
}

// ownAddresses are those of this machine's interfaces.
func ownAddresses() map[netip.Addr]bool {
	own := map[netip.Addr]bool{}
	list, _ := net.InterfaceAddrs() // without them, no address is known to be ours
	for _, a := range list {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			own[p.Addr().Unmap()] = true
		}
	}
	return own
}

// Identify finds out which processes hold the ports that the examining process found taken. It is for a caller who may see
// more of the machine, such as root beside a confined daemon.
func (r *Report) Identify() {
	for i := range r.Local {
		l := &r.Local[i]
		if !l.Taken || l.Holder != nil {
			continue
		}
		if l.Holder = listener.HolderOf(l.Addr); l.Holder != nil {
			l.Error = (&challenges.BindError{Addr: l.Addr, Holder: l.Holder}).Error()
		}
	}
}

// makeChallenge makes a challenge that no CA asked for.
func makeChallenge(id certs.Identifier, thumbprint string) challenges.Challenge {
	if thumbprint == "" {
		thumbprint = randomText()
	}
	token := randomText()
	return challenges.Challenge{
		Identifier: id, Token: token, Thumbprint: thumbprint, KeyAuth: challenges.KeyAuthorization(token, thumbprint),
	}
}

func randomText() string {
	var raw [32]byte
	_, _ = rand.Read(raw[:]) // never fails
	return base64.RawURLEncoding.EncodeToString(raw[:])
}
