package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/version"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// database is the module that has the entries of the Go vulnerability database as files, for where the database itself
// cannot be reached. Its pinned version is the snapshot that every change is checked against, so that the same change always
// gets the same answer; NEWEST=1 asks for the newest entries.
const (
	database = "golang.org/x/vulndb"
	pinned   = "v0.0.0-20261105234957-e22db6528018"
)

// finding is one of govulncheck's, at the depth that was asked for.
type finding struct {
	OSV   string `json:"osv"`
	Fixed string `json:"fixed_version"`
	Trace []struct {
		Module   string `json:"module"`
		Version  string `json:"version"`
		Package  string `json:"package"`
		Function string `json:"function"`
	} `json:"trace"`
}

// vulnerabilities fails if a program in one of dirs uses something with a known vulnerability. Those of Go's own library
// that the version for releases fixes are only printed. It passes, and says so, if no database can be reached.
func vulnerabilities(govulncheck, release string, dirs []string) error {
	govulncheck, err := filepath.Abs(govulncheck)
	if err != nil {
		return err
	}
	db, err := chooseDatabase(govulncheck)
	if err != nil {
		fmt.Println("vulnerabilities: NOT CHECKED, neither the database nor its module can be reached:", err)
		return nil
	}
	fmt.Println("vulnerabilities: checked against", db)
	var errs []error
	for _, dir := range dirs {
		found, err := scan(govulncheck, db, dir, "package")
		if err == nil && len(serious(found, release, false)) > 0 {
			found, err = scan(govulncheck, db, dir, "symbol") // slower, and leaves out what is never called
		}
		errs = append(errs, err)
		bad := serious(found, release, true)
		for _, f := range bad {
			at := f.Trace[0]
			errs = append(errs, fmt.Errorf("%s: %s in %s %s %s, fixed in %s", dir, f.OSV, at.Module, at.Version, at.Package, f.Fixed))
		}
	}
	return errors.Join(errs...)
}

// chooseDatabase returns the address of the database for govulncheck: itself, or files of its module.
func chooseDatabase(govulncheck string) (string, error) {
	empty, err := os.MkdirTemp("", "supply")
	if err != nil {
		return "", err
	}
	defer func() { _ = os.RemoveAll(empty) }()
	text := "package main\n\nfunc main() {}\n"
	if err := errors.Join(os.WriteFile(filepath.Join(empty, "main.go"), []byte(text), 0o600),
		os.WriteFile(filepath.Join(empty, "go.mod"), []byte("module example.com/empty\n"), 0o600)); err != nil {
		return "", err
	}
	versions := []string{pinned}
	if os.Getenv("NEWEST") != "" {
		const live = "https://vuln.go.dev"
		if _, err = scan(govulncheck, live, empty, "module"); err == nil {
			return live, nil
		}
		versions = []string{"latest", pinned}
	}
	for _, at := range versions {
		cmd := exec.Command("go", "mod", "download", "-json", database+"@"+at)
		cmd.Dir = empty
		var answer struct{ Dir, Version, Error string }
		out, failed := cmd.Output()
		if err := json.Unmarshal(out, &answer); failed == nil && err == nil && answer.Dir != "" {
			fmt.Println("vulnerabilities: the snapshot", answer.Version, "of the database is used")
			return "file://" + answer.Dir + "/data/osv", nil
		}
		err = errors.Join(err, errors.New(answer.Error))
	}
	return "", err
}

func scan(govulncheck, db, dir, depth string) ([]finding, error) {
	cmd := exec.Command(govulncheck, "-db", db, "-format", "json", "-scan", depth, ".")
	if depth == "module" {
		cmd.Args = cmd.Args[:len(cmd.Args)-1]
	}
	var errText bytes.Buffer
	cmd.Dir, cmd.Stderr = dir, &errText
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("govulncheck in %s: %w: %s", dir, err, errText.String())
	}
	return findings(out, depth)
}

func findings(out []byte, depth string) (list []finding, err error) {
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var message struct{ Finding *finding }
		if err := dec.Decode(&message); errors.Is(err, io.EOF) {
			return list, nil
		} else if err != nil {
			return nil, err
		}
		f := message.Finding
		if f == nil || len(f.Trace) == 0 || depth == "package" && f.Trace[0].Package == "" || depth == "symbol" && f.Trace[0].Function == "" {
			continue // of a module or a package of which nothing is used
		}
		list = append(list, *f)
	}
}

// serious leaves out what the version of Go for releases fixes, and names each entry once.
func serious(list []finding, release string, say bool) (bad []finding) {
	seen := map[string]bool{}
	for _, f := range list {
		if seen[f.OSV] {
			continue
		}
		seen[f.OSV] = true
		fixed := f.Fixed != "" && version.Compare("go"+strings.TrimPrefix(f.Fixed, "v"), release) <= 0
		if f.Trace[0].Module != "stdlib" || !fixed {
			bad = append(bad, f)
		} else if say {
			fmt.Printf("vulnerabilities: %s in %s of %s is fixed in %s; releases are built with %s\n", f.OSV, f.Trace[0].Package, f.Trace[0].Version, f.Fixed, release)
		}
	}
	return bad
}
