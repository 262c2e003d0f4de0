package main

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/term"

	"github.com/acmed/acmed/cmd/acmed/internal/control"
	"github.com/acmed/acmed/internal/text"
	"github.com/acmed/acmed/pkg/advice"
	"github.com/acmed/acmed/pkg/renewal"
	"github.com/acmed/acmed/pkg/renewal/plan"
)

// The colours, as SGR parameters (ECMA-48).
const (
	plain  = ""
	bold   = "1"
	red    = "31"
	green  = "32"
	yellow = "33"
)

// cell is a piece of text with its colour.
type cell struct{ text, colour string }

// grid prints cells in columns. Colours are used and lines cut on a terminal only.
type grid struct {
	out    io.Writer
	rows   [][]cell
	width  int // of the terminal; 0 for no terminal
	colour bool
}

func newGrid(out io.Writer) *grid {
	g := &grid{out: out}
	f, ok := out.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return g
	}
	g.colour = os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
	if width, _, err := term.GetSize(int(f.Fd())); err == nil {
		g.width = width
	}
	return g
}

func (g *grid) add(cells ...cell) {
	for i := range cells {
		cells[i].text = text.Lines(strings.ReplaceAll(cells[i].text, "\n", " "))
	}
	g.rows = append(g.rows, cells)
}

// line adds a row without colours.
func (g *grid) line(texts ...string) {
	row := make([]cell, len(texts))
	for i, t := range texts {
		row[i].text = t
	}
	g.add(row...)
}

// flush prints the rows. The last cell of a row does not count for the width of its column. On a terminal the first
// column gives way to the others, and what is beyond the edge is left out.
func (g *grid) flush() {
	var widths []int
	for _, row := range g.rows {
		for i, c := range row[:len(row)-1] {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], utf8.RuneCountInString(c.text))
		}
	}
	g.narrow(widths)
	var b strings.Builder
	for _, row := range g.rows {
		g.write(&b, row, widths)
	}
	g.rows = nil
	_, _ = io.WriteString(g.out, b.String())
}

const (
	gap        = 2  // between columns
	leastFirst = 12 // of the first column stays, however narrow the terminal
)

// narrow takes from the first column what all of them have too much for the terminal.
func (g *grid) narrow(widths []int) {
	if g.width == 0 || len(widths) == 0 {
		return
	}
	over := 1 - g.width
	for _, w := range widths {
		over += w + gap
	}
	if over > 0 {
		widths[0] = max(min(widths[0], leastFirst), widths[0]-over)
	}
}

func (g *grid) write(b *strings.Builder, row []cell, widths []int) {
	at := 0
	for i, c := range row {
		shown, pad := c.text, 0
		if i < len(row)-1 {
			shown = text.Cut(shown, widths[i])
			pad = widths[i] - utf8.RuneCountInString(shown) + gap
		}
		if g.width > 0 {
			room := g.width - 1 - at
			if room <= 0 {
				break
			}
			shown = text.Cut(shown, room)
			pad = min(pad, room-utf8.RuneCountInString(shown))
		}
		b.WriteString(g.paint(shown, c.colour))
		b.WriteString(strings.Repeat(" ", pad))
		at += utf8.RuneCountInString(shown) + pad
	}
	b.WriteByte('\n')
}

func (g *grid) paint(text, colour string) string {
	if !g.colour || colour == plain || text == "" {
		return text
	}
	return "\x1b[" + colour + "m" + text + "\x1b[0m"
}

func healthCell(h renewal.Health) cell {
	switch h {
	case renewal.HealthOK:
		return cell{string(h), green}
	case renewal.HealthHeld, renewal.HealthHookFailed:
		return cell{string(h), yellow}
	}
	return cell{string(h), red}
}

// table prints one line for each certificate, and below it why it needs attention.
func (a *app) table(s control.Status, now time.Time, sel selection) {
	switch {
	case len(s.Certificates) == 0 && sel.filtered():
		a.printf("no matching certificates\n")
		return
	case len(s.Certificates) == 0:
		a.printf("no certificates are configured; start with 'acmed enable'\n")
		return
	}
	g := newGrid(a.out)
	a.tableIn(g, s, now, sel.output == "wide")
}

// tableIn prints the table into a grid. A wide one is whole, however narrow the terminal.
func (a *app) tableIn(g *grid, s control.Status, now time.Time, wide bool) {
	if wide {
		g.width = 0
	}
	g.add(header(wide)...)
	for i := range s.Certificates {
		g.add(tableRow(&s.Certificates[i], now, wide)...)
	}
	g.flush()
	for _, line := range g.failureLines(s, now) {
		g.sentence(line)
	}
	const many = 10
	if len(s.Certificates) > many {
		g.sentence(tally(s.Certificates))
	}
}

// sentence prints a line outside of all columns. On a terminal it goes on in the next line: its end says what to do.
func (g *grid) sentence(sentence string) {
	for _, line := range wrap(text.Lines(strings.ReplaceAll(sentence, "\n", " ")), g.width-1) {
		g.line(line)
	}
	g.flush()
}

// wrap breaks a line between words, as far as it has some, into lines of a width; 0 or less leaves it whole.
func wrap(line string, width int) (lines []string) {
	const indent = "    "
	for width > 2*len(indent) && utf8.RuneCountInString(line) > width {
		runes := []rune(line)
		at := width
		for at > width/2 && runes[at] != ' ' {
			at--
		}
		if runes[at] != ' ' {
			at = width
		}
		lines = append(lines, strings.TrimRight(string(runes[:at]), " "))
		line = indent + strings.TrimLeft(string(runes[at:]), " ")
	}
	return append(lines, line)
}

// conditions prints what is wrong with acmed or its machine: the cause, why, and what to do.
func (a *app) conditions(list []control.Condition) {
	for _, c := range list {
		a.printf("%s\n", outcome("acmed", "", oneLine(c.Detail), c.Code))
	}
	if len(list) > 0 {
		a.printf("\n")
	}
}

func header(wide bool) []cell {
	titles := []string{"NAME", "STATE", "EXPIRES", "NEXT", "TARGETS", "NAMES"}
	if wide {
		titles = []string{"NAME", "STATE", "EXPIRES", "RENEWS", "NEXT", "TARGETS", "VERIFIED", "ISSUER", "KEY", "VERSION", "NAMES"}
	}
	cells := make([]cell, len(titles))
	for i, t := range titles {
		cells[i] = cell{t, bold}
	}
	return cells
}

func tableRow(c *renewal.Status, now time.Time, wide bool) []cell {
	name, state, targets := cell{c.Name, plain}, healthCell(c.Health), cell{verified(*c), plain}
	end, then := cell{expiry(*c, now), plain}, cell{next(*c, now), plain}
	if !wide {
		return []cell{name, state, end, then, targets, {namesCell(c.Names), plain}}
	}
	keys := make([]string, len(c.KeyTypes))
	for i, k := range c.KeyTypes {
		keys[i] = string(k)
	}
	return []cell{
		name, state, end, {renews(*c), plain}, then, targets, {oldestLook(*c, now), plain}, {orDash(c.Issuer), plain},
		{orDash(strings.Join(keys, "+")), plain}, {orDash(c.Version), plain}, {strings.Join(c.Names, " "), plain},
	}
}

// tally counts the states.
func tally(list []renewal.Status) string {
	counts := map[renewal.Health]int{}
	for _, c := range list {
		counts[c.Health]++
	}
	var parts []string
	for _, h := range []renewal.Health{
		renewal.HealthExpired, renewal.HealthMissing, renewal.HealthRevoked, renewal.HealthFailing, renewal.HealthHeld,
		renewal.HealthNotInstalled, renewal.HealthHookFailed, renewal.HealthOK,
	} {
		if n := counts[h]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, h))
		}
	}
	return text.Count(len(list), "certificate") + ": " + strings.Join(parts, ", ")
}

func orDash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}

func renews(c renewal.Status) string {
	if c.Renewal == nil {
		return "-"
	}
	return fmt.Sprintf("%s (%s)", date(c.Renewal.At), c.Renewal.Reason)
}

// oldestLook is how long ago the target was seen that was not seen for longest.
func oldestLook(c renewal.Status, now time.Time) string {
	var oldest time.Time
	for i, t := range c.Targets {
		if i == 0 || t.VerifiedAt.Before(oldest) {
			oldest = t.VerifiedAt
		}
	}
	if oldest.IsZero() {
		return "-"
	}
	return inWords(now.Sub(oldest)) + " ago"
}

func expiry(c renewal.Status, now time.Time) string {
	if c.NotAfter.IsZero() {
		return "-"
	}
	return fmt.Sprintf("%s (%s)", date(c.NotAfter), inWords(c.NotAfter.Sub(now)))
}

func next(c renewal.Status, now time.Time) string {
	if c.Running {
		return "running"
	}
	what := nextAction(&c)
	switch {
	case c.Reason == plan.ReasonHeld, c.Reason == plan.ReasonPinned, c.Code == advice.ConfigBroken:
		return "needs action"
	case c.Reason == plan.ReasonNothing && c.Renewal != nil && c.Renewal.At.Sub(now) >= 2*24*time.Hour:
		return "renews " + date(c.Renewal.At)
	case c.Reason == plan.ReasonNothing && c.Renewal != nil && c.Renewal.At.After(now):
		return "renews in " + inWords(c.Renewal.At.Sub(now))
	case !c.Next.After(now):
		return what + " now"
	}
	return fmt.Sprintf("%s in %s", what, inWords(c.Next.Sub(now)))
}

// nextAction is what acmed does next with a certificate, as a verb.
func nextAction(c *renewal.Status) string {
	switch c.Reason {
	case plan.ReasonBackoff, plan.ReasonIssueLimit, plan.ReasonClock:
		return "retry"
	case plan.ReasonNotice, plan.ReasonActivate:
		return "activate"
	case plan.ReasonNotInstalled:
		return "install"
	case plan.ReasonDrift:
		return "verify"
	case plan.ReasonHook:
		return "run hook"
	case plan.ReasonNeverIssued, plan.ReasonDamaged:
		return "obtain"
	}
	if c.Order {
		return "renew"
	}
	return "check"
}

func verified(c renewal.Status) string {
	if len(c.Targets) == 0 {
		return "-"
	}
	n := 0
	for _, t := range c.Targets {
		if t.Installed && t.Error == "" {
			n++
		}
	}
	return fmt.Sprintf("%d/%d", n, len(c.Targets))
}

func namesCell(names []string) string {
	const most = 3
	if len(names) <= most {
		return strings.Join(names, " ")
	}
	return fmt.Sprintf("%s +%d", strings.Join(names[:most], " "), len(names)-most)
}

// failure is one thing that is wrong with a certificate.
type failure struct {
	code advice.Code
	text string
}

// groupsFrom is how many certificates must share a cause before they are one line.
const groupsFrom = 3

// failureLines says what is wrong with the certificates, by cause: its code first, then the name, then the details, and below
// them what to do. Many failures of one cause are one line with a count, and none where a condition of the machine has said it.
func (g *grid) failureLines(s control.Status, now time.Time) []string {
	var codes []advice.Code
	who, lines := map[advice.Code][]string{}, map[advice.Code][]string{}
	for i := range s.Certificates {
		name, seen := g.short(s.Certificates[i].Name), map[advice.Code]bool{}
		for _, f := range failures(&s.Certificates[i], now) {
			if !slices.Contains(codes, f.code) {
				codes = append(codes, f.code)
			}
			if !seen[f.code] {
				seen[f.code] = true
				who[f.code] = append(who[f.code], name)
			}
			if f.code == "" || len(who[f.code]) <= groupsFrom {
				lines[f.code] = append(lines[f.code], coded(f.code, name+": "+f.text))
			}
		}
	}
	var all []string
	for _, code := range codes {
		if saidOfTheMachine(s, code) {
			continue
		}
		e, known := advice.Lookup(code)
		if code != "" && len(who[code]) >= groupsFrom {
			lines[code] = []string{fmt.Sprintf("%s: %s: %s: %s", code, text.Count(len(who[code]), "certificate"), e.What, namesCell(who[code]))}
		}
		all = append(all, lines[code]...)
		if known {
			all = append(all, "  do: "+remedy(&e))
		}
	}
	return all
}

// saidOfTheMachine is whether a condition of the machine names an issuer and the same cause.
func saidOfTheMachine(s control.Status, code advice.Code) bool {
	return slices.ContainsFunc(s.Conditions, func(c control.Condition) bool { return c.Issuer != "" && c.Code == code })
}

// short leaves most of a line to what is said about a name.
func (g *grid) short(name string) string {
	if g.width == 0 {
		return name
	}
	return text.Cut(name, max(leastFirst, g.width/3))
}

// attention lists what is wrong with one certificate.
func attention(c renewal.Status, now time.Time) []string {
	var lines []string
	for _, f := range failures(&c, now) {
		lines = append(lines, coded(f.code, f.text))
	}
	return lines
}

// failures lists what is wrong, each with the time of the next attempt.
func failures(c *renewal.Status, now time.Time) []failure {
	var list []failure
	add := func(code advice.Code, text string) { list = append(list, failure{code, text}) }
	if c.Error != "" {
		add(c.Code, c.Error+again(now, c.RetryAt))
	} else if c.Health == renewal.HealthMissing || c.Health == renewal.HealthHeld || c.Reason == plan.ReasonClock {
		add(c.Code, c.Message)
	}
	for _, t := range c.Targets {
		if t.Error != "" {
			add(t.Code, t.ID+": "+t.Error+again(now, t.RetryAt))
		}
	}
	for _, w := range c.Warnings {
		add("", "warning: "+w)
	}
	if c.Revoked != nil {
		add(c.Revoked.Code, revocationText(c, now))
	}
	if c.Hook != nil && c.Hook.Error != "" {
		add(c.Hook.Code, "post hook: "+c.Hook.Error+again(now, c.Hook.RetryAt))
	}
	for _, note := range c.Notes {
		add("", "note: "+note)
	}
	return list
}

func revocationText(c *renewal.Status, now time.Time) string {
	rev := c.Revoked
	if rev.DoneAt.IsZero() {
		return "version " + rev.Version + ": the CA has not revoked it yet: " + rev.Error + again(now, rev.RetryAt)
	}
	text := "version " + rev.Version + " was revoked on " + date(rev.At)
	if rev.Kept {
		text += "; run 'acmed renew " + c.Name + " --force' to replace it"
	}
	return text
}

func again(now, at time.Time) string {
	if !at.After(now) {
		return ""
	}
	return fmt.Sprintf(" (next attempt in %s)", inWords(at.Sub(now)))
}

// inWords rounds a distance in time to the one unit that matters.
func inWords(d time.Duration) string {
	if d < 0 {
		return "-" + inWords(-d)
	}
	switch {
	case d >= 48*time.Hour:
		return fmt.Sprintf("%dd", d/(24*time.Hour))
	case d >= 2*time.Hour:
		return fmt.Sprintf("%dh", d/time.Hour)
	case d >= 2*time.Minute:
		return fmt.Sprintf("%dm", d/time.Minute)
	}
	return fmt.Sprintf("%ds", d/time.Second)
}
