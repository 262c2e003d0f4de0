package renewal

import (
	"context"
	"crypto/ecdsa"
	"errors"
	"os"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/acmed/acmed/pkg/certs"
)

// keepingCA signs for the key of the replaced certificate as long as keep is set and no new key is wanted.
type keepingCA struct {
	*fakeCA
	signer *pki
	keep   bool
}

func (ca *keepingCA) Obtain(ctx context.Context, req certs.Request) (*certs.Bundle, error) {
	b, err := ca.fakeCA.Obtain(ctx, req)
	if err != nil || req.NewKey || !ca.keep {
		return b, err
	}
	key, err := certs.ParseKey(req.Replaces.KeyPEM)
	if err != nil {
		return nil, err
	}
	leaf := ca.signer.sign(ca.t, b.Leaf, key.(*ecdsa.PrivateKey))
	kept, err := certs.NewBundle(slices.Concat(certs.EncodeCert(leaf), certs.EncodeCert(ca.signer.cert)), req.Replaces.KeyPEM)
	if err == nil {
		kept.Issuer = b.Issuer
	}
	return kept, err
}

// TestCompromisedKeyIsDestroyed: every version with the compromised key is gone from the disk as soon as the successor is
// live, also when the CA has to be asked again after a restart. Versions with other keys stay.
func TestCompromisedKeyIsDestroyed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, 90*day)
		ca := &keepingCA{fakeCA: b.ca, signer: newPKI(t, "signer", nil)}
		swap := func() {
			set := b.set()
			set.Issuers["ca"], set.Keep = ca, 10
			b.engine.Swap(set)
		}
		swap()
		var ids []string // two keys: the first version has one, the next two have the other
		for _, keep := range []bool{false, false, true} {
			ca.keep = keep
			b.run(t, Options{Force: true})
			ids = append(ids, b.load(t).Version)
			time.Sleep(2 * day)
		}
		b.ca.fail(errors.New("not now"))
		if r := b.run(t, Options{Force: true, NewKey: true}); r.Err == nil {
			t.Fatal("no error")
		}
		stored := func(id string) bool {
			_, err := os.Stat(b.store.VersionPaths("www", id).Key)
			return !errors.Is(err, os.ErrNotExist)
		}
		if l := b.load(t); l.Version != ids[2] || !stored(ids[2]) || !slices.Contains(l.State.Compromised, ids[2]) {
			t.Fatalf("%s is active, compromised are %q", l.Version, l.State.Compromised)
		}

		b.engine.Close(t.Context())
		b.engine = NewEngine(Config{Store: b.store, Log: b.engine.log})
		swap()
		b.ca.fail(nil)
		time.Sleep(day)
		if r := b.run(t, Options{}); r.Reason != ReasonCompromised || !r.Obtained || r.Err != nil {
			t.Errorf("after the restart: %+v", r)
		}
		if l := b.load(t); slices.Contains(ids, l.Version) || b.server.serves != l.Current.Fingerprint() {
			t.Errorf("%s is active", l.Version)
		}
		if !stored(ids[0]) || stored(ids[1]) || stored(ids[2]) {
			t.Errorf("stored: the other key %t, the compromised one %t and %t", stored(ids[0]), stored(ids[1]), stored(ids[2]))
		}
		if r := b.run(t, Options{}); r.Obtained || r.Reason == ReasonCompromised || len(b.load(t).State.Compromised) != 0 {
			t.Errorf("it does not end: %+v", r)
		}
	})
}

// TestCompromisedIsNoWayBack: a target that fails with the new key does not get the compromised one again.
func TestCompromisedIsNoWayBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var good string
		b, f := fragileBench(t, func(b *certs.Bundle) bool { return good != "" && b.Fingerprint() != good })
		b.run(t, Options{})
		old := b.load(t)
		good = old.Current.Fingerprint()
		r := b.run(t, Options{Force: true, NewKey: true})
		if l := b.load(t); r.Err == nil || l.Version == old.Version || l.State.Held != nil || f.serves == good {
			t.Errorf("%+v: %s is active, held %+v", r, l.Version, l.State.Held)
		}
	})
}
