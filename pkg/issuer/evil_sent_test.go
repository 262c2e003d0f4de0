package issuer_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/acmed/acmed/internal/acmetest"
	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/issuer"
)

// What a hostile CA can send is bounded in memory and time, whatever it is and wherever.
func hostileBodies(t *testing.T) {
	for _, fault := range []struct {
		name  string
		fault acmetest.Fault
	}{
		{"endless body", acmetest.EndlessBody()},
		{"endless headers", acmetest.EndlessHeaders()},
		{"endless error", func(next http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.WriteHeader(http.StatusInternalServerError)
				acmetest.EndlessBody()(next).ServeHTTP(w, r)
			})
		}},
		{"gzip bomb", acmetest.GzipBomb(32 << 20)},
		{"huge problem", acmetest.Answer(400, nil, `{"type":"urn:ietf:params:acme:error:malformed","detail":"`+strings.Repeat("\\u001b[31m", 1<<17)+`"}`)},
		{"huge html", acmetest.Answer(500, nil, strings.Repeat("<b>\x1b", 1<<18))},
		{"deep json", acmetest.Answer(200, nil, strings.Repeat(`{"a":`, 50_000))},
	} {
		for _, endpoint := range []acmetest.Endpoint{acmetest.Directory, acmetest.NewOrder, acmetest.Certificate} {
			t.Run(fault.name+" "+string(endpoint), func(t *testing.T) {
				w := newWorld(t, acmetest.WithMiddleware(acmetest.At(fault.fault, endpoint)))
				w.remake(func(c *issuer.Config) { c.OrderTimeout = time.Second })
				bounded(t, func() {
					_, err := w.obtain("example.com")
					if err == nil {
						t.Error("a certificate was obtained")
					}
					checkText(t, err)
				})
			})
		}
	}
}

// splitNonce ends the answer and begins another one, which is dropped. What is left is well-formed; the CA does not know it and
// gives another.
const splitNonce = "abc\r\n\r\nHTTP/1.1 200 OK"

// malformedNonces: net/http would not send most of these, so they go out as raw bytes.
func malformedNonces(t *testing.T) {
	for name, value := range map[string]string{
		"empty": "", "spaces": "a b", "padding": "abc=", "quotes": `a"b`, "long": strings.Repeat("a", 1000), "megabyte": strings.Repeat("a", 1<<20),
		"carriage return": "abc\rdef", "newline": "abc\ndef", "folded": "abc\r\n def", "folded with tab": "abc\r\n\tdef", "nul": "abc\x00def",
		"escape": "\x1b[31mabc", "another alphabet": "ab\u0441", "half an answer": splitNonce,
		"another header": "\r\nReplay-Nonce: a b",
	} {
		t.Run(name, func(t *testing.T) {
			answer := "HTTP/1.1 200 OK\r\nReplay-Nonce: " + value + "\r\nContent-Length: 0\r\n\r\n"
			w := newWorld(t, acmetest.WithMiddleware(acmetest.At(acmetest.Raw(answer), acmetest.NewNonce)))
			bounded(t, func() {
				_, err := w.obtain("example.com")
				if want := map[bool]string{false: "unavailable", true: "ok"}[value == splitNonce]; kind(err) != want {
					t.Errorf("got %v, want %s", err, want)
				}
				checkText(t, err)
			})
			if n := w.ca.Requests(acmetest.NewNonce); n > 25 {
				t.Errorf("%d requests for nonces", n)
			}
			if strings.ContainsAny(value, "\r\n\x00\x1b") {
				return // net/http does not send it in a header
			}
			w.ca.Use(acmetest.At(acmetest.SetHeader("Replay-Nonce", value), acmetest.NewOrder)) // there it is merely ignored
			if _, err := w.obtain("example.com"); err != nil && name != "megabyte" {
				t.Errorf("at another endpoint: %v", err)
			}
		})
	}
}

func malformedTokens(t *testing.T) {
	pad := strings.Repeat("a", 30)
	for name, token := range map[string]string{
		"slash": pad + "/", "dots": "../../../" + pad, "nul": pad + "\x00", "padding": pad + "=", "megabyte": strings.Repeat("a", 900_000), "empty": "", "short": "abc",
	} {
		w := newWorld(t, acmetest.WithMiddleware(acmetest.At(acmetest.Token(token), acmetest.Authorization)))
		_, err := w.obtain("example.com")
		if kind(err) != "unavailable" || w.solver.presented != 0 || w.ca.Requests(acmetest.Challenge) != 0 {
			t.Errorf("%s: got %v, %d presented", name, err, w.solver.presented)
		}
		checkText(t, err)
	}
}

func foreignAuthorizations(t *testing.T) {
	order := func(change func(doc map[string]any)) acmetest.Middleware {
		return acmetest.At(acmetest.ChangeJSON(change), acmetest.NewOrder)
	}
	const elsewhere = `a URL on "127.0.0.2", which is not its own host`
	want := map[string]string{
		"other name":     `an authorization for "bank.example.net", which was not ordered`,
		"wildcard":       `an authorization for "*.example.com", which was not ordered`,
		"invalid":        `the new authorization for example.com is "invalid"`,
		"too many":       "an answer with more than 10000 elements",
		"one too many":   "has 2 authorizations",
		"none":           "the pending order has no authorizations",
		"elsewhere":      elsewhere,
		"finalize":       `a URL on "169.254.169.254", which is not its own host`,
		"other order":    "order identifiers have been modified",
		"location":       elsewhere,
		"no location":    `the URL "", which is not https`,
		"account":        elsewhere,
		"certificate":    elsewhere,
		"challenge":      elsewhere,
		"challenge file": "HTTPS is required",
	}
	for name, fault := range map[string]acmetest.Middleware{
		"other name": acmetest.At(acmetest.ChangeJSON(func(doc map[string]any) {
			doc["identifier"] = map[string]any{"type": "dns", "value": "bank.example.net"}
		}), acmetest.Authorization),
		"wildcard": acmetest.At(acmetest.ChangeJSON(func(doc map[string]any) { doc["wildcard"] = true }), acmetest.Authorization),
		"invalid":  acmetest.At(acmetest.ChangeJSON(func(doc map[string]any) { doc["status"] = "invalid" }), acmetest.Authorization),
		"too many": order(func(doc map[string]any) {
			list := make([]any, 10_000)
			for i := range list {
				list[i] = fmt.Sprintf("https://a/%d", i)
			}
			doc["authorizations"] = list
		}),
		"one too many": order(func(doc map[string]any) {
			list, _ := doc["authorizations"].([]any)
			doc["authorizations"] = append(list, list...)
		}),
		"none":      order(func(doc map[string]any) { doc["authorizations"] = []any{} }),
		"elsewhere": order(func(doc map[string]any) { doc["authorizations"] = []any{"https://127.0.0.2/authz"} }),
		"finalize":  order(func(doc map[string]any) { doc["finalize"] = "https://169.254.169.254/" }),
		"other order": order(func(doc map[string]any) {
			doc["identifiers"] = []any{map[string]any{"type": "dns", "value": "x.example"}}
		}),
		"location":       acmetest.At(acmetest.SetHeader("Location", "https://127.0.0.2/order"), acmetest.NewOrder),
		"no location":    acmetest.At(acmetest.SetHeader("Location", ""), acmetest.NewOrder),
		"account":        acmetest.At(acmetest.SetHeader("Location", "https://127.0.0.2/account"), acmetest.NewAccount),
		"certificate":    acmetest.At(acmetest.ChangeJSON(func(doc map[string]any) { doc["certificate"] = "https://127.0.0.2/cert" }), acmetest.Order),
		"challenge":      challengeURL("https://127.0.0.2/chall"),
		"challenge file": challengeURL("file:///etc/passwd"),
	} {
		w := newWorld(t, acmetest.WithMiddleware(fault))
		bounded(t, func() {
			_, err := w.obtain("example.com")
			if kind(err) != "unavailable" {
				t.Errorf("%s: got %s: %v", name, kind(err), err)
			}
			if err != nil && (want[name] == "" || !strings.Contains(err.Error(), want[name])) {
				t.Errorf("%s: got %q, want %q in it", name, err, want[name])
			}
			checkText(t, err)
		})
		if left := w.solver.left(); left != 0 {
			t.Errorf("%s: %d answers left", name, left)
		}
	}
}

func challengeURL(address string) acmetest.Middleware {
	return acmetest.At(acmetest.ChangeJSON(func(doc map[string]any) {
		list, _ := doc["challenges"].([]any)
		for _, c := range list {
			if c, ok := c.(map[string]any); ok {
				c["url"] = address
			}
		}
	}), acmetest.Authorization)
}

// Elements are cheap to send and costly to keep. All authorizations of a large order come back like that at once.
func manyElements(t *testing.T) {
	var names []string
	for n := range 25 {
		names = append(names, fmt.Sprintf("n%d.example.com", n))
	}
	for name, body := range map[string]string{
		"challenges":  `{"status":"pending","challenges":[` + strings.Repeat("null,", 200_000) + `null]}`,
		"one string":  `{"status":"` + strings.Repeat("a", 1_000_000) + `"}`,
		"objects":     `{"challenges":[{"error":{"subproblems":[` + strings.Repeat("{},", 300_000) + `{}]}}]}`,
		"identifiers": `{"identifiers":[` + strings.Repeat("{},", 300_000) + `{}]}`,
	} {
		w := newWorld(t)
		w.ca.Use(acmetest.At(acmetest.Answer(200, nil, body), acmetest.Authorization))
		_, err := w.obtain(names...)
		if kind(err) != "unavailable" {
			t.Errorf("%s: %v", name, err)
		}
		checkText(t, err)
	}
}

func manyAlternates(t *testing.T) {
	w := newWorld(t, acmetest.WithAlternateRoots(12))
	b, err := w.obtain("example.com")
	if err != nil {
		t.Fatal(err)
	}
	if n := w.ca.Requests(acmetest.Certificate); n != 11 || len(b.Alternates) != 10 {
		t.Errorf("%d requests, %d alternates", n, len(b.Alternates))
	}
	w = newWorld(t)
	w.ca.Use(acmetest.At(acmetest.Alternates(10_000), acmetest.Certificate))
	bounded(t, func() {
		if _, err := w.obtain("example.com"); kind(err) != "unavailable" {
			t.Errorf("10,000 links: %v", err)
		}
	})
}

func problems(t *testing.T) {
	for kindOf, want := range map[string]string{
		"rejectedIdentifier": "permanent", "unsupportedIdentifier": "permanent", "malformed": "permanent", "invalidProfile": "permanent",
		"userActionRequired": "permanent", "externalAccountRequired": "permanent", "caa": "permanent", "dns": "plain", "compound": "plain",
	} {
		w := newWorld(t)
		w.ca.Use(acmetest.At(acmetest.Problem(400, kindOf, "no \x1b[31m\u202ethanks\r\n", ""), acmetest.NewOrder))
		_, err := w.obtain("example.com")
		if kind(err) != want {
			t.Errorf("%s: got %s: %v", kindOf, kind(err), err)
		}
		checkText(t, err)
	}
	w := newWorld(t, acmetest.WithBlocklist("blocked.example.com"))
	if _, err := w.obtain("www.blocked.example.com"); kind(err) != "permanent" {
		t.Errorf("got %v", err)
	}
}

func unknownChallenges(t *testing.T) {
	w := newWorld(t, acmetest.WithMiddleware(acmetest.At(acmetest.ChangeJSON(func(doc map[string]any) {
		list, _ := doc["challenges"].([]any)
		for n, c := range list {
			if c, ok := c.(map[string]any); ok {
				c["type"] = fmt.Sprintf("carrier-pigeon-%02d\x1b[2J", n)
			}
		}
	}), acmetest.Authorization)))
	_, err := w.obtain("example.com")
	if kind(err) != "permanent" || !strings.Contains(err.Error(), "carrier-pigeon") {
		t.Errorf("got %v", err)
	}
	checkText(t, err)
	if n := w.ca.Requests(acmetest.Challenge); n != 0 || w.solver.presented != 0 {
		t.Errorf("%d challenges answered, %d presented", n, w.solver.presented)
	}
}

func malformedHMAC(t *testing.T) {
	w := newWorld(t)
	for name, text := range map[string]string{
		"empty": "", "short": "hunter2", "not base64url": "hunter2/hunter2+hunter2 hunter2", "binary": "hunter2\x00hunter2hunter2hunter2",
		"padded wrongly": "hunter2=hunter2hunter2hunter2",
	} {
		config := w.config
		config.EAB = &issuer.EAB{KeyID: "k", HMAC: certs.Secret(text)}
		if _, err := issuer.New(config); err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: got %v", name, err)
		}
	}
	if n := len(w.ca.AllRequests()); n != 0 {
		t.Errorf("requests to %d endpoints", n)
	}
}
