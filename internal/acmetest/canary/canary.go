// Package canary lets tests say what came out of the programs that they ran and which secrets these knew, so that a look at
// everything after the whole test run can show that no secret is in it. Without the environment variable it does nothing.
// It is for tests only.
package canary

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Variable is the environment variable with the directory for outputs and secrets.
const Variable = "ACMED_TEST_OUTPUT"

// pemKey begins the line that every private key in PEM form begins with, of whatever kind.
const pemKey = "PRIVATE KEY-----\n"

// shortest is the length below which a text is no secret: it would be found by chance.
const shortest = 16

// Heard adds what came out of a program: a log, an answer, a page.
func Heard(text string) error { return add("heard-*.out", text) }

// Secret adds a secret that must not be in any output.
func Secret(text string) error {
	if len(text) < shortest {
		return fmt.Errorf("a secret of %d bytes would be found by chance", len(text))
	}
	return add("secret-*", text)
}

// add writes a file of its own, because tests run at the same time in several processes.
func add(pattern, text string) error {
	dir := os.Getenv(Variable)
	if dir == "" || text == "" {
		return nil
	}
	f, err := os.CreateTemp(dir, pattern)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}

// Keys adds every private key in the files below a directory.
func Keys(dir string) error {
	if os.Getenv(Variable) == "" {
		return nil
	}
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) { // nothing was stored, or it is gone meanwhile
			return nil
		}
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for rest, more := string(text), true; more; {
			if _, rest, more = strings.Cut(rest, "BEGIN PRIVATE "+"KEY-----\n"); more && strings.Contains(rest, "\n") {
				line, _, _ := strings.Cut(rest, "\n")
				err = errors.Join(err, Secret(line))
			}
		}
		return err
	})
}

// Secrets returns those that tests named, each once.
func Secrets(dir string) (list []string, err error) {
	files, err := filepath.Glob(filepath.Join(dir, "secret-*"))
	if err != nil {
		return nil, err
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		list = append(list, string(text))
	}
	slices.Sort(list)
	return slices.Compact(list), nil
}

// Find returns the lines of a text that hold a secret or begin a private key, without the secret.
func Find(text string, secrets []string) (hits []string) {
	for _, secret := range secrets {
		if before, after, found := strings.Cut(text, secret); found {
			hits = append(hits, around(before, after))
		}
	}
	if before, _, found := strings.Cut(text, "BEGIN "+pemKey); found {
		hits = append(hits, around(before, ""))
	}
	for _, kind := range []string{"EC ", "RSA ", "ENCRYPTED "} {
		if before, _, found := strings.Cut(text, "BEGIN "+kind+pemKey); found {
			hits = append(hits, around(before, ""))
		}
	}
	return hits
}

// around is the rest of the line at which a secret was found.
func around(before, after string) string {
	before = before[strings.LastIndexByte(before, '\n')+1:]
	after, _, _ = strings.Cut(after, "\n")
	return fmt.Sprintf("%q, a secret, %q", tail(before, 120), after[:min(len(after), 40)])
}

func tail(text string, n int) string { return text[max(0, len(text)-n):] }
