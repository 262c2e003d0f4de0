package web

import (
	"errors"
	"net/http"
	"time"

	"github.com/acmed/acmed/internal/text"
	"github.com/acmed/acmed/pkg/advice"
	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/renewal"
)

// certificatePage is what the template of one certificate shows.
type certificatePage struct {
	renewal.Status
	Now         time.Time
	Tone        string
	Problem     string
	ProblemCode advice.Code
	Again       string
	Timeline    *timeline
	Validated   []certs.Validation
}

func (s *Server) certificate(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("name")
	status, err := s.Source.Certificate(r.Context(), name)
	switch {
	case errors.Is(err, ErrUnknown):
		s.render(w, http.StatusNotFound, "unknown.html", text.Cut(name, queryMost))
	case err != nil:
		s.fail(w, err)
	default:
		s.render(w, http.StatusOK, "certificate.html", newCertificate(s.Clock(), status))
	}
}

func newCertificate(now time.Time, s renewal.Status) *certificatePage {
	p := &certificatePage{Status: s, Now: now, Tone: tone(s.Health), Timeline: newTimeline(now, []*renewal.Status{&s})}
	p.Problem, p.Again = problem(now, &s)
	if p.Problem != "" {
		p.ProblemCode = problemCode(&s)
	}
	for _, name := range s.Names {
		p.Validated = append(p.Validated, validation(&s, name))
	}
	if p.Timeline != nil {
		p.Timeline.unnamed()
	}
	return p
}

// validation says how a name was proved; without a solver nobody knows any more.
func validation(s *renewal.Status, name string) certs.Validation {
	for _, v := range s.Validations {
		if v.Identifier == name {
			return v
		}
	}
	return certs.Validation{Identifier: name, Solver: s.Solved[name]}
}
