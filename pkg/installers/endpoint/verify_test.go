package endpoint_test

import (
	"crypto/tls"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/installers"
	"github.com/acmed/acmed/pkg/installers/endpoint"
	"github.com/acmed/acmed/pkg/installers/installertest"
)

// sideBySide starts a server that asks which bundle answers the n-th look, counted from 1.
func sideBySide(t *testing.T, which func(n int32) *certs.Bundle) (endpoints []endpoint.Endpoint, looks *atomic.Int32) {
	t.Helper()
	looks = new(atomic.Int32)
	server := installertest.Serve(t, func() ([]tls.Certificate, error) { return installertest.KeyPairs(which(looks.Add(1))) })
	return []endpoint.Endpoint{{Addr: server.Addr}}, looks
}

// TestVerifyOutlastsOldWorkers: while old and new workers answer in turn, neither the look after an installation nor a later
// one fails, and neither ends before the new workers are alone.
func TestVerifyOutlastsOldWorkers(t *testing.T) {
	t.Parallel()
	old, fresh := installertest.Bundle(t, "example.com"), installertest.Bundle(t, "example.com")
	for name, wait := range map[string]time.Duration{"after an installation": 10 * time.Second, "later": 0} {
		for first, order := range map[string]int32{"the old one first": 1, "the new one first": 0} {
			t.Run(name+", "+first, func(t *testing.T) {
				t.Parallel()
				const last = 9 // of the old workers' looks
				endpoints, looks := sideBySide(t, func(n int32) *certs.Bundle {
					if n <= last && n%2 == order {
						return old
					}
					return fresh
				})
				if err := endpoint.Verify(t.Context(), endpoints, fresh, wait); err != nil {
					t.Errorf("a healthy endpoint failed: %v", err)
				}
				if n := looks.Load(); n < last && (wait > 0 || order == 1) {
					t.Errorf("verified after %d looks, while old workers answered", n)
				}
			})
		}
	}
}

// TestVerifyOutlastsABreak: an endpoint that serves the certificate and is then away for a moment has not failed.
func TestVerifyOutlastsABreak(t *testing.T) {
	t.Parallel()
	b := installertest.Bundle(t, "example.com")
	var looks atomic.Int32
	server := installertest.Serve(t, func() ([]tls.Certificate, error) {
		if n := looks.Add(1); n != 1 && n < 5 {
			return nil, errors.New("restarting")
		}
		return installertest.KeyPairs(b)
	})
	if err := endpoint.Verify(t.Context(), []endpoint.Endpoint{{Addr: server.Addr}}, b, time.Millisecond); err != nil {
		t.Error(err)
	}
}

// TestVerifyCostsNoMoreWhenHealthy: one look later, two after an installation.
func TestVerifyCostsNoMoreWhenHealthy(t *testing.T) {
	b := installertest.Bundle(t, "example.com")
	for wait, want := range map[time.Duration]int32{0: 1, time.Hour: 2} {
		endpoints, looks := sideBySide(t, func(int32) *certs.Bundle { return b })
		if err := endpoint.Verify(t.Context(), endpoints, b, wait); err != nil || looks.Load() != want {
			t.Errorf("wait %s: %d looks, want %d; %v", wait, looks.Load(), want, err)
		}
	}
}

// TestVerifyFailsWhenItFailsSteadily: a later look at an endpoint with another certificate looks many times before it says so.
func TestVerifyFailsWhenItFailsSteadily(t *testing.T) {
	t.Parallel()
	old, fresh := installertest.Bundle(t, "example.com"), installertest.Bundle(t, "example.com")
	endpoints, looks := sideBySide(t, func(int32) *certs.Bundle { return old })
	err := endpoint.Verify(t.Context(), endpoints, fresh, 0)
	if later := (*installers.LaterError)(nil); err == nil || errors.As(err, &later) || !strings.Contains(err.Error(), "expected serial "+fresh.Serial()) {
		t.Errorf("Verify = %v", err)
	}
	if n := looks.Load(); n < 6 {
		t.Errorf("failed after %d looks", n)
	}
}

// TestVerifyOfTwoAnswersForEver: a second process that keeps the port is neither a success nor a failure of the new one.
func TestVerifyOfTwoAnswersForEver(t *testing.T) {
	t.Parallel()
	old, fresh := installertest.Bundle(t, "example.com"), installertest.Bundle(t, "example.com")
	endpoints, _ := sideBySide(t, func(n int32) *certs.Bundle {
		if n%2 == 0 {
			return old
		}
		return fresh
	})
	err := endpoint.Verify(t.Context(), endpoints, fresh, time.Second)
	if later := (*installers.LaterError)(nil); !errors.As(err, &later) || !strings.Contains(err.Error(), endpoints[0].Addr) {
		t.Errorf("Verify = %v, want a LaterError that names the address", err)
	}
}
