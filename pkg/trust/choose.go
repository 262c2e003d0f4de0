package trust

import (
	"slices"
	"time"

	"github.com/acmed/acmed/pkg/certs"
)

// Verdict says what one client makes of one chain.
type Verdict struct {
	Client string    // name of the store
	Until  time.Time // when the chain stops to verify; zero when it does not now
	Err    error     // why not; nil when it does
}

// Judge asks every client about the chain that b presents; for a dual unit both chains must verify.
func Judge(b *certs.Bundle, stores []*Store, at time.Time) []Verdict {
	verdicts := make([]Verdict, len(stores))
	for i, s := range stores {
		verdicts[i] = s.judge(b, at)
		if b.RSA != nil && verdicts[i].Err == nil {
			twin := s.judge(b.RSA, at)
			if twin.Err != nil || twin.Until.Before(verdicts[i].Until) {
				verdicts[i] = twin
			}
		}
	}
	return verdicts
}

func (s *Store) judge(b *certs.Bundle, at time.Time) Verdict {
	v := Verdict{Client: s.name}
	chains, err := Chains(b)
	if err != nil {
		v.Err = err
		return v
	}
	path, err := s.Path(chains[0], Names(b.Leaf), at)
	if v.Err = err; err == nil {
		v.Until = Until(path)
	}
	return v
}

// Failing are the verdicts of those clients that would refuse.
func Failing(verdicts []Verdict) []Verdict {
	var failing []Verdict
	for _, v := range verdicts {
		if v.Err != nil {
			failing = append(failing, v)
		}
	}
	return failing
}

// Choose returns b so that it presents the first of the offered chains, the present one before the alternates, that
// verifies for all clients at all the given times. If there is none, a chain that ends earlier may do: some clients stop
// at what they know only when nothing above it is presented. The twin of a dual unit gets a chain of its own. If there is none it
// returns b as it is, and who would refuse its present chain at the first of those times at which anybody does.
func Choose(b *certs.Bundle, stores []*Store, at ...time.Time) (chosen *certs.Bundle, failing []Verdict) {
	chosen, failing = chooseOne(b, stores, at)
	if b.RSA == nil || len(failing) > 0 {
		return chosen, failing
	}
	twin, failing := chooseOne(b.RSA, stores, at)
	if len(failing) > 0 {
		return b, failing
	}
	both := *chosen
	both.RSA = twin
	return &both, nil
}

func chooseOne(b *certs.Bundle, stores []*Store, at []time.Time) (*certs.Bundle, []Verdict) {
	var first []Verdict
	for n, candidate := range candidates(b) {
		one := *candidate
		one.RSA = nil
		failing := failingAt(&one, stores, at)
		if len(failing) == 0 {
			one.RSA = b.RSA
			return &one, nil
		}
		if n == 0 {
			first = failing
		}
	}
	return b, first
}

// candidates are the offered chains, and behind them each without its last certificates, down to one issuer.
func candidates(b *certs.Bundle) []*certs.Bundle {
	var whole, shorter []*certs.Bundle
	for n := range len(b.Alternates) + 1 {
		one := b.WithChain(n)
		whole = append(whole, one)
		issuers, err := certs.ParseChain(one.ChainPEM)
		if err != nil || len(b.Alternates) >= maxAlternates {
			continue
		}
		for k := len(issuers) - 1; k > 0; k-- {
			less := *one
			less.ChainPEM = nil
			for _, c := range issuers[:k] {
				less.ChainPEM = append(less.ChainPEM, certs.EncodeCert(c)...)
			}
			less.Alternates = append(slices.Clone(one.Alternates), one.ChainPEM) // nothing is lost
			shorter = append(shorter, &less)
		}
	}
	return append(whole, shorter...)
}

// maxAlternates is how many alternate chains a version may have.
const maxAlternates = 10

func failingAt(b *certs.Bundle, stores []*Store, at []time.Time) []Verdict {
	for _, t := range at {
		if failing := Failing(Judge(b, stores, t)); len(failing) > 0 {
			return failing
		}
	}
	return nil
}
