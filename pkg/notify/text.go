package notify

import (
	"fmt"
	"strings"
	"time"

	"github.com/acmed/acmed/internal/text"
)

// The longest parts of a message, in characters. Chat services refuse messages of more than about 4000.
const (
	chatText  = 3500
	mailText  = 200_000
	errorText = 1000
	briefText = 200
)

// subject is one line about one or many events.
func subject(events []Event) string {
	e := &events[0]
	if len(events) > 1 {
		bad := 0
		for i := range events {
			if events[i].Kind.Bad() {
				bad++
			}
		}
		return from(e, fmt.Sprintf("%s, %d need attention", text.Count(len(events), "event"), bad))
	}
	return from(e, headline(e))
}

func from(e *Event, text string) string {
	if e.Host != "" {
		return "acmed on " + e.Host + ": " + text
	}
	return "acmed: " + text
}

func headline(e *Event) string {
	if e.Certificate == "" {
		return text.Line(e.Message, briefText)
	}
	what := strings.ReplaceAll(string(e.Kind), "_", " ")
	if e.Target != "" {
		what += " at " + text.Line(e.Target, briefText)
	}
	return fmt.Sprintf("%s: %s", e.Certificate, what)
}

// messageText is the message for people, of at most limit characters.
func messageText(events []Event, limit int) string {
	if len(events) == 1 {
		return story(&events[0], limit)
	}
	lines := make([]string, len(events))
	for i := range events {
		e := &events[i]
		line := headline(e)
		if why := text.Line(e.Error, briefText); why != "" {
			line += ": " + why
		}
		lines[i] = line
	}
	return fill("", lines, limit)
}

// story tells one event.
func story(e *Event, limit int) string {
	if e.Kind == Digest {
		lines := make([]string, len(e.Summary))
		for i, s := range e.Summary {
			lines[i] = stateLine(&s, e.Time)
		}
		return fill(e.Message+"\n", lines, limit)
	}
	var b strings.Builder
	b.WriteString(text.Line(e.Message, errorText))
	line := func(what, value string) {
		if value != "" {
			fmt.Fprintf(&b, "\n%s: %s", what, value)
		}
	}
	line("why", text.Line(e.Error, errorText))
	if e.Code != "" {
		line("what to do", "acmed explain "+string(e.Code))
	}
	line("names", text.Line(strings.Join(e.Names, ", "), errorText))
	line("target", text.Line(e.Target, briefText))
	line("clients that would refuse it", text.Line(strings.Join(e.Clients, ", "), errorText))
	line("becomes active", stamp(e.ActiveAt))
	line("valid until", until(e.NotAfter, e.Time))
	line("next attempt", stamp(e.RetryAt))
	line("its issuers are in", text.Line(e.ChainFile, briefText))
	return b.String()
}

func stateLine(s *State, now time.Time) string {
	line := s.Certificate + ": " + s.State
	if !s.NotAfter.IsZero() {
		line += ", valid until " + until(s.NotAfter, now)
	}
	if s.Error != "" {
		line += ": " + text.Line(s.Error, briefText)
	}
	return line
}

// fill writes as many lines as fit.
func fill(head string, lines []string, limit int) string {
	var b strings.Builder
	b.WriteString(head)
	for i, line := range lines {
		if b.Len()+len(line) > limit {
			fmt.Fprintf(&b, "… and %d more; 'acmed status' shows all\n", len(lines)-i)
			break
		}
		b.WriteString(line + "\n")
	}
	return strings.TrimSuffix(b.String(), "\n")
}

func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return text.Stamp(t)
}

func until(t, now time.Time) string {
	if t.IsZero() {
		return ""
	}
	left := t.Sub(now)
	if left < 0 {
		return stamp(t) + " (over)"
	}
	return fmt.Sprintf("%s (%s left)", stamp(t), text.Count(left/(24*time.Hour), "day"))
}

func join(list []string) string { return strings.Join(list, ", ") }
