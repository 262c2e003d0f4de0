package http01_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/acmed/acmed/internal/acmetest"
	"github.com/acmed/acmed/pkg/challenges/http01"
	"github.com/google/go-cmp/cmp"
)

// tree lists what is below dir, with the target of links.
func tree(t *testing.T, dir string) []string {
	t.Helper()
	var list []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if target, lerr := os.Readlink(path); lerr == nil {
			rel += " -> " + filepath.Base(target)
		}
		list = append(list, rel)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(list)
	return list
}

func mkdir(t *testing.T, parts ...string) string {
	t.Helper()
	dir := filepath.Join(parts...)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestWebrootLeavesNothingBehind(t *testing.T) {
	old := syscall.Umask(0o077)
	defer syscall.Umask(old)
	for _, existing := range []string{"", ".well-known", ".well-known/acme-challenge", ".well-known/other"} {
		t.Run("with "+existing, func(t *testing.T) {
			dir := t.TempDir()
			mkdir(t, dir, existing)
			before := tree(t, dir)
			w := http01.NewWebroot(http01.WebrootConfig{Dir: dir}, nil)
			c, other := challengeFor(token), challengeFor(strings.Repeat("b", 43))
			present(t, w, c)
			present(t, w, other)
			file := filepath.Join(dir, ".well-known/acme-challenge", token)
			if text, err := os.ReadFile(file); err != nil || string(text) != c.KeyAuth {
				t.Errorf("the file holds %q, %v", text, err)
			}
			if info, err := os.Stat(file); err != nil || info.Mode() != 0o644 {
				t.Errorf("the file has mode %v, %v", info.Mode(), err)
			}
			if info, err := os.Stat(filepath.Dir(file)); err != nil || existing == "" && info.Mode().Perm() != 0o755 {
				t.Errorf("the directory has mode %v, %v", info.Mode(), err)
			}
			cleanUp(t, w, c)
			if _, err := os.Stat(filepath.Join(filepath.Dir(file), other.Token)); err != nil {
				t.Errorf("the other token went too: %v", err)
			}
			cleanUp(t, w, other)
			cleanUp(t, w, other)
			if diff := cmp.Diff(before, tree(t, dir)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestWebrootSharedToken(t *testing.T) {
	dir := t.TempDir()
	w := http01.NewWebroot(http01.WebrootConfig{Dir: dir}, nil)
	present(t, w, challengeFor(token))
	present(t, w, challengeFor(token))
	cleanUp(t, w, challengeFor(token))
	if _, err := os.Stat(filepath.Join(dir, ".well-known/acme-challenge", token)); err != nil {
		t.Errorf("gone while one order still needs it: %v", err)
	}
	cleanUp(t, w, challengeFor(token))
	if left := tree(t, dir); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

func TestWebrootKeepsWhatOthersPutThere(t *testing.T) {
	dir := t.TempDir()
	w := http01.NewWebroot(http01.WebrootConfig{Dir: dir}, nil)
	present(t, w, challengeFor(token))
	challengeDir := filepath.Join(dir, ".well-known/acme-challenge")
	write(t, filepath.Join(challengeDir, "theirs"), "x")
	write(t, filepath.Join(challengeDir, token), "changed meanwhile")
	cleanUp(t, w, challengeFor(token))
	want := []string{".well-known", ".well-known/acme-challenge", ".well-known/acme-challenge/" + token, ".well-known/acme-challenge/theirs"}
	if diff := cmp.Diff(want, tree(t, dir)); diff != "" {
		t.Error(diff)
	}
}

func TestWebrootAfterACrash(t *testing.T) {
	dir := t.TempDir()
	present(t, http01.NewWebroot(http01.WebrootConfig{Dir: dir}, nil), challengeFor(token))
	w := http01.NewWebroot(http01.WebrootConfig{Dir: dir}, nil)
	present(t, w, challengeFor(token))
	cleanUp(t, w, challengeFor(token))
	if diff := cmp.Diff([]string{".well-known", ".well-known/acme-challenge"}, tree(t, dir)); diff != "" {
		t.Error(diff)
	}
}

func TestWebrootFollowsNoLinks(t *testing.T) {
	for _, tc := range []struct {
		name  string
		setUp func(t *testing.T, dir, victim string)
	}{
		{".well-known leads out", func(t *testing.T, dir, victim string) {
			link(t, filepath.Dir(victim), filepath.Join(dir, ".well-known"))
		}},
		{".well-known leads elsewhere inside", func(t *testing.T, dir, _ string) {
			mkdir(t, dir, "inside")
			link(t, "inside", filepath.Join(dir, ".well-known"))
		}},
		{"acme-challenge leads out", func(t *testing.T, dir, victim string) {
			link(t, filepath.Dir(victim), filepath.Join(mkdir(t, dir, ".well-known"), "acme-challenge"))
		}},
		{"acme-challenge leads elsewhere inside", func(t *testing.T, dir, _ string) {
			mkdir(t, dir, "inside")
			link(t, "../inside", filepath.Join(mkdir(t, dir, ".well-known"), "acme-challenge"))
		}},
		{"the token's file is a link", func(t *testing.T, dir, victim string) {
			link(t, victim, filepath.Join(mkdir(t, dir, ".well-known/acme-challenge"), token))
		}},
		{"the token's file is a dangling link", func(t *testing.T, dir, victim string) {
			link(t, victim+"-new", filepath.Join(mkdir(t, dir, ".well-known/acme-challenge"), token))
		}},
		{"the token's file exists", func(t *testing.T, dir, _ string) {
			write(t, filepath.Join(mkdir(t, dir, ".well-known/acme-challenge"), token), "theirs")
		}},
		{"the token's file is a pipe", func(t *testing.T, dir, _ string) {
			if err := syscall.Mkfifo(filepath.Join(mkdir(t, dir, ".well-known/acme-challenge"), token), 0o600); err != nil {
				t.Fatal(err)
			}
		}},
		{".well-known is a file", func(t *testing.T, dir, _ string) { write(t, filepath.Join(dir, ".well-known"), "theirs") }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir, outside := t.TempDir(), t.TempDir()
			victim := filepath.Join(outside, "shadow")
			write(t, victim, "root:x")
			tc.setUp(t, dir, victim)
			before := tree(t, dir)
			w := http01.NewWebroot(http01.WebrootConfig{Dir: dir}, nil)
			if err := w.Present(t.Context(), challengeFor(token)); err == nil {
				t.Error("no error")
			} else if !strings.Contains(err.Error(), dir) && !errors.Is(err, fs.ErrExist) {
				t.Errorf("message %q", err)
			}
			cleanUp(t, w, challengeFor(token))
			if diff := cmp.Diff(before, tree(t, dir)); diff != "" {
				t.Error(diff)
			}
			if text, err := os.ReadFile(victim); string(text) != "root:x" || err != nil {
				t.Errorf("the victim holds %q, %v", text, err)
			}
			if diff := cmp.Diff([]string{"shadow"}, tree(t, outside)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// A link in the path of the webroot is followed when its maker could write to what it leads to anyway.
func TestWebrootBehindALink(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("making links of other users needs root")
	}
	const alice, bob = 4711, 4712
	for _, tc := range []struct {
		name           string
		linkOf, dirOf  int
		chain, refused bool
	}{
		{name: "of root", linkOf: 0, dirOf: alice},
		{name: "of the same user", linkOf: alice, dirOf: alice},
		{name: "of a user, to root's", linkOf: alice, dirOf: 0, refused: true},
		{name: "of a user, to another's", linkOf: alice, dirOf: bob, refused: true},
		{name: "of a user, to a link of root, to root's", linkOf: alice, dirOf: 0, chain: true, refused: true},
	} {
		for _, exact := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, exact %v", tc.name, exact), func(t *testing.T) {
				dir := t.TempDir()
				target := mkdir(t, dir, "target/htdocs")
				linked := filepath.Join(dir, "site")
				link(t, "target", linked)
				if tc.chain {
					link(t, "site", filepath.Join(dir, "second"))
					linked = filepath.Join(dir, "second")
				}
				for path, owner := range map[string]int{linked: tc.linkOf, filepath.Join(dir, "target"): tc.dirOf} {
					if err := os.Lchown(path, owner, owner); err != nil {
						t.Fatal(err)
					}
				}
				w := http01.NewWebroot(http01.WebrootConfig{Dir: filepath.Join(linked, "htdocs"), Exact: exact}, nil)
				err, ready := w.Present(t.Context(), challengeFor(token)), w.Ready()
				if (err != nil) != tc.refused || (ready != nil) != tc.refused {
					t.Errorf("%v, %v", err, ready)
				}
				if got := tree(t, target); tc.refused && len(got) != 0 {
					t.Errorf("written: %q", got)
				}
				cleanUp(t, w, challengeFor(token))
				if got := tree(t, target); len(got) != 0 {
					t.Errorf("left: %q", got)
				}
			})
		}
	}
}

func TestFollowLinks(t *testing.T) {
	dir, other := t.TempDir(), t.TempDir()
	link(t, other, filepath.Join(dir, ".well-known"))
	w := http01.NewWebroot(http01.WebrootConfig{Dir: dir, FollowLinks: true}, nil)
	present(t, w, challengeFor(token))
	if diff := cmp.Diff([]string{"acme-challenge", "acme-challenge/" + token}, tree(t, other)); diff != "" {
		t.Error(diff)
	}
	cleanUp(t, w, challengeFor(token))
	if got := tree(t, other); len(got) != 0 {
		t.Errorf("left: %q", got)
	}
	if os.Geteuid() != 0 {
		return
	}
	if err := os.Lchown(filepath.Join(dir, ".well-known"), 4711, 4711); err != nil {
		t.Fatal(err)
	}
	if err := w.Present(t.Context(), challengeFor(token)); err == nil || len(tree(t, other)) != 0 {
		t.Errorf("a link of somebody else was followed: %v", err)
	}
}

func TestChallengeDirectoryItself(t *testing.T) {
	dir := t.TempDir()
	for _, c := range []http01.WebrootConfig{
		{Dir: mkdir(t, dir, "srv/.well-known/acme-challenge")}, {Dir: mkdir(t, dir, "srv2/.well-known/acme-challenge") + "/"}, {Dir: mkdir(t, dir, "alias"), Exact: true},
	} {
		w := http01.NewWebroot(c, nil)
		present(t, w, challengeFor(token))
		if diff := cmp.Diff([]string{token}, tree(t, c.Dir)); diff != "" {
			t.Error(diff)
		}
		cleanUp(t, w, challengeFor(token))
		if got := tree(t, c.Dir); len(got) != 0 {
			t.Errorf("left: %q", got)
		}
	}
}

// What a killed process left is removed, what is in use or was changed since is not.
func TestTokensOfAKilledRun(t *testing.T) {
	dir, state := t.TempDir(), t.TempDir()
	list := filepath.Join(state, "http")
	config := http01.WebrootConfig{Dir: dir, Exact: true}
	mine, changed, live := strings.Repeat("a", 30), strings.Repeat("b", 30), strings.Repeat("c", 30)
	killed := http01.NewWebroot(config, http01.NewTokens(list))
	present(t, killed, challengeFor(mine))
	present(t, killed, challengeFor(changed))
	write(t, filepath.Join(dir, changed), "theirs")
	tokens := http01.NewTokens(list)
	w := http01.NewWebroot(config, tokens)
	present(t, w, challengeFor(live))
	for range 2 {
		if err := tokens.Recover(); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]string{changed, live}, tree(t, dir)); diff != "" {
			t.Error(diff)
		}
		if diff := cmp.Diff([]string{live + ".json"}, tree(t, list)); diff != "" {
			t.Error(diff)
		}
	}
	cleanUp(t, w, challengeFor(live))
	if got := tree(t, list); len(got) != 0 {
		t.Errorf("the list has %q", got)
	}
	if err := http01.NewTokens(filepath.Join(state, "none")).Recover(); err != nil {
		t.Error(err)
	}
}

func link(t *testing.T, target, path string) {
	t.Helper()
	if err := os.Symlink(target, path); err != nil {
		t.Fatal(err)
	}
}

func TestWebrootSwappedForALinkBeforeTheCleanUp(t *testing.T) {
	dir, outside := t.TempDir(), t.TempDir()
	victim := filepath.Join(outside, token)
	w := http01.NewWebroot(http01.WebrootConfig{Dir: dir}, nil)
	present(t, w, challengeFor(token))
	write(t, victim, challengeFor(token).KeyAuth)
	if err := os.RemoveAll(filepath.Join(dir, ".well-known/acme-challenge")); err != nil {
		t.Fatal(err)
	}
	link(t, outside, filepath.Join(dir, ".well-known/acme-challenge"))
	if err := w.CleanUp(t.Context(), challengeFor(token)); err == nil {
		t.Error("no error")
	}
	if _, err := os.Stat(victim); err != nil {
		t.Errorf("the victim was removed: %v", err)
	}
}

func TestWebrootThatIsMissing(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "gone")
	w := http01.NewWebroot(http01.WebrootConfig{Dir: dir}, nil)
	if err := w.Present(t.Context(), challengeFor(token)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("error %v", err)
	}
	mkdir(t, dir)
	present(t, w, challengeFor(token))
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	cleanUp(t, w, challengeFor(token))
	if err := w.Present(t.Context(), challengeFor("../../../../etc/cron.d/evil")); err == nil {
		t.Error("accepted a path for a token")
	}
}

func TestWebrootConcurrently(t *testing.T) {
	dir := t.TempDir()
	w := http01.NewWebroot(http01.WebrootConfig{Dir: dir}, nil)
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			for j := range 10 {
				c := challengeFor(fmt.Sprintf("certificate-%02d-authorization-%02d", i, j))
				if err := w.Present(t.Context(), c); err != nil {
					t.Error(err)
					return
				}
				text, err := os.ReadFile(filepath.Join(dir, ".well-known/acme-challenge", c.Token))
				if err != nil || string(text) != c.KeyAuth {
					t.Errorf("read %q, %v", text, err)
				}
				if err := w.CleanUp(t.Context(), c); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if left := tree(t, dir); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

// TestWebrootOfAnotherUser: the owner of a webroot puts links to a directory of root on every level, and at the webroot itself.
// The links are real ones of that user. Nothing is written or removed behind them.
func TestWebrootOfAnotherUser(t *testing.T) {
	theirs := acmetest.TheirDir(t)
	victim := filepath.Join(filepath.Dir(theirs), "victim")
	mkdir(t, victim, ".well-known/acme-challenge")
	write(t, filepath.Join(victim, token), challengeFor(token).KeyAuth)
	before := tree(t, victim)
	for _, plant := range []string{
		"mkdir site; ln -s ../../victim site/.well-known",
		"mkdir -p site/.well-known; ln -s ../../../victim site/.well-known/acme-challenge",
		"mkdir -p site/.well-known/acme-challenge; ln -s ../../../../victim/x site/.well-known/acme-challenge/" + token,
		"ln -s ../victim site",
	} {
		acmetest.AsNobody(t, theirs, plant)
		w := http01.NewWebroot(http01.WebrootConfig{Dir: filepath.Join(theirs, "site")}, nil)
		if err := w.Present(t.Context(), challengeFor(token)); err == nil {
			t.Errorf("%s: written", plant)
		}
		_ = w.CleanUp(t.Context(), challengeFor(token))
		if diff := cmp.Diff(before, tree(t, victim)); diff != "" {
			t.Errorf("%s: %s", plant, diff)
		}
		acmetest.AsNobody(t, theirs, "rm -rf site")
	}
}
