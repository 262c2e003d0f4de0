package notify

import (
	"fmt"
	"strings"
	"time"
	"unicode"
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
		return from(e, fmt.Sprintf("%d events, %d need attention", len(events), bad))
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
		return plain(e.Message, briefText)
	}
	what := strings.ReplaceAll(string(e.Kind), "_", " ")
	if e.Target != "" {
		what += " at " + plain(e.Target, briefText)
	}
	return fmt.Sprintf("%s: %s", e.Certificate, what)
}

// text is the message for people, of at most limit characters.
func text(events []Event, limit int) string {
	if len(events) == 1 {
		return story(&events[0], limit)
	}
	lines := make([]string, len(events))
	for i := range events {
		e := &events[i]
		line := headline(e)
		if why := plain(e.Error, briefText); why != "" {
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
	b.WriteString(plain(e.Message, errorText))
	line := func(what, value string) {
		if value != "" {
			fmt.Fprintf(&b, "\n%s: %s", what, value)
		}
	}
	line("why", plain(e.Error, errorText))
	if e.Code != "" {
		line("what to do", "acmed explain "+string(e.Code))
	}
	line("names", plain(strings.Join(e.Names, ", "), errorText))
	line("target", plain(e.Target, briefText))
	line("clients that would refuse it", plain(strings.Join(e.Clients, ", "), errorText))
	line("goes live", stamp(e.ActiveAt))
	line("valid until", until(e.NotAfter, e.Time))
	line("next try", stamp(e.RetryAt))
	line("its issuers are in", plain(e.ChainFile, briefText))
	return b.String()
}

func stateLine(s *State, now time.Time) string {
	line := s.Certificate + ": " + s.State
	if !s.NotAfter.IsZero() {
		line += ", valid until " + until(s.NotAfter, now)
	}
	if s.Error != "" {
		line += ": " + plain(s.Error, briefText)
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
	return t.Local().Format("2006-01-02 15:04 MST")
}

func until(t, now time.Time) string {
	if t.IsZero() {
		return ""
	}
	if left := t.Sub(now); left < 0 {
		return stamp(t) + " (over)"
	} else if days := int(left / (24 * time.Hour)); days != 1 {
		return fmt.Sprintf("%s (%d days left)", stamp(t), days)
	}
	return stamp(t) + " (1 day left)"
}

// plain makes one line of printable text, of at most a number of characters, from what a CA or a program may have written.
func plain(text string, limit int) string {
	text = strings.Join(strings.FieldsFunc(strings.ToValidUTF8(text, "?"), func(r rune) bool {
		return unicode.IsSpace(r) || unicode.IsControl(r)
	}), " ")
	if r := []rune(text); len(r) > limit {
		return string(r[:limit-1]) + "…"
	}
	return text
}

func join(list []string) string { return strings.Join(list, ", ") }
