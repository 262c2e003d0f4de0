package dnsquery

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// SignedQuestion is [Question] that asks for signatures (RFC 4035 section 3.2.1).
func SignedQuestion(name string, qtype uint16, recurse bool) *dns.Msg {
	m := Question(name, qtype, recurse)
	m.IsEdns0().SetDo()
	return m
}

// ErrUnsigned marks that a zone has no DNSSEC.
var ErrUnsigned = errors.New("the zone is not signed (DNSSEC)")

// ZoneKeys are the keys of a zone, from an answer with its DNSKEY records, when one that a DS record of the parent names
// signed them (RFC 4035 section 5.2). Whether the DS records are good is for a validating resolver to say.
func ZoneKeys(in *dns.Msg, zone string, ds []dns.RR, now time.Time) ([]*dns.DNSKEY, error) {
	set, sigs := setOf(in, zone, dns.TypeDNSKEY)
	var keys, trusted []*dns.DNSKEY
	for _, rr := range set {
		if key, ok := rr.(*dns.DNSKEY); ok {
			keys = append(keys, key)
		}
	}
	known := 0
	for _, rr := range ds {
		d, ok := rr.(*dns.DS)
		if !ok {
			continue
		}
		known++
		for _, key := range keys {
			if made := key.ToDS(d.DigestType); made != nil && made.KeyTag == d.KeyTag && strings.EqualFold(made.Digest, d.Digest) {
				trusted = append(trusted, key)
			}
		}
	}
	switch {
	case known == 0:
		return nil, fmt.Errorf("%w: its parent has no DS record for %s", ErrUnsigned, zone)
	case len(keys) == 0:
		return nil, fmt.Errorf("%w: it has no DNSKEY record at %s", ErrUnsigned, zone)
	case len(trusted) == 0:
		return nil, fmt.Errorf("no DNSKEY record of %s is one that a DS record of the parent names", zone)
	}
	return keys, signedBy(set, sigs, trusted, now)
}

// Signed returns the records of a type at a name when a key of the zone signed them, and nothing when there are none.
func Signed(in *dns.Msg, name string, qtype uint16, keys []*dns.DNSKEY, now time.Time) ([]dns.RR, error) {
	set, sigs := setOf(in, name, qtype)
	if len(set) == 0 {
		return nil, nil
	}
	return set, signedBy(set, sigs, keys, now)
}

func setOf(in *dns.Msg, name string, qtype uint16) (set []dns.RR, sigs []*dns.RRSIG) {
	for _, rr := range in.Answer {
		sig, signed := rr.(*dns.RRSIG)
		switch {
		case !strings.EqualFold(rr.Header().Name, name):
		case signed && sig.TypeCovered == qtype:
			sigs = append(sigs, sig)
		case rr.Header().Rrtype == qtype:
			set = append(set, rr)
		}
	}
	return set, sigs
}

// signedBy wants one good signature.
func signedBy(set []dns.RR, sigs []*dns.RRSIG, keys []*dns.DNSKEY, now time.Time) error {
	h := set[0].Header()
	err := errors.New("nothing signed them")
	for _, sig := range sigs {
		for _, key := range keys {
			switch {
			case sig.KeyTag != key.KeyTag() || sig.Algorithm != key.Algorithm:
			case !sig.ValidityPeriod(now):
				err = errors.New("their signature is not valid at this time")
			default:
				if err = sig.Verify(key, set); err == nil {
					return nil
				}
			}
		}
	}
	return fmt.Errorf("the %s records of %s: %w", dns.TypeToString[h.Rrtype], h.Name, err)
}
