package daemon

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/acmed/acmed/internal/systemd"
	"github.com/acmed/acmed/pkg/challenges"
	"github.com/acmed/acmed/pkg/challenges/dns01"
	"github.com/acmed/acmed/pkg/challenges/dnspersist01"
	"github.com/acmed/acmed/pkg/challenges/http01"
	"github.com/acmed/acmed/pkg/challenges/tlsalpn01"
	"github.com/acmed/acmed/pkg/config"
)

// solvers makes every solver that there is, so that an issuer which lives through a reload knows those that certificates
// begin to use.
func (b *builder) solvers(c *config.Config) (map[string]challenges.Rung, error) {
	made := map[string]challenges.Rung{}
	for _, name := range c.SolverNames() {
		conf, ok := c.Solver(name)
		if !ok {
			return nil, fmt.Errorf("solver %q is not configured", name)
		}
		solver, err := b.solver(c, conf)
		if err != nil {
			return nil, fmt.Errorf("solvers[%s]: %w", name, err)
		}
		made[name] = challenges.Rung{Name: name, Solver: solver, Zones: conf.Zones}
	}
	return made, nil
}

// solver is the list of all kinds of solver.
func (b *builder) solver(c *config.Config, conf config.Solver) (challenges.Solver, error) {
	switch {
	case conf.HTTP01 != nil && conf.HTTP01.Stateless:
		return http01.Stateless{}, nil
	case conf.HTTP01 != nil && conf.HTTP01.Webroot+conf.HTTP01.ChallengeDir != "":
		h := conf.HTTP01
		return http01.NewWebroot(http01.WebrootConfig{
			Dir: h.Webroot + h.ChallengeDir, Exact: h.ChallengeDir != "", FollowLinks: h.FollowLinks,
		}, b.tokens(c.StateDir)), nil
	case conf.HTTP01 != nil:
		return b.sharedByHTTP(b.plainResponder(conf.Name, conf.HTTP01)), nil
	case conf.TLSALPN01 != nil:
		return b.sharedByALPN(b.secureResponder(conf.Name, conf.TLSALPN01.Listen)), nil
	case conf.DNSPersist01 != nil:
		return dnspersist01.New(*conf.DNSPersist01, dns01.Values, time.Now), nil
	case conf.DNS01 != nil || conf.DNSAccount01 != nil:
		if b.journal == nil {
			b.journal = dns01.NewJournal(filepath.Join(c.StateDir, "dns"))
		}
		return dns01.New(*cmp.Or(conf.DNS01, conf.DNSAccount01), dns01.Options{
			Name: conf.Name, Journal: b.journal, Locks: b.records, Worker: Worker(), Now: time.Now, Account: conf.DNS01 == nil,
		})
	}
	return nil, errors.New("it has no section")
}

// tokens is the one list of challenge files, so that a reload does not take those of this process for left ones. A preflight,
// which has no state directory yet, has none.
func (b *builder) tokens(state string) *http01.Tokens {
	if b.store == nil {
		return nil
	}
	if b.files == nil {
		b.files = http01.NewTokens(filepath.Join(state, "http"))
	}
	return b.files
}

// plainResponder returns the one http-01 responder for a socket, or for an address: whose PROXY protocol header it
// believes is part of what it is then.
func (b *builder) plainResponder(solver string, conf *config.HTTP01) *http01.Responder {
	key := fmt.Sprint(conf.Listen, conf.Proxies())
	socket := b.socket(solver, conf.Listen)
	if socket != nil {
		key = socketKey(socket)
	}
	if b.http[key] == nil {
		made := http01.ResponderConfig{Addr: conf.Listen, Listener: socket, Proxies: conf.Proxies(), Log: b.log}
		if b.member != nil {
			made.Thumbprint = b.member.thumbprintFor
		}
		b.http[key] = http01.NewResponder(made)
	}
	return b.http[key]
}

// secureResponder returns the one tls-alpn-01 responder for a socket or an address.
func (b *builder) secureResponder(solver, listen string) *tlsalpn01.Responder {
	key := listen
	socket := b.socket(solver, listen)
	if socket != nil {
		key = socketKey(socket)
	}
	if b.alpn[key] == nil {
		conf := tlsalpn01.ResponderConfig{Addr: listen, Listener: socket, Log: b.log}
		if b.member != nil {
			conf.LookUp = b.member.lookUp
		}
		b.alpn[key] = tlsalpn01.NewResponder(conf)
	}
	return b.alpn[key]
}

func socketKey(l net.Listener) string { return "socket " + l.Addr().String() }

// socket finds the socket from systemd that takes the place of a solver's address: the one with the solver's name, or one
// that has the address already.
func (b *builder) socket(solver, listen string) net.Listener {
	for _, s := range b.sockets {
		if s.Name == solver {
			return s.Listener
		}
	}
	for _, s := range b.sockets {
		if sameAddress(s.Addr(), listen) {
			return s.Listener
		}
	}
	return nil
}

func sameAddress(have net.Addr, listen string) bool {
	tcp, ok := have.(*net.TCPAddr)
	if !ok {
		return "unix:"+have.String() == listen
	}
	if port, every := strings.CutPrefix(listen, ":"); every {
		return tcp.IP.IsUnspecified() && fmt.Sprint(tcp.Port) == port
	}
	want, err := netip.ParseAddrPort(listen)
	got := tcp.AddrPort()
	return err == nil && want == netip.AddrPortFrom(got.Addr().Unmap(), got.Port())
}

// answerSockets opens the responders of the sockets from systemd: clients already connect there, and must not wait for
// the next challenge to be told that there is nothing.
func (b *builder) answerSockets(ctx context.Context) error {
	var errs []error
	for _, s := range b.sockets {
		key := socketKey(s)
		plain, secure := b.http[key], b.alpn[key]
		switch {
		case plain != nil:
			errs = append(errs, plain.Hold(ctx))
		case secure != nil:
			errs = append(errs, secure.Hold(ctx))
		default:
			errs = append(errs, fmt.Errorf("no solver is called %q or listens on %s, where systemd gave acmed a socket; name it in solvers: or disable the socket unit", s.Name, s.Addr()))
		}
	}
	return errors.Join(errs...)
}

// checkSockets refuses sockets of which a solver could have only one. Those of one unit share a name, which is why only
// names of solvers count.
func checkSockets(sockets []systemd.Socket, solvers []string) error {
	seen := map[string]bool{}
	for _, s := range sockets {
		if seen[s.Name] && slices.Contains(solvers, s.Name) {
			return fmt.Errorf("systemd handed over two sockets called %q, which is the name of a solver; give each socket unit a different FileDescriptorName=", s.Name)
		}
		seen[s.Name] = true
	}
	return nil
}

// Worker is where the DNS worker is installed: beside this program.
func Worker() string {
	self, err := os.Executable()
	if err != nil {
		return "/usr/bin/acmed-dns"
	}
	return filepath.Join(filepath.Dir(self), "acmed-dns")
}
