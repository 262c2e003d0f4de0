package issuer_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/acmed/acmed/internal/acmetest"
)

func TestRenewalInfo(t *testing.T) {
	w := newWorld(t)
	b := w.mustObtain(w.request("example.com"))
	window, err := w.RenewalInfo(t.Context(), b.Leaf)
	if err != nil || window.IsZero() || window.RetryAfter != 6*time.Hour || !window.End.After(window.Start) {
		t.Fatalf("%+v, %v", window, err)
	}
	start, end := time.Now().Add(-2*time.Hour).Truncate(time.Second), time.Now().Add(-time.Hour).Truncate(time.Second)
	if err := w.ca.SetRenewalInfo(b.Leaf, start, end); err != nil {
		t.Fatal(err)
	}
	window, err = w.RenewalInfo(t.Context(), b.Leaf)
	if err != nil || !window.Start.Equal(start) || !window.End.Equal(end) {
		t.Errorf("a window in the past: %+v, %v", window, err)
	}
}

func badRenewalInfo(t *testing.T) {
	w := newWorld(t)
	b := w.mustObtain(w.request("example.com"))
	window := func(start, end string) string {
		return `{"suggestedWindow":{"start":"` + start + `","end":"` + end + `"}}`
	}
	for name, tc := range map[string]struct {
		fault acmetest.Fault
		want  string
	}{
		"inverted":    {acmetest.Answer(200, nil, window("2026-02-01T00:00:00Z", "2026-01-01T00:00:00Z")), "unavailable"},
		"empty":       {acmetest.Answer(200, nil, `{}`), "unavailable"},
		"equal":       {acmetest.Answer(200, nil, window("2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z")), "unavailable"},
		"year 9999":   {acmetest.Answer(200, nil, window("9999-01-01T00:00:00Z", "9999-02-01T00:00:00Z")), "unavailable"},
		"to 9999":     {acmetest.Answer(200, nil, window("2026-01-01T00:00:00Z", "9999-02-01T00:00:00Z")), "unavailable"},
		"year zero":   {acmetest.Answer(200, nil, window("0001-01-01T00:00:00Z", "2026-02-01T00:00:00Z")), "unavailable"},
		"not a date":  {acmetest.Answer(200, nil, window("soon", "later\x1b[31m")), "unavailable"},
		"html":        {acmetest.Answer(200, nil, "<html>\x1b[2J"), "unavailable"},
		"201":         {acmetest.Answer(201, nil, window("2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z")), "unavailable"},
		"404":         {acmetest.Answer(404, nil, ""), "plain"},
		"500":         {acmetest.Answer(500, nil, ""), "unavailable"},
		"429":         {acmetest.RateLimited("120"), "limit"},
		"503":         {acmetest.Unavailable("120"), "limit"},
		"redirect":    {acmetest.Redirect(302, "https://127.0.0.2/"), "unavailable"},
		"reset":       {acmetest.Reset(), "unavailable"},
		"10 MB":       {acmetest.Answer(200, nil, window("2026-01-01T00:00:00Z", strings.Repeat("a", 10<<20))), "unavailable"},
		"endless":     {acmetest.EndlessBody(), "unavailable"},
		"endless too": {acmetest.EndlessHeaders(), "unavailable"},
	} {
		w.ca.Use(acmetest.At(tc.fault, acmetest.RenewalInfo))
		bounded(t, func() {
			window, err := w.RenewalInfo(t.Context(), b.Leaf)
			if kind(err) != tc.want || !window.IsZero() {
				t.Errorf("%s: %+v, %s: %v", name, window, kind(err), err)
			}
			checkText(t, err)
		})
	}
}

func TestRenewalInfoDetails(t *testing.T) {
	w := newWorld(t)
	b := w.mustObtain(w.request("example.com"))
	for _, tc := range []struct {
		url, retry string
		wantURL    string
		wantRetry  time.Duration
	}{
		{"https://ca.example.com/why", "7200", "https://ca.example.com/why", 2 * time.Hour},
		{"http://ca.example.com/why", "1", "", time.Minute},
		{"javascript:alert(1)", "999999999", "", 24 * time.Hour},
		{"https://a:b@ca.example.com/", "-1", "", 6 * time.Hour},
		{`https://ca.example.com/\u001b[31m`, "soon", "", 6 * time.Hour},
		{"https://ca.example.com/" + strings.Repeat("a", 5000), "", "", 6 * time.Hour},
	} {
		w.ca.Use(acmetest.At(acmetest.Answer(200, http.Header{"Retry-After": {tc.retry}},
			`{"suggestedWindow":{"start":"2026-01-01T00:00:00Z","end":"2026-01-02T00:00:00Z"},"explanationURL":"`+tc.url+`"}`), acmetest.RenewalInfo))
		window, err := w.RenewalInfo(t.Context(), b.Leaf)
		if err != nil || window.ExplanationURL != tc.wantURL || window.RetryAfter != tc.wantRetry {
			t.Errorf("%.40s %s: %+v, %v", tc.url, tc.retry, window, err)
		}
	}
}

func TestNoRenewalInfo(t *testing.T) {
	w := newWorld(t)
	w.ca.Use(acmetest.At(acmetest.ChangeJSON(func(doc map[string]any) { delete(doc, "renewalInfo") }), acmetest.Directory))
	b := w.mustObtain(w.request("example.com"))
	if window, err := w.RenewalInfo(t.Context(), b.Leaf); err != nil || !window.IsZero() {
		t.Errorf("%+v, %v", window, err)
	}
	seen := w.replacesSeen()
	req := w.request("example.com")
	req.Replaces = b
	w.mustObtain(req)
	if list := seen(); len(list) != 1 || list[0] != "" {
		t.Errorf("replaces %q", list)
	}
}

// replacesSeen records what new orders say that they replace. It adds to nothing else: it replaces the middleware.
func (w *world) replacesSeen(also ...acmetest.Middleware) func() []string {
	list := make(chan string, 100)
	w.ca.Use(append([]acmetest.Middleware{onPayload(acmetest.NewOrder, func(payload map[string]any) {
		text, _ := payload["replaces"].(string)
		list <- text
	})}, also...)...)
	return func() (all []string) {
		for len(list) > 0 {
			all = append(all, <-list)
		}
		return all
	}
}

func TestReplaces(t *testing.T) {
	w := newWorld(t)
	first := w.mustObtain(w.request("example.com"))
	seen := w.replacesSeen()
	req := w.request("example.com")
	req.Replaces = first
	w.mustObtain(req)
	if list := seen(); len(list) != 1 || len(list[0]) < 20 {
		t.Errorf("replaces %q", list)
	}
	conflict := acmetest.Problem(409, "alreadyReplaced", "no", "")
	for _, refusal := range []acmetest.Fault{conflict, acmetest.Problem(403, "unauthorized", "another account ordered it", "")} {
		seen = w.replacesSeen(acmetest.At(acmetest.Times(1, refusal), acmetest.NewOrder))
		w.mustObtain(req)
		if list := seen(); len(list) != 2 || list[0] == "" || list[1] != "" {
			t.Errorf("after a refusal: replaces %q", list)
		}
	}
	stranger := *first
	stranger.Directory = "https://other.example.com/dir"
	req.Replaces = &stranger
	w.mustObtain(req)
	if list := seen(); len(list) != 1 || list[0] != "" {
		t.Errorf("a certificate of another CA: replaces %q", list)
	}
	seen = w.replacesSeen(acmetest.At(conflict, acmetest.NewOrder))
	req.Replaces = first
	if _, err := w.Obtain(t.Context(), req); err == nil {
		t.Error("no error from a CA that always says alreadyReplaced")
	}
	if list := seen(); len(list) != 2 {
		t.Errorf("%d orders", len(list))
	}
	if err := w.ca.Forget(); err != nil { // neither account nor certificate are known
		t.Fatal(err)
	}
	w.ca.Use()
	second := w.mustObtain(req)
	if second.Leaf.Equal(first.Leaf) {
		t.Error("the same certificate")
	}
}
