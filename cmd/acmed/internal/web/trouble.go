package web

import (
	"cmp"
	"net/http"
	"strconv"

	"github.com/acmed/acmed/cmd/acmed/internal/control"
	"github.com/acmed/acmed/docs"
	"github.com/acmed/acmed/pkg/advice"
	"github.com/acmed/acmed/pkg/renewal"
)

// trouble is a condition as a visitor sees it.
type trouble struct {
	Code    advice.Code
	Summary string
	Detail  string
	URL     string
	Tone    string
}

// troubles prepares conditions for visitors. Nobody had to log in to see this page, so of a configuration file only its
// name and the line are shown.
func troubles(list []control.Condition) []trouble {
	var shown []trouble
	for _, c := range list {
		t := trouble{Code: c.Code, Summary: summary(c.Code), Detail: c.Detail, URL: "/errors/" + string(c.Code), Tone: "bad"}
		if c.Code == advice.ConfigBroken {
			t.Detail = cmp.Or(c.File, "the configuration on disk is not in use")
			if c.Line > 0 {
				t.Detail += ", line " + strconv.Itoa(c.Line)
			}
		}
		if c.Code == advice.StateRepaired {
			t.Tone = "warn"
		}
		shown = append(shown, t)
	}
	return shown
}

func summary(c advice.Code) string {
	e, _ := advice.Lookup(c)
	return e.What
}

// group is how many certificates fail for one cause.
type group struct {
	Code    advice.Code
	Count   int
	Summary string
	Remedy  string
	URL     string
}

// groupsFrom is how many certificates must share a cause before it is shown as one.
const groupsFrom = 3

// groups counts the causes that several certificates share, in the order of the catalogue.
func groups(list []renewal.Status) []group {
	counts := map[advice.Code]int{}
	for i := range list {
		if list[i].Health != renewal.HealthOK {
			counts[problemCode(&list[i])]++
		}
	}
	var shown []group
	for _, e := range advice.All() {
		if n := counts[e.Code]; n >= groupsFrom {
			shown = append(shown, group{e.Code, n, e.What, e.Do, "/errors/" + string(e.Code)})
		}
	}
	return shown
}

// problemCode is the code of what [problem] shows; "" when it is not known.
func problemCode(s *renewal.Status) advice.Code {
	if s.Code != "" {
		return s.Code
	}
	for _, t := range s.Targets {
		if t.Error != "" {
			return t.Code
		}
	}
	if s.Hook != nil {
		return s.Hook.Code
	}
	return ""
}

// explain shows the page about a code.
func (s *Server) explain(w http.ResponseWriter, r *http.Request) {
	code := r.PathValue("code")
	if _, ok := advice.Lookup(advice.Code(code)); !ok {
		http.Error(w, "no such code", http.StatusNotFound)
		return
	}
	page, err := docs.Errors.ReadFile("errors/" + code + ".md")
	if err != nil {
		s.fail(w, err)
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = w.Write(page)
}
