package dns01

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/miekg/dns"
)

// RFC2136Config is a name server that takes dynamic updates (RFC 2136), signed with TSIG (RFC 8945).
type RFC2136Config struct {
	// Nameserver is the primary of the zones, as host or host:port.
	Nameserver string `mapstructure:"nameserver"`
	// TSIGKeyFile has the key as tsig-keygen prints it, or as [algorithm:]name:secret. The file is read for every
	// update, so a new key needs no reload. Without one, updates are not signed.
	TSIGKeyFile string `mapstructure:"tsig_key_file"`
	// Zone is the zone to update. Without one, the server is asked for it.
	Zone string `mapstructure:"zone"`
	// TTL of the record, 60s by default.
	TTL time.Duration `mapstructure:"ttl"`
}

const defaultTTL = 60 * time.Second

func (c *RFC2136Config) validate() error {
	_, err := hostPort(c.Nameserver, "53")
	errs := []error{prefix("nameserver", err)}
	if c.Zone != "" && !plainName(dns.CanonicalName(c.Zone)) {
		errs = append(errs, fmt.Errorf("zone: %q is not a domain name", c.Zone))
	}
	if c.TTL < 0 || c.TTL > 24*time.Hour {
		errs = append(errs, fmt.Errorf("ttl: %s is not between 0s and 24h", c.TTL))
	}
	return errors.Join(errs...)
}

// rfc2136 adds and removes single records.
type rfc2136 struct {
	server  string
	keyFile string
	zone    string
	ttl     uint32
	now     func() time.Time
}

func newRFC2136(c *RFC2136Config, now func() time.Time) *rfc2136 {
	server, _ := hostPort(c.Nameserver, "53") // validated
	p := &rfc2136{server: server, keyFile: c.TSIGKeyFile, now: now, ttl: uint32(defaultTTL / time.Second)}
	if c.TTL > 0 {
		p.ttl = uint32(c.TTL / time.Second)
	}
	if c.Zone != "" {
		p.zone = dns.CanonicalName(c.Zone)
	}
	return p
}

// Present adds the record to those of its name. Adding it twice is the same as adding it once (RFC 2136 section 3.4.2.2).
func (p *rfc2136) Present(ctx context.Context, r Record) error {
	return p.update(ctx, r, (*dns.Msg).Insert)
}

// CleanUp removes the record from those of its name.
func (p *rfc2136) CleanUp(ctx context.Context, r Record) error {
	return p.update(ctx, r, (*dns.Msg).Remove)
}

func (p *rfc2136) update(ctx context.Context, r Record, change func(*dns.Msg, []dns.RR)) error {
	zone := p.zone
	if zone == "" {
		var err error
		if zone, err = zoneOf(ctx, r.FQDN, p.lookup); err != nil {
			return err
		}
	}
	m := new(dns.Msg)
	m.SetUpdate(zone)
	change(m, []dns.RR{&dns.TXT{
		Hdr: dns.RR_Header{Name: r.FQDN, Rrtype: dns.TypeTXT, Class: dns.ClassINET, Ttl: p.ttl},
		Txt: []string{r.Value},
	}})
	in, err := p.exchange(ctx, m)
	if err != nil {
		return fmt.Errorf("update zone %s at %s: %w", zone, p.server, err)
	}
	if in.Rcode != dns.RcodeSuccess {
		return fmt.Errorf("update zone %s at %s: %w", zone, p.server, updateError(in.Rcode))
	}
	return nil
}

func (p *rfc2136) lookup(ctx context.Context, name string, qtype uint16) (*dns.Msg, error) {
	in, err := p.exchange(ctx, question(name, qtype, false))
	if err == nil && in.Rcode != dns.RcodeSuccess && in.Rcode != dns.RcodeNameError {
		err = fmt.Errorf("it answers %s", rcode(in.Rcode))
	}
	if err != nil {
		return nil, fmt.Errorf("ask %s for %s %s: %w", p.server, name, dns.TypeToString[qtype], err)
	}
	return in, nil
}

// exchange signs everything, questions too: a server with views may choose the view by the key.
func (p *rfc2136) exchange(ctx context.Context, m *dns.Msg) (*dns.Msg, error) {
	client := &dns.Client{Net: "tcp", Timeout: 10 * time.Second}
	if p.keyFile != "" {
		key, err := readTSIGKey(p.keyFile)
		if err != nil {
			return nil, refused(err)
		}
		client.TsigSecret = map[string]string{key.name: string([]byte(key.secret))}
		m.SetTsig(key.name, key.algorithm, 300, p.now().Unix())
	}
	in, _, err := client.ExchangeContext(ctx, m, p.server)
	if in != nil {
		if t := in.IsTsig(); t != nil && t.Error != dns.RcodeSuccess {
			return nil, tsigError(t)
		}
		if errors.Is(err, dns.ErrAuth) { // how the library reports the code NOTAUTH of a signed answer
			return in, nil
		}
	}
	return in, err
}

// tsigError explains why the server did not accept our signature (RFC 8945 section 5.2).
func tsigError(t *dns.TSIG) error {
	switch t.Error {
	case dns.RcodeBadKey:
		return refused(fmt.Errorf("TSIG: the server does not know the key %q with the algorithm %s (BADKEY)", t.Hdr.Name, t.Algorithm))
	case dns.RcodeBadSig:
		return refused(fmt.Errorf("TSIG: the server has another secret for the key %q (BADSIG)", t.Hdr.Name))
	case dns.RcodeBadTime:
		return fmt.Errorf("TSIG: the clocks of this host and of the server differ by more than %d s (BADTIME)", t.Fudge)
	}
	return fmt.Errorf("TSIG: the server answers %s", rcode(int(t.Error)))
}

func updateError(code int) error {
	switch code {
	case dns.RcodeRefused:
		return refused(errors.New("the server refuses the update (REFUSED); does its update policy allow this key to change TXT records of this name?"))
	case dns.RcodeNotAuth:
		return refused(errors.New("the server is not authoritative for the zone or does not accept the key (NOTAUTH)"))
	case dns.RcodeNotZone:
		return refused(errors.New("the name is not within the zone (NOTZONE)"))
	}
	return fmt.Errorf("the server answers %s", rcode(code))
}
