package acmetest

import (
	"bytes"
	"compress/gzip"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// Fault is what goes wrong with one request; next is the honest CA.
type Fault func(next http.Handler) http.Handler

// At applies f at the given endpoints, or at all of them when none is given.
func At(f Fault, endpoints ...Endpoint) Middleware {
	return func(e Endpoint, next http.Handler) http.Handler {
		if len(endpoints) > 0 && !slices.Contains(endpoints, e) {
			return next
		}
		return f(next)
	}
}

// Times limits f to the first n requests it sees.
func Times(n int, f Fault) Fault {
	var seen atomic.Int64
	return when(func() bool { return seen.Add(1) <= int64(n) }, f)
}

// After spares the first n requests from f.
func After(n int, f Fault) Fault {
	var seen atomic.Int64
	return when(func() bool { return seen.Add(1) > int64(n) }, f)
}

func when(applies func() bool, f Fault) Fault {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if applies() {
				f(next).ServeHTTP(w, r)
			} else {
				next.ServeHTTP(w, r)
			}
		})
	}
}

// Response is a whole answer of the CA.
type Response struct {
	Status int
	Header http.Header
	Body   []byte
}

// Change lets the CA answer and change edit what the client gets. The Content-Length follows the body.
func Change(change func(*Response)) Fault {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			answer := collect(next, r)
			change(answer)
			answer.send(w)
		})
	}
}

// ChangeJSON edits the JSON object in an answer; an answer which is none stays as it is.
func ChangeJSON(change func(doc map[string]any)) Fault {
	return Change(func(r *Response) {
		var doc map[string]any
		if json.Unmarshal(r.Body, &doc) != nil {
			return
		}
		change(doc)
		if body, err := json.Marshal(doc); err == nil {
			r.Body = body
		}
	})
}

// SetHeader adds a header to the CA's answer or replaces it; an empty value removes it.
func SetHeader(key, value string) Fault {
	return Change(func(r *Response) {
		r.Header.Del(key)
		if value != "" {
			r.Header.Set(key, value)
		}
	})
}

// OrderStatus shows the client this status in every order object that has reached at least finalization. Use it at
// Order and Finalize: "processing" is an order that is stuck, "invalid" one that fails after valid authorizations.
func OrderStatus(status string) Fault {
	return ChangeJSON(func(doc map[string]any) {
		if now := doc["status"]; now != "processing" && now != "valid" {
			return
		}
		doc["status"] = status
		delete(doc, "certificate")
		if status == "invalid" {
			doc["error"] = map[string]any{
				"type": ProblemPrefix + "serverInternal", "detail": "the test CA gave up on this order", "status": 500,
			}
		}
	})
}

// Token replaces the token of every challenge in an authorization.
func Token(token string) Fault {
	return ChangeJSON(func(doc map[string]any) {
		challenges, _ := doc["challenges"].([]any)
		for _, c := range challenges {
			if c, ok := c.(map[string]any); ok {
				c["token"] = token
			}
		}
	})
}

// Alternates adds n links to alternate chains, all of them to the same one.
func Alternates(n int) Fault {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			answer := collect(next, r)
			for i := range n {
				answer.Header.Add("Link", fmt.Sprintf(`<https://%s%s?copy=%d>;rel="alternate"`, r.Host, r.URL.Path, i))
			}
			answer.send(w)
		})
	}
}

// Answer replies without asking the CA.
func Answer(status int, header http.Header, body string) Fault {
	content := []byte(body)
	return func(http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			(&Response{Status: status, Header: header.Clone(), Body: content}).send(w)
		})
	}
}

// ProblemPrefix starts the types of ACME problem documents (RFC 8555 section 6.7).
const ProblemPrefix = "urn:ietf:params:acme:error:"

// Problem replies with a problem document of this kind, such as "rateLimited", without asking the CA. An empty
// retryAfter sends no such header.
func Problem(status int, kind, detail, retryAfter string) Fault {
	body, err := json.Marshal(map[string]any{"type": ProblemPrefix + kind, "detail": detail, "status": status})
	if err != nil {
		return Answer(http.StatusInternalServerError, nil, err.Error())
	}
	header := http.Header{"Content-Type": {"application/problem+json"}}
	if retryAfter != "" {
		header.Set("Retry-After", retryAfter)
	}
	return Answer(status, header, string(body))
}

// Unavailable replies 503 with this Retry-After.
func Unavailable(retryAfter string) Fault {
	return Problem(http.StatusServiceUnavailable, "serverInternal", "the service is down for maintenance", retryAfter)
}

// RateLimited replies 429 with this Retry-After.
func RateLimited(retryAfter string) Fault {
	return Problem(http.StatusTooManyRequests, "rateLimited", "too many new orders recently", retryAfter)
}

// Redirect sends the client elsewhere.
func Redirect(status int, location string) Fault {
	return Answer(status, http.Header{"Location": {location}}, "")
}

// Delay waits before it asks the CA, or until the client has gone.
func Delay(d time.Duration) Fault {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			select {
			case <-r.Context().Done():
			case <-time.After(d):
				next.ServeHTTP(w, r)
			}
		})
	}
}

// Reset resets the connection without asking the CA.
func Reset() Fault {
	return func(http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { reset(w) })
	}
}

// ResetAfter lets the CA work and resets the connection instead of answering.
func ResetAfter() Fault {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			collect(next, r)
			reset(w)
		})
	}
}

// Cut announces the whole answer, sends the first n bytes of its body and resets the connection.
func Cut(n int) Fault {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			answer := collect(next, r)
			answer.begin(w)
			_, _ = w.Write(answer.Body[:min(n, len(answer.Body))])
			_ = http.NewResponseController(w).Flush()
			reset(w)
		})
	}
}

// Throttle sends the body of the answer at this rate.
func Throttle(bytesPerSecond int) Fault {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			answer := collect(next, r)
			answer.begin(w)
			for _, b := range answer.Body {
				select {
				case <-r.Context().Done():
					return
				case <-time.After(time.Second / time.Duration(bytesPerSecond)):
				}
				_, _ = w.Write([]byte{b})
				_ = http.NewResponseController(w).Flush()
			}
		})
	}
}

// EndlessBody sends an answer that never ends, as fast as the client reads.
func EndlessBody() Fault {
	return func(http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, `{"newNonce": "`)
			for block := bytes.Repeat([]byte("a"), 64<<10); ; {
				if _, err := w.Write(block); err != nil {
					return
				}
			}
		})
	}
}

// EndlessHeaders sends header lines for ever.
func EndlessHeaders() Fault {
	return func(http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			conn, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				panic(http.ErrAbortHandler)
			}
			defer func() { _ = conn.Close() }()
			line := "X-Filler: " + strings.Repeat("a", 4<<10) + "\r\n"
			for _, err := io.WriteString(conn, "HTTP/1.1 200 OK\r\n"); err == nil; {
				_, err = io.WriteString(conn, line)
			}
		})
	}
}

// GzipBomb sends size bytes of JSON in a gzip stream about a thousand times smaller.
func GzipBomb(size int64) Fault {
	return func(http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.Header().Set("Content-Encoding", "gzip")
			z := gzip.NewWriter(w)
			_, _ = io.WriteString(z, `{"newNonce": "`)
			_, _ = io.CopyN(z, blanks{}, size)
			_, _ = io.WriteString(z, `"}`)
			_ = z.Close()
		})
	}
}

// blanks reads as spaces without end.
type blanks struct{}

func (blanks) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = ' '
	}
	return len(p), nil
}

func collect(next http.Handler, r *http.Request) *Response {
	recorder := httptest.NewRecorder()
	next.ServeHTTP(recorder, r)
	return &Response{Status: recorder.Code, Header: recorder.Header(), Body: recorder.Body.Bytes()}
}

// begin sends the status and the headers, with the length of the whole body.
func (r *Response) begin(w http.ResponseWriter) {
	for key, values := range r.Header {
		w.Header()[key] = values
	}
	if r.Status != http.StatusNoContent {
		w.Header().Set("Content-Length", strconv.Itoa(len(r.Body)))
	}
	w.WriteHeader(r.Status)
}

func (r *Response) send(w http.ResponseWriter) {
	r.begin(w)
	_, _ = w.Write(r.Body)
}

// reset ends the connection with a TCP reset.
func reset(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	if secure, ok := conn.(*tls.Conn); ok {
		conn = secure.NetConn()
	}
	if plain, ok := conn.(*net.TCPConn); ok {
		_ = plain.SetLinger(0)
	}
	_ = conn.Close()
}

// Raw sends these bytes as the whole answer, whatever they are, and closes the connection.
func Raw(answer string) Fault {
	return func(http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			conn, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				panic(http.ErrAbortHandler)
			}
			_, _ = io.WriteString(conn, answer)
			_ = conn.Close()
		})
	}
}
