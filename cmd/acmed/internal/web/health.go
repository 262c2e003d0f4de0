package web

import (
	"cmp"
	"errors"
	"net/http"
	"strings"

	"github.com/acmed/acmed/internal/text"
	"github.com/acmed/acmed/pkg/renewal"
)

// healthMost is how many certificates a health check names.
const healthMost = 100

// health is for monitoring: 503 exactly when "acmed status" exits with 3, and then a line for each condition and each
// certificate that needs attention, the cause first. As on the page, no line quotes a file.
func (s *Server) health(w http.ResponseWriter, r *http.Request) {
	v, err := s.cache.get(r.Context())
	if err != nil {
		s.fail(w, err)
		return
	}
	var lines []string
	for _, t := range troubles(v.Conditions) {
		lines = append(lines, string(t.Code)+": "+t.Summary+": "+text.Printable(t.Detail))
	}
	bad := v.attention()
	for i := range v.Certificates[:min(bad, healthMost)] { // the worst come first
		lines = append(lines, healthLine(&v.Certificates[i]))
	}
	if bad > healthMost {
		lines = append(lines, number(bad)+" of "+plural(len(v.Certificates), "certificate")+" need attention; 'acmed status --failing' lists them")
	}
	s.verdict(w, strings.Join(lines, "\n"))
}

// healthLine is the cause of what is wrong with a certificate, or its state where no cause is known, and its name.
func healthLine(c *renewal.Status) string {
	code := problemCode(c)
	if code == "" {
		return string(c.Health) + ": " + c.Name
	}
	return string(code) + ": " + cmp.Or(summary(code), string(c.Health)) + ": " + c.Name
}

// live is for those who restart what fails: 503 when a restart would help, because the daemon is stuck.
func (s *Server) live(w http.ResponseWriter, _ *http.Request) {
	if err := s.stuck(); err != nil {
		s.verdict(w, err.Error())
		return
	}
	s.verdict(w, "")
}

// stuck is why the daemon manages no certificate. One that has just started is not stuck.
func (s *Server) stuck() error {
	if err := s.Source.Progress(); !errors.Is(err, renewal.ErrStarting) {
		return err
	}
	return nil
}

func (s *Server) verdict(w http.ResponseWriter, problem string) {
	if problem != "" {
		http.Error(w, problem, http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = w.Write([]byte("ok\n"))
}
