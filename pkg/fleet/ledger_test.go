package fleet_test

import (
	"testing"

	"github.com/acmed/acmed/pkg/fleet"
	"github.com/acmed/acmed/pkg/fleet/fleettest"
)

func TestSuite(t *testing.T) {
	fleettest.Run(t, func(*testing.T) fleettest.Store {
		m := fleettest.NewMemory()
		return fleettest.Store{Client: func() fleet.Engine { return m.Client() }, Compact: func(*testing.T, int64) { m.Compact() }}
	})
}
