package acmetest

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"slices"
	"sync"
)

// Request is what a client sent, as far as tests want to see it.
type Request struct {
	Method, URL string
	Header      http.Header
	// Payload is the content of a signed request; empty for a GET and for a POST-as-GET.
	Payload []byte
}

// remembered is how many requests of each endpoint are kept.
const remembered = 256

// recorder counts the requests by endpoint and keeps the newest.
type recorder struct {
	mu     sync.Mutex
	count  map[Endpoint]int
	newest map[Endpoint][]Request
}

func (l *recorder) add(e Endpoint, r *http.Request) {
	seen := Request{Method: r.Method, URL: r.URL.String(), Header: r.Header.Clone(), Payload: payload(r)}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.count == nil {
		l.count, l.newest = map[Endpoint]int{}, map[Endpoint][]Request{}
	}
	l.count[e]++
	kept := append(l.newest[e], seen)
	l.newest[e] = kept[max(0, len(kept)-remembered):]
}

// payload reads the payload of a JWS (RFC 7515 section 7.2.2) and leaves the body as it was.
func payload(r *http.Request) []byte {
	body, err := io.ReadAll(r.Body)
	r.Body = io.NopCloser(bytes.NewReader(body))
	if err != nil || len(body) == 0 {
		return nil
	}
	var jws struct{ Payload string }
	if json.Unmarshal(body, &jws) != nil {
		return nil
	}
	content, err := base64.RawURLEncoding.DecodeString(jws.Payload)
	if err != nil {
		return nil
	}
	return content
}

// Requests is the number of requests clients sent to an endpoint, also those which a middleware answered.
func (c *CA) Requests(e Endpoint) int {
	c.seen.mu.Lock()
	defer c.seen.mu.Unlock()
	return c.seen.count[e]
}

// AllRequests is Requests for every endpoint that was asked at all.
func (c *CA) AllRequests() map[Endpoint]int {
	c.seen.mu.Lock()
	defer c.seen.mu.Unlock()
	return maps.Clone(c.seen.count)
}

// Received returns the requests to an endpoint, the oldest first, at most the newest 256.
func (c *CA) Received(e Endpoint) []Request {
	c.seen.mu.Lock()
	defer c.seen.mu.Unlock()
	return slices.Clone(c.seen.newest[e])
}

// ResetRequests forgets the requests seen so far.
func (c *CA) ResetRequests() {
	c.seen.mu.Lock()
	defer c.seen.mu.Unlock()
	clear(c.seen.count)
	clear(c.seen.newest)
}

// Issued is the number of orders the CA accepted for issuance.
func (c *CA) Issued() int { return int(c.issued.Load()) }
