package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/acmed/acmed/cmd/acmed/internal/setup"
	"github.com/acmed/acmed/internal/text"
	"github.com/acmed/acmed/pkg/config"
)

// choose finds out which certificates are wanted: the names given, or sites of a web server.
func (a *app) choose(ctx context.Context, q *asker, m *setup.Machine, f *enableRequest) ([]*setup.Wish, error) {
	if f.server == "none" {
		w, err := m.Wish(&f.Options, f.name, f.domains, nil, func(string) string { return f.Webroot })
		return []*setup.Wish{w}, err
	}
	sites, err := setup.Find(ctx, f.server, f.settings)
	switch {
	case len(sites) == 0 && err != nil:
		return nil, err
	case len(sites) == 0:
		return nil, errors.New("no site with a name was found in nginx or Apache; for another web server give -d NAME --webroot DIRECTORY, and without any -d NAME --standalone")
	case err != nil:
		a.errf("warning: %s\n", err)
	}
	if len(f.domains) > 0 {
		return a.chooseNames(ctx, q, m, f, sites)
	}
	return a.chooseSites(ctx, q, m, f, sites)
}

// chooseNames looks up the names given.
func (a *app) chooseNames(ctx context.Context, q *asker, m *setup.Machine, f *enableRequest, sites []setup.Site) ([]*setup.Wish, error) {
	var site *setup.Site
	serving := map[string]setup.Site{}
	var absent []string
	for i, name := range f.domains {
		if other := counterpart(name); len(setup.Serves(sites, name)) == 0 && slices.Contains(f.domains, other) && len(setup.Serves(sites, other)) > 0 {
			if f.ways() == 0 {
				return nil, usageError(fmt.Errorf("no site is called %q, so a CA cannot validate it through the web server; add it to the site of %s, "+
					"or validate the names another way, such as --dns", name, other))
			}
			absent = append(absent, name)
			continue
		}
		s, err := a.serving(ctx, q, sites, name)
		if err != nil {
			return nil, err
		}
		f.domains[i], serving[s.name] = s.name, s.site
		if site != nil && site.Server.Kind != s.site.Server.Kind {
			return nil, usageError(fmt.Errorf("%s is served by %s and %s by %s; enable them one after the other", f.domains[0], site.Server.Kind, s.name, s.site.Server.Kind))
		}
		site = &s.site
	}
	w, err := m.Wish(&f.Options, f.name, f.domains, site, func(name string) string {
		if f.Webroot != "" {
			return f.Webroot
		}
		s := serving[name]
		return s.Root(name)
	})
	if err != nil {
		return nil, err
	}
	w.Absent = absent
	a.mentionOthers(m, w, serving)
	a.mentionCounterparts(m, w, sites)
	return []*setup.Wish{w}, nil
}

// mentionOthers names what the sites serve as well, such as www.example.com beside example.com: visitors of those names
// would see a warning.
func (a *app) mentionOthers(m *setup.Machine, w *setup.Wish, serving map[string]setup.Site) {
	var others []string
	for _, s := range serving {
		for _, name := range setup.Public(s.Names) {
			if !slices.Contains(w.Names, name) && !slices.Contains(others, name) && m.Covering(name) == nil && !strings.HasPrefix(name, "*.") {
				others = append(others, name)
			}
		}
	}
	if slices.Sort(others); len(others) > 0 {
		a.printf("note: the same site serves %s, which the certificate will not have; add -d %s\n", strings.Join(others, ", "), strings.Join(others, " -d "))
	}
}

// mentionCounterparts names www.example.com beside example.com, and the other way round, where another site serves it.
func (a *app) mentionCounterparts(m *setup.Machine, w *setup.Wish, sites []setup.Site) {
	for _, name := range w.Names {
		other := counterpart(name)
		if slices.Contains(w.Names, other) || m.Covering(other) != nil {
			continue
		}
		for _, s := range setup.Serves(sites, other) {
			if slices.Contains(s.Names, other) && !slices.Contains(s.Names, name) {
				a.printf("note: another site (%s) serves %s, which the certificate will not have; add -d %[2]s\n", s.Place, other)
			}
		}
	}
}

// counterpart is www.example.com for example.com, and example.com for www.example.com.
func counterpart(name string) string {
	if bare, found := strings.CutPrefix(name, "www."); found {
		return bare
	}
	return "www." + name
}

// served is a name with its site.
type served struct {
	name string
	site setup.Site
}

// serving finds the site of a name. A mistyped one is suggested, or asked for.
func (a *app) serving(ctx context.Context, q *asker, sites []setup.Site, name string) (served, error) {
	for {
		list := setup.Serves(sites, name)
		switch {
		case len(list) == 1:
			return served{name, list[0]}, nil
		case len(list) > 1:
			return served{}, usageError(fmt.Errorf("both nginx and Apache serve %s; say which one clients reach with --server", name))
		}
		near := config.Nearest(name, allNames(sites))
		text := fmt.Sprintf("no site is called %q", name)
		if near == "" {
			return served{}, &exitError{exitUsage, fmt.Errorf("%s; found are: %s", text, strings.Join(setup.FirstFew(allNames(sites)), ", "))}
		}
		if !q.can() {
			return served{}, &exitError{exitUsage, fmt.Errorf("%s; did you mean %q?", text, near)}
		}
		switch ok, err := q.confirm(ctx, fmt.Sprintf("%s; did you mean %q?", text, near), true); {
		case err != nil:
			return served{}, err
		case !ok:
			return served{}, errors.New("nothing was changed")
		}
		name = near
	}
}

func allNames(sites []setup.Site) []string {
	var names []string
	for _, s := range sites {
		names = append(names, s.Names...)
	}
	return names
}

// chooseSites offers the sites that were found. Each becomes a certificate of its own, so that one whose names lead
// elsewhere does not keep the others waiting.
func (a *app) chooseSites(ctx context.Context, q *asker, m *setup.Machine, f *enableRequest, sites []setup.Site) ([]*setup.Wish, error) {
	sites = offered(a, m, f, sites)
	fresh := slices.DeleteFunc(slices.Clone(sites), func(s setup.Site) bool { return s.TLS })
	if q.can() && len(sites) > 0 {
		a.printf("found %s:\n", text.Count(len(sites), "site"))
		for i, s := range sites {
			note := ""
			if s.TLS {
				note = ", has TLS already"
			}
			a.printf("  %d  %s  (%s, %s%s)\n", i+1, strings.Join(s.Names, " "), s.Server.Kind, s.Place, note)
		}
		var err error
		if fresh, err = pickSites(ctx, q, sites, fresh); err != nil {
			return nil, err
		}
	}
	if len(fresh) == 0 {
		return nil, errors.New("every site that was found has TLS or a certificate already; name one with -d to enable it anyway")
	}
	if f.name != "" && len(fresh) > 1 {
		return nil, usageError(errors.New("--name is for one site; choose it with -d"))
	}
	var wishes []*setup.Wish
	for _, s := range fresh {
		w, err := m.Wish(&f.Options, f.name, s.Names, &s, s.Root)
		if err != nil {
			return nil, err
		}
		wishes = append(wishes, w)
	}
	return wishes, nil
}

// offered leaves out names that a CA would not take, and sites that other certificates have.
func offered(a *app, m *setup.Machine, f *enableRequest, sites []setup.Site) []setup.Site {
	var list []setup.Site
	for _, s := range sites {
		if f.CAFile == "" {
			s.Names = setup.Public(s.Names)
		}
		s.Names = slices.DeleteFunc(slices.Clone(s.Names), func(n string) bool { return strings.HasPrefix(n, "*.") })
		if len(s.Names) == 0 {
			continue
		}
		taken := slices.IndexFunc(s.Names, func(n string) bool { return m.Covering(n) != nil })
		if taken >= 0 {
			a.printf("%s has a certificate already: %s\n", s.Names[taken], m.Covering(s.Names[taken]).Name)
			continue
		}
		list = append(list, s)
	}
	return list
}

// pickSites asks until every answer is a number or a name in the list.
func pickSites(ctx context.Context, q *asker, sites, fresh []setup.Site) ([]setup.Site, error) {
	question := "for which? numbers or names:"
	if len(fresh) > 0 {
		question = "for which? numbers or names, Enter for all without TLS:"
	}
	for {
		text, err := q.line(ctx, question)
		if err != nil {
			return nil, err
		}
		words := strings.FieldsFunc(text, func(r rune) bool { return r == ' ' || r == ',' })
		if len(words) == 0 && len(fresh) > 0 {
			return fresh, nil
		}
		picked, problem := pick(sites, words)
		if problem == "" && len(picked) > 0 {
			return picked, nil
		}
		q.a.errf("%s\n", problem)
	}
}

// pick finds the sites of an answer, or says what is wrong with it.
func pick(sites []setup.Site, words []string) (picked []setup.Site, problem string) {
	var chosen []int
	for _, word := range words {
		i, err := strconv.Atoi(word)
		if err != nil {
			i = 1 + slices.IndexFunc(sites, func(s setup.Site) bool { return slices.Contains(s.Names, strings.ToLower(word)) })
		}
		if i < 1 || i > len(sites) {
			problem = fmt.Sprintf("%q is none of them", word)
			if near := config.Nearest(word, allNames(sites)); near != "" {
				problem += fmt.Sprintf("; did you mean %q?", near)
			}
			return nil, problem
		}
		if !slices.Contains(chosen, i) {
			chosen = append(chosen, i)
			picked = append(picked, sites[i-1])
		}
	}
	if len(picked) == 0 {
		return nil, "choose at least one"
	}
	return picked, ""
}
