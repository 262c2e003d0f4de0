package main

import (
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// TestShort is a minute of chaos: kills, the leader of the store, its quorum, a backup, roll-outs with a straggler.
func TestShort(t *testing.T) {
	acmed := filepath.Join(t.TempDir(), "acmed")
	build := exec.Command("go", "build", "-o", acmed, "../../cmd/acmed")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if err := runChaos(acmed, t.TempDir(), size{nodes: 3, certs: 12, kills: 1, outage: 2 * time.Second}); err != nil {
		t.Fatal(err)
	}
}
