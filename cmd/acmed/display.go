package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"

	"github.com/acmed/acmed/cmd/acmed/internal/control"
	"github.com/acmed/acmed/internal/text"
)

// display shows progress. On a terminal each running certificate has one line that changes, and leaves one line behind
// when it ends; a wait of any length shows what is waited for. In a pipe every step is a line of its own, without colour
// or cursor movement. No capitals, no full stops.
type display struct {
	out   io.Writer
	live  bool
	width int
	rows  int

	mu      sync.Mutex
	order   []string // running certificates, oldest first
	running map[string]*running
	drawn   int // live lines on the screen
}

type running struct {
	begun time.Time
	done  []string // finished phases with their durations
	phase string
	since time.Time
}

func newDisplay(out io.Writer) *display {
	d := &display{out: out, running: map[string]*running{}}
	f, ok := out.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return d
	}
	width, rows, err := term.GetSize(int(f.Fd()))
	d.live = err == nil && width > 20 && rows > 4 && os.Getenv("TERM") != "dumb"
	d.width, d.rows = width, rows
	return d
}

func (d *display) update(p control.Progress) {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := time.Now()
	if p.Result != nil {
		d.finish(p.Result, now)
		return
	}
	r := d.running[p.Certificate]
	if r == nil {
		r = &running{begun: now, since: now}
		d.running[p.Certificate] = r
		d.order = append(d.order, p.Certificate)
	}
	text := string(p.Step.Phase)
	if p.Step.Detail != "" {
		text += " " + p.Step.Detail
	}
	if !d.live {
		d.write(fmt.Sprintf("%s: %s\n", p.Certificate, text))
		return
	}
	r.step(text, now)
	d.draw("")
}

// step moves on to the next phase; a phase that takes a moment keeps its duration on the line.
func (r *running) step(text string, now time.Time) {
	if took := now.Sub(r.since); r.phase != "" && took >= 100*time.Millisecond {
		r.done = append(r.done, fmt.Sprintf("%s %s", r.phase, took.Round(100*time.Millisecond)))
	}
	r.phase, r.since = text, now
}

func (d *display) finish(res *control.Result, now time.Time) {
	text := resultLine(res)
	if r := d.running[res.Certificate]; r != nil {
		first, rest, more := strings.Cut(text, "\n")
		text = fmt.Sprintf("%s (%s)", first, now.Sub(r.begun).Round(time.Millisecond))
		if more {
			text += "\n" + rest
		}
		delete(d.running, res.Certificate)
		d.order = remove(d.order, res.Certificate)
	}
	d.stay(text)
}

// stay prints a line that stays, above the live ones.
func (d *display) stay(text string) {
	if d.live {
		d.draw(text + "\n")
		return
	}
	d.write(text + "\n")
}

// note prints a message that belongs to no certificate.
func (d *display) note(text string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.stay(text)
}

func resultLine(r *control.Result) string {
	if r.Held != "" && r.Error == "" {
		return fmt.Sprintf("%s: new version held: %s", r.Certificate, r.Held)
	}
	switch r.Outcome {
	case control.OutcomeObtained:
		return fmt.Sprintf("%s: obtained, valid until %s", r.Certificate, stamp(r.NotAfter))
	case control.OutcomeUpdated:
		return fmt.Sprintf("%s: up to date, valid until %s", r.Certificate, stamp(r.NotAfter))
	case control.OutcomeTested:
		return fmt.Sprintf("%s: %s", r.Certificate, r.Message)
	case control.OutcomeScheduled:
		return fmt.Sprintf("%s: renews at %s", r.Certificate, stamp(r.Next))
	case control.OutcomeUnchanged:
		return fmt.Sprintf("%s: %s", r.Certificate, r.Message)
	case control.OutcomeLimited, control.OutcomeWaiting:
		return outcome(r.Certificate, "", r.Error, r.Code)
	}
	text := outcome(r.Certificate, "failed: ", r.Error, r.Code)
	if !r.Next.IsZero() {
		text += fmt.Sprintf("\n%s: next attempt at %s", r.Certificate, stamp(r.Next))
	}
	return text
}

// draw replaces the live lines, below what shall stay.
func (d *display) draw(stay string) {
	var b strings.Builder
	if d.drawn > 0 {
		fmt.Fprintf(&b, "\x1b[%dA\x1b[J", d.drawn)
	}
	b.WriteString(text.Lines(stay))
	d.drawn = 0
	for i, name := range d.order {
		if i == d.rows-2 {
			fmt.Fprintf(&b, "… and %d more\n", len(d.order)-i)
			d.drawn++
			break
		}
		r := d.running[name]
		line := text.Lines(fmt.Sprintf("%s: %s", name, strings.Join(append(r.done, r.phase), ", ")))
		b.WriteString(text.Cut(line, d.width-1) + "\n")
		d.drawn++
	}
	_, _ = io.WriteString(d.out, b.String())
}

func (d *display) write(said string) { _, _ = io.WriteString(d.out, text.Lines(said)) }

// close leaves the screen clean when the stream ended early.
func (d *display) close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.order, d.running = nil, map[string]*running{}
	if d.live && d.drawn > 0 {
		d.draw("")
	}
}

func remove(list []string, item string) []string {
	var kept []string
	for _, s := range list {
		if s != item {
			kept = append(kept, s)
		}
	}
	return kept
}
