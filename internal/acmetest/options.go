package acmetest

import (
	"fmt"
	"maps"
	"net/http"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/letsencrypt/pebble/v2/ca"
)

// Option changes how a CA behaves.
type Option func(*options)

type options struct {
	env             map[string]string
	profiles        map[string]ca.Profile
	alternateRoots  int
	chainLength     int
	eab             map[string]string
	blocked         []string
	caaIdentities   []string
	retryAuthz      int
	retryOrder      int
	httpPort        int
	tlsPort         int
	listen          string
	dnsListen       string
	host            string
	serverFault     ServerFault
	middleware      []Middleware
	rsaIntermediate bool
	http2           bool
}

func defaults() *options {
	return &options{
		env: map[string]string{
			"PEBBLE_VA_NOSLEEP":      "1",
			"PEBBLE_VA_SLEEPTIME":    "",
			"PEBBLE_VA_ALWAYS_VALID": "",
			"PEBBLE_WFE_NONCEREJECT": "0",
			"PEBBLE_AUTHZREUSE":      "0",
		},
		profiles: map[string]ca.Profile{
			"default":    {Description: "90 days", ValidityPeriod: 90 * 24 * 3600},
			"shortlived": {Description: "6 days", ValidityPeriod: 6 * 24 * 3600},
		},
		chainLength:   1,
		caaIdentities: []string{"pebble.letsencrypt.org"},
		retryAuthz:    1,
		retryOrder:    1,
		dnsListen:     "127.0.0.1:0",
	}
}

// WithNonceReject makes the CA refuse this percentage (0 to 99) of good nonces.
func WithNonceReject(percent int) Option {
	return func(o *options) { o.env["PEBBLE_WFE_NONCEREJECT"] = strconv.Itoa(percent) }
}

// WithAuthzReuse makes the CA reuse valid authorizations of earlier orders with this probability in percent; by
// default never.
func WithAuthzReuse(percent int) Option {
	return func(o *options) { o.env["PEBBLE_AUTHZREUSE"] = strconv.Itoa(percent) }
}

// WithValidationSleep makes every validation start after a random delay of up to limit, in whole seconds.
func WithValidationSleep(limit time.Duration) Option {
	return func(o *options) {
		o.env["PEBBLE_VA_NOSLEEP"] = ""
		o.env["PEBBLE_VA_SLEEPTIME"] = strconv.Itoa(int(limit / time.Second))
	}
}

// WithAlwaysValid makes the CA accept every challenge without looking.
func WithAlwaysValid() Option {
	return func(o *options) { o.env["PEBBLE_VA_ALWAYS_VALID"] = "1" }
}

// WithAlternateRoots adds n alternate chains, each ending at a root of its own.
func WithAlternateRoots(n int) Option { return func(o *options) { o.alternateRoots = n } }

// WithChainLength sets the number of intermediates, at least 1.
func WithChainLength(n int) Option { return func(o *options) { o.chainLength = n } }

// WithRSAChain signs with RSA keys instead of ECDSA ones.
func WithRSAChain() Option { return func(o *options) { o.rsaIntermediate = true } }

// WithEAB requires external account binding; keys maps a key ID to its HMAC key in base64url.
func WithEAB(keys map[string]string) Option { return func(o *options) { o.eab = maps.Clone(keys) } }

// WithBlocklist makes newOrder refuse these domains and all below them with rejectedIdentifier.
func WithBlocklist(domains ...string) Option {
	return func(o *options) { o.blocked = append(o.blocked, domains...) }
}

// WithCAAIdentities sets the names by which the CA calls itself in CAA records.
func WithCAAIdentities(names ...string) Option { return func(o *options) { o.caaIdentities = names } }

// WithProfile adds or replaces a profile whose certificates live for validity, rounded down to seconds.
func WithProfile(name string, validity time.Duration) Option {
	return func(o *options) {
		o.profiles[name] = ca.Profile{Description: validity.String(), ValidityPeriod: uint64(validity / time.Second)}
	}
}

// WithOnlyProfile offers a single profile, so that an order without one is deterministic too.
func WithOnlyProfile(name string, validity time.Duration) Option {
	return func(o *options) {
		clear(o.profiles)
		WithProfile(name, validity)(o)
	}
}

// WithRetryAfter sets the Retry-After, in seconds, of pending authorizations and orders (default 1 and 1). The CA
// sends it either as seconds or as a date, at random.
func WithRetryAfter(authz, order int) Option {
	return func(o *options) { o.retryAuthz, o.retryOrder = authz, order }
}

// WithPorts sets where the CA connects to validate http-01 and tls-alpn-01; 0 keeps a free port.
func WithPorts(http, tls int) Option {
	return func(o *options) { o.httpPort, o.tlsPort = http, tls }
}

// WithListen sets the addresses of the directory and of the DNS server instead of free ports on 127.0.0.1.
func WithListen(directory, dns string) Option {
	return func(o *options) { o.listen, o.dnsListen = directory, dns }
}

// WithHost lets the directory's TLS certificate name a host too, and serves the directory at /directory as well: with a
// name of a known CA that leads here, this CA stands in for it.
func WithHost(name string) Option {
	return func(o *options) {
		o.host = name
		o.middleware = append(o.middleware, func(_ Endpoint, next http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/directory" {
					r.URL.Path = "/dir"
				}
				next.ServeHTTP(w, r)
			})
		})
	}
}

// WithMiddleware wraps every request to the CA; the first one sees a request first. The endpoint tells which ACME
// resource was asked for.
func WithMiddleware(m ...Middleware) Option {
	return func(o *options) { o.middleware = append(o.middleware, m...) }
}

// WithHTTP2 offers HTTP/2 as well. Faults that break connections only abort their stream then, and EndlessHeaders does
// nothing more than that.
func WithHTTP2() Option { return func(o *options) { o.http2 = true } }

// WithServerFault gives the directory a TLS certificate that a client must refuse.
func WithServerFault(f ServerFault) Option { return func(o *options) { o.serverFault = f } }

// environment guards the variables of the process while Pebble's constructors read them.
var environment sync.Mutex

// withEnv calls build while the environment holds o.env and puts back what was there.
func (o *options) withEnv(build func()) error {
	environment.Lock()
	defer environment.Unlock()
	for name, value := range o.env {
		old, had := os.LookupEnv(name)
		if err := os.Setenv(name, value); err != nil {
			return fmt.Errorf("set %s: %w", name, err)
		}
		defer func() {
			if had {
				_ = os.Setenv(name, old)
			} else {
				_ = os.Unsetenv(name)
			}
		}()
	}
	build()
	return nil
}
