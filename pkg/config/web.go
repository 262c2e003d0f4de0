package config

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/acmed/acmed/pkg/certs"
)

func (v *validator) web() {
	w := &v.c.Web
	v.listen("web.listen", w.Listen)
	for i, host := range w.Hosts {
		if id, _, err := certs.ParseIdentifier(host); err != nil || id.Type != certs.DNS || id.IsWildcard() {
			v.report(fmt.Sprintf("web.hosts[%d]", i), "%s is not the name of a host", quote(host))
		}
	}
	switch a, err := netip.ParseAddrPort(w.Listen); {
	case w.Listen == "" && len(w.Hosts) > 0:
		v.report("web.hosts", "it needs web.listen; without it there is no server")
	case w.Listen != "" && (err != nil || !a.Addr().IsLoopback()) && !v.incomplete():
		v.warn("web.listen", "who reaches %s can read the names and the state of all certificates; there is no login", w.Listen)
	}
}

func (v *validator) probe(p *Probe) {
	if _, err := p.Server(); err != nil {
		v.report("probe.resolver", "%s is neither an IP address nor IP:PORT", quote(p.Resolver))
	}
	if p.Timeout < 0 || p.Timeout > time.Minute {
		v.report("probe.timeout", "%s is not between 0s and 1m", show(p.Timeout))
	}
}
