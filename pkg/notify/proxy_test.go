package notify_test

import (
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/acmed/acmed/internal/acmetest"
	"github.com/acmed/acmed/internal/proxy"
	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/notify"
)

// TestWebhookThroughProxy: the event goes through the proxy with its password, and nowhere when that is wrong.
func TestWebhookThroughProxy(t *testing.T) {
	const auth = "user:hunter2"
	for name, p := range map[string]*acmetest.Proxy{"http": acmetest.StartProxy(t, auth, nil), "socks5": acmetest.StartSOCKS(t, auth)} {
		for secret, works := range map[string]bool{auth: true, "user:wrong4hunter": false} {
			r := newReceiver(t)
			via, err := proxy.URL(p.URL, "secret", func(string) (certs.Secret, error) { return certs.Secret(secret), nil })
			if err != nil {
				t.Fatal(err)
			}
			w, err := notify.NewWebhook(notify.WebhookConfig{URL: r.URL}, nil, via, time.Now)
			if err != nil {
				t.Fatal(err)
			}
			err = w.Send(t.Context(), []notify.Event{failure})
			u, _ := url.Parse(r.URL)
			through := len(p.Hosts()) > 0 && p.Hosts()[len(p.Hosts())-1] == u.Host
			if works != (err == nil) || works != through || works != (r.body != "") {
				t.Errorf("%s with %q: %v, through the proxy: %t, arrived: %q", name, secret, err, through, r.body)
			}
			if err != nil && strings.Contains(err.Error(), "hunter") {
				t.Errorf("%s: the error has the password: %v", name, err)
			}
		}
	}
}
