package store

import (
	"slices"
	"time"

	"github.com/acmed/acmed/internal/text"
	"github.com/acmed/acmed/pkg/advice"
)

const (
	maxLog     = 60  // entries of the history of one certificate; a quiet year has about thirty
	maxLogText = 500 // bytes of one
	logWindow  = 8   // entries among which a repetition is looked for
)

// LogEntry is one thing that happened to a certificate.
type LogEntry struct {
	At      time.Time   `json:"at"`               // the first time
	Last    time.Time   `json:"last,omitzero"`    // the last time, when it happened again
	Times   int         `json:"times,omitzero"`   // how often; 0 is once
	Event   string      `json:"event"`            // a kind of notification, or installed, uninstalled, not_served, revoked, revocation_failed
	Target  string      `json:"target,omitzero"`  // of an installation
	Version string      `json:"version,omitzero"` // that it was about
	Code    advice.Code `json:"code,omitzero"`    // what kind of failure it was
	Detail  string      `json:"detail,omitzero"`  // one line
}

// Remember adds an entry to the log. The same failure again only counts, as long as nothing else happened at its target;
// the oldest entries make room.
func (st *State) Remember(e LogEntry) {
	e.Detail = text.Cut(e.Detail, maxLogText)
	for i := len(st.Log) - 1; i >= max(0, len(st.Log)-logWindow); i-- {
		same := &st.Log[i]
		if same.Target != e.Target {
			continue
		}
		if same.Event != e.Event || same.Code != e.Code || same.Version != e.Version {
			break
		}
		same.Times, same.Last, same.Detail = max(same.Times, 1)+1, e.At, e.Detail
		return
	}
	st.Log = append(st.Log, e)
	if over := len(st.Log) - maxLog; over > 0 {
		st.Log = slices.Delete(st.Log, 0, over)
	}
}

func (r *repairer) log(list *[]LogEntry) {
	if over := len(*list) - maxLog; over > 0 {
		r.say("log", "%d entries, more than %d", len(*list), maxLog)
		*list = (*list)[over:]
	}
	for i := range *list {
		e := &(*list)[i]
		r.count("log", &e.Times)
		r.text("log", &e.Detail)
		r.time("log", &e.At)
		r.time("log", &e.Last)
	}
}
