package dns01

import (
	"context"
	"errors"
	"strings"
	"testing"
)

// TestLocksOfAFleet: a change of a record is kept from the other nodes too, under a name that tells nothing.
func TestLocksOfAFleet(t *testing.T) {
	var held []string
	refused := errors.New("another node is at it")
	var failing error
	l := Locks{Fleet: func(_ context.Context, name string) (func(), error) {
		if failing != nil {
			return nil, failing
		}
		held = append(held, name)
		return func() { held = held[:len(held)-1] }, nil
	}}
	key := lockKey{"cloudflare /etc/acmed/secrets/dns.env", "_acme-challenge.example.com."}
	release, err := l.acquire(t.Context(), key)
	if err != nil || len(held) != 1 || strings.ContainsAny(held[0], "/.") {
		t.Fatalf("%q, %v", held, err)
	}
	release()
	if len(held) != 0 {
		t.Fatal("the other nodes are still kept away")
	}
	failing = refused
	if _, err := l.acquire(t.Context(), key); !errors.Is(err, refused) {
		t.Fatal(err)
	}
	failing = nil
	if release, err = l.acquire(t.Context(), key); err != nil { // else the failure above left it locked here
		t.Fatal(err)
	}
	release()
}
