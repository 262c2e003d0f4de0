package trust

import (
	"crypto/x509"
	"slices"
	"time"
)

// Layout says how a server presents its chain.
type Layout struct {
	Path       []*x509.Certificate // from the leaf upwards, as far as the presented certificates lead
	Extra      []*x509.Certificate // presented and of no use on the way
	Misordered bool                // a certificate does not follow the one that it issued (RFC 8446 section 4.4.2)
}

// Arrange puts a presented chain in order.
func Arrange(chain []*x509.Certificate, at time.Time) Layout {
	l := Layout{Path: chain[:1:1]}
	rest := slices.Clone(chain[1:])
	for {
		last := l.Path[len(l.Path)-1]
		next := issuerOf(last, rest, at)
		if SelfSigned(last) || next == nil {
			break
		}
		rest = slices.DeleteFunc(rest, next.Equal)
		l.Path = append(l.Path, next)
	}
	l.Extra = rest
	l.Misordered = !slices.EqualFunc(l.Path, chain[:len(l.Path)], (*x509.Certificate).Equal)
	return l
}
