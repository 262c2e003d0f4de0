package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/acmed/acmed/internal/acmetest"
)

// orders is what the CA sees of all nodes.
type orders struct {
	mu      sync.Mutex
	byURL   map[string]*order
	byName  map[string][]*order
	invalid map[string]bool // authorizations
	slow    time.Duration   // before and after an order and its end, so that faults hit the middle of one
}

type order struct {
	id                string
	placed, finalized time.Time
}

func newOrders(slow time.Duration) *orders {
	return &orders{byURL: map[string]*order{}, byName: map[string][]*order{}, invalid: map[string]bool{}, slow: slow}
}

var certName = regexp.MustCompile(`\bc\d+\.example\.com"`)

// see is the middleware that remembers.
func (o *orders) see(e acmetest.Endpoint, next http.Handler) http.Handler {
	switch e {
	case acmetest.NewOrder, acmetest.Finalize, acmetest.Authorization:
	default:
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		r.Body = io.NopCloser(bytes.NewReader(body))
		if e != acmetest.Authorization {
			time.Sleep(o.slow)
			defer time.Sleep(o.slow)
		}
		kept := &keeper{ResponseWriter: w, status: http.StatusOK}
		next.ServeHTTP(kept, r)
		o.mu.Lock()
		defer o.mu.Unlock()
		switch {
		case e == acmetest.Authorization && bytes.Contains(kept.body.Bytes(), []byte(`"status": "invalid"`)):
			o.invalid[r.URL.Path] = true
		case e == acmetest.NewOrder && kept.status == http.StatusCreated:
			made := &order{placed: time.Now()}
			name := strings.TrimSuffix(certName.FindString(payload(body)), `.example.com"`)
			made.id = last(w.Header().Get("Location"))
			o.byURL[made.id] = made
			o.byName[name] = append(o.byName[name], made)
		case e == acmetest.Finalize && kept.status == http.StatusOK:
			if made := o.byURL[last(r.URL.Path)]; made != nil && made.finalized.IsZero() {
				made.finalized = time.Now()
			}
		}
	})
}

// payload is the content of a signed request.
func payload(body []byte) string {
	var jws struct{ Payload string }
	_ = json.Unmarshal(body, &jws)
	text, _ := base64.RawURLEncoding.DecodeString(jws.Payload)
	return string(text)
}

type keeper struct {
	http.ResponseWriter
	status int
	body   bytes.Buffer
}

func (k *keeper) WriteHeader(status int) { k.status = status; k.ResponseWriter.WriteHeader(status) }

func (k *keeper) Write(p []byte) (int, error) { k.body.Write(p); return k.ResponseWriter.Write(p) }

// tally is what the CA can tell about all orders: how many there were, how many were finalized, how many were placed while
// another one of the same name was going on to its certificate, and how many were left pending: of all, and of those that
// the nodes had shared.
type tally struct{ placed, finalized, overlapping, left, shared, invalid int }

func (o *orders) tally(journals map[string]bool) (t tally, bad []string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	t.invalid = len(o.invalid)
	for name, list := range o.byName {
		for i, a := range list {
			t.placed++
			if a.finalized.IsZero() {
				t.left++
				if journals[a.id] {
					t.shared++
					bad = append(bad, fmt.Sprintf("%s: order %d of %d was left", name, i+1, len(list)))
				}
				continue
			}
			t.finalized++
			for _, b := range list[:i] {
				if !b.finalized.IsZero() && a.placed.Before(b.finalized) {
					t.overlapping++
					bad = append(bad, fmt.Sprintf("%s: order %d of %d", name, i+1, len(list)))
					break
				}
			}
		}
	}
	return t, bad
}
