package dns01

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/miekg/dns"

	"github.com/acmed/acmed/pkg/challenges/dnsquery"
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
	_, err := dnsquery.HostPort(c.Nameserver, "53")
	errs := []error{prefix("nameserver", err)}
	if c.Zone != "" && !dnsquery.PlainName(dns.CanonicalName(c.Zone)) {
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
	server, _ := dnsquery.HostPort(c.Nameserver, "53") // validated
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
	return p.Add(ctx, p.txt(r))
}

// CleanUp removes the record from those of its name.
func (p *rfc2136) CleanUp(ctx context.Context, r Record) error {
	return p.Remove(ctx, p.txt(r))
}

func (p *rfc2136) txt(r Record) *dns.TXT {
	return &dns.TXT{Hdr: dns.RR_Header{Name: r.FQDN, Rrtype: dns.TypeTXT, Class: dns.ClassINET, Ttl: p.ttl}, Txt: []string{r.Value}}
}

// Add adds a record of any type, as Present does.
func (p *rfc2136) Add(ctx context.Context, rr dns.RR) error {
	return p.update(ctx, rr, (*dns.Msg).Insert)
}

// Remove removes a record of any type, as CleanUp does.
func (p *rfc2136) Remove(ctx context.Context, rr dns.RR) error {
	return p.update(ctx, rr, (*dns.Msg).Remove)
}

func (p *rfc2136) update(ctx context.Context, rr dns.RR, change func(*dns.Msg, []dns.RR)) error {
	zone := p.zone
	if zone == "" {
		var err error
		if zone, err = dnsquery.Zone(ctx, rr.Header().Name, p.lookup); err != nil {
			return err
		}
	}
	m := new(dns.Msg)
	m.SetUpdate(zone)
	change(m, []dns.RR{rr})
	in, err := p.exchange(ctx, m, p.keyFile)
	if err != nil {
		return fmt.Errorf("update zone %s at %s: %w", zone, p.server, err)
	}
	if in.Rcode != dns.RcodeSuccess {
		return fmt.Errorf("update zone %s at %s: %w", zone, p.server, updateError(in.Rcode, dns.TypeToString[rr.Header().Rrtype]))
	}
	return nil
}

func (p *rfc2136) lookup(ctx context.Context, name string, qtype uint16) (*dns.Msg, error) {
	in, err := p.exchange(ctx, p.question(name, qtype), p.keyFile)
	if err == nil && in.Rcode != dns.RcodeSuccess && in.Rcode != dns.RcodeNameError {
		err = fmt.Errorf("it answers %s", dnsquery.Code(in.Rcode))
	}
	if err != nil {
		return nil, fmt.Errorf("ask %s for %s %s: %w", p.server, name, dns.TypeToString[qtype], err)
	}
	return in, nil
}

// question has no EDNS0, which TCP does not need and some servers reject.
func (p *rfc2136) question(name string, qtype uint16) *dns.Msg {
	m := new(dns.Msg).SetQuestion(name, qtype)
	m.RecursionDesired = false
	return m
}

// Explain says why a record that was set is not visible: a server with views may have taken the update, which is signed,
// into another view than the one that others see.
func (p *rfc2136) Explain(ctx context.Context, r Record) error {
	if p.keyFile == "" {
		return nil
	}
	signed, err := p.exchange(ctx, p.question(r.FQDN, dns.TypeTXT), p.keyFile)
	if err != nil || !slices.Contains(texts(signed, r.FQDN), r.Value) {
		return nil //nolint:nilerr // that it is not known is no explanation
	}
	plain, err := p.exchange(ctx, p.question(r.FQDN, dns.TypeTXT), "")
	if err != nil || slices.Contains(texts(plain, r.FQDN), r.Value) {
		return nil //nolint:nilerr // as above
	}
	return fmt.Errorf("%s shows the record to questions signed with the key of %s and not to others: the key selects another view "+
		"of the server (match-clients) than the one that the public sees; use a key of the public view", p.server, p.keyFile)
}

// exchange signs with the key of the file, questions too: a server with views may choose the view by the key.
func (p *rfc2136) exchange(ctx context.Context, m *dns.Msg, keyFile string) (*dns.Msg, error) {
	client := &dns.Client{Net: "tcp", Timeout: 10 * time.Second}
	if keyFile != "" {
		key, err := readTSIGKey(keyFile)
		if err != nil {
			return nil, refused(err)
		}
		client.TsigSecret = map[string]string{key.name: string([]byte(key.secret))}
		m.SetTsig(key.name, key.algorithm, 300, p.now().Unix())
	}
	in, _, err := client.ExchangeContext(ctx, m, p.server)
	if in != nil {
		if t := in.IsTsig(); t != nil && t.Error != dns.RcodeSuccess {
			return nil, tsigError(t, p.now())
		}
		if errors.Is(err, dns.ErrTime) {
			return nil, refused(fmt.Errorf("TSIG: %s", skew(in.IsTsig().TimeSigned, p.now())))
		}
		if errors.Is(err, dns.ErrAuth) { // how the library reports the code NOTAUTH of a signed answer
			return in, nil
		}
	}
	return in, err
}

// tsigError explains why the server did not accept our signature (RFC 8945 section 5.2).
func tsigError(t *dns.TSIG, now time.Time) error {
	switch t.Error {
	case dns.RcodeBadKey:
		return refused(fmt.Errorf("TSIG: the server does not know the key %q with the algorithm %s (BADKEY)", t.Hdr.Name, t.Algorithm))
	case dns.RcodeBadSig:
		return refused(fmt.Errorf("TSIG: the server has another secret for the key %q (BADSIG)", t.Hdr.Name))
	case dns.RcodeBadTime:
		server := t.TimeSigned
		if raw, err := hex.DecodeString(t.OtherData); err == nil && len(raw) == 6 { // RFC 8945 section 5.2.3
			server = uint64(binary.BigEndian.Uint16(raw))<<32 | uint64(binary.BigEndian.Uint32(raw[2:]))
		}
		return refused(fmt.Errorf("TSIG: %s (BADTIME)", skew(server, now)))
	}
	return fmt.Errorf("TSIG: the server answers %s", dnsquery.Code(int(t.Error)))
}

// skew tells by how much the clocks differ, and which one is ahead.
func skew(server uint64, now time.Time) string {
	ahead := time.Unix(int64(min(server, math.MaxInt32<<8)), 0).Sub(now).Round(time.Second) //nolint:gosec // bounded
	if ahead < 0 {
		return fmt.Sprintf("the clock of the server is %s behind the clock of this host", -ahead)
	}
	return fmt.Sprintf("the clock of the server is %s ahead of the clock of this host", ahead)
}

func updateError(code int, kind string) error {
	switch code {
	case dns.RcodeRefused:
		return refused(fmt.Errorf("the server refuses the update (REFUSED); does its update policy allow this key to change %s records of this name?", kind))
	case dns.RcodeNotAuth:
		return refused(errors.New("the server is not authoritative for the zone in the view that this key selects, or does not accept the key (NOTAUTH)"))
	case dns.RcodeNotZone:
		return refused(errors.New("the name is not within the zone (NOTZONE)"))
	}
	return fmt.Errorf("the server answers %s", dnsquery.Code(code))
}
