package web

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/acmed/acmed/cmd/acmed/internal/control"
	"github.com/acmed/acmed/pkg/advice"
	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/renewal"
	"github.com/acmed/acmed/pkg/renewal/plan"
)

// noon is the time in these tests.
var noon = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

// fake is a Source that knows a fixed list.
type fake struct {
	list     []renewal.Status
	err      error
	progress error
	reload   string
	fleet    *Fleet

	conditions []control.Condition
	asked      atomic.Int64
}

func (f *fake) Snapshot(context.Context) (*Snapshot, error) {
	f.asked.Add(1)
	if f.err != nil {
		return nil, f.err
	}
	return &Snapshot{
		Version: "v1.2.3", Host: "web1.example.com", Started: noon.Add(-100 * day), Reloaded: noon.Add(-day), ReloadError: f.reload != "", Conditions: f.Conditions(), Fleet: f.fleet,
		Certificates: append([]renewal.Status(nil), f.list...),
	}, nil
}

func (f *fake) Certificate(_ context.Context, name string) (renewal.Status, error) {
	for _, s := range f.list {
		if s.Name == name {
			return s, f.err
		}
	}
	return renewal.Status{}, ErrUnknown
}

func (f *fake) Progress() error { return f.progress }

func server(f *fake) *Server {
	return New(Config{Source: f, Recorder: &Recorder{}, Log: zap.NewNop(), Clock: func() time.Time { return noon }, Hosts: []string{"web1.example.com"}})
}

// get asks the handler and returns status and body.
func get(t testing.TB, s *Server, address string) (int, string) {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "http://127.0.0.1:9540"+address, nil)
	w := httptest.NewRecorder()
	s.http.Handler.ServeHTTP(w, r)
	body, err := io.ReadAll(w.Result().Body)
	if err != nil {
		t.Fatal(err)
	}
	return w.Code, string(body)
}

// valid is a certificate of 90 days that was issued some days ago.
func valid(name string, age int, names ...string) renewal.Status {
	from := noon.AddDate(0, 0, -age)
	s := renewal.Status{
		Name: name, Names: names, Health: renewal.HealthOK, Version: "20261111-120000-ab12", Serial: "4f0c", Issuer: "letsencrypt",
		KeyTypes: []certs.KeyType{certs.EC256}, From: from, NotAfter: from.Add(90 * day), Reason: plan.ReasonNothing,
		Targets: []renewal.TargetStatus{{ID: "nginx", Installed: true, VerifiedAt: noon.Add(-3 * time.Hour)}},
	}
	at := s.NotAfter.Add(-30 * day)
	s.Renewal = &renewal.RenewalStatus{At: at, Rule: at, Reason: plan.ReasonRenewBefore}
	s.Next, s.Message = at, "renews on "+at.Format(time.DateOnly)
	return s
}

// withWindow gives a certificate the CA's window.
func withWindow(s renewal.Status) renewal.Status {
	r := *s.Renewal
	r.Start, r.End = r.Rule.Add(-3*day), r.Rule.Add(-day)
	r.Drawn = r.Start.Add(day)
	r.At, r.Reason, r.AskAt, r.URL = r.Drawn, plan.ReasonARI, noon.Add(5*time.Hour), "https://ca.example/docs/ari"
	s.Renewal, s.Next = &r, r.AskAt
	return s
}

// few is a small machine with one of each kind of trouble.
func few() []renewal.Status {
	www := withWindow(valid("www", 20, "example.com", "www.example.com", "shop.example.com", "blog.example.com", "static.example.com", "api.example.com"))
	www.Solved = map[string]string{"example.com": "http-01", "www.example.com": "http-01", "shop.example.com": "tls-alpn-01"}
	www.Validations = []certs.Validation{{Identifier: "shop.example.com", Solver: "tls-alpn-01", Type: "tls-alpn-01", Reason: "http-01 failed: connection refused"}}
	www.Trust = []renewal.TrustStatus{{Client: "firmware-1.2", Until: noon.Add(900 * day)}, {Client: "till-2019", Error: "it does not know ISRG Root X1"}}
	www.Versions = []renewal.VersionStatus{
		{ID: "20261101-120000-ab12", Active: true, Issuer: "letsencrypt", Created: www.From, From: www.From, NotAfter: www.NotAfter},
		{ID: "20260902-120000-99aa", Issuer: "letsencrypt", Created: www.From.Add(-60 * day), From: www.From.Add(-60 * day), NotAfter: www.From.Add(30 * day)},
	}
	www.Targets = append(www.Targets, renewal.TargetStatus{ID: "file:/etc/ssl/postgres", Installed: true, VerifiedAt: noon.Add(-20 * time.Hour)})
	www.Chain = []renewal.LinkStatus{
		{Subject: "CN=example.com", Issuer: "CN=R12,O=Let's Encrypt,C=US", KeyType: certs.EC256, From: www.From, NotAfter: www.NotAfter, Fingerprint: strings.Repeat("9f3a", 16)},
		{Subject: "CN=R12,O=Let's Encrypt,C=US", Issuer: "CN=ISRG Root X1", KeyType: certs.RSA2048, From: noon.Add(-900 * day), NotAfter: noon.Add(900 * day), Fingerprint: strings.Repeat("07bd", 16)},
	}
	mail := valid("mail", 66, "mail.example.com", "imap.example.com")
	mail.Health, mail.Reason, mail.Failures = renewal.HealthFailing, plan.ReasonBackoff, 4
	mail.Error = `mail.example.com: http-01: the CA could not fetch http://mail.example.com/.well-known/acme-challenge/…: connection refused; is port 80 open?`
	mail.RetryAt, mail.Next = noon.Add(17*time.Hour), noon.Add(17*time.Hour)
	mail.Message = "24 days of validity remain; try 4 failed"
	api := valid("api", 40, "api.internal")
	api.Health, api.Reason, api.Issuer = renewal.HealthNotInstalled, plan.ReasonNotInstalled, "internal"
	api.Targets = []renewal.TargetStatus{{ID: "nginx", Error: "nginx -t: [emerg] unknown directive \"proxy_pas\" in /etc/nginx/sites-enabled/api:12", RetryAt: noon.Add(9 * time.Minute)}}
	api.Message, api.Next = "not installed at [nginx]", noon.Add(9*time.Minute)
	return []renewal.Status{www, mail, api}
}

// many is a fleet.
func many(n int) []renewal.Status {
	list := make([]renewal.Status, n)
	for i := range list {
		name := fmt.Sprintf("site-%05d", i)
		// Ages follow a fleet that was begun within two weeks and drifted apart.
		s := valid(name, (i*7919)%60, name+".example.com", "www."+name+".example.com")
		if i%3 == 0 {
			s = withWindow(s)
		}
		switch {
		case i%397 == 5:
			s = valid(name, 61+i%25, name+".example.com")
			s.Health, s.Error, s.Reason, s.Failures = renewal.HealthFailing, "the CA is unavailable", plan.ReasonBackoff, 3
			s.Next = noon.Add(time.Hour)
			s.RetryAt = s.Next
		case i%1999 == 7:
			s.Health, s.Reason, s.Message = renewal.HealthHeld, plan.ReasonHeld, "firmware-1.2 would not trust the new chain"
		}
		list[i] = s
	}
	return list
}

func (f *fake) Conditions() []control.Condition {
	if f.reload == "" {
		return f.conditions
	}
	return append([]control.Condition{{Code: advice.ConfigBroken, Detail: f.reload, File: "conf.d/www.yaml", Line: 7}}, f.conditions...)
}
