package issuer

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/acmed/acmed/internal/guard"
	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/challenges"
	"github.com/acmed/acmed/pkg/store"
)

// Config says which CA an [Issuer] speaks to, and as whom. Name, Directory and Store are needed, all else has a default.
type Config struct {
	Name      string         // configured name, for people
	Directory string         // URL of the ACME directory, https
	Contact   string         // mail address of the account; "" registers without one
	Contacts  []string       // of all issuers configured at this directory: an account with another contact is taken over; nil: none is
	AgreeTOS  bool           // the operator agrees to the CA's terms of service
	Private   bool           // the operator's own CA: private addresses and names are fine, and it is asked more often
	Roots     *x509.CertPool // verify the CA's TLS certificate; nil: the system's
	Hosts     []string       // further hosts (host or host:port) on which the CA has URLs
	Proxy     *url.URL       // HTTP proxy for the way to the CA; nil: none, whatever the environment says
	EAB       *EAB           // external account binding; nil: none

	Policy    certs.Policy // sane lifetimes; zero: certs.DefaultPolicy
	Store     *store.Store
	Shared    *Shared                    // what the nodes of a fleet share; nil on a single machine
	Solvers   map[string]challenges.Rung // by configured name
	Preflight *Preflight                 // nil: none
	Log       *zap.Logger                // nil: silent

	// Observe is told about every request: which endpoint (RFC 8555 section 7.1.1, as new-order; resource for what the CA
	// named itself), how long it took with its answer, and what the CA or the network had against it. It must not wait for
	// anything. nil: nobody wants to know.
	Observe func(endpoint string, took time.Duration, err error)

	UserAgent      string           // "acmed/VERSION"
	Clock          func() time.Time // nil: time.Now
	RequestTimeout time.Duration    // for one request; 0: one minute
	OrderTimeout   time.Duration    // for one order with its validations; 0: 15 minutes
	OrderBudget    int              // new orders of this account in 3 hours; 0: 300, negative: no limit
}

// The defaults are generous because slow CAs exist and nobody waits for them: renewals begin weeks ahead.
const (
	defaultRequestTimeout = time.Minute
	defaultOrderTimeout   = 15 * time.Minute // DNS propagation is part of it
	defaultOrderBudget    = 300              // Let's Encrypt's limit on new orders per account and 3 hours
	defaultUserAgent      = "acmed/unknown"
)

// Issuer is one CA under one account. It is safe for concurrent use.
type Issuer struct {
	config     Config
	transport  *transport
	first      sync.Once
	link       *link // set by the first use, see way
	polling    polling
	retryPause time.Duration // doubles with each repetition
	background guard.Group   // what outlives a call, with deadlines of its own
	closing    chan struct{} // closed by Close
	closeOnce  sync.Once
}

// New checks the configuration. It touches neither network nor disk, nor what other issuers know of the account: the first
// operation does, and the first that needs an account registers it. So one that is never used leaves nothing behind.
func New(c Config) (*Issuer, error) {
	home, err := url.Parse(c.Directory)
	switch {
	case err != nil || home.Scheme != "https" || home.Host == "":
		return nil, fmt.Errorf("issuer %s: %q is not the https URL of an ACME directory", c.Name, c.Directory)
	case home.User != nil || home.Fragment != "":
		return nil, fmt.Errorf("issuer %s: the directory URL must have neither user nor fragment", c.Name)
	case c.Store == nil:
		return nil, fmt.Errorf("issuer %s: no store", c.Name)
	}
	if c.EAB != nil {
		if err := c.EAB.check(); err != nil {
			return nil, fmt.Errorf("issuer %s: %w", c.Name, err)
		}
	}
	if err := checkContact(c.Contact); err != nil {
		return nil, fmt.Errorf("issuer %s: %w", c.Name, err)
	}
	c.setDefaults()
	i := &Issuer{
		config: c, transport: newTransport(&c, home), polling: newPolling(c.Private),
		retryPause: 250 * time.Millisecond, closing: make(chan struct{}),
	}
	if c.Private {
		i.retryPause = 25 * time.Millisecond
	}
	return i, nil
}

func (c *Config) setDefaults() {
	if c.Policy == (certs.Policy{}) {
		c.Policy = certs.DefaultPolicy()
	}
	if c.Log == nil {
		c.Log = zap.NewNop()
	}
	if c.Clock == nil {
		c.Clock = time.Now
	}
	if c.Observe == nil {
		c.Observe = func(string, time.Duration, error) {}
	}
	c.RequestTimeout = orDefault(c.RequestTimeout, defaultRequestTimeout)
	c.OrderTimeout = orDefault(c.OrderTimeout, defaultOrderTimeout)
	c.OrderBudget = orDefault(c.OrderBudget, defaultOrderBudget)
	c.UserAgent = orDefault(c.UserAgent, defaultUserAgent)
}

func orDefault[T comparable](v, otherwise T) T {
	var zero T
	if v == zero {
		return otherwise
	}
	return v
}

// Close waits some seconds for what cancelled orders still take away, stores how many orders there were, and
// closes idle connections. No other method may run or be called afterwards; a second Close is none of them.
func (i *Issuer) Close() error {
	i.closeOnce.Do(func() { close(i.closing) })
	i.background.Wait()
	unused := false
	i.first.Do(func() { unused = true })
	if !unused {
		i.flushNow(i.current())
	}
	i.transport.rt.CloseIdleConnections()
	return nil
}

// Name is the configured name.
func (i *Issuer) Name() string { return i.config.Name }

func (i *Issuer) now() time.Time { return i.config.Clock() }

// ladder looks the certificate's solvers up.
func (i *Issuer) ladder(names []string) (challenges.Ladder, error) {
	ladder := make(challenges.Ladder, 0, len(names))
	for _, name := range names {
		rung, ok := i.config.Solvers[name]
		if !ok {
			return nil, &certs.PermanentError{Err: fmt.Errorf("solver %q is not configured", name)}
		}
		ladder = append(ladder, rung)
	}
	if len(ladder) == 0 {
		return nil, &certs.PermanentError{Err: errors.New("the certificate has no solvers")}
	}
	return ladder, nil
}
