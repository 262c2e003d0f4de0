package plan

import (
	"testing"
	"time"

	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/fleet/fleettest"
)

// bundleOf makes a self-signed bundle with the given validity.
func bundleOf(t testing.TB, from time.Time, life time.Duration, names ...string) *certs.Bundle {
	t.Helper()
	b := fleettest.Bundle(t, from, from.Add(life-time.Second), names...)
	b.Issuer = "ca"
	return b
}

func identifiers(t testing.TB, names ...string) []certs.Identifier {
	t.Helper()
	var ids []certs.Identifier
	for _, name := range names {
		id, _, err := certs.ParseIdentifier(name)
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
	}
	return ids
}
