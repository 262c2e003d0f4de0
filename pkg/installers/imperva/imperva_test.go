package imperva

import (
	"context"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/acmed/acmed/pkg/installers/endpoint"

	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/installers"
	"github.com/acmed/acmed/pkg/installers/installertest"
)

func TestConformance(t *testing.T) {
	installertest.Run(t, func(t *testing.T) installertest.Fixture {
		c := newCloud(t)
		target, publish, state := installertest.Live(t, "www.example.com")
		unavailable := func(w http.ResponseWriter, _ *http.Request, _ url.Values) bool {
			w.WriteHeader(http.StatusServiceUnavailable)
			return true
		}
		return installertest.Fixture{
			Installer: mustNew(t, c.config(), target), Names: []string{"www.example.com"}, State: state, Publish: publish, Reloads: c.count,
			Break: map[installertest.Step]func(bool){
				installertest.Probe: c.freeze,
				installertest.Reload: func(broken bool) {
					if broken {
						c.fail(unavailable)
					} else {
						c.fail(nil)
					}
				},
			},
		}
	})
}

func bench(t *testing.T) (*cloud, *Installer, *certs.Bundle) {
	t.Helper()
	c := newCloud(t)
	target, _, _ := installertest.Live(t, "www.example.com")
	return c, mustNew(t, c.config(), target), installertest.Bundle(t, "www.example.com")
}

// TestUpload: what is sent is what the API documents.
func TestUpload(t *testing.T) {
	c := newCloud(t)
	target, _, _ := installertest.Live(t, "www.example.com")
	conf := c.config()
	conf.PassphraseFile = "/secrets/phrase"
	p := mustNew(t, conf, target)
	b := installertest.Dual(t, "www.example.com")
	if err := p.Install(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	if err := p.Verify(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	for i, unit := range []*certs.Bundle{b, b.RSA} {
		want := map[string]string{
			"api_id": testID, "api_key": testKey, "site_id": "14081980", "passphrase": testPhrase, "auth_type": []string{"ECC", "RSA"}[i],
			"certificate": base64.StdEncoding.EncodeToString(unit.FullChainPEM()),
			"private_key": base64.StdEncoding.EncodeToString(unit.KeyPEM),
		}
		got := c.uploads[i]
		for key, value := range want {
			if got.Get(key) != value {
				t.Errorf("upload %d: %s differs", i, key)
			}
		}
		if len(got) != len(want) {
			t.Errorf("upload %d has %d fields", i, len(got))
		}
	}
	if err := p.Install(t.Context(), b); err != nil || c.count() != 2 {
		t.Errorf("again: %v after %d uploads", err, c.count())
	}
	other := *b
	other.ChainPEM = nil
	if err := p.Install(t.Context(), &other); err != nil || c.count() != 4 {
		t.Errorf("with another chain: %v after %d uploads", err, c.count())
	}
}

// TestSlowCloud: nothing is uploaded twice while the certificate is on its way, through restarts too; when the time is
// over it is an error, and the next try uploads again.
func TestSlowCloud(t *testing.T) {
	c := newCloud(t)
	target, _, _ := installertest.Live(t, "www.example.com")
	b := installertest.Bundle(t, "www.example.com")
	now := time.Now()
	try := func() error {
		p := mustNew(t, c.config(), target)
		p.now, p.patience = func() time.Time { return now }, 50*time.Millisecond
		return p.Install(t.Context(), b)
	}
	c.freeze(true)
	for range 10 {
		var later *installers.LaterError
		if err := try(); !errors.As(err, &later) || later.After != time.Minute || !strings.Contains(err.Error(), "on its way") {
			t.Fatalf("at %s: %v", now.Format(time.TimeOnly), err)
		}
		now = now.Add(time.Minute)
	}
	err := try()
	var later *installers.LaterError
	if err == nil || errors.As(err, &later) || !strings.Contains(err.Error(), "uploaded 10m0s ago and is not served") {
		t.Errorf("after ten minutes: %v", err)
	}
	if c.count() != 1 {
		t.Errorf("%d uploads in ten minutes", c.count())
	}
	if err := try(); err == nil || c.count() != 2 {
		t.Errorf("afterwards: %v, %d uploads", err, c.count())
	}
	c.freeze(false)
	if err := try(); err != nil || c.count() != 2 {
		t.Errorf("served: %v, %d uploads", err, c.count())
	}
}

func TestResultCodes(t *testing.T) {
	for _, tt := range []struct {
		answer string
		later  bool
		want   string
	}{
		{`{"res":1,"res_message":"Unexpected error","debug_info":{"id-info":"13007"}}`, true, "result 1 \"Unexpected error\": an error on Imperva's side"},
		{`{"res":2,"res_message":"Invalid input","debug_info":{"certificate":"malformed","id-info":"1"}}`, false, `"certificate":"malformed"`},
		{`{"res":4,"res_message":"Operation timed-out or server unavailable"}`, true, "not available"},
		{`{"res":3015,"res_message":"Internal error","debug_info":{"Error":"Unexpected error occurred"}}`, true, "Unexpected error occurred"},
		{`{"res":9403,"res_message":"Unknown/unauthorized account_id"}`, false, "no access to the site's account"},
		{`{"res":9411,"res_message":"Authentication missing or invalid"}`, false, "check api_id and the key in api_key_file"},
		{`{"res":"9413","res_message":"Unknown/unauthorized site_id"}`, false, "check site_id"},
		{`{"res":9414,"res_message":"Feature not permitted"}`, false, "no custom certificates"},
		{`{"res":9415,"res_message":"Operation not allowed"}`, false, "permission to manage SSL certificates"},
		{`{"res":4711,"res_message":"Something new"}`, false, `result 4711 "Something new"`},
		{`{"res":2,"res_message":"bad key ` + testKey + `","debug_info":{"api_key":"` + testKey + `"}}`, false, "<redacted>"},
		{`{"res":2,"res_message":"unknown api_id ` + testID + `"}`, false, "unknown api_id <redacted>"},
		{`{"res":2,"res_message":"no","debug_info":{"api_key":"` + strings.ReplaceAll(testKey, "/", `\/`) + `"}}`, false, `"api_key":"<redacted>"`},
		{`{"res":2,"res_message":"no","debug_info":"site is locked"}`, false, `Imperva adds "site is locked"`},
		{`{"res":2,"res_message":"no","debug_info":["locked"]}`, false, `Imperva adds ["locked"]`},
		{`{"res":0,"debug_info":{"details":{"chainError":"no"}}}`, false, "its details are not what the API documents"},
		{`{"res":2,"res_message":"\u001b[2J\u0007"}`, false, "result 2"},
		{`{"res_message":"OK"}`, false, "no result code"},
		{`{"res":"many"}`, false, "res is not a number"},
		{`<html>Please log in</html>`, false, "not the JSON"},
		{``, false, "not the JSON"},
		{`{"res":0,"x":"` + strings.Repeat("x", maxAnswer) + `"}`, false, "more than"},
	} {
		t.Run(tt.want, func(t *testing.T) {
			c, p, b := bench(t)
			c.fail(func(w http.ResponseWriter, _ *http.Request, form url.Values) bool {
				text := tt.answer
				if strings.Contains(text, "bad key") {
					text = strings.Replace(text, `"debug_info":{`, `"debug_info":{"private_key":"`+form.Get("private_key")+`",`, 1)
				}
				fmt.Fprint(w, text)
				return true
			})
			err := p.Install(t.Context(), b)
			silent(t, b, err)
			var later *installers.LaterError
			if err == nil || !strings.Contains(err.Error(), tt.want) || errors.As(err, &later) != tt.later {
				t.Errorf("Install = %v (later: %v)", err, errors.As(err, &later))
			}
			if strings.ContainsAny(err.Error(), "\x1b\x07") || len(err.Error()) > 8000 {
				t.Errorf("the error has raw text: %.100q", err.Error())
			}
			c.fail(nil)
			if err := p.Install(t.Context(), b); err != nil {
				t.Errorf("after the fault: %v", err)
			}
		})
	}
}

// TestPiecesOfAKey: what comes back of the private key is hidden, also when it is escaped or cut.
func TestPiecesOfAKey(t *testing.T) {
	for name, piece := range map[string]func(key, der string) string{
		"escaped": func(key, _ string) string { return `"` + strings.ReplaceAll(key, "V", `\u0056`) + `"` },
		"cut":     func(key, _ string) string { return `"` + key[60:160] + `…"` },
		"inner":   func(_, der string) string { return `{"at":["` + der[:64] + `"]}` },
		"PEM":     func(string, string) string { return `"-----BEGIN PRIVATE KEY-----\nMC4C"` },
	} {
		t.Run(name, func(t *testing.T) {
			c, p, b := bench(t)
			block, _ := pem.Decode(b.KeyPEM)
			der := strings.ReplaceAll(base64.StdEncoding.EncodeToString(block.Bytes), "/", `\/`)
			c.fail(func(w http.ResponseWriter, _ *http.Request, form url.Values) bool {
				fmt.Fprintf(w, `{"res":2,"res_message":"no","debug_info":%s}`, piece(form.Get("private_key"), der))
				return true
			})
			err := p.Install(t.Context(), b)
			silent(t, b, err)
			if err == nil || !strings.Contains(err.Error(), "<redacted>") || regexp.MustCompile(`[A-Za-z0-9+/]{30}`).MatchString(err.Error()) {
				t.Errorf("Install = %v", err)
			}
		})
	}
}

// TestNotHTTP: an answer that package http quotes in its error is searched for secrets too.
func TestNotHTTP(t *testing.T) {
	c, p, b := bench(t)
	c.fail(func(w http.ResponseWriter, _ *http.Request, form url.Values) bool {
		conn, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return true
		}
		fmt.Fprintf(conn, "%s %s\r\n\r\n", form.Get("api_key"), form.Get("private_key"))
		conn.Close()
		return true
	})
	err := p.Install(t.Context(), b)
	silent(t, b, err)
	var later *installers.LaterError
	if !errors.As(err, &later) || !strings.Contains(err.Error(), "<redacted>") {
		t.Errorf("Install = %v", err)
	}
}

func TestStatusCodes(t *testing.T) {
	for _, tt := range []struct {
		status int
		header string
		later  bool
	}{{429, "120", true}, {503, "Wed, 21 Oct 2015 07:30:00 GMT", true}, {503, "", true}, {500, "x", true}, {502, "-1", true}, {401, "", false}, {404, "", false}, {204, "", false}} {
		t.Run(strings.TrimSpace(fmt.Sprint(tt.status, " ", tt.header)), func(t *testing.T) {
			waits := len(tt.header) > 2
			c, p, b := bench(t)
			now := time.Now()
			p.now = func() time.Time { return now }
			c.fail(func(w http.ResponseWriter, _ *http.Request, _ url.Values) bool {
				w.Header().Set("Date", "Wed, 21 Oct 2015 07:28:00 GMT")
				w.Header().Set("Retry-After", tt.header)
				w.WriteHeader(tt.status)
				return true
			})
			err := p.Install(t.Context(), b)
			var later *installers.LaterError
			if err == nil || errors.As(err, &later) != tt.later || !strings.Contains(err.Error(), fmt.Sprint(tt.status)) {
				t.Errorf("Install = %v", err)
			}
			if waits && later.After != 2*time.Minute {
				t.Errorf("to be called again after %s", later.After)
			}
			c.fail(nil)
			if waits {
				now = now.Add(time.Minute)
				if err := p.Install(t.Context(), b); !errors.As(err, &later) || later.After != time.Minute || c.count() != 1 {
					t.Errorf("asked again before the time: %v, %d uploads", err, c.count())
				}
				now = now.Add(2 * time.Minute)
			}
			if err := p.Install(t.Context(), b); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestDetails: what the API finds wrong stays an error until it finds nothing any more.
func TestDetails(t *testing.T) {
	for name, want := range map[string]string{
		"validityError": "not valid now", "chainError": "chain is not complete", "revocationError": "revoked",
	} {
		t.Run(name, func(t *testing.T) {
			c, p, b := bench(t)
			c.complain(name)
			for range 2 {
				if err := p.Install(t.Context(), b); err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("Install = %v", err)
				}
				if err := p.Verify(t.Context(), b); err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("Verify = %v", err)
				}
			}
			c.complain()
			if err := p.Install(t.Context(), b); err != nil {
				t.Error(err)
			}
			if err := p.Verify(t.Context(), b); err != nil {
				t.Error(err)
			}
		})
	}
	c, p, b := bench(t)
	c.ok = strings.Replace(c.ok, "EXPIRES", "1460100446000", 1)
	if err := p.Install(t.Context(), b); err == nil || !strings.Contains(err.Error(), "it ends on 2016-04-08 instead of") {
		t.Errorf("another end: %v", err)
	}
}

// TestUncovered: that a site has more domains than the certificate is what the API's own example of a success says. It is a
// warning, one for each upload, and what is served decides.
func TestUncovered(t *testing.T) {
	for _, allow := range []bool{false, true} {
		c, p, b := bench(t)
		c.complain("coverageError")
		p.config.AllowUncovered = allow
		var warnings []string
		p.warn = func(text string) { warnings = append(warnings, text) }
		for range 2 {
			if err := errors.Join(p.Install(t.Context(), b), p.Verify(t.Context(), b)); err != nil {
				t.Errorf("allow_uncovered %v: %v", allow, err)
			}
		}
		if allow != (len(warnings) == 0) || !allow && (len(warnings) != 1 || !strings.Contains(warnings[0], "allow_uncovered")) {
			t.Errorf("allow_uncovered %v: warnings %q", allow, warnings)
		}
		if c.count() != 1 {
			t.Errorf("%d uploads", c.count())
		}
	}
	c, p, b := bench(t)
	c.complain("coverageError")
	c.freeze(true)
	p.warn = func(string) {}
	var later *installers.LaterError
	if err := p.Install(t.Context(), b); !errors.As(err, &later) || !strings.Contains(err.Error(), "coverageError") {
		t.Errorf("not served: %v", err)
	}
}

// TestLostAnswer: an upload whose answer did not come may have been taken, so there is no second one while what is served
// can still show it, through restarts and whatever the clock does.
func TestLostAnswer(t *testing.T) {
	for _, dual := range []bool{false, true} {
		c := newCloud(t)
		target, _, _ := installertest.Live(t, "www.example.com")
		b, uploads := installertest.Bundle(t, "www.example.com"), 1
		if dual {
			b, uploads = installertest.Dual(t, "www.example.com"), 2
		}
		now := time.Now()
		install := func() error {
			p := mustNew(t, c.config(), target)
			p.now, p.warn = func() time.Time { return now }, func(string) {}
			return p.Install(t.Context(), b)
		}
		c.freeze(true)
		c.fail(func(_ http.ResponseWriter, _ *http.Request, form url.Values) bool {
			c.answer(form)
			panic(http.ErrAbortHandler)
		})
		var later *installers.LaterError
		for _, step := range []time.Duration{0, time.Minute, -time.Hour, time.Minute} {
			now = now.Add(step)
			err := install()
			silent(t, b, err)
			if !errors.As(err, &later) || c.count() != uploads {
				t.Errorf("dual %v: %v, %d uploads", dual, err, c.count())
			}
		}
		c.freeze(false)
		if err := install(); err != nil || c.count() != uploads {
			t.Errorf("dual %v, served: %v, %d uploads", dual, err, c.count())
		}
	}
}

// TestShortPiecesOfAKey: no piece of the key or of another secret is shown that could not be a word just as well.
func TestShortPiecesOfAKey(t *testing.T) {
	for range 5 {
		b := installertest.Bundle(t, "www.example.com")
		block, _ := pem.Decode(b.KeyPEM)
		form := url.Values{"private_key": {base64.StdEncoding.EncodeToString(b.KeyPEM)}, "api_key": {testKey}, "passphrase": {testPhrase}}
		h := newHider(form, b.KeyPEM)
		plain := regexp.MustCompile(`^[a-z]+$|^[A-Z]+$|^[A-Z][a-z]+$|^[0-9]+$`)
		for name, secret := range map[string]string{
			"as sent": form.Get("private_key"), "DER": base64.StdEncoding.EncodeToString(block.Bytes), "hex": fmt.Sprintf("%x", block.Bytes),
			"URL": base64.RawURLEncoding.EncodeToString(block.Bytes[1:]), "API key": testKey,
		} {
			for length := 3; length < 40; length++ {
				for at := 0; at+length <= len(secret); at += 3 {
					part := secret[at : at+length]
					shown := h.hide("bad value " + part + " in the request")
					if strings.Contains(shown, part) && (length > 4 || !plain.MatchString(part)) && len(strings.Trim(part, "=/+_-")) > 2 &&
						!regexp.MustCompile(`[+/=_-]`).MatchString(part) {
						t.Fatalf("%s: %q is shown: %s", name, part, shown)
					}
				}
			}
		}
		spaced := strings.Join(strings.Split(form.Get("private_key")[40:80], ""), " ")
		if shown := h.hide("the key " + spaced); shown != redacted {
			t.Errorf("in single characters: %s", shown)
		}
		for _, text := range []string{
			"Invalid input", "Unknown/unauthorized site_id", `{"id-info":"13007","Error":"Unexpected error occurred"}`, "my.imperva.com: connection refused",
		} {
			if shown := h.hide(text); shown != text {
				t.Errorf("%q became %q", text, shown)
			}
		}
	}
}

// TestRedirects: the request, with the private key in it, goes to no other host, and is not turned into another one.
func TestRedirects(t *testing.T) {
	var reached bool
	other := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached = true }))
	defer other.Close()
	for _, tt := range []struct {
		status   int
		location string
		want     string
	}{
		{307, other.URL + "/s3cret", "another host"},
		{308, strings.Replace(other.URL, "https", "http", 1), "another host"},
		{302, uploadPath, "drops the upload"},
		{307, uploadPath, "in a circle"},
	} {
		c, p, b := bench(t)
		c.fail(func(w http.ResponseWriter, _ *http.Request, _ url.Values) bool {
			w.Header().Set("Location", tt.location)
			w.WriteHeader(tt.status)
			return true
		})
		err := p.Install(t.Context(), b)
		silent(t, b, err)
		if err == nil || !strings.Contains(err.Error(), tt.want) || reached {
			t.Errorf("%d to %s: %v, reached %v", tt.status, tt.location, err, reached)
		}
	}
	c, p, b := bench(t)
	c.fail(func(w http.ResponseWriter, r *http.Request, _ url.Values) bool {
		if r.URL.Path == uploadPath+"/" {
			return false
		}
		w.Header().Set("Location", uploadPath+"/")
		w.WriteHeader(http.StatusTemporaryRedirect)
		return true
	})
	if err := p.Install(t.Context(), b); err != nil || c.last().Get("api_key") != testKey {
		t.Errorf("within the host: %v", err)
	}
}

func TestUnreachable(t *testing.T) {
	c, p, b := bench(t)
	p.config.CAFile = ""
	var later *installers.LaterError
	if err := p.Install(t.Context(), b); err == nil || errors.As(err, &later) || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("an API that is not trusted: %v", err)
	}
	if c.count() != 0 {
		t.Error("something was sent to a server that is not trusted")
	}
	c, p, b = bench(t)
	p.config.Timeout = 100 * time.Millisecond
	c.fail(func(_ http.ResponseWriter, r *http.Request, _ url.Values) bool {
		<-r.Context().Done()
		panic(http.ErrAbortHandler) // it says nothing to the end
	})
	err := p.Install(t.Context(), b)
	silent(t, b, err)
	if !errors.As(err, &later) {
		t.Errorf("a silent API: %v", err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	stop := errors.New("the daemon is shutting down")
	p.config.Timeout = time.Minute
	time.AfterFunc(50*time.Millisecond, func() { cancel(stop) })
	if err := p.Install(ctx, b); !errors.Is(err, stop) {
		t.Errorf("cancelled: %v", err)
	}
	c, p, b = bench(t)
	c.api.Close()
	err = p.Install(t.Context(), b)
	silent(t, b, err)
	if !errors.As(err, &later) {
		t.Errorf("nobody listens: %v", err)
	}
}

// TestHalfOfADualUnit: the second certificate is refused; the next try uploads both again.
func TestHalfOfADualUnit(t *testing.T) {
	c, p, _ := bench(t)
	b := installertest.Dual(t, "www.example.com")
	c.fail(func(w http.ResponseWriter, _ *http.Request, form url.Values) bool {
		if form.Get("auth_type") == "RSA" {
			fmt.Fprint(w, `{"res":2,"res_message":"Invalid input"}`)
			return true
		}
		return false
	})
	if err := p.Install(t.Context(), b); err == nil || !strings.Contains(err.Error(), "the RSA certificate of Imperva site 14081980") {
		t.Errorf("Install = %v", err)
	}
	c.fail(nil)
	if err := p.Install(t.Context(), b); err != nil || c.count() != 4 {
		t.Errorf("Install = %v after %d uploads", err, c.count())
	}
}

func TestDefaultEndpoint(t *testing.T) {
	conf := Config{SiteID: 1, APIID: "1", APIKeyFile: "/k"}
	target, _, _ := installertest.Live(t, "*.example.com", "www.example.com")
	p := mustNew(t, conf, target)
	if want := (endpoint.Endpoint{Addr: "www.example.com:443"}); len(p.endpoints) != 1 || p.endpoints[0] != want {
		t.Errorf("endpoints %v", p.endpoints)
	}
	target, _, _ = installertest.Live(t, "*.example.com")
	if _, err := New(conf, target, secrets, nil); err == nil || !strings.HasPrefix(err.Error(), "verify: ") {
		t.Errorf("only a wildcard: %v", err)
	}
}

func TestValidate(t *testing.T) {
	c := Config{
		SiteID: -1, APIID: "a b", APIKeyFile: "key", PassphraseFile: "phrase", BaseURL: "http://my.imperva.com", CAFile: "roots",
		Timeout: 1, VerifyTimeout: -1, Verify: []string{"x"},
	}
	err := c.Validate()
	for _, key := range []string{"site_id", "api_id", "api_key_file", "passphrase_file", "base_url", "ca_file", "timeout", "verify_timeout", "verify"} {
		if err == nil || !strings.Contains("\n"+err.Error(), "\n"+key+": ") {
			t.Errorf("nothing about %s in %v", key, err)
		}
	}
	good := Config{SiteID: 1, APIID: "12345", APIKeyFile: "$CREDENTIALS_DIRECTORY/imperva"}
	if err := good.Validate(); err != nil {
		t.Error(err)
	}
}

func TestMissingSecret(t *testing.T) {
	c, p, b := bench(t)
	p.config.APIKeyFile = "/nowhere"
	if err := p.Install(t.Context(), b); err == nil || !strings.HasPrefix(err.Error(), "api_key_file: ") || c.count() != 0 {
		t.Errorf("Install = %v", err)
	}
}
