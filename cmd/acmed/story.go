package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/acmed/acmed/cmd/acmed/internal/control"
	"github.com/acmed/acmed/internal/text"
	"github.com/acmed/acmed/pkg/renewal"
	"github.com/acmed/acmed/pkg/renewal/plan"
)

// story prints everything about one certificate, under headings at the left.
func (a *app) story(s control.Status, now time.Time) {
	c := s.Certificates[0]
	g := newGrid(a.out)
	g.width = 0 // nothing is cut off here
	g.add(cell{c.Name, bold}, healthCell(c.Health))
	g.flush()
	section := func(title string, lines []string) {
		for i, text := range lines {
			if i > 0 {
				title = ""
			}
			g.line("  "+title, text)
		}
	}
	section("problem", attention(c, now))
	section("why", reasons(&c))
	section("do", remedies(&c))
	section("next", []string{next(c, now) + ": " + c.Message})
	section("names", proofs(c))
	section("active", activeLines(c, now))
	section("renews", renewalLines(c, now))
	section("held", waitingLines(c))
	section("targets", targetLines(c, now))
	section("trust", trustLines(c))
	section("chain", chainLines(c))
	section("versions", versionLines(c))
	g.flush()
}

// proofs tells how each name was proved to the CA, and why in that way.
func proofs(c renewal.Status) []string {
	how := map[string]string{}
	for _, v := range c.Validations {
		switch {
		case v.Solver != "" && v.Solver != v.Type:
			how[v.Identifier] = fmt.Sprintf(" validated by %s with %s", v.Type, v.Solver)
		case v.Solver != "":
			how[v.Identifier] = " validated by " + v.Type
		}
		if v.Reason != "" {
			how[v.Identifier] += ": " + v.Reason
		}
	}
	lines := make([]string, len(c.Names))
	for i, name := range c.Names {
		lines[i] = name + how[name]
	}
	return lines
}

func activeLines(c renewal.Status, now time.Time) []string {
	if c.Version == "" {
		return []string{"none"}
	}
	keys := make([]string, len(c.KeyTypes))
	for i, k := range c.KeyTypes {
		keys[i] = string(k)
	}
	return []string{
		"version " + c.Version,
		fmt.Sprintf("valid from %s to %s (%s left)", stamp(c.From), stamp(c.NotAfter), inWords(c.NotAfter.Sub(now))),
		fmt.Sprintf("%s from %s, serial %s", strings.Join(keys, " and "), c.Issuer, c.Serial),
	}
}

// renewalLines say when the active version gives way, and why then.
func renewalLines(c renewal.Status, now time.Time) []string {
	r := c.Renewal
	if r == nil {
		return nil
	}
	lines := []string{fmt.Sprintf("%s (in %s)", stamp(r.At), inWords(r.At.Sub(now)))}
	if !r.At.After(now) {
		lines[0] = fmt.Sprintf("%s (%s ago)", stamp(r.At), inWords(now.Sub(r.At)))
	}
	if r.Reason == plan.ReasonARI {
		lines[0] += ", chosen at random in the renewal window of the CA"
	} else {
		lines[0] += fmt.Sprintf(", with %s of its validity left", inWords(c.NotAfter.Sub(r.At)))
	}
	if !r.Start.IsZero() {
		lines = append(lines, fmt.Sprintf("renewal window of the CA: %s to %s", stamp(r.Start), stamp(r.End)))
	}
	if r.URL != "" {
		lines = append(lines, fmt.Sprintf("explanation of the CA: %q", r.URL))
	}
	if r.AskAt.After(now) {
		lines = append(lines, fmt.Sprintf("next query for the renewal window in %s", inWords(r.AskAt.Sub(now))))
	}
	return lines
}

func waitingLines(c renewal.Status) []string {
	var lines []string
	if c.Pinned != "" {
		lines = append(lines, fmt.Sprintf("version %s is pinned by a rollback; run 'acmed activate %s' to end that", c.Pinned, c.Name))
	}
	if h := c.Held; h != nil {
		line := fmt.Sprintf("version %s since %s: %s", h.Version, stamp(h.Since), h.Reason)
		if !h.Until.IsZero() {
			line += ", until " + stamp(h.Until)
		}
		lines = append(lines, line)
	}
	return lines
}

func targetLines(c renewal.Status, now time.Time) []string {
	lines := make([]string, 0, len(c.Targets))
	for _, t := range c.Targets {
		state := "does not serve the active version"
		switch {
		case t.Off:
			state = "uninstalled by an operator"
		case t.Installed && t.Error == "":
			state = "verified " + inWords(now.Sub(t.VerifiedAt)) + " ago"
		case t.Error != "":
			state = t.Error + again(now, t.RetryAt)
		}
		lines = append(lines, t.ID+": "+state)
	}
	return lines
}

func trustLines(c renewal.Status) []string {
	lines := make([]string, 0, len(c.Trust))
	for _, t := range c.Trust {
		if t.Error != "" {
			lines = append(lines, fmt.Sprintf("%s: no, %s", t.Client, t.Error))
			continue
		}
		lines = append(lines, fmt.Sprintf("%s: yes, until %s", t.Client, stamp(t.Until)))
	}
	return lines
}

func chainLines(c renewal.Status) []string {
	lines := make([]string, 0, len(c.Chain))
	for _, l := range c.Chain {
		subject := l.Subject
		if subject == "" {
			subject = "(no subject)"
		}
		lines = append(lines, fmt.Sprintf("%s, issued by %s, to %s", subject, l.Issuer, date(l.NotAfter)))
	}
	return lines
}

func versionLines(c renewal.Status) []string {
	lines := make([]string, 0, len(c.Versions))
	for _, v := range c.Versions {
		line := fmt.Sprintf("%s from %s, to %s", v.ID, v.Issuer, date(v.NotAfter))
		if v.Active {
			line += " (active)"
		}
		if v.Revoked {
			line += " (revoked)"
		}
		lines = append(lines, line)
	}
	return lines
}

// stamp and date write a time for people. The zone is always UTC, as on the status page and in certificates.
func stamp(t time.Time) string { return text.Stamp(t) }

func date(t time.Time) string { return t.UTC().Format(time.DateOnly) }
