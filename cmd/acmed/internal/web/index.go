package web

import (
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/acmed/acmed/cmd/acmed/internal/control"
	"github.com/acmed/acmed/internal/text"
	"github.com/acmed/acmed/pkg/advice"
	"github.com/acmed/acmed/pkg/renewal"
	"github.com/acmed/acmed/pkg/renewal/plan"
)

// The bounds on a page, whatever the number of certificates and their names.
const (
	pageSize  = 100
	namesMost = 4
	errorMost = 300 // characters
)

// soon is what the overview counts as expiring soon, in days.
const soon = 14

// indexPage is what the template of the overview shows.
type indexPage struct {
	*view
	Now       time.Time
	Headline  string
	Tone      string
	Upcoming  string
	Together  string // the fleet; "" for none
	Troubles  []trouble
	Groups    []group
	Stats     []stat
	Filter    filter
	Filtered  bool
	States    []renewal.Health
	Days      []int
	Sorts     []link
	Timeline  *timeline
	Histogram *histogram
	Found     int
	From, To  int // of the certificates shown, from 1
	Rows      []entry
	Previous  string // address of a page; "" for none
	Following string
}

type stat struct {
	Count   int
	Label   string
	URL     string
	Tone    string
	Current bool
}

type link struct {
	Key     string
	Text    string
	URL     string
	Current bool
}

// entry is a line of the table.
type entry struct {
	*renewal.Status
	URL      string
	Tone     string
	Shown    []string // of the names
	More     int      // names that are not shown
	Left     int      // percent of the lifetime
	NextText string
	Verified int // targets
	Problem  string
	Code     advice.Code // of Problem
}

func (s *Server) index(w http.ResponseWriter, r *http.Request) {
	v, err := s.cache.get(r.Context())
	if err != nil {
		s.fail(w, err)
		return
	}
	s.render(w, http.StatusOK, "index.html", newIndex(s.Clock(), v, readFilter(r.URL.Query())))
}

func newIndex(now time.Time, v *view, f filter) *indexPage {
	found := f.apply(now, v.Certificates)
	pages := max((len(found)+pageSize-1)/pageSize, 1)
	f.Page = min(f.Page, pages)
	p := &indexPage{
		view: v, Now: now, Upcoming: upcoming(now, v.Certificates), Stats: stats(now, v, f), Filter: f, Filtered: f.narrows(),
		States: states(), Days: []int{1, 7, soon, 30, 90}, Timeline: newTimeline(now, found),
		Found: len(found), From: (f.Page-1)*pageSize + 1, To: min(f.Page*pageSize, len(found)),
	}
	p.Headline, p.Tone = headline(v)
	if v.Fleet != nil {
		p.Together = v.Fleet.text(now)
	}
	p.Troubles, p.Groups = troubles(v.Conditions), groups(v.Certificates)
	if p.Timeline != nil {
		p.Histogram = newHistogram(now, found, p.Timeline.Height)
	}
	for _, c := range found[p.From-1 : p.To] {
		p.Rows = append(p.Rows, newEntry(now, c))
	}
	if f.Page > 1 {
		p.Previous = f.turned(f.Page - 1).url()
	}
	if f.Page < pages {
		p.Following = f.turned(f.Page + 1).url()
	}
	titles := map[string]string{"state": "State", "name": "Certificate", "expires": "Expires", "next": "Next"}
	for _, key := range sorts() {
		p.Sorts = append(p.Sorts, link{key, titles[key], f.sorted(key).url(), f.Sort == key})
	}
	return p
}

// headline is the answer to the one question of somebody who opens the page.
func headline(v *view) (text, colour string) {
	n, bad := len(v.Certificates), v.attention()
	if ill := slices.ContainsFunc(v.Conditions, func(c control.Condition) bool { return c.Code != advice.StateRepaired }); ill {
		text = "acmed needs attention"
		if bad > 0 {
			text += ", and " + number(bad) + " of " + plural(n, "certificate")
		}
		return text, "bad"
	}
	switch {
	case n == 0:
		return "No certificates are configured", "warn"
	case bad == 0 && n == 1:
		return "The certificate is fine", "good"
	case bad == 0:
		return "All " + number(n) + " certificates are fine", "good"
	case bad == 1:
		return "1 of " + plural(n, "certificate") + " needs attention", "bad"
	}
	return number(bad) + " of " + plural(n, "certificate") + " need attention", "bad"
}

// upcoming names what is done now, or the next renewal of those that are fine.
func upcoming(now time.Time, list []renewal.Status) string {
	var next *renewal.Status
	running := 0
	for i := range list {
		s := &list[i]
		if s.Running {
			running++
		}
		if s.Renewal != nil && s.Health == renewal.HealthOK && (next == nil || s.Renewal.At.Before(next.Renewal.At)) {
			next = s
		}
	}
	switch {
	case running > 0:
		return "acmed is working on " + plural(running, "certificate") + "."
	case next == nil:
		return ""
	}
	return "Next renewal: " + next.Name + ", " + relative(now, next.Renewal.At) + "."
}

// stats counts the states that occur, and what expires soon.
func stats(now time.Time, v *view, f filter) []stat {
	list := []stat{{len(v.Certificates), "all", "/", "", !f.narrows()}}
	for _, h := range states() {
		if n := v.counts[h]; n > 0 || h == renewal.HealthOK {
			list = append(list, stat{n, label(h), filter{State: string(h)}.sorted("state").url(), tone(h), f.State == string(h)})
		}
	}
	soonest := filter{Expiring: soon}.sorted("expires")
	last := stat{len(soonest.apply(now, v.Certificates)), "expire within 14 days", soonest.url(), "", f.Expiring == soon}
	if last.Count > 0 {
		last.Tone = "warn"
	}
	return append(list, last)
}

func newEntry(now time.Time, s *renewal.Status) entry {
	e := entry{Status: s, URL: "/certificate/" + url.PathEscape(s.Name), Tone: tone(s.Health), Shown: s.Names, NextText: next(now, s)}
	if len(s.Names) > namesMost {
		e.Shown, e.More = s.Names[:namesMost], len(s.Names)-namesMost
	}
	if life := s.NotAfter.Sub(s.From); life > 0 {
		e.Left = int(min(max(100*(s.NotAfter.Sub(now)/time.Second)/(life/time.Second), 0), 100))
	}
	for _, t := range s.Targets {
		if t.Off || t.Installed && t.Error == "" {
			e.Verified++
		}
	}
	e.Problem, _ = problem(now, s)
	e.Problem = text.Cut(e.Problem, errorMost)
	if e.Problem != "" {
		e.Code = problemCode(s)
	}
	return e
}

// next says what happens to a certificate, and when.
func next(now time.Time, s *renewal.Status) string {
	switch {
	case s.Running:
		return "running"
	case s.Reason == plan.ReasonHeld, s.Reason == plan.ReasonPinned:
		return "held"
	case s.Reason == plan.ReasonNothing && s.Renewal != nil:
		return "renews " + relative(now, s.Renewal.At)
	case !s.Next.After(now):
		return "due now"
	case s.Health != renewal.HealthOK:
		return "next attempt " + relative(now, s.Next)
	}
	return "next check " + relative(now, s.Next)
}

// problem is the first thing that is wrong with a certificate, and when acmed tries again if that is known.
func problem(now time.Time, s *renewal.Status) (text, again string) {
	at := s.RetryAt
	text = s.Error
	if text == "" {
		text, at = otherProblem(s)
	}
	if at.After(now) && text != "" {
		again = "Next attempt " + relative(now, at) + "."
	}
	return text, again
}

// otherProblem looks for what is wrong besides orders that failed.
func otherProblem(s *renewal.Status) (string, time.Time) {
	switch s.Health {
	case renewal.HealthMissing, renewal.HealthHeld, renewal.HealthExpired:
		return s.Message, time.Time{}
	}
	for _, t := range s.Targets {
		if t.Error != "" {
			return t.ID + ": " + t.Error, t.RetryAt
		}
	}
	switch {
	case s.Hook != nil && s.Hook.Error != "":
		return "post hook: " + s.Hook.Error, s.Hook.RetryAt
	case s.Reason == plan.ReasonClock:
		return s.Message, time.Time{}
	case len(s.Warnings) > 0:
		return s.Warnings[0], time.Time{}
	}
	return "", time.Time{}
}
