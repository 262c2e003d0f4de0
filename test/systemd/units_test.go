package systemd

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

const units = "../../deploy/systemd"

// analyze runs systemd-analyze, which needs no running systemd for this.
func analyze(t *testing.T, args ...string) string {
	t.Helper()
	path, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("systemd-analyze is not installed")
	}
	cmd := exec.CommandContext(t.Context(), path, args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C", "SYSTEMD_PAGER=cat")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("systemd-analyze %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

var exposure = regexp.MustCompile(`Overall exposure level for \S+: ([0-9.]+)`)

func TestExposure(t *testing.T) {
	for unit, most := range map[string]float64{"acmed.service": 1.5, "acmed-installd.service": 2.5, "acmed-single.service": 2.5} {
		out := analyze(t, "security", "--offline=yes", "--no-pager", filepath.Join(units, unit))
		m := exposure.FindStringSubmatch(out)
		if m == nil {
			t.Fatalf("%s: no exposure in\n%s", unit, out)
		}
		got, err := strconv.ParseFloat(m[1], 64)
		if err != nil || got > most {
			t.Errorf("the exposure of %s is %s, at most %.1f is allowed (%v)", unit, m[1], most, err)
		}
		t.Logf("%s: %s", unit, m[1])
	}
}

// TestVerify lets systemd read the units. The program is not installed here, so another one stands in its place.
func TestVerify(t *testing.T) {
	dir := t.TempDir()
	files, err := filepath.Glob(filepath.Join(units, "*.s[eo]*"))
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	args := []string{"verify", "--man=no"}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		copied := filepath.Join(dir, filepath.Base(file))
		if err := os.WriteFile(copied, []byte(strings.ReplaceAll(string(text), "/usr/bin/acmed", "/bin/true")), 0o644); err != nil {
			t.Fatal(err)
		}
		args = append(args, copied)
	}
	t.Setenv("SYSTEMD_UNIT_PATH", dir+":")
	if out := analyze(t, args...); out != "" {
		t.Error(out)
	}
}

// TestUnitsAgree: what the two ways to run the daemon share is the same in both.
func TestUnitsAgree(t *testing.T) {
	read := func(name string) map[string]bool {
		text, err := os.ReadFile(filepath.Join(units, name))
		if err != nil {
			t.Fatal(err)
		}
		lines := map[string]bool{}
		for line := range strings.SplitSeq(string(text), "\n") {
			lines[line] = true
		}
		return lines
	}
	for _, name := range []string{"acmed.service", "acmed-single.service"} {
		lines := read(name)
		for _, want := range []string{
			"Type=notify", "ExecStart=/usr/bin/acmed run", "ExecReload=/usr/bin/acmed reload", "WatchdogSec=5min", "TimeoutStopSec=75s",
			"LimitCORE=0", "UMask=0077", "NoNewPrivileges=yes", "ProtectSystem=strict", "ConditionPathExists=/etc/acmed/acmed.yaml",
		} {
			if !lines[want] {
				t.Errorf("%s has no %s", name, want)
			}
		}
	}
}
