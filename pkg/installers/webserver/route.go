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
