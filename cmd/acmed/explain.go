package main

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/acmed/acmed/docs"
	"github.com/acmed/acmed/internal/text"
	"github.com/acmed/acmed/pkg/advice"
	"github.com/acmed/acmed/pkg/renewal"
)

func newExplain(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "explain [CODE]",
		Short: "Explain an error code and what to do about it",
		Long: `Show the page about a code that an error, status or an event carries: what you see, why it happens, what to do step by
step, and how to check. Without a code, list all of them.`,
		Example: `  acmed explain
  acmed explain port-taken`,
		Args: cobra.MaximumNArgs(1),
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return codes(), cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				a.explainAll()
				return nil
			}
			return a.explain(args[0])
		},
	}
}

func codes() []string {
	var list []string
	for _, e := range advice.All() {
		list = append(list, string(e.Code))
	}
	slices.Sort(list)
	return list
}

func (a *app) explainAll() {
	g := newGrid(a.out)
	for _, code := range codes() {
		e, _ := advice.Lookup(advice.Code(code))
		g.line(code, e.What)
	}
	g.flush()
}

func (a *app) explain(code string) error {
	if _, ok := advice.Lookup(advice.Code(code)); !ok {
		return usageError(fmt.Errorf("code %q is unknown, 'acmed explain' lists all", code))
	}
	page, err := docs.Errors.ReadFile("errors/" + code + ".md")
	if err != nil {
		return err
	}
	a.printf("%s", page)
	return nil
}

// printError prints an error: what, why and what to do, where that is known.
func printError(out io.Writer, err error) {
	e, ok := advice.Lookup(advice.Of(err))
	if !ok {
		_, _ = fmt.Fprintf(out, "acmed: %s\n", text.Lines(err.Error()))
		return
	}
	_, _ = fmt.Fprintf(out, "acmed: %s\nacmed: why: %s\nacmed: do: %s\n", text.Lines(what(&e, err.Error())), e.Why, remedy(&e))
}

// what is one line: the kind of failure, then its details.
func what(e *advice.Entry, details string) string {
	return e.What + ": " + strings.TrimPrefix(oneLine(details), e.What+": ")
}

func oneLine(text string) string { return strings.ReplaceAll(text, "\n", "; ") }

func remedy(e *advice.Entry) string { return fmt.Sprintf("%s (acmed explain %s)", e.Do, e.Code) }

// coded puts the code before the text of an error.
func coded(c advice.Code, text string) string {
	if c == "" {
		return text
	}
	return string(c) + ": " + text
}

// advised lists what is known about the failures of a certificate, each kind once.
func advised(c *renewal.Status) []advice.Entry {
	failures := []advice.Code{c.Code}
	for _, t := range c.Targets {
		failures = append(failures, t.Code)
	}
	if c.Hook != nil {
		failures = append(failures, c.Hook.Code)
	}
	var list []advice.Entry
	for i, code := range failures {
		if e, ok := advice.Lookup(code); ok && !slices.Contains(failures[:i], code) {
			list = append(list, e)
		}
	}
	return list
}

// reasons and remedies are the two columns of advised.
func reasons(c *renewal.Status) []string {
	var lines []string
	for _, e := range advised(c) {
		lines = append(lines, e.Why)
	}
	return lines
}

func remedies(c *renewal.Status) []string {
	var lines []string
	for _, e := range advised(c) {
		lines = append(lines, remedy(&e))
	}
	return lines
}

// outcome tells what became of a certificate that failed, with why and what to do.
func outcome(name, prefix, details string, c advice.Code) string {
	e, ok := advice.Lookup(c)
	if !ok {
		return name + ": " + prefix + details
	}
	return fmt.Sprintf("%[1]s: %[2]s%[3]s\n%[1]s: why: %[4]s\n%[1]s: do: %[5]s", name, prefix, what(&e, details), e.Why, remedy(&e))
}
