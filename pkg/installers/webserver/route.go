package webserver

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/installers"
	"github.com/acmed/acmed/pkg/installers/change"
)

// Routes is what makes a server forward the challenges for some names.
type Routes struct {
	Files []change.File
	Doors []Door // where a CA asks for them
}

// Door is where a server answers for a name without TLS.
type Door struct{ Name, Address, Upstream string }

// Router knows the sites of one server and how challenges are forwarded in one.
type Router[S comparable] struct {
	Server string                                   // how errors call the server
	Sites  func(id certs.Identifier) []S            // those that answer for a name without TLS
	Dials  func(S) []string                         // where a site answers
	Add    func(S, installers.ChallengeRoute) error // plans the lines of a route in a site
	Text   func(S) (text []byte, start, end int)    // the file of a site, and where it stands there
	Edit   func(S, change.Edit)                     // plans one edit in a site's file
}

// Plan plans the edits of all routes, and returns where the challenges arrive. The certificates of one site share its route.
func (r *Router[S]) Plan(routes []installers.ChallengeRoute) (doors []Door, err error) {
	var order []S
	merged := map[S]*installers.ChallengeRoute{}
	for _, route := range routes {
		for _, name := range route.Names {
			id, _, err := certs.ParseIdentifier(name)
			if err != nil {
				return nil, err
			}
			sites := r.Sites(id)
			if len(sites) == 0 {
				return nil, fmt.Errorf("no site of %s answers for %q without TLS, so a CA cannot validate it through %s", r.Server, name, r.Server)
			}
			for _, s := range sites {
				for _, address := range r.Dials(s) {
					doors = append(doors, Door{Name: name, Address: address, Upstream: route.Upstream})
				}
				if merged[s] == nil {
					one := route
					merged[s], order = &one, append(order, s)
				}
				merged[s].Certificate = installers.JoinRouteNames(merged[s].Certificate, route.Certificate)
			}
		}
	}
	for _, s := range order {
		if err := r.Add(s, *merged[s]); err != nil {
			return nil, err
		}
		r.join(s, merged[s].Certificate)
	}
	return doors, nil
}

// join adds certificates to the marks of the routes that a site has.
func (r *Router[S]) join(s S, certificates string) {
	text, start, end := r.Text(s)
	for _, mark := range installers.RouteMarks(text[start:end]) {
		names := string(text[start+mark[0] : start+mark[1]])
		if joined := installers.JoinRouteNames(names, certificates); joined != names {
			r.Edit(s, change.Edit{Start: start + mark[0], End: start + mark[1], Text: joined})
		}
	}
}

// routeTime bounds the wait for a server that was reloaded: nginx starts new workers within a second, a busy one with a
// thousand sites takes some.
const routeTime = 20 * time.Second

// Verify asks for a challenge at every door, as a CA does, until each is forwarded, and once more when the workers of before
// the reload are gone. It answers at the upstream itself, unless acmed is there already.
func (r *Routes) Verify(ctx context.Context) error {
	token := strings.ToLower(rand.Text() + rand.Text())
	ctx, cancel := context.WithTimeoutCause(ctx, routeTime, errors.New("it does not answer"))
	defer cancel()
	servers := map[string]bool{}
	for _, d := range r.Doors {
		if servers[d.Upstream] {
			continue
		}
		servers[d.Upstream] = true
		l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", d.Upstream)
		if err != nil {
			continue // a running acmed, whose answer is known as well
		}
		s := &http.Server{ReadHeaderTimeout: routeTime, Handler: http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			if strings.HasSuffix(req.URL.Path, token) {
				_, _ = io.WriteString(w, token)
			}
		})}
		go func() { _ = s.Serve(l) }()
		defer func() { _ = s.Close() }()
	}
	for range 2 {
		for _, d := range r.Doors {
			if err := d.verify(ctx, token); err != nil {
				return err
			}
		}
		if err := sleep(ctx, 2*handover); err != nil {
			return err
		}
	}
	return nil
}

func (d *Door) verify(ctx context.Context, token string) error {
	for {
		err := d.ask(ctx, token)
		if err == nil {
			return nil
		}
		if sleep(ctx, 50*time.Millisecond) != nil {
			return fmt.Errorf("challenges for %s at %s do not reach acmed: %w", d.Name, d.Address, err)
		}
	}
}

// acmedAnswer is what acmed's responder says to a token that it does not know.
const acmedAnswer = "not found\n"

func (d *Door) ask(ctx context.Context, token string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+d.Address+installers.ChallengePath+token, nil)
	if err != nil {
		return err
	}
	req.Host = d.Name
	resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close() //nolint:errcheck // only read from
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<10))
	switch {
	case err != nil:
		return err
	case resp.StatusCode == http.StatusOK && string(body) == token:
		return nil
	case resp.StatusCode == http.StatusNotFound && string(body) == acmedAnswer && resp.Header.Get("X-Content-Type-Options") == "nosniff":
		return nil
	case resp.Header.Get("Location") != "":
		return fmt.Errorf("the web server answers %s to %q", resp.Status, resp.Header.Get("Location"))
	}
	return fmt.Errorf("the web server answers %s", resp.Status)
}
