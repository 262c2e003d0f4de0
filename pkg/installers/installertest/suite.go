package installertest

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/installers"
)

// Step is a part of Install that a fixture can make fail.
type Step string

// The steps. A plugin without one of them leaves it out of [Fixture.Break], and its check is skipped.
const (
	TestBefore Step = "test before" // the server's own test fails whatever the files are
	TestAfter  Step = "test after"  // the server's own test passes on the original files and fails on the new ones
	Reload     Step = "reload"      // the reload fails
	Probe      Step = "probe"       // the reload succeeds, and the endpoint goes on serving something else
)

// Fixture is one freshly made target with the server behind it. Nothing is installed yet.
type Fixture struct {
	Installer installers.Installer
	Names     []string            // for which the suite makes bundles
	Root      string              // everything that Install may change is below this directory
	State     string              // where the journal is; scanned for keys that others can read
	Publish   func(*certs.Bundle) // makes a bundle the active one before Install, as the store does; may be nil
	Reloads   func() int          // how often the server was reloaded; may be nil
	Break     map[Step]func(broken bool)
	Comment   string // a line that an operator can add to an installed file without harm; "" skips that check
}

// Run checks everything that the contract of an installer promises. The function makes a new fixture for each check.
func Run(t *testing.T, newFixture func(t *testing.T) Fixture) {
	t.Helper()
	checks := []struct {
		name  string
		check func(t *testing.T, f *Fixture)
	}{
		{"install then verify", installVerify},
		{"verify before install", verifyBefore},
		{"install twice", installTwice},
		{"renewal", renewal},
		{"broken server", brokenServer},
		{"failing test", func(t *testing.T, f *Fixture) { failingStep(t, f, TestAfter) }},
		{"failing reload", func(t *testing.T, f *Fixture) { failingStep(t, f, Reload) }},
		{"failing probe", func(t *testing.T, f *Fixture) { failingStep(t, f, Probe) }},
		{"failing renewal", failingRenewal},
		{"cancelled", cancelled},
		{"concurrent", concurrent},
		{"preview", preview},
		{"uninstall", uninstall},
		{"uninstall after an edit", uninstallEdited},
	}
	for _, c := range checks {
		t.Run(c.name, func(t *testing.T) {
			f := newFixture(t)
			c.check(t, &f)
		})
	}
}

func (f *Fixture) bundle(t *testing.T) *certs.Bundle {
	t.Helper()
	return Bundle(t, f.Names...)
}

// install publishes and installs, and checks what every outcome must keep to.
func (f *Fixture) install(ctx context.Context, t *testing.T, b *certs.Bundle) error {
	t.Helper()
	if f.Publish != nil {
		f.Publish(b)
	}
	err := f.Installer.Install(ctx, b)
	f.noKeys(t, b, err)
	return err
}

func (f *Fixture) mustInstall(t *testing.T, b *certs.Bundle) {
	t.Helper()
	if err := f.install(t.Context(), t, b); err != nil {
		t.Fatalf("Install: %v", err)
	}
}

func (f *Fixture) mustServe(t *testing.T, b *certs.Bundle) {
	t.Helper()
	if err := f.Installer.Verify(t.Context(), b); err != nil {
		t.Fatalf("Verify: %v", err)
	}
}

// noKeys checks that no error shows a private key and that nobody else can read a file with one.
func (f *Fixture) noKeys(t *testing.T, b *certs.Bundle, err error) {
	t.Helper()
	lines := keyLines(t, b)
	if err != nil {
		for _, line := range lines {
			if strings.Contains(err.Error(), line) {
				t.Errorf("the error shows a private key")
			}
		}
	}
	for _, dir := range []string{f.Root, f.State} {
		for path, file := range snapshot(t, dir) {
			if file.Mode.Perm()&0o007 == 0 {
				continue
			}
			for _, line := range lines {
				if bytes.Contains(file.content, []byte(line)) {
					t.Errorf("others can read the private key in %s (mode %v)", path, file.Mode)
				}
			}
		}
	}
}

func (f *Fixture) reloads() int {
	if f.Reloads == nil {
		return 0
	}
	return f.Reloads()
}

func (f *Fixture) breaking(t *testing.T, step Step) (repair func()) {
	t.Helper()
	set := f.Break[step]
	if set == nil {
		t.Skipf("this target has no %q to break", step)
	}
	set(true)
	return func() { set(false) }
}

func unchanged(t *testing.T, before, after tree, what string) {
	t.Helper()
	if d := cmp.Diff(before, after, compareTrees()...); d != "" {
		t.Errorf("%s (-before +after):\n%s", what, d)
	}
}

func installVerify(t *testing.T, f *Fixture) {
	b := f.bundle(t)
	f.mustInstall(t, b)
	f.mustServe(t, b)
}

func verifyBefore(t *testing.T, f *Fixture) {
	b := f.bundle(t)
	if f.Publish != nil {
		f.Publish(b)
	}
	before, reloads := exact(t, f.Root), f.reloads()
	err := f.Installer.Verify(t.Context(), b)
	if err == nil {
		t.Error("Verify returned nil before anything was installed")
	}
	f.noKeys(t, b, err)
	unchanged(t, before, exact(t, f.Root), "Verify changed something")
	if n := f.reloads() - reloads; n != 0 {
		t.Errorf("Verify reloaded the server %d times", n)
	}
}

func installTwice(t *testing.T, f *Fixture) {
	b := f.bundle(t)
	f.mustInstall(t, b)
	before := exact(t, f.Root)
	f.mustInstall(t, b)
	unchanged(t, before, exact(t, f.Root), "a second Install of the same bundle wrote something")
	f.mustServe(t, b)
	unchanged(t, before, exact(t, f.Root), "Verify changed something")
}

func renewal(t *testing.T, f *Fixture) {
	first, second := f.bundle(t), f.bundle(t)
	f.mustInstall(t, first)
	f.mustInstall(t, second)
	f.mustServe(t, second)
	if err := f.Installer.Verify(t.Context(), first); err == nil {
		t.Error("Verify still accepts the bundle that was replaced")
	}
}

func brokenServer(t *testing.T, f *Fixture) {
	repair := f.breaking(t, TestBefore)
	before, reloads := exact(t, f.Root), f.reloads()
	b := f.bundle(t)
	err := f.install(t.Context(), t, b)
	var broken *installers.BrokenServerError
	if !errors.As(err, &broken) {
		t.Errorf("Install on a server whose own test fails returned %v, want a BrokenServerError", err)
	}
	unchanged(t, before, exact(t, f.Root), "a broken server was edited")
	if n := f.reloads() - reloads; n != 0 {
		t.Errorf("a broken server was reloaded %d times", n)
	}
	repair()
	f.mustInstall(t, b)
	f.mustServe(t, b)
}

// failingStep checks that the first Install is undone, and works once the cause is gone.
func failingStep(t *testing.T, f *Fixture, step Step) {
	repair := f.breaking(t, step)
	before, reloads := snapshot(t, f.Root), f.reloads()
	b := f.bundle(t)
	if err := f.install(t.Context(), t, b); err == nil {
		t.Fatalf("Install returned nil with a failing %s", step)
	}
	unchanged(t, before, snapshot(t, f.Root), "the failed Install was not undone")
	if n := f.reloads() - reloads; step == TestAfter && n != 0 {
		t.Errorf("the server was reloaded %d times although its test failed", n)
	}
	repair()
	f.mustInstall(t, b)
	f.mustServe(t, b)
}

// failingRenewal checks that a second bundle that cannot be installed leaves the files of the first.
func failingRenewal(t *testing.T, f *Fixture) {
	f.mustInstall(t, f.bundle(t))
	repair := f.breaking(t, Reload)
	before := snapshot(t, f.Root)
	b := f.bundle(t)
	if err := f.install(t.Context(), t, b); err == nil {
		t.Fatal("Install returned nil with a failing reload")
	}
	unchanged(t, before, snapshot(t, f.Root), "the failed renewal was not undone")
	repair()
	f.mustInstall(t, b)
	f.mustServe(t, b)
}

func cancelled(t *testing.T, f *Fixture) {
	ctx, cancel := context.WithCancelCause(t.Context())
	stop := errors.New("the daemon is shutting down")
	cancel(stop)
	before, reloads := exact(t, f.Root), f.reloads()
	err := f.install(ctx, t, f.bundle(t))
	if !errors.Is(err, stop) && !errors.Is(err, context.Canceled) {
		t.Errorf("Install with a cancelled context returned %v", err)
	}
	unchanged(t, before, exact(t, f.Root), "Install with a cancelled context changed something")
	if n := f.reloads() - reloads; n != 0 {
		t.Errorf("Install with a cancelled context reloaded the server %d times", n)
	}
}

func concurrent(t *testing.T, f *Fixture) {
	before := snapshot(t, f.Root)
	b := f.bundle(t)
	if f.Publish != nil {
		f.Publish(b)
	}
	var wg sync.WaitGroup
	for range 6 {
		wg.Go(func() {
			if err := f.Installer.Install(t.Context(), b); err != nil {
				t.Errorf("Install beside others: %v", err)
			}
		})
	}
	wg.Wait()
	f.mustServe(t, b)
	if u, ok := f.Installer.(installers.Uninstaller); ok {
		if err := u.Uninstall(t.Context()); err != nil {
			t.Fatalf("Uninstall: %v", err)
		}
		unchanged(t, before, snapshot(t, f.Root), "Uninstall after concurrent installs left something")
	}
}

func preview(t *testing.T, f *Fixture) {
	p, ok := f.Installer.(installers.Previewer)
	if !ok {
		t.Skip("this plugin has no preview")
	}
	b := f.bundle(t)
	if f.Publish != nil {
		f.Publish(b)
	}
	before := exact(t, f.Root)
	text, err := p.Preview(t.Context(), b)
	if err != nil {
		t.Fatalf("Preview: %v", err)
	}
	f.noKeys(t, b, errors.New(text))
	unchanged(t, before, exact(t, f.Root), "Preview changed something")
	f.mustInstall(t, b)
	if changed := cmp.Diff(before, exact(t, f.Root), compareTrees()...) != ""; changed != (text != "") {
		t.Errorf("Install changed files: %v, and Preview announced %q", changed, text)
	}
	if text, err = p.Preview(t.Context(), b); err != nil || text != "" {
		t.Errorf("Preview after Install = %q, %v, want nothing", text, err)
	}
}

func uninstall(t *testing.T, f *Fixture) {
	u, ok := f.Installer.(installers.Uninstaller)
	if !ok {
		t.Skip("this plugin does not uninstall")
	}
	before := snapshot(t, f.Root)
	if err := u.Uninstall(t.Context()); err != nil {
		t.Errorf("Uninstall before Install: %v", err)
	}
	for range 3 {
		f.mustInstall(t, f.bundle(t))
	}
	for range 2 {
		if err := u.Uninstall(t.Context()); err != nil {
			t.Fatalf("Uninstall: %v", err)
		}
		unchanged(t, before, snapshot(t, f.Root), "Uninstall did not give back the original")
	}
	b := f.bundle(t)
	f.mustInstall(t, b)
	f.mustServe(t, b)
}

// uninstallEdited checks that what an operator added later survives Uninstall, whether it succeeds or refuses.
func uninstallEdited(t *testing.T, f *Fixture) {
	u, ok := f.Installer.(installers.Uninstaller)
	if !ok || f.Comment == "" {
		t.Skip("this plugin does not uninstall, or its files have no comments")
	}
	before := snapshot(t, f.Root)
	f.mustInstall(t, f.bundle(t))
	edited := ""
	for path, file := range snapshot(t, f.Root) {
		if old, existed := before[path]; existed && old.Hash == file.Hash || !file.Mode.IsRegular() {
			continue
		}
		edited = path
		appendLine(t, path, f.Comment)
		break
	}
	if edited == "" {
		t.Skip("Install changes no file")
	}
	err := u.Uninstall(t.Context())
	if now := snapshot(t, f.Root)[edited]; !bytes.Contains(now.content, []byte(f.Comment)) {
		t.Errorf("Uninstall took away what the operator added to %s", edited)
	}
	if err != nil && !strings.Contains(err.Error(), edited) {
		t.Errorf("Uninstall refused without naming %s: %v", edited, err)
	}
}
