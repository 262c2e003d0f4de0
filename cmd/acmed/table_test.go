package main

import (
	"bytes"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/acmed/acmed/cmd/acmed/internal/control"
	"github.com/acmed/acmed/pkg/renewal"
)

// TestGrid: columns line up whatever the colours, nothing trails, and the last cell is cut at the edge of a terminal.
func TestGrid(t *testing.T) {
	rows := [][]cell{{{"NAME", bold}, {"STATE", bold}, {"NAMES", bold}}, {{"www", plain}, {"ok", green}, {"example.com\x1b[2J www.example.com", plain}}, {{"größer", plain}, {"failing", red}, {"", plain}}}
	for _, tt := range []struct {
		g    grid
		want string
	}{
		{grid{}, "NAME    STATE    NAMES\nwww     ok       example.com\\u001b[2J www.example.com\ngrößer  failing  \n"},
		{
			grid{colour: true, width: 30},
			"\x1b[1mNAME\x1b[0m    \x1b[1mSTATE\x1b[0m    \x1b[1mNAMES\x1b[0m\nwww     \x1b[32mok\x1b[0m       example.com…\ngrößer  \x1b[31mfailing\x1b[0m  \n",
		},
	} {
		var out bytes.Buffer
		tt.g.out = &out
		for _, row := range rows {
			tt.g.add(append([]cell(nil), row...)...)
		}
		tt.g.flush()
		if out.String() != tt.want {
			t.Errorf("got\n%q, want\n%q", out.String(), tt.want)
		}
	}
}

// TestTableFits: on a terminal no line is longer than it is wide, however long names and errors are, and each row still
// tells name and state. Elsewhere, and with -o wide, nothing is cut.
func TestTableFits(t *testing.T) {
	long := strings.Repeat("n", 64)
	www, mail := goldenWWW(), goldenMail()
	www.Name, mail.Name = long, long
	all := control.Status{}
	for range 6 { // enough for the line with the sums
		all.Certificates = append(all.Certificates, www, mail)
	}
	for _, tt := range []struct {
		width int
		wide  bool
		cut   bool
		has   []string
	}{
		{width: 0, has: []string{long + "  failing ", "port-closed: 6 certificates: the CA could not connect: "}},
		{width: 80, wide: true, has: []string{long + "  failing ", "port-closed: 6 certificates: the CA could not connect: "}},
		{width: 80, cut: true, has: []string{"nnn…  failing  2026-12-15 (24d)  running            0/1 ", "port-closed: 6 certificates: the CA could not connect:\n    nnn", "  do: Start the server if the message names a stopped one. Otherwise open the\n    port", "12 certificates: 6 failing, 6 ok\n"}},
		{width: 40, cut: true, has: []string{"nnn…  failing  2026-12-15 (24d)", "port-closed: 6 certificates: the CA\n    could not connect: nnn", "(acmed\n    explain no-permission)"}},
	} {
		var out bytes.Buffer
		a := &app{out: &out}
		a.tableIn(&grid{out: &out, width: tt.width}, all, statusAt, tt.wide)
		for _, want := range tt.has {
			if !strings.Contains(out.String(), want) {
				t.Errorf("width %d: no %q", tt.width, want)
			}
		}
		for line := range strings.Lines(out.String()) {
			if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); tt.cut && n > tt.width {
				t.Errorf("width %d: a line of %d: %s", tt.width, n, line)
			}
		}
		if t.Failed() {
			t.Logf("width %d:\n%s", tt.width, out.String())
		}
	}
}

// TestNarrowFirst: names that fit stay as they are when it is the last column that has no room.
func TestNarrowFirst(t *testing.T) {
	var out bytes.Buffer
	a := &app{out: &out}
	a.tableIn(&grid{out: &out, width: 80}, control.Status{Certificates: []renewal.Status{goldenWWW()}}, statusAt, false)
	if want := "www   ok     2027-01-30 (70d)  renews 2026-12-29  1/2      example.com www.exa…\n"; !strings.Contains(out.String(), want) {
		t.Errorf("no %q in\n%s", want, out.String())
	}
}
