package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// programs are what is shipped, by name.
var programs = [][2]string{{"acmed", "cmd/acmed"}, {"acmed-dns", "cmd/acmed-dns"}}

// allowed are the licenses that may be linked: all let a program under the MIT license ship them with their texts.
var allowed = []string{"0BSD", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "ISC", "MIT", "MPL-2.0", "Unlicense", "Zlib"}

// marks tell licenses apart by a sentence that only they have, in lower case and with single spaces.
var marks = []struct{ license, text, without string }{
	{"AGPL", "gnu affero general public license version", "mozilla public license"},
	{"LGPL", "gnu lesser general public license version", "mozilla public license"},
	{"GPL", "gnu general public license version", "mozilla public license"},
	{"Apache-2.0", "apache license version 2.0", ""},
	{"Apache-2.0", "apache license, version 2.0", "mozilla public license"},
	{"MPL-2.0", "mozilla public license version 2.0", ""},
	{"MPL-2.0", "mozilla public license, version 2.0", ""},
	{"MIT", "permission is hereby granted, free of charge, to any person obtaining a copy", ""},
	{"ISC", "permission to use, copy, modify, and/or distribute this software for any purpose with or without fee is hereby granted, provided", ""},
	{"ISC", "permission to use, copy, modify, and distribute this software for any purpose with or without fee is hereby granted, provided", ""},
	{"0BSD", "permission to use, copy, modify, and/or distribute this software for any purpose with or without fee is hereby granted. the software", ""},
	{"BSD-3-Clause", "may be used to endorse or promote products derived from", ""},
	{"BSD-2-Clause", "redistribution and use in source and binary forms", "may be used to endorse or promote products derived from"},
	{"Unlicense", "this is free and unencumbered software released into the public domain", ""},
	{"Zlib", "altered source versions must be plainly marked as such", ""},
}

// classify returns the licenses that a text grants.
func classify(text string) (list []string) {
	text = strings.Join(strings.Fields(strings.ToLower(text)), " ")
	for _, m := range marks {
		if strings.Contains(text, m.text) && (m.without == "" || !strings.Contains(text, m.without)) && !slices.Contains(list, m.license) {
			list = append(list, m.license)
		}
	}
	return list
}

// module is one that is linked.
type module struct {
	Path, Version, Dir string
	Main               bool
	Replace            *module
}

// linked lists the modules of which a program has packages, without its own.
func linked(dir string) ([]module, error) {
	cmd := exec.Command("go", "list", "-deps", "-json=Module", ".")
	cmd.Dir, cmd.Stderr = dir, os.Stderr
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go list in %s: %w", dir, err)
	}
	var all []module
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p struct{ Module *module }
		switch err := dec.Decode(&p); {
		case errors.Is(err, io.EOF):
			slices.SortFunc(all, func(a, b module) int { return strings.Compare(a.Path, b.Path) })
			return slices.CompactFunc(all, func(a, b module) bool { return a.Path == b.Path }), nil
		case err != nil:
			return nil, err
		case p.Module != nil && !p.Module.Main && !strings.HasPrefix(p.Module.Path, "github.com/acmed/"):
			if p.Module.Replace != nil {
				p.Module.Dir = p.Module.Replace.Dir
			}
			all = append(all, *p.Module)
		}
	}
}

// texts returns the license files of a module.
func texts(m module) (list []string, err error) {
	entries, err := os.ReadDir(m.Dir)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		name := strings.ToUpper(e.Name())
		if e.IsDir() || filepath.Ext(name) == ".GO" || !strings.HasPrefix(name, "LICEN") && !strings.HasPrefix(name, "COPYING") && name != "UNLICENSE" {
			continue
		}
		text, err := os.ReadFile(filepath.Join(m.Dir, e.Name()))
		if err != nil {
			return nil, err
		}
		list = append(list, string(text))
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("%s %s has no license file", m.Path, m.Version)
	}
	return list, nil
}

// licensesOf returns the licenses of a module, and an error if one is unknown or not allowed.
func licensesOf(m module) ([]string, error) {
	files, err := texts(m)
	if err != nil {
		return nil, err
	}
	var all []string
	for _, text := range files {
		all = append(all, classify(text)...)
	}
	slices.Sort(all)
	all = slices.Compact(all)
	if len(all) == 0 {
		return nil, fmt.Errorf("%s %s: the license is unknown", m.Path, m.Version)
	}
	for _, license := range all {
		if !slices.Contains(allowed, license) {
			return all, fmt.Errorf("%s %s: the license %s is not allowed", m.Path, m.Version, license)
		}
	}
	return all, nil
}

// licensesPage is docs/LICENSES.md.
func licensesPage(root string) (string, error) {
	var b strings.Builder
	b.WriteString("# Licenses\n\nThe modules that are linked into the programs, and their licenses. `make licenses` writes this page and `make lint` compares it.\n" +
		"Packages have the texts in `NOTICES.gz`. Allowed are " + strings.Join(allowed, ", ") + ".\n")
	var errs []error
	for _, p := range programs {
		part, err := section(p[0], filepath.Join(root, p[1]))
		errs = append(errs, err)
		b.WriteString(part)
	}
	return b.String(), errors.Join(errs...)
}

// section is what the page says about one program.
func section(name, dir string) (string, error) {
	list, err := linked(dir)
	errs := []error{err}
	var b strings.Builder
	fmt.Fprintf(&b, "\n## %s\n\n| module | license |\n|---|---|\n", name)
	for _, m := range list {
		licenses, err := licensesOf(m)
		errs = append(errs, err)
		fmt.Fprintf(&b, "| `%s` | %s |\n", m.Path, strings.Join(licenses, ", "))
	}
	return b.String(), errors.Join(errs...)
}

// notices writes the texts of all licenses, those of Go's own library included.
func notices(w io.Writer, dir string) error {
	list, err := linked(dir)
	if err != nil {
		return err
	}
	goroot, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		return err
	}
	list = append(list, module{Path: "Go", Version: "standard library", Dir: strings.TrimSpace(string(goroot))})
	for _, m := range list {
		files, err := texts(m)
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintf(w, "%s %s\n\n%s\n\n\n", m.Path, m.Version, strings.Join(files, "\n\n")); err != nil {
			return err
		}
	}
	return nil
}
