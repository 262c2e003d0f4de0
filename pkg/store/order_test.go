package store

import (
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/acmed/acmed/pkg/certs"
)

func pending(t testing.TB, url string) *Order {
	t.Helper()
	key, err := certs.EncodeKey(ecKey(t))
	must(t, err)
	return &Order{
		URL: url, Directory: "https://ca.example/dir", Account: "https://ca.example/acct/1", KeyPEM: key,
		Identifiers: []certs.Identifier{{Type: certs.DNS, Value: "example.com"}}, Profile: "classic", Created: noon(), Finalized: true,
	}
}

func order(t *testing.T, s *Store, slot string) *Order {
	t.Helper()
	o, err := s.Order(www, slot)
	must(t, err)
	return o
}

func TestOrderRoundTrip(t *testing.T) {
	s := openTest(t, stateDir(t), nil)
	if o := order(t, s, SlotEC); o != nil {
		t.Errorf("out of nothing: %+v", o)
	}
	want := pending(t, "https://ca.example/order/1")
	must(t, s.SaveOrder(www, SlotEC, want))
	if diff := cmp.Diff(want, order(t, s, SlotEC)); diff != "" {
		t.Error(diff)
	}
	if string(order(t, s, SlotEC).KeyPEM) != string(want.KeyPEM) {
		t.Error("the key is another")
	}
	if o := order(t, s, SlotRSA); o != nil {
		t.Errorf("in the other slot: %+v", o)
	}
	for range 2 {
		must(t, s.DropOrder(www, SlotEC))
	}
	if o := order(t, s, SlotEC); o != nil {
		t.Errorf("after DropOrder: %+v", o)
	}
	_, err := s.Order(www, "../ec")
	for _, err := range []error{err, s.SaveOrder(www, "", want), s.DropOrder(www, "x"), s.SaveOrder(www, SlotEC, &Order{})} {
		if err == nil {
			t.Error("no error")
		}
	}
}

func TestOrderDamaged(t *testing.T) {
	for _, text := range []string{"", "{}", `{"version": 1}`, `{"version": 1, "url": "https://ca.example/1", "key": "garbage"}`} {
		s, _ := live(t, newCA(t).bundle(t))
		write(t, in(s, "order-ec.json"), text)
		if o := order(t, s, SlotEC); o != nil {
			t.Errorf("%q became %+v", text, o)
		}
		contains(t, load(t, s).Notes, "it was set aside as order-ec.json.damaged-")
	}
}

// TestVoidOrders plays the crash between storing a version and dropping the orders that led to it.
func TestVoidOrders(t *testing.T) {
	c := newCA(t)
	crashed := false
	dir := stateDir(t)
	s := openTest(t, dir, func(op, name string) error {
		if op == "remove" && strings.Contains(name, "/order-") {
			crashed = true
			return errors.New("crash")
		}
		return nil
	})
	first := pending(t, "https://ca.example/order/1")
	first.Created = noon().AddDate(5, 0, 0) // a clock that was wrong must not bring it back
	must(t, errors.Join(s.SaveOrder(www, SlotEC, first), s.SaveOrder(www, SlotRSA, pending(t, "https://ca.example/order/2"))))
	add(t, s, c.dual(t), noon(), true)
	if !crashed {
		t.Fatal("the orders were not dropped")
	}
	must(t, s.Close())
	s = openTest(t, dir, nil)
	for _, slot := range []string{SlotEC, SlotRSA} {
		if o := order(t, s, slot); o != nil {
			t.Errorf("%s came back: %+v", slot, o)
		}
	}
	next := pending(t, "https://ca.example/order/3")
	must(t, s.SaveOrder(www, SlotEC, next))
	must(t, s.Prune(www, 1))
	if _, err := os.Stat(in(s, "order-rsa.json")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Prune left the void order: %v", err)
	}
	if diff := cmp.Diff(next, order(t, s, SlotEC)); diff != "" {
		t.Errorf("the next order: %s", diff)
	}
	add(t, s, c.bundle(t), noon().Add(time.Hour), true)
	if _, err := os.Stat(in(s, "order-ec.json")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("AddVersion left the order: %v", err)
	}
}
