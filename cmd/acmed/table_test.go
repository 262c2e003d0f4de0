package main

import (
	"bytes"
	"testing"
)

// TestGrid: columns line up whatever the colours, nothing trails, and the last cell is cut at the edge of a terminal.
func TestGrid(t *testing.T) {
	rows := [][]cell{{{"NAME", bold}, {"STATE", bold}, {"NAMES", bold}}, {{"www", plain}, {"ok", green}, {"example.com\x1b[2J www.example.com", plain}}, {{"größer", plain}, {"failing", red}, {"", plain}}}
	for _, tt := range []struct {
		g    grid
		want string
	}{
		{grid{}, "NAME    STATE    NAMES\nwww     ok       example.com\\x1b[2J www.example.com\ngrößer  failing  \n"},
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
