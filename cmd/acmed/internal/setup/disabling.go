package setup

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/acmed/acmed/internal/vetted"
	"github.com/acmed/acmed/pkg/config"
	"github.com/acmed/acmed/pkg/installers"
	"github.com/acmed/acmed/pkg/installers/change"
	"github.com/acmed/acmed/pkg/installers/helper"
)

// Configured finds a certificate of the configuration, or suggests another name in a [*UsageError].
func (m *Machine) Configured(name string) (*config.Certificate, error) {
	var known []string
	if m.Config != nil {
		for i := range m.Config.Certificates {
			if c := &m.Config.Certificates[i]; c.Name == name {
				return c, nil
			}
			known = append(known, m.Config.Certificates[i].Name)
		}
	}
	text := fmt.Sprintf("no certificate is called %q", name)
	if near := config.Nearest(name, known); near != "" {
		text += fmt.Sprintf("; did you mean %q?", near)
	} else if len(known) > 0 {
		text += "; configured are: " + strings.Join(FirstFew(known), ", ")
	}
	return nil, &UsageError{errors.New(text)}
}

// FirstFew shortens a list of names for a message.
func FirstFew(names []string) []string {
	const most = 20
	if len(names) <= most {
		return names
	}
	return append(slices.Clone(names[:most]), fmt.Sprintf("and %d more", len(names)-most))
}

// Disable removes the file of a certificate that is installed nowhere any more, its routes in web servers, and what the
// helper knows about it. Others may refer to what the file defines: then nothing changes, and the error says so.
func (m *Machine) Disable(ctx context.Context, cert *config.Certificate) (warnings []string, err error) {
	own := m.Dropin(cert.Name)
	taken := &Change{journal: journalDir(m.Path), Files: append([]File{{Path: own}}, m.secretsOf(cert.Name)...)}
	if taken.Routes, err = m.routesOf(ctx, cert); err != nil {
		return nil, err
	}
	var sockets []string
	for i := range cert.Install {
		target := cert.Install[i].Helper
		if target == nil {
			continue
		}
		h, err := m.Helper()
		if err != nil {
			return nil, err
		}
		if !h.Mine(target.Target) {
			warnings = append(warnings, fmt.Sprintf("acmed-installd still has the target %s, which was not written by acmed", target.Target))
			continue
		}
		taken.Files = append(taken.Files, File{Path: h.Dropin(target.Target)})
		sockets = append(sockets, target.Socket)
	}
	if _, _, err := config.Preview(m.Path, map[string][]byte{own: nil}); err != nil {
		return nil, fmt.Errorf("%s stays, because the configuration is invalid without it: %w", own, err)
	}
	if err := taken.Remove(ctx); err != nil {
		return warnings, err
	}
	for _, socket := range sockets {
		if err := helper.Restart(ctx, socket); err != nil {
			return warnings, err
		}
	}
	return warnings, nil
}

// secretsOf are the files with credentials that an import wrote for a certificate, that nobody edited since and that no
// other file refers to.
func (m *Machine) secretsOf(certificate string) (files []File) {
	d, err := m.written(certificate)
	if d == nil || err != nil {
		return nil
	}
	others, _ := filepath.Glob(filepath.Join(m.dropins, "*.yaml*"))
	for _, s := range d.Solvers {
		for _, path := range s.secretFiles() {
			used := slices.ContainsFunc(append(others, m.Path), func(other string) bool {
				text, err := vetted.ReadFile(other, 0, maxFile)
				return other != m.Dropin(certificate) && (err != nil || bytes.Contains(text, []byte(path)))
			})
			text, err := vetted.ReadFile(path, 0o004, maxFile)
			if uid, ownerErr := owner(path); !used && err == nil && ownerErr == nil && Sealed(text) {
				files = append(files, File{Path: path, Secret: true, UID: uid})
			}
		}
	}
	return files
}

// secretFiles are the paths of the credentials in a dns-01 section.
func (s *Solver) secretFiles() (list []string) {
	for _, section := range []any{s.DNS01, s.DNS01["exec"], s.DNS01["rfc2136"]} {
		m, _ := section.(map[string]any)
		for _, key := range []string{"env_file", "tsig_key_file"} {
			if path, ok := m[key].(string); ok {
				list = append(list, path)
			}
		}
	}
	return list
}

// routesOf are the routes that an enable made for a certificate: the journal knows in which files.
func (m *Machine) routesOf(ctx context.Context, cert *config.Certificate) ([]Route, error) {
	list, err := change.Originals(ctx, journalDir(m.Path))
	if err != nil || !slices.ContainsFunc(list, isRouted) {
		return nil, err
	}
	servers, err := notedServers(journalDir(m.Path))
	if err != nil {
		return nil, err
	}
	var routes []Route
	for _, s := range servers {
		routes = append(routes, Route{Server: s, ChallengeRoute: installers.ChallengeRoute{Certificate: cert.Name}, remove: true})
	}
	return routes, nil
}
