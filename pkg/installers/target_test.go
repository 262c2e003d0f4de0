package installers

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/acmed/acmed/internal/text"
	"github.com/acmed/acmed/pkg/certs"
)

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

func TestTargetSelect(t *testing.T) {
	target := Target{Certificate: "www", Names: identifiers(t, "a.example", "*.b.example")}
	for _, tt := range []struct {
		names   []string
		want    []string
		problem string
	}{
		{nil, []string{"a.example", "*.b.example"}, ""},
		{[]string{"x.b.example", "a.example"}, []string{"x.b.example", "a.example"}, ""},
		{[]string{"x.y.b.example"}, nil, "is not in the certificate"},
		{[]string{"a b"}, nil, "names: "},
	} {
		got, err := target.Select(tt.names)
		if tt.problem != "" {
			if err == nil || !strings.Contains(err.Error(), tt.problem) {
				t.Errorf("Select(%q) = %v, want %q", tt.names, err, tt.problem)
			}
			continue
		}
		if diff := cmp.Diff(identifiers(t, tt.want...), got); err != nil || diff != "" {
			t.Errorf("Select(%q): %v\n%s", tt.names, err, diff)
		}
	}
	if _, err := (&Target{}).Select(nil); err == nil {
		t.Error("a certificate without names was accepted")
	}
}
func TestPIDFileActive(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "pid")
	for _, tt := range []struct {
		content, program string
		want             bool
	}{
		{"", filepath.Base(self), false},
		{"1", filepath.Base(self), false},
		{"0\n", filepath.Base(self), false},
		{"-5\n", filepath.Base(self), false},
		{"no number", filepath.Base(self), false},
		{"999999999", filepath.Base(self), false},
		{strconv.Itoa(os.Getpid()) + "\n", "another-program", false},
		{strconv.Itoa(os.Getpid()) + "\n", filepath.Base(self), true},
	} {
		if tt.content != "" {
			must(t, os.WriteFile(path, []byte(tt.content), 0o600))
		}
		if got, err := PIDFileActive(path, tt.program)(context.Background()); err != nil || got != tt.want {
			t.Errorf("%q, %s: %v, %v", tt.content, tt.program, got, err)
		}
	}
	if _, err := PIDFileActive(filepath.Dir(path), filepath.Base(self))(t.Context()); err == nil {
		t.Error("a directory was accepted")
	}
}

func TestLogTail(t *testing.T) {
	path := filepath.Join(t.TempDir(), "error.log")
	log := LogTail{Path: path}
	failed := errors.New("failed")
	must(t, os.WriteFile(path, []byte("old\n"), 0o600))
	log.Mark()
	if got := log.Explain(failed); !errors.Is(got, failed) || got.Error() != "failed" {
		t.Errorf("without new lines: %v", got)
	}
	must(t, os.WriteFile(path, []byte("old\n"+strings.Repeat("noise\n", 1000)+"new \x1b[1m\n"), 0o600))
	got := log.Explain(failed).Error()
	if !strings.HasSuffix(got, `new \u001b[1m`) || len(got) > 3*text.Most {
		t.Errorf("got %q", got)
	}
	if err := log.Explain(nil); err != nil {
		t.Errorf("no error became %v", err)
	}
	if err := (&LogTail{}).Explain(failed); err.Error() != "failed" {
		t.Errorf("without a log: %v", err)
	}
}
