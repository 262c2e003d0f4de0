// Package manual makes manual pages of a command tree and of commented configuration files. "make man" uses it; acmed does
// not contain it.
package manual

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/acmed/acmed/internal/atomicfile"
)

// Write makes a page of section 1 in dir for root and every command below it, and one of section 5 for each of the files.
func Write(root *cobra.Command, version, dir string, files ...string) error {
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		name := filepath.Base(file)
		if err := atomicfile.Write(filepath.Join(dir, name+".5"), reference(name, version, string(text)), 0o644); err != nil {
			return err
		}
	}
	return writePages(root, version, dir)
}

// writePages writes the page of a command and those of the commands below it.
func writePages(cmd *cobra.Command, version, dir string) error {
	if err := atomicfile.Write(filepath.Join(dir, pageName(cmd)+".1"), page(cmd, version), 0o644); err != nil {
		return err
	}
	for _, sub := range documented(cmd) {
		if err := writePages(sub, version, dir); err != nil {
			return err
		}
	}
	return nil
}

// documented lists the commands below cmd that have a page. One for each shell's completion would be too many.
func documented(cmd *cobra.Command) []*cobra.Command {
	var list []*cobra.Command
	for _, sub := range cmd.Commands() {
		if sub.IsAvailableCommand() && !sub.IsAdditionalHelpTopicCommand() && cmd.Name() != "completion" {
			list = append(list, sub)
		}
	}
	return list
}

func pageName(cmd *cobra.Command) string { return strings.ReplaceAll(cmd.CommandPath(), " ", "-") }

// page is one manual page in the macros of man(7). It has no date, so that the same source gives the same page.
func page(cmd *cobra.Command, version string) []byte {
	var b strings.Builder
	out := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	out(`.TH "%s" "1" "" "acmed %s" "acmed manual"`, strings.ToUpper(roff(pageName(cmd))), roff(version))
	out(".SH NAME\n%s \\- %s", roff(pageName(cmd)), roff(cmd.Short))
	out(".SH SYNOPSIS\n.B %s", roff(cmd.UseLine()))
	out(".SH DESCRIPTION")
	text := cmd.Long
	if text == "" {
		text = cmd.Short + "."
	}
	b.WriteString(paragraphs(text))
	for i, sub := range documented(cmd) {
		if i == 0 {
			out(".SH COMMANDS")
		}
		out(".TP\n.BR %s (1)\n%s", roff(pageName(sub)), roff(sub.Short))
	}
	flags(out, "OPTIONS", cmd.NonInheritedFlags())
	flags(out, "GLOBAL OPTIONS", cmd.InheritedFlags())
	if cmd.Example != "" {
		out(".SH EXAMPLES\n.nf")
		for line := range strings.SplitSeq(cmd.Example, "\n") {
			out("%s", roff(strings.TrimPrefix(line, "  ")))
		}
		out(".fi")
	}
	if cmd.HasParent() {
		out(".SH SEE ALSO\n.BR acmed (1),\n.BR acmed.yaml (5)")
		return []byte(b.String())
	}
	terms(out, "EXIT STATUS", [][2]string{
		{"0", "everything is as it should be"},
		{"1", "the command failed"},
		{"2", "wrong usage, or a configuration with problems"},
		{"3", "some certificates failed or need attention"},
		{"4", "no permission, the state directory is locked, or the daemon is stopping"},
		{"75", "the CA takes no more requests for now; the time is on standard error"},
	})
	terms(out, "FILES", [][2]string{
		{"/etc/acmed/acmed.yaml", "the configuration, see acmed.yaml(5)"},
		{"/etc/acmed/installd.yaml", "the configuration of acmed-installd, see installd.yaml(5)"},
		{"/var/lib/acmed", "accounts, keys and certificates"},
		{"/run/acmed/acmed.sock", "the socket of the daemon"},
	})
	out(".SH SEE ALSO\n.BR acmed.yaml (5),\n.BR installd.yaml (5),\n.BR acmed\\-dns (1)")
	return []byte(b.String())
}

func terms(out func(string, ...any), title string, list [][2]string) {
	out(".SH %s", title)
	for _, t := range list {
		out(".TP\n.B %s\n%s", roff(t[0]), roff(t[1]))
	}
}

func flags(out func(string, ...any), title string, set *pflag.FlagSet) {
	if !set.HasAvailableFlags() {
		return
	}
	out(".SH %s", title)
	set.VisitAll(func(f *pflag.Flag) {
		if f.Hidden {
			return
		}
		argument, usage := pflag.UnquoteUsage(f)
		name := "--" + f.Name
		if f.Shorthand != "" {
			name = "-" + f.Shorthand + ", " + name
		}
		out(".TP\n\\fB%s\\fR \\fI%s\\fR\n%s", roff(name), roff(argument), roff(usage))
	})
}

// paragraphs sets text as the help shows it: an empty line begins a paragraph, indented lines stay as they are.
func paragraphs(text string) string {
	var b strings.Builder
	asIs := false
	for line := range strings.SplitSeq(text, "\n") {
		indented := strings.HasPrefix(line, "  ") || strings.HasPrefix(line, "\t")
		switch {
		case line == "" && !asIs:
			b.WriteString(".PP\n")
			continue
		case indented && !asIs:
			b.WriteString(".PP\n.nf\n")
			asIs = true
		case !indented && line != "" && asIs:
			b.WriteString(".fi\n.PP\n")
			asIs = false
		}
		b.WriteString(roff(line) + "\n")
	}
	if asIs {
		b.WriteString(".fi\n")
	}
	return b.String()
}

// roff keeps text from being read as macros.
func roff(text string) string {
	text = strings.NewReplacer(`\`, `\e`, "-", `\-`, "'", `\(aq`).Replace(text)
	if strings.HasPrefix(text, ".") {
		text = `\&` + text
	}
	return text
}
