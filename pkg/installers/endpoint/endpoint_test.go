package endpoint

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/acmed/acmed/pkg/certs"
)

func TestParseAll(t *testing.T) {
	for _, tt := range []struct {
		endpoint string
		names    []string
		want     string
	}{
		{"127.0.0.1:443", []string{"*.example.com", "www.example.com"}, "www.example.com"},
		{"127.0.0.1:443", []string{"*.example.com"}, "acmed-probe.example.com"},
		{"127.0.0.1:443", []string{"192.0.2.1"}, ""},
		{"[::1]:443/other.example", []string{"www.example.com"}, "other.example"},
		{"mail.example:25", []string{"www.example.com"}, "mail.example"},
	} {
		var ids []certs.Identifier
		for _, name := range tt.names {
			id, _, err := certs.ParseIdentifier(name)
			if err != nil {
				t.Fatal(err)
			}
			ids = append(ids, id)
		}
		list, err := ParseAll([]string{tt.endpoint}, ids)
		if err != nil || len(list) != 1 || list[0].sni() != tt.want {
			t.Errorf("%s for %v: %+v, %v, want the server name %q", tt.endpoint, tt.names, list, err, tt.want)
		}
	}
	if _, err := ParseAll([]string{"x"}, nil); err == nil {
		t.Error("an endpoint without a port was accepted")
	}
}

func TestGiven(t *testing.T) {
	got, err := Given([]string{"127.0.0.1:443", "[::1]:443/b.example", "c.example:8443"}, identifiers(t, "a.example", "*.b.example", "192.0.2.1"))
	want := []Endpoint{
		{Addr: "127.0.0.1:443", ServerName: "a.example"}, {Addr: "127.0.0.1:443", ServerName: "acmed-probe.b.example"}, {Addr: "127.0.0.1:443"},
		{Addr: "[::1]:443", ServerName: "b.example"}, {Addr: "c.example:8443"},
	}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
	if _, err := Given([]string{"nonsense"}, nil); err == nil {
		t.Error("nonsense was accepted")
	}
}

func identifiers(t *testing.T, names ...string) []certs.Identifier {
	t.Helper()
	list := make([]certs.Identifier, len(names))
	for i, name := range names {
		var err error
		if list[i], _, err = certs.ParseIdentifier(name); err != nil {
			t.Fatal(err)
		}
	}
	return list
}
