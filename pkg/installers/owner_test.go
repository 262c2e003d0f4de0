package installers

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/acmed/acmed/pkg/certs"
)

func TestLookupOwner(t *testing.T) {
	for _, tt := range []struct {
		user, group string
		want        *Owner
		fails       bool
	}{
		{"", "", nil, false},
		{"root", "root", &Owner{0, 0}, false},
		{"4711", "", &Owner{4711, Keep}, false},
		{"", "4712", &Owner{Keep, 4712}, false},
		{"nobody-of-this-name", "", nil, true},
		{"", "no-group-of-this-name", nil, true},
	} {
		got, err := LookupOwner(tt.user, tt.group)
		if d := cmp.Diff(tt.want, got); d != "" || (err != nil) != tt.fails {
			t.Errorf("%q, %q: %v, %v", tt.user, tt.group, got, err)
		}
	}
}

func TestParseEndpoints(t *testing.T) {
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
		list, err := ParseEndpoints([]string{tt.endpoint}, ids)
		if err != nil || len(list) != 1 || list[0].sni() != tt.want {
			t.Errorf("%s for %v: %+v, %v, want the server name %q", tt.endpoint, tt.names, list, err, tt.want)
		}
	}
	if _, err := ParseEndpoints([]string{"x"}, nil); err == nil {
		t.Error("an endpoint without a port was accepted")
	}
}
