// Command canary runs tests and looks for secrets in all that came out of them. It keeps the whole output of the tests,
// also of those that pass, and the arguments of every process that they start; tests add the logs and answers of the
// programs that they run, and say which secrets they used (package canary). At the end none of the secrets, and
// no private key in PEM form, may be in any of it.
//
//	canary [-optional] DIR go test -json [ARGUMENTS]
//
// Without a secret nothing is proved, which is an error, except with -optional: for tests that may all be skipped.
// It shows the result of each package, what failing tests printed, and which tests were skipped for what reason. DIR is emptied first.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/acmed/acmed/internal/acmetest/canary"
)

func main() {
	optional := flag.Bool("optional", false, "the tests need not name a secret")
	flag.Parse()
	if flag.NArg() < 2 {
		fmt.Fprintln(os.Stderr, "usage: canary [-optional] DIR COMMAND [ARGUMENTS]")
		os.Exit(2)
	}
	if err := run(flag.Arg(0), flag.Args()[1:], *optional); err != nil {
		fmt.Fprintln(os.Stderr, "canary:", err)
		os.Exit(1)
	}
}

func run(dir string, argv []string, optional bool) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	if err := errors.Join(os.RemoveAll(dir), os.MkdirAll(dir, 0o755)); err != nil {
		return err
	}
	output, err := os.Create(filepath.Join(dir, "tests.out"))
	if err != nil {
		return err
	}
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env, cmd.Stderr = append(os.Environ(), canary.Variable+"="+dir), os.Stderr
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	stop := watch(filepath.Join(dir, "argv.out"))
	showErr := show(pipe, output)
	testErr := cmd.Wait()
	argvErr := stop()
	return errors.Join(testErr, showErr, argvErr, output.Close(), search(dir, optional))
}

// event is one line of go test -json.
type event struct{ Action, Package, Test, Output string }

// show keeps all output and prints the results of packages, and what a failing test or package printed.
func show(from io.Reader, keep io.Writer) error {
	printed := map[[2]string]*strings.Builder{}
	lines := bufio.NewScanner(from)
	lines.Buffer(nil, 1<<26)
	for lines.Scan() {
		var e event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			e = event{Action: "output", Output: lines.Text() + "\n"} // of go itself
		}
		if _, err := io.WriteString(keep, e.Output); err != nil {
			return err
		}
		k := [2]string{e.Package, e.Test}
		switch {
		case e.Output != "" && (e.Test != "" || e.Action != "output"):
			if printed[k] == nil {
				printed[k] = &strings.Builder{}
			}
			printed[k].WriteString(e.Output)
		case e.Output != "" && e.Output != "PASS\n":
			fmt.Print(e.Output)
		case e.Action == "fail" && printed[k] != nil:
			fmt.Print(printed[k].String())
			delete(printed, k)
		case e.Action == "skip" && e.Test != "":
			fmt.Printf("skipped: %s %s: %s\n", e.Package, e.Test, reason(printed[k]))
			delete(printed, k)
		case e.Action == "pass" || e.Action == "skip":
			delete(printed, k)
		}
	}
	return lines.Err()
}

// reason is what a skipped test said, without the lines of go test around it.
func reason(printed *strings.Builder) string {
	if printed == nil {
		return ""
	}
	var said []string
	for line := range strings.Lines(printed.String()) {
		if !strings.HasPrefix(line, "=== ") && !strings.Contains(line, "--- SKIP") {
			said = append(said, strings.TrimSpace(line))
		}
	}
	return strings.Join(said, " ")
}

// search looks for every secret in every file.
func search(dir string, optional bool) error {
	secrets, err := canary.Secrets(dir)
	if err != nil {
		return err
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.out"))
	if err != nil {
		return err
	}
	var found []error
	size := 0
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		size += len(text)
		for _, hit := range canary.Find(string(text), secrets) {
			found = append(found, fmt.Errorf("%s: %s", file, hit))
		}
	}
	fmt.Printf("canary: %d secrets looked for in %d files, %d KiB: %d found\n", len(secrets), len(files), size/1024, len(found))
	if len(secrets) == 0 && !optional {
		found = append(found, errors.New("no test named a secret, so nothing is proved"))
	}
	return errors.Join(found...)
}
