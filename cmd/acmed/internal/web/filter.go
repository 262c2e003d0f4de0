package web

import (
	"cmp"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/acmed/acmed/internal/text"
	"github.com/acmed/acmed/pkg/renewal"
)

const queryMost = 200 // characters of a search

// needsAttention is the filter for all states but ok.
const needsAttention = "attention"

// filter is what a visitor asked to see.
type filter struct {
	State    string // of the certificate, needsAttention, or "" for all
	Search   string
	Expiring int    // days; 0: whenever
	Sort     string // state, name, expires or next
	Page     int    // from 1
}

func sorts() []string { return []string{"state", "name", "expires", "next"} }

// readFilter takes what it understands from a query and the usual for the rest.
func readFilter(q url.Values) filter {
	f := filter{State: q.Get("state"), Search: strings.TrimSpace(text.Cut(q.Get("q"), queryMost)), Sort: q.Get("sort"), Page: 1}
	if f.State != needsAttention && !slices.Contains(states(), renewal.Health(f.State)) {
		f.State = ""
	}
	if !slices.Contains(sorts(), f.Sort) {
		f.Sort = "state"
	}
	if n, err := strconv.Atoi(q.Get("expiring")); err == nil && n > 0 && n <= 36500 {
		f.Expiring = n
	}
	if n, err := strconv.Atoi(q.Get("page")); err == nil {
		f.Page = max(n, 1)
	}
	return f
}

// url is the address of the page with this filter. What is as usual is left out.
func (f filter) url() string {
	q := url.Values{}
	set := func(key, value, usual string) {
		if value != usual {
			q.Set(key, value)
		}
	}
	set("state", f.State, "")
	set("q", f.Search, "")
	set("expiring", strconv.Itoa(f.Expiring), "0")
	set("sort", f.Sort, "state")
	set("page", strconv.Itoa(f.Page), "1")
	if len(q) == 0 {
		return "/"
	}
	return "/?" + q.Encode()
}

// turned is the filter for another page.
func (f filter) turned(page int) filter {
	f.Page = page
	return f
}

// sorted is the filter for the first page in another order.
func (f filter) sorted(by string) filter {
	f.Sort, f.Page = by, 1
	return f
}

// narrows reports whether the filter leaves anything out.
func (f filter) narrows() bool { return f.State != "" || f.Search != "" || f.Expiring > 0 }

// apply lists the certificates that were asked for, in the order that was asked for. The order by state is that of all.
func (f filter) apply(now time.Time, all []renewal.Status) []*renewal.Status {
	var list []*renewal.Status
	search := strings.ToLower(f.Search)
	for i := range all {
		if s := &all[i]; f.wants(now, s) && matches(search, s) {
			list = append(list, s)
		}
	}
	switch f.Sort {
	case "name":
		slices.SortFunc(list, func(a, b *renewal.Status) int { return cmp.Compare(a.Name, b.Name) })
	case "expires":
		slices.SortStableFunc(list, func(a, b *renewal.Status) int { return a.NotAfter.Compare(b.NotAfter) })
	case "next":
		slices.SortStableFunc(list, func(a, b *renewal.Status) int { return a.Next.Compare(b.Next) })
	}
	return list
}

func (f filter) wants(now time.Time, s *renewal.Status) bool {
	switch {
	case f.State == needsAttention && s.Health == renewal.HealthOK,
		f.State != "" && f.State != needsAttention && f.State != string(s.Health),
		f.Expiring > 0 && (s.Version == "" || s.NotAfter.Sub(now) > time.Duration(f.Expiring)*day):
		return false
	}
	return true
}

// matches looks for a text, or with a * for a pattern, in the name of a certificate and the names that it is for.
func matches(search string, s *renewal.Status) bool {
	if search == "" {
		return true
	}
	match := func(name string) bool { return strings.Contains(name, search) }
	if strings.Contains(search, "*") {
		match = func(name string) bool {
			ok, err := path.Match(search, name)
			return ok && err == nil
		}
	}
	return match(s.Name) || slices.ContainsFunc(s.Names, match)
}
