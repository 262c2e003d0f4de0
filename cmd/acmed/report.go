package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/acmed/acmed/cmd/acmed/internal/control"
	"github.com/acmed/acmed/internal/atomicfile"
	"github.com/acmed/acmed/pkg/config"
	"github.com/acmed/acmed/pkg/installers"
)

func newReport(a *app) *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "report",
		Short: "Write one redacted file for a bug report",
		Long: `Collect what a bug report needs in one text file: versions, the configuration, the status, the files in the state
directory with their modes, the service and the last lines of its log. The file has mode 0600.

Private keys and secret files are not read. Comments, email addresses, credentials and the query part of URLs are removed.
Read the file before you send it: it has the names of your certificates.`,
		Example: `  acmed report
  acmed report --file - | less`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			text := a.report(cmd.Context(), time.Now())
			if file == "-" {
				_, err := a.out.Write(text)
				return err
			}
			if file == "" {
				file = "acmed-report-" + time.Now().UTC().Format("20060102T150405Z") + ".txt"
			}
			if err := atomicfile.Write(file, text, 0o600); err != nil {
				return err
			}
			a.printf("%s: read it before you send it\n", file)
			return nil
		},
	}
	cmd.Flags().StringVar(&file, "file", "", "`path` to write to, - for standard output (default acmed-report-TIME.txt here)")
	return cmd
}

// report collects the parts. A part that cannot be had is replaced by the reason.
func (a *app) report(ctx context.Context, now time.Time) []byte {
	var b bytes.Buffer
	part := func(title string, text []byte, err error) {
		fmt.Fprintf(&b, "== %s\n", title)
		if err != nil {
			fmt.Fprintf(&b, "(%s)\n", redact(err.Error()))
		}
		fmt.Fprintf(&b, "%s\n", strings.TrimRight(redact(string(text)), "\n"))
	}
	part("acmed report", fmt.Appendf(nil, "%s\nacmed %s, %s, %s/%s, %d CPUs, user %d\n",
		stamp(now), version, runtime.Version(), runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), os.Geteuid()), nil)
	release, err := os.ReadFile("/etc/os-release")
	part("system", release, err)
	files, err := config.Files(a.config)
	for _, f := range files {
		part("configuration "+f.Path, withoutComments(f.Text), nil)
	}
	part("configuration", nil, err)
	c, _, err := config.Load(a.config, config.Lenient)
	part("configuration problems", nil, err)
	status, err := a.statusJSON(ctx)
	part("status", status, err)
	if c != nil {
		part("state directory "+c.StateDir, listFiles(c.StateDir), nil)
	}
	for _, argv := range [][]string{
		{"/usr/bin/systemctl", "--no-pager", "status", "acmed", "acmed-single", "acmed-installd.socket"},
		{"/usr/bin/journalctl", "--no-pager", "-u", "acmed*", "-n", "300", "-o", "short-iso"},
	} {
		out, err := installers.Command{Argv: argv, WithStderr: true, Timeout: 20 * time.Second}.Run(ctx)
		var failed *installers.CommandError
		if errors.As(err, &failed) && failed.ExitCode > 0 { // systemctl tells by it that a unit is not active
			err = nil
		}
		part(strings.Join(argv, " "), out, err)
	}
	return b.Bytes()
}

func (a *app) statusJSON(ctx context.Context) ([]byte, error) {
	b, done, err := a.reader(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	s, err := b.Status(ctx, control.StatusRequest{})
	if err != nil {
		return nil, err
	}
	return json.MarshalIndent(s, "", "  ")
}

// listFiles lists a directory tree with modes, owners and sizes. Nothing is read.
func listFiles(dir string) []byte {
	const most = 5000
	var b bytes.Buffer
	n := 0
	err := filepath.WalkDir(dir, func(name string, d os.DirEntry, err error) error {
		if n++; n > most {
			return io.EOF
		}
		if err != nil {
			fmt.Fprintf(&b, "%s: %v\n", name, err)
			return nil
		}
		info, err := d.Info()
		if err != nil {
			fmt.Fprintf(&b, "%s: %v\n", name, err)
			return nil
		}
		fmt.Fprintf(&b, "%s %d %8d %s %s\n", info.Mode(), atomicfile.Owner(info), info.Size(), info.ModTime().UTC().Format(time.RFC3339), name)
		return nil
	})
	if errors.Is(err, io.EOF) {
		fmt.Fprintf(&b, "only the first %d files are listed\n", most)
	}
	return b.Bytes()
}

var (
	comment     = regexp.MustCompile(`(^|\s)#.*$`)
	privateKey  = regexp.MustCompile(`(?s)-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(-----END [A-Z ]*PRIVATE KEY-----|$)`)
	email       = regexp.MustCompile(`[A-Za-z0-9._%+-]+@[A-Za-z0-9.-]+\.[A-Za-z]{2,}`)
	userinfo    = regexp.MustCompile(`(://)[^/\s"'@]+@`)
	query       = regexp.MustCompile(`(https?://[^\s"'?]+)\?[^\s"']+`)
	authHeader  = regexp.MustCompile(`(?i)(authorization:\s*).*`)
	credentials = regexp.MustCompile(`(?i)(\b[\w-]*(?:token|secret|password|passwd|hmac|api_?key|api_?id|kid|credential)[\w-]*"?\s*[:=]\s*)("[^"]*"|'[^']*'|[^\s,}]+)`)
	filePath    = regexp.MustCompile(`^["']?(/|\$\{)`)
)

// withoutComments removes what YAML takes for a comment.
func withoutComments(text []byte) []byte {
	lines := strings.Split(string(text), "\n")
	for i := range lines {
		lines[i] = comment.ReplaceAllString(lines[i], "")
	}
	return []byte(strings.Join(lines, "\n"))
}

// redact removes what identifies people or gives access. Names of files stay, because they tell where secrets are and not
// what they are.
func redact(text string) string {
	text = privateKey.ReplaceAllString(text, "<redacted key>")
	text = authHeader.ReplaceAllString(text, "${1}<redacted>")
	text = credentials.ReplaceAllStringFunc(text, func(match string) string {
		m := credentials.FindStringSubmatch(match)
		if filePath.MatchString(m[2]) {
			return match
		}
		return m[1] + "<redacted>"
	})
	text = userinfo.ReplaceAllString(text, "${1}<redacted>@")
	text = query.ReplaceAllString(text, "${1}?<redacted>")
	return email.ReplaceAllString(text, "<email>")
}
