package store

import (
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/acmed/acmed/pkg/certs"
)

func TestNextKeys(t *testing.T) {
	s := openTest(t, stateDir(t), nil)
	read := func() []certs.NextKey {
		t.Helper()
		keys, err := s.NextKeys(www)
		must(t, err)
		return keys
	}
	if keys := read(); keys != nil {
		t.Errorf("out of nothing: %+v", keys)
	}
	var want []certs.NextKey
	for _, kind := range []certs.KeyType{certs.EC256, certs.RSA2048} {
		key, err := certs.NewKey(kind)
		must(t, err)
		text, err := certs.EncodeKey(key)
		must(t, err)
		want = append(want, certs.NextKey{Type: kind, KeyPEM: text, Pin: certs.Pin(key.Public()), Created: noon()})
	}
	must(t, s.SaveNextKeys(www, want))
	got := read()
	if diff := cmp.Diff(want, got); diff != "" || string(got[0].KeyPEM) != string(want[0].KeyPEM) {
		t.Error(diff)
	}
	if info, err := os.Stat(in(s, "next-keys.json")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	must(t, s.SaveNextKeys(www, nil))
	if keys := read(); len(keys) != 0 {
		t.Errorf("%+v", keys)
	}
}

func TestNextKeysDamaged(t *testing.T) {
	for _, text := range []string{
		"", `{"version": 1, "keys": [{"type": "ec256", "key": "garbage"}]}`,
		`{"version": 1, "keys": [{"type": "rsa2048", "key": "-----BEGIN PRIVATE KEY-----\nMIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg\n-----END PRIVATE KEY-----\n"}]}`,
	} {
		s, _ := live(t, newCA(t).bundle(t))
		write(t, in(s, "next-keys.json"), text)
		if keys, err := s.NextKeys(www); err != nil || len(keys) != 0 {
			t.Errorf("%q became %+v, %v", text, keys, err)
		}
		contains(t, load(t, s).Notes, "it was set aside as next-keys.json.damaged-")
	}
}
