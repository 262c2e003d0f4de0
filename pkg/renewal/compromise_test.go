package renewal

import (
	"context"
	"crypto/ecdsa"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/renewal/plan"
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
		if r := b.run(t, Options{}); r.Reason != plan.ReasonCompromised || !r.Obtained || r.Err != nil {
			t.Errorf("after the restart: %+v", r)
		}
		if l := b.load(t); slices.Contains(ids, l.Version) || b.server.served() != l.Current.Fingerprint() {
			t.Errorf("%s is active", l.Version)
		}
		if !stored(ids[0]) || stored(ids[1]) || stored(ids[2]) {
			t.Errorf("stored: the other key %t, the compromised one %t and %t", stored(ids[0]), stored(ids[1]), stored(ids[2]))
		}
		if r := b.run(t, Options{}); r.Obtained || r.Reason == plan.ReasonCompromised || len(b.load(t).State.Compromised) != 0 {
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
		if l := b.load(t); r.Err == nil || l.Version == old.Version || l.State.Held != nil || f.served() == good {
			t.Errorf("%+v: %s is active, held %+v", r, l.Version, l.State.Held)
		}
	})
}

// keeping is a bench whose CA signs for the old key again as long as keep is set.
func keeping(t *testing.T) (*bench, *keepingCA) {
	t.Helper()
	b := newBench(t, 90*day)
	ca := &keepingCA{fakeCA: b.ca, signer: newPKI(t, "signer", nil)}
	swapKeeping(b, ca)
	return b, ca
}

func swapKeeping(b *bench, ca *keepingCA) {
	set := b.set()
	set.Issuers["ca"], set.Keep = ca, 10
	b.engine.Swap(set)
}

// versions obtains one version for each entry, with the key of the one before where that is true.
func (ca *keepingCA) versions(t *testing.T, b *bench, keep ...bool) (ids []string) {
	t.Helper()
	for _, ca.keep = range keep {
		if r := b.run(t, Options{Force: true}); r.Err != nil {
			t.Fatal(r.Err)
		}
		ids = append(ids, b.load(t).Version)
		time.Sleep(2 * day)
	}
	return ids
}

func (b *bench) bundle(t *testing.T, id string) *certs.Bundle {
	t.Helper()
	bundle, err := b.store.Bundle("www", id)
	if err != nil {
		t.Fatal(err)
	}
	return bundle
}

// TestCondemnSurvives: what is condemned is on the disk before anything else happens, so that an ordinary run after a
// restart replaces it.
func TestCondemnSurvives(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b, ca := keeping(t)
		ids := ca.versions(t, b, false, false, true)
		if r := b.run(t, Options{Pin: ids[2]}); r.Err != nil { // which must not outlive it
			t.Fatal(r.Err)
		}
		if err := b.engine.MarkCompromised(t.Context(), "www", b.bundle(t, ids[1])); err != nil { // an old one, with the active key
			t.Fatal(err)
		}
		b.engine.Close(t.Context())
		if err := b.engine.MarkCompromised(t.Context(), "www", b.bundle(t, ids[1])); !errors.Is(err, ErrClosed) {
			t.Errorf("a closed engine says %v", err)
		}
		b.engine = NewEngine(Config{Store: b.store, Log: b.engine.log})
		swapKeeping(b, ca)
		if c := b.load(t).State.Compromised; len(c) != 2 || slices.Contains(c, ids[0]) {
			t.Errorf("compromised are %q of %q", c, ids)
		}
		if r := b.run(t, Options{}); r.Reason != plan.ReasonCompromised || !r.Obtained || r.Err != nil {
			t.Errorf("%+v", r)
		}
		if left := b.load(t).Versions; len(left) != 2 || left[1].ID != ids[0] {
			t.Errorf("stored are %+v", left)
		}
	})
}

// TestCondemnedIsNotUsed: a condemned version that is not the active one costs nothing, and no operator gets it back.
func TestCondemnedIsNotUsed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b, ca := keeping(t)
		ids := ca.versions(t, b, false, false, false)
		if r := b.run(t, Options{Pin: ids[1]}); r.Err != nil {
			t.Fatal(r.Err)
		}
		for _, id := range []string{ids[0], ids[2]} { // before and after the active one
			if err := b.engine.MarkCompromised(t.Context(), "www", b.bundle(t, id)); err != nil {
				t.Fatal(err)
			}
		}
		have := b.load(t)
		if v := plan.Previous(have, time.Now()); v != nil {
			t.Errorf("a rollback goes to %s", v.ID)
		}
		if v := plan.Newest(have); v.ID != ids[1] {
			t.Errorf("%s would be activated", v.ID)
		}
		if r := b.run(t, Options{Pin: ids[0]}); r.Err == nil || !strings.Contains(r.Err.Error(), "others may know the private key") {
			t.Errorf("pinned: %+v", r)
		}
		if r := b.run(t, Options{Activate: true, Anyway: true}); r.Err != nil || r.Version != ids[1] || r.Obtained {
			t.Errorf("activated: %+v", r)
		}
		if left := b.load(t); len(left.Versions) != 1 || left.Version != ids[1] || len(left.State.Compromised) != 0 {
			t.Errorf("stored are %+v, compromised %q", left.Versions, left.State.Compromised)
		}
	})
}

// TestCondemnWaits: a renewal that is under way and keeps the old key does not escape, nor does it count as the one with a
// new key.
func TestCondemnWaits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b, ca := keeping(t)
		first := ca.versions(t, b, false, true)[1]
		old := b.bundle(t, first)
		ca.hold = make(chan struct{})
		running, replaced, condemned := make(chan Result, 1), make(chan Result, 1), make(chan error, 1)
		go func() { running <- b.engine.Run(t.Context(), "www", Options{Force: true}, nil) }()
		synctest.Wait()
		go func() { condemned <- b.engine.MarkCompromised(t.Context(), "www", old) }()
		go func() { replaced <- b.engine.Run(t.Context(), "www", Options{Force: true, NewKey: true}, nil) }()
		gone, leave := context.WithCancelCause(t.Context())
		leave(errors.New("the client went away"))
		if err := b.engine.MarkCompromised(gone, "www", old); err == nil || err.Error() != "the client went away" {
			t.Errorf("the client that left got %v", err)
		}
		synctest.Wait()
		close(ca.hold)
		if r := <-running; r.Err != nil || !r.Obtained {
			t.Errorf("%+v", r)
		}
		if err := <-condemned; err != nil {
			t.Error(err)
		}
		if r := <-replaced; r.Err != nil || !r.Obtained {
			t.Errorf("%+v", r)
		}
		have := b.load(t)
		for _, v := range have.Versions {
			if bundle := b.bundle(t, v.ID); bundle.SharesKey(old) {
				t.Errorf("%s has the old key", v.ID)
			}
		}
	})
}

// TestJoinDuringCondemn: an ordinary run that meets the record being written does its own work afterwards.
func TestJoinDuringCondemn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, 90*day)
		release, err := b.engine.reserve(t.Context(), "www")
		if err != nil {
			t.Fatal(err)
		}
		result := make(chan Result, 1)
		go func() { result <- b.run(t, Options{}) }()
		synctest.Wait()
		if b.ca.count() != 0 {
			t.Error("it did not wait")
		}
		release()
		if r := <-result; r.Err != nil || !r.Obtained {
			t.Errorf("%+v", r)
		}
	})
}

// TestCondemnTwin: a dual unit is compromised when only its RSA key is.
func TestCondemnTwin(t *testing.T) {
	t.Parallel()
	b := newBench(t, 90*day)
	rsa := bundleOf(t, time.Now(), 90*day, "example.com")
	var ids []string
	for range 2 {
		unit := bundleOf(t, time.Now(), 90*day, "example.com")
		unit.RSA = rsa
		id, err := b.store.AddVersion("www", unit, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
	}
	if err := b.store.Activate("www", ids[1]); err != nil {
		t.Fatal(err)
	}
	if err := b.engine.MarkCompromised(t.Context(), "www", b.bundle(t, ids[0])); err != nil {
		t.Fatal(err)
	}
	if have := b.load(t); !plan.IsCompromised(have) || len(have.State.Compromised) != 2 {
		t.Errorf("compromised are %q", have.State.Compromised)
	}
}

// TestHeldDoesNotDelay: a version that was taken back does not keep a compromised one live.
func TestHeldDoesNotDelay(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var good string
		b, _ := fragileBench(t, func(b *certs.Bundle) bool { return good != "" && b.Fingerprint() != good })
		b.run(t, Options{})
		old := b.load(t)
		good = old.Current.Fingerprint()
		b.run(t, Options{Force: true})
		if h := b.load(t).State.Held; h == nil || !plan.TakenBack(h) {
			t.Fatalf("held %+v", h)
		}
		time.Sleep(2 * day)
		if err := b.engine.MarkCompromised(t.Context(), "www", old.Current); err != nil {
			t.Fatal(err)
		}
		if r := b.run(t, Options{}); !r.Obtained || r.Version == old.Version {
			t.Errorf("%+v", r)
		}
	})
}
