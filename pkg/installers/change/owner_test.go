package change

import (
	"testing"

	"github.com/google/go-cmp/cmp"
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
