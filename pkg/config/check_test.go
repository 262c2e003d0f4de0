package config_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	_ "github.com/acmed/acmed/internal/acmetest/umask"
	"github.com/acmed/acmed/pkg/config"
)

// checked is what Check reports about some files, with the directory left out.
func checked(t *testing.T, files map[string]string, e config.Examiner) (problems, warnings string) {
	t.Helper()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "conf.d"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range files {
		writeFile(t, filepath.Join(dir, name), text, 0o600)
	}
	c, list, err := config.Check(filepath.Join(dir, "acmed.yaml"), e)
	if (c == nil) == (err == nil) {
		t.Fatalf("config %v, error %v", c, err)
	}
	for _, w := range list {
		warnings += w.String() + "\n"
	}
	if err != nil {
		problems = err.Error()
	}
	return strings.ReplaceAll(problems, dir+"/", ""), strings.ReplaceAll(warnings, dir+"/", "")
}

// TestCheckReportsAll: whatever is wrong with one file or entry hides nothing of another one.
func TestCheckReportsAll(t *testing.T) {
	const head, include = "agree_tos: true\n", "include: conf.d/*.yaml\n"
	other := "certificates:\n  - {name: other, names: [a..b], issuers: [nosuch]}\n"
	otherProblems := []string{`conf.d/z.yaml:2: certificates[other].names[0]: "a..b"`, `conf.d/z.yaml:2: certificates[other].issuers[0]: there is no issuer "nosuch"`}
	for _, tt := range []struct {
		name, main, dropIn string
		want               []string
	}{
		{"a list of the wrong type", include, "certificates: 5\n", []string{"conf.d/a.yaml:1: certificates: expected a list"}},
		{"a misspelt list", include, "certificate:\n  - {name: x, names: [x.example.org]}\n", []string{`conf.d/a.yaml:1: unknown key "certificate"; did you mean "certificates"?`}},
		{"a file that is no YAML", include, "certificates: [\n", []string{"conf.d/a.yaml:1: did not find"}},
		{"a name of the wrong type", include, "certificates:\n  - {name: x, names: [1, a..b]}\n", []string{"certificates[x].names[0]: expected text", `certificates[x].names[1]: "a..b"`}},
		{"a target of the wrong type", include, "certificates:\n  - {name: x, names: [x.example.org], install: [5, {nginx: {config: rel}}]}\n", []string{"certificates[x].install[0]: expected a section", "certificates[x].install[1].nginx.config: "}},
		{"no name", include, "certificates:\n  - {names: [c..d]}\n", []string{"certificates[0]: each entry needs a name", `certificates["#1"].names[0]: "c..d"`}},
		{"a name twice in a file", include, "certificates:\n  - {name: x, names: [x.example.org]}\n  - {name: x, names: [c..d]}\n", []string{"conf.d/a.yaml:3: certificates[x]: the name is already used in line 2", `conf.d/a.yaml:3: certificates["x #2"].names[0]: "c..d"`}},
		{"a name twice in two files", "include: conf.d/*.yaml\ncertificates:\n  - {name: x, names: [x.example.org]}\n", "certificates:\n  - {name: x, names: [c..d]}\n", []string{"conf.d/a.yaml:2: certificates[x]: already defined in", `conf.d/a.yaml:2: certificates[x].names[0]: "c..d"`}},
		{"no include of the right type", "include: {a: conf.d/*.yaml}\n", "certificates: 5\n", []string{"acmed.yaml:2: include: expected a list", "conf.d/a.yaml:1: certificates: expected a list"}},
		{"a main file that is no YAML", "include: conf.d/*.yaml\nissuers: [\n", "certificates: 5\n", []string{"acmed.yaml:", "conf.d/a.yaml:1: certificates: expected a list"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, _ := checked(t, map[string]string{"acmed.yaml": head + tt.main, "conf.d/a.yaml": tt.dropIn, "conf.d/z.yaml": other}, config.Examiner{})
			for _, want := range append(tt.want, otherProblems...) {
				if !strings.Contains(got, want) {
					t.Errorf("%q is missing in:\n%s", want, got)
				}
			}
			if strings.Contains(got, "agree_tos") {
				t.Errorf("a problem that only follows from another one:\n%s", got)
			}
		})
	}
}

// TestCheckElsewhere: a name that is defined in a file with a problem is not reported as missing.
func TestCheckElsewhere(t *testing.T) {
	got, _ := checked(t, map[string]string{
		"acmed.yaml":    "agree_tos: true\ninclude: conf.d/*.yaml\n",
		"conf.d/a.yaml": "issuer:\n  - name: mine\n    directory: https://ca.internal/d\n",
		"conf.d/b.yaml": "solvers: [ {name: \"inner\"}\n",
		"conf.d/z.yaml": "certificates:\n  - {name: z, names: [z.example.org], issuers: [mine], solvers: [inner]}\n",
	}, config.Examiner{})
	if strings.Contains(got, "there is no") || strings.Count(got, "\n") != 1 {
		t.Errorf("got:\n%s", got)
	}
}

// TestCheckRejected: what a CA will reject is a problem for Check, and no reason for Load to leave out a file.
func TestCheckRejected(t *testing.T) {
	cert := func(more string) string {
		return "agree_tos: true\nsolvers: [{name: dns, dns-01: {exec: {command: [/bin/true]}}}]\nissuers: [{name: other, directory: https://ca.example.org/d}, {name: own, private: true, directory: https://ca.internal/d}]\n" +
			"certificates:\n  - {name: x, solvers: [dns], " + more + "}\n"
	}
	both := "names: [example.org, '*.example.org', www.example.org]"
	for _, tt := range []struct{ name, text, problem, warning string }{
		{"wildcard and name", cert(both), "certificates[x].names[2]: www.example.org is covered by *.example.org", ""},
		{"at another CA", cert(both + ", issuers: [other]"), "", "certificates[x].names[2]: www.example.org is covered by"},
		{"at a private CA", cert(both + ", issuers: [own]"), "", ""},
		{"documentation", "email: ops@example.com\n" + cert("names: [a.example.org]"), "", `:1: email: "ops@example.com": CAs reject addresses in example.com`},
		{"below it", "email: ops@mail.example.net\n" + cert("names: [a.example.org]"), "", "reserved for documentation"},
		{"localhost", "email: root@localhost\n" + cert("names: [a.example.org]"), "CAs reject addresses outside of public domains", ""},
		{"no address", "email: 'ops@'\n" + cert("names: [a.example.org]"), "is not a plain email address", ""},
		{"of a private CA", "email: root@localhost\n" + cert("names: [a.example.org], issuers: [own]"), "", ""},
		{"lifetime", cert("names: [a.example.org], lifetime: 7d"), "certificates[x].lifetime: letsencrypt rejects", ""},
		{"must-staple", cert("names: [a.example.org], must_staple: true"), "certificates[x].must_staple: letsencrypt rejects", ""},
		{"chain", cert("names: [a.example.org], preferred_chain: DST Root CA X3"), "", "certificates[x].preferred_chain: letsencrypt no longer offers"},
		{"profile", cert("names: [a.example.org], issuers: [buypass], profile: short"), "", "certificates[x].profile: buypass is not known to offer profiles"},
		{"missing program", cert("names: [a.example.org], hooks: {pre: [/nonexistent/x]}"), "", "certificates[x].hooks.pre: /nonexistent/x is missing"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			problems, warnings := checked(t, map[string]string{"acmed.yaml": tt.text}, config.Examiner{})
			for _, c := range []struct{ got, want string }{{problems, tt.problem}, {warnings, tt.warning}} {
				if !strings.Contains(c.got, c.want) || c.want == "" && c.got != "" {
					t.Errorf("got %q, want %q", c.got, c.want)
				}
			}
			main := filepath.Join(t.TempDir(), "acmed.yaml")
			writeFile(t, main, tt.text, 0o600)
			if _, _, err := config.Load(main); err != nil && tt.name != "no address" {
				t.Errorf("Load refuses it: %v", err)
			}
		})
	}
}

// TestCheckExaminer: what only the program knows is reported at the entry, besides everything else.
func TestCheckExaminer(t *testing.T) {
	got, _ := checked(t, map[string]string{"acmed.yaml": "agree_tos: true\nsolvers:\n  - {name: dns, dns-01: {exec: {command: [/bin/true]}}}\n" +
		"certificates:\n  - name: x\n    names: [x.example.org]\n    install:\n      - nginx: {}\n  - name: y\n    names: [a..b, y.example.org]\n    install:\n      - nginx: {}\n"},
		config.Examiner{
			Target: func(_ *config.Config, cert *config.Certificate, _ *config.Install) error {
				return errors.New("no " + cert.Name)
			},
			Solver: func(s *config.Solver) error { return errors.New("no " + s.Name) },
		})
	for _, want := range []string{"acmed.yaml:3: solvers[dns]: no dns", "acmed.yaml:8: certificates[x].install[0].nginx: no x", "acmed.yaml:12: certificates[y].install[0].nginx: no y", "a..b"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is missing in:\n%s", want, got)
		}
	}
}
