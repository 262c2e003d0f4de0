package control

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

// TestSupplementaryGroups: a process with the group of the socket among its supplementary groups may ask, although the group
// database does not have its user there. Without that group the same user may not. The processes are real ones, and the
// socket lets in whom the kernel lets in.
func TestSupplementaryGroups(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Skip("another user is needed, which root alone can become")
	}
	const group = 54321 // which no database has
	dir, err := os.MkdirTemp("/dev/shm", "acmed-groups-")
	if err != nil {
		dir = t.TempDir()
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := errors.Join(os.Chown(dir, 0, group), os.Chmod(dir, 0o755|os.ModeSetgid)); err != nil { // so that the socket has the group
		t.Fatal(err)
	}
	path, _ := serveIn(t, &fake{}, dir)
	many := []uint32{group} // more than fit at the first try
	for gid := range uint32(100) {
		many = append(many, 60000+gid)
	}
	for name, tt := range map[string]struct {
		groups []uint32
		want   string
	}{
		"in the group": {[]uint32{7, group}, "200"}, "in a hundred": {many, "200"}, "in another": {[]uint32{7}, ""}, "in none": {[]uint32{}, ""},
	} {
		ask := exec.CommandContext(t.Context(), "curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "--unix-socket", path, "-d", "{}", "http://acmed/v1/status")
		ask.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534, Groups: tt.groups}}
		out, err := ask.Output()
		if got := strings.TrimSpace(string(out)); tt.want != "" && (err != nil || got != tt.want) || tt.want == "" && got != "000" && got != fmt.Sprint(http.StatusForbidden) {
			t.Errorf("%s: %q, %v, want %q", name, out, err, tt.want)
		}
	}
}
