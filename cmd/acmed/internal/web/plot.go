package web

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/acmed/acmed/internal/clock"
	"github.com/acmed/acmed/pkg/renewal"
)

// The sizes of the timeline. Lengths in the direction of time are hundredths of a percent of the width, so that the plot
// fits any screen; text keeps its size.
const (
	labelled  = 30   // with up to this many certificates, each has a line of its own with its name
	rowHeight = 30   // pixels
	denseMost = 1500 // lines of the dense plot; more certificates share lines
	scale     = 10_000

	textHeight = 24 // pixels below the axis
	textLine   = 18
	past       = 120 * day // what lies further away is cut off
	future     = 400 * day
)

// timeline is the plot of validities and renewal times of many certificates.
type timeline struct {
	Rows   []row
	Dense  *dense // in the place of Rows
	Height int    // pixels, of the rows
	Ticks  []tick
	Now    string // position, percent
	Total  int
	Each   int // certificates to a line of the dense plot

	HasWarn, HasBad, HasWindow, HasLate bool // for the legend
}

// row is one certificate. The positions are percent of the width, the other numbers pixels.
type row struct {
	Name              string
	Tone              string
	Label             string
	Y, Bar            int
	From, Width       string
	Renew, RenewFor   string // from the planned renewal to the end of the validity
	Late, LateFor     string // from the planned renewal to now, when that is past; "" for none
	Window, WindowFor string // the CA's window; "" for none
}

// dense holds one path for each colour, in a box of scale by Lines.
type dense struct {
	Lines           int
	Stroke          string // of a line: never thinner than a pixel
	Good, Warn, Bad string
	Renew, Window   string
}

type tick struct{ At, Text string }

// axis maps times to positions.
type axis struct{ from, to, now time.Time }

// newAxis covers all validities, as far as they are not absurdly long, and now.
func newAxis(now time.Time, list []*renewal.Status) axis {
	a := axis{now.Add(-day / 2), now.Add(day), now}
	for _, s := range list {
		a.from, a.to = clock.Earlier(a.from, s.From), clock.Later(a.to, s.NotAfter)
	}
	a.from, a.to = clock.Later(a.from, now.Add(-past)), clock.Earlier(a.to, now.Add(future))
	margin := a.to.Sub(a.from) / 40
	return axis{a.from.Add(-margin), a.to.Add(margin), now}
}

func (a axis) at(t time.Time) int {
	t = clock.Later(a.from, clock.Earlier(a.to, t))
	return int(int64(scale) * int64(t.Sub(a.from)/time.Second) / int64(a.to.Sub(a.from)/time.Second))
}

func percent(n int) string { return fmt.Sprintf("%d.%02d%%", n/100, n%100) }

// ticks puts at most eight marks on round times.
func (a axis) ticks() []tick {
	steps := []struct {
		every  time.Duration
		format string
	}{{6 * time.Hour, "Jan 2 15:04"}, {day, "Jan 2"}, {7 * day, "Jan 2"}, {14 * day, "Jan 2"}}
	for _, s := range steps {
		if a.to.Sub(a.from) > 7*s.every {
			continue
		}
		var list []tick
		for t := a.from.UTC().Truncate(s.every).Add(s.every); t.Before(a.to); t = t.Add(s.every) {
			list = a.mark(list, t, s.format)
		}
		return list
	}
	var list []tick
	months := 1 + int(a.to.Sub(a.from)/(8*30*day))
	first := a.from.UTC()
	for t := time.Date(first.Year(), first.Month()+1, 1, 0, 0, 0, 0, time.UTC); t.Before(a.to); t = t.AddDate(0, months, 0) {
		list = a.mark(list, t, "Jan 2006")
	}
	return list
}

// mark leaves out what would stand half outside.
func (a axis) mark(list []tick, t time.Time, format string) []tick {
	if at := a.at(t); at > scale/25 && at < scale-scale/25 {
		list = append(list, tick{percent(at), t.Format(format)})
	}
	return list
}

// newTimeline plots the certificates, the first to expire at the top.
func newTimeline(now time.Time, list []*renewal.Status) *timeline {
	list = slices.DeleteFunc(slices.Clone(list), func(s *renewal.Status) bool { return s.Version == "" })
	if len(list) == 0 {
		return nil
	}
	slices.SortStableFunc(list, func(a, b *renewal.Status) int { return a.NotAfter.Compare(b.NotAfter) })
	a := newAxis(now, list)
	p := &timeline{Ticks: a.ticks(), Now: percent(a.at(now)), Total: len(list), Each: 1}
	for _, s := range list {
		p.HasWarn = p.HasWarn || tone(s.Health) == "warn"
		p.HasBad = p.HasBad || tone(s.Health) == "bad"
		p.HasLate = p.HasLate || s.Renewal != nil && now.After(s.Renewal.At)
		p.HasWindow = p.HasWindow || s.Renewal != nil && !s.Renewal.Start.IsZero()
	}
	if len(list) > labelled {
		p.Each = (len(list) + denseMost - 1) / denseMost
		p.Dense = newDense(a, list, p.Each)
		p.Height = min(max(4*p.Dense.Lines, 160), 360)
		p.Dense.Stroke = fmt.Sprintf("%.2f", max(1, float64(p.Dense.Lines)/float64(p.Height))*1.1)
		return p
	}
	p.Height = len(list) * rowHeight
	for i, s := range list {
		p.Rows = append(p.Rows, newRow(a, s, i*rowHeight))
	}
	return p
}

// unnamed takes the names off, on the page of the one certificate.
func (p *timeline) unnamed() {
	for i := range p.Rows {
		p.Rows[i].Name = ""
	}
}

// Box is the height with the text below the axis, in pixels.
func (p *timeline) Box() int { return p.Height + textHeight }

// TextY is the line of the text below the axis.
func (p *timeline) TextY() int { return p.Height + textLine }

func newRow(a axis, s *renewal.Status, y int) row {
	from, to := a.at(s.From), a.at(s.NotAfter)
	r := row{
		Name: s.Name, Tone: tone(s.Health), Y: y + 12, Bar: y + 17, From: percent(from), Width: percent(to - from),
		Label: fmt.Sprintf("%s: valid from %s to %s", s.Name, date(s.From), date(s.NotAfter)),
	}
	if s.Renewal == nil {
		return r
	}
	at := a.at(s.Renewal.At)
	r.Width, r.Renew, r.RenewFor = percent(max(at-from, 0)), percent(at), percent(to-at)
	r.Label += ", renews " + date(s.Renewal.At)
	if a.now.After(s.Renewal.At) {
		r.Late, r.LateFor = percent(at), percent(max(a.at(clock.Earlier(a.now, s.NotAfter))-at, scale/400))
		r.Label += ", overdue"
	}
	if !s.Renewal.Start.IsZero() {
		start := a.at(s.Renewal.Start)
		r.Window, r.WindowFor = percent(start), percent(max(a.at(s.Renewal.End)-start, scale/400))
		r.Label += fmt.Sprintf(", window of the CA %s to %s", date(s.Renewal.Start), date(s.Renewal.End))
	}
	return r
}

// newDense draws every each-th certificate, and all that need attention: those must not fall through the grid.
func newDense(a axis, list []*renewal.Status, each int) *dense {
	d := &dense{}
	var good, warn, bad, renew, window strings.Builder
	for i, s := range list {
		colour := map[string]*strings.Builder{"good": &good, "warn": &warn, "bad": &bad}[tone(s.Health)]
		if i%each != 0 && (colour == &good || d.Lines >= 2*denseMost) {
			continue
		}
		line := func(b *strings.Builder, from, to time.Time) {
			x := a.at(from)
			fmt.Fprintf(b, "M%d %dh%d", x, d.Lines, max(a.at(to)-x, 1))
		}
		if r := s.Renewal; r == nil {
			line(colour, s.From, s.NotAfter)
		} else {
			line(colour, s.From, r.At)
			line(&renew, r.At, s.NotAfter)
			if a.now.After(r.At) {
				line(&bad, r.At, clock.Earlier(a.now, s.NotAfter))
			}
			if !r.Start.IsZero() {
				line(&window, r.Start, r.End)
			}
		}
		d.Lines++
	}
	d.Good, d.Warn, d.Bad, d.Renew, d.Window = good.String(), warn.String(), bad.String(), renew.String(), window.String()
	return d
}

// The histogram shows this many weeks one by one; what expires later shares the last bar.
const (
	weeksMost = 26
	histLeast = 150 // pixels
)

// histogram counts expiries by week.
type histogram struct {
	Bars   []bar
	Height int
	Top    int // the largest count

	first, all int // week of the first bar, number of bars
}

// Box is the height with the text below the axis, in pixels.
func (h *histogram) Box() int { return h.Height + textHeight }

// TextY is the line of the text below the axis.
func (h *histogram) TextY() int { return h.Height + textLine }

type bar struct {
	X, Width, Middle  string // percent
	Y, Height, CountY int    // pixels
	Count             int
	Shown             bool   // the count above the bar
	Text              string // below the axis; "" for none
	Label             string // for the pointer
	Tone              string
}

// newHistogram counts what expires in each week from now; the first bar is what has expired already, if anything has.
func newHistogram(now time.Time, list []*renewal.Status, height int) *histogram {
	counts, last := make([]int, weeksMost+2), 1
	for _, s := range list {
		if s.Version == "" {
			continue
		}
		week := 0
		if left := s.NotAfter.Sub(now); left > 0 {
			week = min(1+int(left/(7*day)), weeksMost+1)
		}
		counts[week]++
		last = max(last, week)
	}
	first := 1
	if counts[0] > 0 {
		first = 0
	}
	h := &histogram{Height: max(height, histLeast), Top: max(slices.Max(counts), 1), first: first, all: last + 1 - first}
	for week := first; week <= last; week++ {
		h.Bars = append(h.Bars, h.bar(now, week, counts[week]))
	}
	return h
}

func (h *histogram) bar(now time.Time, week, n int) bar {
	const head = 16 // pixels for the count above the highest bar
	i, slot := week-h.first, scale/h.all
	b := bar{X: percent(i*slot + slot/10), Width: percent(slot * 8 / 10), Middle: percent(i*slot + slot/2), Count: n, Tone: "good"}
	b.Height = n * (h.Height - head) / h.Top
	if n > 0 {
		b.Height = max(b.Height, 2)
	}
	b.Y = h.Height - b.Height
	b.CountY, b.Shown = b.Y-4, n > 0 && (n == h.Top || h.all <= 14 && h.Top < 1000)
	begin := now.Add(time.Duration(week-1) * 7 * day)
	b.Label = fmt.Sprintf("%s expire between %s and %s", number(n), date(begin), date(begin.Add(7*day)))
	if step := 1 + (h.all-1)/7; i%step == 0 {
		b.Text = begin.UTC().Format("Jan 2")
	}
	switch {
	case week == 0:
		b.Text, b.Tone, b.Label = "past", "bad", number(n)+" expired"
	case week <= 2:
		b.Tone = "warn"
	case week == weeksMost+1:
		b.Label = fmt.Sprintf("%s expire after %s", number(n), date(begin))
	}
	return b
}
