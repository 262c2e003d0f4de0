package config

import (
	"fmt"
	"path/filepath"
	"reflect"

	"github.com/acmed/acmed/pkg/certs"
)

// Helper is installd.yaml, the configuration of acmed-installd, which installs certificates as root on behalf of a daemon
// that is not root. It decides what the daemon may have done: nothing but this file says which commands run and which
// files change.
type Helper struct {
	// StateDir is the directory for the copies of certificates and keys that servers read, and for what an uninstall puts
	// back. It must exist and belong to root. Default /var/lib/acmed-installd.
	StateDir string `mapstructure:"state_dir"`
	// User is the user that runs the daemon; nobody else but root is answered. Default acmed.
	User string `mapstructure:"user"`
	// Log says what is logged and how. Optional.
	Log Log `mapstructure:"log"`
	// Include lists further files with targets, by patterns as in acmed.yaml, such as installd.d/*.yaml. Optional.
	Include Words `mapstructure:"include"`
	// Targets lists the places that a certificate may be installed to.
	Targets []HelperTarget `mapstructure:"targets"`
}

// HelperTarget is one place that serves a certificate.
type HelperTarget struct {
	// Name is how the daemon's configuration refers to the target: a-z, 0-9 and after the first character also . _ -, at
	// most 64.
	Name string `mapstructure:"name"`
	// Names lists exactly the names of the certificates that are taken for the target: 1 to 100, as in the daemon's
	// configuration.
	Names []string `mapstructure:"names"`
	// AllowOlder lets the daemon put an older or a self-signed certificate over a valid one, as "acmed rollback" does. Default
	// false: only root can.
	AllowOlder bool `mapstructure:"allow_older"`
	// Install says where the certificate is put. It has exactly one section, such as nginx or file.
	Install Install `mapstructure:"install"`
}

// Identifiers are the target's names as certificates have them.
func (t *HelperTarget) Identifiers() []certs.Identifier { return identifiers(t.Names) }

// DefaultHelper is the configuration of an empty file. It has no targets.
func DefaultHelper() *Helper {
	return &Helper{StateDir: "/var/lib/acmed-installd", User: "acmed", Log: Log{Level: "info", Format: "console"}}
}

// LoadHelper reads installd.yaml and what it includes, files like those of [Load]. The error for a bad configuration is an
// [*Error] with every problem that was found, and the Helper is nil.
func LoadHelper(path string) (*Helper, []Warning, error) {
	order := map[string]int{path: 0}
	main := readHelper(path)
	sources := []*source{main}
	patterns, _ := main.values["include"].([]any)
	for i, p := range patterns {
		at := fmt.Sprintf("include[%d]", i)
		files, err := match(filepath.Dir(path), p.(string), nil)
		if err != nil {
			main.problems = append(main.problems, Problem{File: path, Line: main.where[at].line, Path: at, Message: err.Error()})
		}
		for _, file := range files {
			if _, read := order[file]; !read {
				order[file] = len(order)
				sources = append(sources, readHelper(file))
			}
		}
	}
	h, warnings, problems := assembleHelper(path, sources)
	if err := asError(problems, order); err != nil {
		return nil, nil, err
	}
	return h, warnings, nil
}

func readHelper(path string) *source {
	text, err := readFile(path, 0o022, maxFile)
	if err != nil {
		return &source{file: path, lost: true, problems: []Problem{{File: path, Message: plain(path, err)}}}
	}
	return parse(path, text, reflect.TypeFor[Helper]())
}

// assembleHelper merges, decodes and validates. The problems include those of the sources; the first of them is main.
func assembleHelper(main string, sources []*source) (*Helper, []Warning, []Problem) {
	m, problems := merge(sources)
	h := DefaultHelper()
	v := newValidator(&Config{})
	v.sources = sources
	if err := decodeInto(m.values, h); err != nil {
		return nil, nil, append(problems, Problem{File: main, Message: err.Error()})
	}
	v.helper(h)
	return h, v.warnings, append(problems, v.located(m)...)
}

func (v *validator) helper(h *Helper) {
	v.check("state_dir", checkPath(h.StateDir))
	if h.User == "" {
		v.report("user", "the daemon's user is missing")
	}
	v.oneOf("log.level", h.Log.Level, "debug", "info", "warn", "error")
	v.oneOf("log.format", h.Log.Format, "console", "json")
	if len(h.Targets) == 0 && len(h.Include) == 0 && !v.incomplete() {
		v.report("targets", "there is no target, so there is nothing to do")
	}
	for i := range h.Targets {
		t := &h.Targets[i]
		v.helperTarget(entryPath("targets", t.Name), t)
	}
}

func (v *validator) helperTarget(path string, t *HelperTarget) {
	v.check(path+".name", certs.CheckName(t.Name))
	if n := len(t.Names); n == 0 || n > maxNames {
		v.report(path+".names", "a certificate has 1 to %d names, this one has %s", maxNames, count(n))
	}
	for i, name := range t.Names {
		_, warnings, err := certs.ParseIdentifier(name)
		at := fmt.Sprintf("%s.names[%d]", path, i)
		v.check(at, err)
		for _, w := range warnings {
			v.warn(at, "%s", w)
		}
	}
	if t.Install.Helper != nil {
		v.report(path+".install.helper", "this is the helper; name the server that it changes")
		return
	}
	plugins := t.Install.plugins()
	if len(plugins) != 1 {
		v.report(path+".install", "it has exactly one section, such as nginx or file; this one has %s", count(len(plugins)))
		return
	}
	p := plugins[0]
	v.section(join(path+".install", p.key), p.section, p.section.Validate())
	v.installFiles(path+".install", &t.Install)
}
