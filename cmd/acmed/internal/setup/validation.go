package setup

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"

	"github.com/acmed/acmed/pkg/config"
	"github.com/acmed/acmed/pkg/installers"
)

// generated reports whether the solvers of an earlier enable came from the sites of a web server, so that further names
// get theirs in the same way.
func (w *Wish) generated() bool {
	return len(w.old.Solvers) > 0 && !slices.ContainsFunc(w.old.Solvers, func(s Solver) bool { return s.HTTP01 == nil })
}

// validation says how the names are validated, as the options say or as the site allows.
func (e *Enabling) validation(w *Wish, d *Dropin) (err error) {
	o, c := &e.Options, &d.Certificates[0]
	d.Solvers, c.Solvers = nil, nil
	switch {
	case len(o.Solvers) > 0:
		c.Solvers = o.Solvers
	case o.DNS != nil:
		err = e.dns(w, d)
	case o.Listen != "":
		d.Solvers = []Solver{w.listener(o.Listen, nil)}
	case o.Alone:
		c.Solvers = []string{"http-01", "tls-alpn-01"}
	case o.Webroot == "" && e.helper != nil && e.Machine.Config != nil && len(e.Machine.Config.Defaults.Solvers) > 0:
	default:
		err = e.bySite(w, d)
	}
	for _, s := range d.Solvers {
		c.Solvers = append(c.Solvers, s.Name)
	}
	return err
}

func (w *Wish) listener(address string, zones []string) Solver {
	return Solver{Name: w.Name + "-listen", Zones: zones, HTTP01: &HTTP01{Listen: address}}
}

// bySite validates names through files in the directories that a web server serves, and where it serves none by a route to
// acmed. A daemon that is not root cannot write into these directories.
func (e *Enabling) bySite(w *Wish, d *Dropin) error {
	root := w.Root
	if e.helper != nil && e.Options.Webroot == "" {
		root = func(string) string { return "" }
	}
	var without []string
	d.Solvers, without = Webroots(w.Name, w.Names, root)
	switch {
	case len(without) == 0:
		return nil
	case w.Site == nil:
		return usagef("%s: no directory is served for it; give --webroot, --listen or --solver", strings.Join(without, ", "))
	}
	address, zones := e.upstream(), without
	if len(without) == len(w.Names) {
		zones = nil
	}
	d.Solvers = append(d.Solvers, w.listener(address, zones))
	e.Change.Routes = append(e.Change.Routes, Route{
		Server: w.Site.Server, ChallengeRoute: installers.ChallengeRoute{Certificate: w.Name, Names: without, Upstream: address},
	})
	return nil
}

// firstUpstream is where acmed answers challenges that a web server forwards, unless another program has the port.
const firstUpstream = 5080

// upstream is a loopback address for forwarded challenges: the one of an earlier enable, or one that is free.
func (e *Enabling) upstream() string {
	for _, r := range e.Change.Routes {
		return r.Upstream
	}
	if c := e.Machine.Config; c != nil {
		if i := slices.IndexFunc(c.Solvers, isForwarded); i >= 0 {
			return c.Solvers[i].HTTP01.Listen
		}
	}
	for port := firstUpstream; port < firstUpstream+20; port++ {
		address := fmt.Sprintf("127.0.0.1:%d", port)
		if l, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", address); err == nil {
			_ = l.Close()
			return address
		}
	}
	return fmt.Sprintf("127.0.0.1:%d", firstUpstream)
}

// isForwarded reports a solver that answers on loopback what a web server forwards.
func isForwarded(s config.Solver) bool {
	return s.HTTP01 != nil && strings.HasPrefix(s.HTTP01.Listen, "127.0.0.1:") && s.HTTP01.Webroot == "" && len(s.HTTP01.ProxyProtocol) == 0
}
